package expr

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Part is one piece of a template: text as it stands, or the source of an expression.
type Part struct {
	Text   string // literal text; empty for an expression
	Source string // the expression between ${{ and }}, without the space around it
	Offset int    // of Text or Source in the template, in bytes
}

// IsExpression reports whether the part is an expression; its source is never empty.
func (p Part) IsExpression() bool { return p.Source != "" }

const (
	openTag   = "${{"
	closeTag  = "}}"
	escapeTag = "$${{"
)

// ParseTemplate splits a string into text and expressions. An expression ends at the }} that is
// in none of its strings, comments, braces, brackets or parentheses. $${{ writes a literal ${{.
// The result is empty for an empty string; a string that is exactly one expression has one part,
// whose result keeps its type.
func ParseTemplate(s string) ([]Part, []Issue) {
	if len(s) > MaxSourceBytes && strings.Contains(s, openTag) {
		return nil, []Issue{{Length: len(s), Message: fmt.Sprintf("a template may be at most %d bytes long", MaxSourceBytes)}}
	}
	var parts []Part
	var issues []Issue
	var text strings.Builder
	start := 0 // of the current text
	flush := func(next int) {
		if text.Len() > 0 {
			parts = append(parts, Part{Text: text.String(), Offset: start})
			text.Reset()
		}
		start = next
	}
	for i := 0; i < len(s); {
		switch {
		case strings.HasPrefix(s[i:], escapeTag):
			text.WriteString(openTag)
			i += len(escapeTag)
		case strings.HasPrefix(s[i:], openTag):
			flush(i)
			body := i + len(openTag)
			end, ok := expressionEnd(s, body)
			if !ok {
				return parts, append(issues, Issue{Offset: i, Length: len(openTag), Message: "this ${{ has no closing }}", Suggestion: "write $${{ for a literal ${{"})
			}
			src := s[body:end]
			lead := len(src) - len(strings.TrimLeft(src, " \t\r\n"))
			if src = strings.TrimSpace(src); src == "" {
				issues = append(issues, Issue{Offset: i, Length: end + len(closeTag) - i, Message: "there is no expression between ${{ and }}"})
			} else {
				parts = append(parts, Part{Source: src, Offset: body + lead})
			}
			i = end + len(closeTag)
			start = i
		default:
			n := strings.IndexByte(s[i+1:], '$') + 1
			if n == 0 {
				n = len(s) - i
			}
			text.WriteString(s[i : i+n])
			i += n
		}
	}
	flush(len(s))
	return parts, issues
}

// expressionEnd finds the }} that closes the expression starting at i.
func expressionEnd(s string, i int) (int, bool) {
	depth := 0
	for i < len(s) {
		switch c := s[i]; c {
		case '"', '\'':
			end, ok := literalEnd(s, i)
			if !ok {
				return 0, false
			}
			i = end
			continue
		case '/':
			if strings.HasPrefix(s[i:], "//") {
				n := strings.IndexByte(s[i:], '\n')
				if n < 0 {
					// A comment on the last line would swallow the closing braces.
					n = strings.Index(s[i:], closeTag)
					if n < 0 {
						return 0, false
					}
				}
				i += n
				continue
			}
		case '{', '[', '(':
			depth++
		case ']', ')':
			depth--
		case '}':
			if depth <= 0 && strings.HasPrefix(s[i:], closeTag) {
				return i, true
			}
			depth--
		}
		i++
	}
	return 0, false
}

// literalEnd returns the offset behind the CEL string literal whose quote is at i: single or
// triple quoted, raw when an r stands before it.
func literalEnd(s string, i int) (int, bool) {
	quote := s[i : i+1]
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(s[i:], triple) {
		quote = triple
	}
	raw := isRaw(s, i)
	for i += len(quote); i < len(s); i++ {
		if s[i] == '\\' && !raw {
			i++
			continue
		}
		if strings.HasPrefix(s[i:], quote) {
			return i + len(quote), true
		}
		if s[i] == '\n' && len(quote) == 1 {
			return 0, false
		}
	}
	return 0, false
}

// isRaw reports whether the quote at i follows a string prefix with an r: r, R, br, rb….
func isRaw(s string, i int) bool {
	j := i
	for j > 0 && i-j < 2 && strings.IndexByte("rRbB", s[j-1]) >= 0 {
		j--
	}
	if j > 0 && isIdentByte(s[j-1]) {
		return false
	}
	return strings.ContainsAny(s[j:i], "rR")
}

func isIdentByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// IsReference reports whether an expression is nothing but a path: trigger.body.id,
// trigger.headers["x-id"], steps.list.body[0].name. A path needs no evaluator: see
// ResolveReference. An index of a list is a path element of digits in brackets, written [0].
func IsReference(src string) (path []string, ok bool) {
	s := strings.TrimSpace(src)
	name, rest := cutIdent(s)
	if name == "" || isReserved(name) {
		return nil, false
	}
	path = append(path, name)
	for rest != "" {
		switch rest[0] {
		case '.':
			if name, rest = cutIdent(rest[1:]); name == "" || isKeyword(name) {
				return nil, false
			}
			path = append(path, name)
		case '[':
			var key string
			if key, rest, ok = cutIndex(rest[1:]); !ok {
				return nil, false
			}
			path = append(path, key)
		default:
			return nil, false
		}
	}
	return path, true
}

func cutIdent(s string) (name, rest string) {
	i := 0
	for i < len(s) && isIdentByte(s[i]) && (i > 0 || s[0] < '0' || s[0] > '9') {
		i++
	}
	return s[:i], s[i:]
}

// cutIndex reads what stands in brackets: a string without escapes, or a number.
func cutIndex(s string) (key, rest string, ok bool) {
	if s == "" {
		return "", "", false
	}
	if q := s[0]; q == '"' || q == '\'' {
		end := strings.IndexByte(s[1:], q)
		if end < 0 || !strings.HasPrefix(s[1+end+1:], "]") {
			return "", "", false
		}
		key = s[1 : 1+end]
		if strings.ContainsAny(key, "\\\n\r") || !utf8.ValidString(key) || strings.HasPrefix(key, "[") {
			return "", "", false
		}
		return key, s[end+3:], true
	}
	end := strings.IndexByte(s, ']')
	if end <= 0 || end > 9 || !isIntText(s[:end]) || s[0] == '-' {
		return "", "", false
	}
	n, err := strconv.Atoi(s[:end])
	return "[" + strconv.Itoa(n) + "]", s[end+1:], err == nil
}

// isReserved reports whether CEL reads name as something else than a variable.
func isReserved(name string) bool {
	if isKeyword(name) {
		return true
	}
	switch name {
	case "as", "break", "const", "continue", "else", "for", "function",
		"if", "import", "let", "loop", "package", "namespace", "return", "var", "void", "while":
		return true
	}
	return false
}

// isKeyword reports whether CEL never reads name as a name.
func isKeyword(name string) bool {
	return name == "true" || name == "false" || name == "null" || name == "in"
}

// ResolveReference reads a path that IsReference has returned. A missing field, a missing item
// or a look into something that is no object or list is an *Error, as in an evaluation.
func ResolveReference(path []string, v Vars) (Value, error) {
	if len(path) == 0 {
		return nil, evalErrorf("an empty reference")
	}
	cur, ok := v.Resolve(path[0])
	if !ok {
		return nil, evalErrorf("%s has no value here", path[0])
	}
	for i, key := range path[1:] {
		next, ok := step(cur, key)
		if !ok {
			return nil, evalErrorf("%s", missing(cur, path[:i+1], key))
		}
		cur = next
	}
	return unwrap(cur), nil
}

// step goes one element of a path down.
func step(v Value, key string) (Value, bool) {
	v = unwrap(v)
	if strings.HasPrefix(key, "[") {
		i, err := strconv.Atoi(strings.Trim(key, "[]"))
		if err != nil {
			return nil, false
		}
		return Index(v, i)
	}
	return Lookup(v, key)
}

// missing says why a path goes no further than v, which stands at path.
func missing(v Value, path []string, key string) string {
	at := pathText(path)
	switch k := Kind(unwrap(v)); {
	case k == KindNull && len(path) == 2 && path[0] == "steps":
		return fmt.Sprintf("%s is null: the step was skipped or had no output; orElse(%s, …) stands in for it", at, pathText(append(path[:len(path):len(path)], key)))
	case k == KindNull:
		return fmt.Sprintf("%s is null; orElse(%s, …) stands in for it", at, pathText(append(path[:len(path):len(path)], key)))
	case k == KindObject && !strings.HasPrefix(key, "["):
		return fmt.Sprintf("%s has no field %s%s", at, strconv.Quote(key), didYouMean(key, Keys(v)))
	case k == KindList && strings.HasPrefix(key, "["):
		return fmt.Sprintf("%s has no item %s: it has %d", at, strings.Trim(key, "[]"), Len(v))
	case k == KindList:
		return fmt.Sprintf("%s is a list and has no field %s; write %s[0].%s or %s.map(x, x.%s)", at, strconv.Quote(key), at, key, at, key)
	default:
		return fmt.Sprintf("%s is %s and has no fields", at, kindName(v))
	}
}

// pathText writes a path as it is written in an expression.
func pathText(path []string) string {
	var b strings.Builder
	for i, p := range path {
		name, rest := cutIdent(p)
		switch {
		case strings.HasPrefix(p, "["):
			b.WriteString(p)
		case name == "" || rest != "":
			fmt.Fprintf(&b, "[%q]", p)
		case i > 0:
			b.WriteString("." + p)
		default:
			b.WriteString(p)
		}
	}
	return b.String()
}
