package flowfile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// at reports an issue of an expression whose source begins at an offset of the string at a path.
func (c *checker) at(path string, offset int, issue expr.Issue) {
	n, ok := c.d.At[path]
	if !ok {
		c.d.ProblemAt(path, issue.Suggestion, "%s", issue.Message)
		return
	}
	_, shift := blockExpression(n)
	c.d.expressionIssues(n, path, shift+offset, []expr.Issue{issue})
}

// compile type-checks one expression. steps are the ids in scope, or nil where steps is not a name.
func (c *checker) compile(e *flow.Expr, path string, scope *expr.Scope, steps map[string]expr.Type) expr.Type {
	if issues := c.checkNames(e.Source, steps); len(issues) > 0 {
		for _, issue := range issues {
			c.at(path, e.Offset, issue)
		}
		return expr.Dyn()
	}
	source, offset := e.Source, e.Offset
	if inner, shift, ok := e.RawPath(); ok {
		source, offset = inner, offset+shift
		if strings.HasSuffix(path, ".with.path") {
			c.warn(path, "rawPath puts a value into the path without escaping it: a value with a / in it reaches another address")
		} else {
			c.at(path, e.Offset, expr.Issue{Length: len("rawPath"), Message: "rawPath belongs in the path of a request"})
		}
	}
	p, issues := expr.Compile(source, scope)
	for _, issue := range issues {
		c.at(path, offset, issue)
	}
	if p == nil {
		return expr.Dyn()
	}
	c.misspelt(e, path, steps)
	return p.Type()
}

func (c *checker) warn(path, format string, args ...any) {
	c.d.Add(c.d.Placed(source.SeverityWarning, path, "", fmt.Sprintf(format, args...)))
}

// checkNames finds steps that are not in scope and secrets, for which the compiler could only say that there is no such
// field.
func (c *checker) checkNames(src string, steps map[string]expr.Type) []expr.Issue {
	var issues []expr.Issue
	for _, m := range members(src) {
		issue := expr.Issue{Offset: m.offset, Length: len(m.root) + 1 + len(m.name)}
		switch {
		case m.root == "config" && c.secret[m.name]:
			issue.Message = fmt.Sprintf("config.%s is a secret: no expression can read it", m.name)
			issue.Suggestion = "put the credential on a connection, or name the secret where a trigger's verify takes one"
		case m.root == "steps" && steps != nil:
			if _, ok := steps[m.name]; ok {
				continue
			}
			at, exists := c.ids[m.name]
			if !exists {
				var known []string
				for id := range steps {
					known = append(known, id)
				}
				slices.Sort(known)
				issue.Message, issue.Suggestion = fmt.Sprintf("there is no step %q", m.name), source.DidYouMean(m.name, known)
			} else {
				issue.Message = fmt.Sprintf("the step %q (%s) is not in scope here: it runs later, or inside another step's list", m.name, strings.TrimPrefix(at, source.Join("flows", c.flow.Name)+"."))
			}
		default:
			continue
		}
		issues = append(issues, issue)
	}
	return issues
}

type member struct {
	root, name string
	offset     int
}

// members finds root.name for the roots config and steps outside strings and comments of an expression.
func members(src string) []member {
	var found []member
	for i := 0; i < len(src); {
		switch ch := src[i]; {
		case ch == '"' || ch == '\'':
			i = skipString(src, i)
		case strings.HasPrefix(src[i:], "//"):
			if n := strings.IndexByte(src[i:], '\n'); n >= 0 {
				i += n
			} else {
				return found
			}
		case isWord(ch):
			end := i
			for end < len(src) && isWord(src[end]) {
				end++
			}
			root, field := src[i:end], (i > 0 && strings.HasSuffix(strings.TrimRight(src[:i], " ?"), "."))
			if (root == "config" || root == "steps") && !field {
				from := end
				if strings.HasPrefix(src[from:], ".") {
					from = end + 1
				}
				to := from
				for to < len(src) && isWord(src[to]) {
					to++
				}
				if from > end && to > from {
					found = append(found, member{root, src[from:to], i})
				}
			}
			i = end
		default:
			i++
		}
	}
	return found
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// skipString returns the offset behind a CEL string literal.
func skipString(src string, i int) int {
	quote := src[i : i+1]
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(src[i:], triple) {
		quote = triple
	}
	raw := i > 0 && (src[i-1] == 'r' || src[i-1] == 'R')
	for i += len(quote); i < len(src); i++ {
		if src[i] == '\\' && !raw {
			i++
			continue
		}
		if strings.HasPrefix(src[i:], quote) {
			return i + len(quote)
		}
	}
	return len(src)
}

// value type-checks every expression in a value and returns what is known of its result.
func (c *checker) value(v *flow.Value, path string, e env) expr.Type {
	switch v.Kind {
	case flow.Null:
		return expr.NullType()
	case flow.Bool:
		return expr.BoolType()
	case flow.Number:
		if strings.ContainsAny(v.Text, ".eE") {
			return expr.NumberType()
		}
		return expr.IntType()
	case flow.String:
		return expr.StringType()
	case flow.Expression:
		return c.compile(v.Parts[0].Expr, path, e.names(), e.steps)
	case flow.Template:
		for i := range v.Parts {
			if x := v.Parts[i].Expr; x != nil {
				c.compile(x, path, e.names(), e.steps)
			}
		}
		return expr.StringType()
	case flow.Object:
		fields := map[string]expr.Type{}
		for i, k := range v.Keys {
			fields[k] = c.value(&v.Items[i], source.Join(path, k), e)
		}
		return expr.ObjectType(fields)
	case flow.List:
		elem := expr.Dyn()
		for i := range v.Items {
			t := c.value(&v.Items[i], fmt.Sprintf("%s[%d]", path, i), e)
			if len(v.Items) == 1 || i > 0 && t.Kind() == elem.Kind() && scalarKind(t.Kind()) {
				elem = t
			} else if i > 0 {
				elem = expr.Dyn()
			} else {
				elem = t
			}
		}
		return expr.ListType(elem)
	}
	return expr.Dyn()
}

func scalarKind(k expr.ValueKind) bool { return k == expr.KindString || k == expr.KindBool }

// want type-checks a value whose result must be of one of some kinds.
func (c *checker) want(v *flow.Value, path, what string, e env, kinds ...expr.ValueKind) expr.Type {
	if v.IsZero() {
		return expr.Dyn()
	}
	before := len(c.d.Problems)
	t := c.value(v, path, e)
	if len(c.d.Problems) > before || t.IsDyn() || t.Kind() == expr.KindOther || slices.Contains(kinds, t.Kind()) {
		return t
	}
	if v.Kind == flow.Expression {
		x := v.Parts[0].Expr
		c.at(path, x.Offset, expr.Issue{Length: len(x.Source), Message: fmt.Sprintf("expected %s, this is a %s", what, t)})
		return expr.Dyn()
	}
	c.d.ProblemAt(path, "", "expected %s, found %s", what, v.Kind)
	return expr.Dyn()
}
