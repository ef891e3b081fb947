package flowfile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// value reads any value: literals, templates and expressions in maps and lists.
func (d *decoder) value(dst *flow.Value) source.Reader {
	return func(n *source.Node, path string) { *dst = d.readValue(n, path) }
}

// valuePointer is value for keys whose presence alone matters.
func (d *decoder) valuePointer(dst **flow.Value) source.Reader {
	return func(n *source.Node, path string) {
		v := d.readValue(n, path)
		*dst = &v
	}
}

func (d *decoder) readValue(n *source.Node, path string) flow.Value {
	d.At[path] = n
	switch n.Kind {
	case source.List:
		v := flow.Value{Kind: flow.List}
		for i, item := range n.Items {
			v.Items = append(v.Items, d.readValue(item, fmt.Sprintf("%s[%d]", path, i)))
		}
		return v
	case source.Map:
		v := flow.Value{Kind: flow.Object}
		for i, k := range n.Keys {
			at := source.Join(path, k.Value)
			d.KeyAt[at] = k
			if strings.Contains(k.Value, "${{") {
				d.Problem(k, at, "", "a key takes no expression")
			}
			v.Keys = append(v.Keys, k.Value)
			v.Items = append(v.Items, d.readValue(n.Items[i], at))
		}
		return v
	}
	return d.readScalar(n, path)
}

func (d *decoder) readScalar(n *source.Node, path string) flow.Value {
	switch source.Resolve(n) {
	case source.NullScalar:
		return flow.NullValue()
	case source.BoolScalar:
		return flow.BoolValue(strings.EqualFold(n.Value, "true"))
	case source.NumberScalar:
		v, err := flow.NumberValue(n.Value)
		if err != nil {
			d.Problem(n, path, "", "%s", err)
		}
		return v
	case source.UnclearScalar:
		d.Unclear(n, path)
		return flow.NullValue()
	}
	text, shift := blockExpression(n)
	v, issues := flow.ParseString(text)
	d.expressionIssues(n, path, shift, issues)
	return v
}

// blockExpression takes the white space away that a block scalar leaves around what is otherwise exactly one expression:
// the line feed at its end would make a text of it.
func blockExpression(n *source.Node) (text string, shift int) {
	trimmed := strings.TrimSpace(n.Value)
	if n.Form != source.LiteralForm && n.Form != source.FoldedForm || !strings.HasPrefix(trimmed, "${{") || !strings.HasSuffix(trimmed, "}}") {
		return n.Value, 0
	}
	if parts, issues := expr.ParseTemplate(trimmed); len(issues) == 0 && len(parts) == 1 && parts[0].Source != "" {
		return trimmed, strings.Index(n.Value, trimmed)
	}
	return n.Value, 0
}

// expression reads a value that must be one expression, or a literal of the kinds given.
func (d *decoder) expression(dst *flow.Value, what string, literals ...flow.Kind) source.Reader {
	return func(n *source.Node, path string) {
		before := len(d.Problems)
		v := d.readValue(n, path)
		if len(d.Problems) > before {
			return
		}
		if v.Kind == flow.Expression || slices.Contains(literals, v.Kind) {
			*dst = v
			return
		}
		suggestion := ""
		if v.Kind == flow.String && v.Text != "" && !strings.ContainsAny(v.Text, "\n") && len(v.Text) < 100 {
			suggestion = fmt.Sprintf("write \"${{ %s }}\"", v.Text)
		}
		d.Problem(n, path, suggestion, "expected %s, found %s", what, describeValue(n, &v))
	}
}

// object value: what must be a map, whose values may be anything.
func (d *decoder) objectValue(dst *flow.Value, what string) source.Reader {
	return func(n *source.Node, path string) {
		*dst = d.readValue(n, path)
		if dst.Kind != flow.Object {
			d.Problem(n, path, "", "expected a map of %s, found %s", what, describeValue(n, dst))
		}
	}
}

// literal reads a value without expressions.
func (d *decoder) literal(dst *flow.Value, what string) source.Reader {
	return func(n *source.Node, path string) {
		*dst = d.readValue(n, path)
		if !dst.Literal() {
			d.Problem(n, path, "", "%s takes no expression", what)
		}
	}
}

// textValue reads a text that may be a template or an expression.
func (d *decoder) textValue(dst *flow.Value, what string) source.Reader {
	return func(n *source.Node, path string) {
		before := len(d.Problems)
		*dst = d.readValue(n, path)
		switch dst.Kind {
		case flow.String, flow.Template, flow.Expression:
		default:
			if len(d.Problems) == before {
				d.Problem(n, path, "", "expected %s, found %s", what, describeValue(n, dst))
			}
		}
	}
}

func describeValue(n *source.Node, v *flow.Value) string {
	if v.Kind == flow.Template || v.Kind == flow.Expression {
		return v.Kind.String()
	}
	return source.Describe(n)
}
