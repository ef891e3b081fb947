package flowfile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
)

// value reads any value: literals, templates and expressions in maps and lists.
func (d *decoder) value(dst *flow.Value) reader {
	return func(n *node, path string) { *dst = d.readValue(n, path) }
}

// valuePointer is value for keys whose presence alone matters.
func (d *decoder) valuePointer(dst **flow.Value) reader {
	return func(n *node, path string) {
		v := d.readValue(n, path)
		*dst = &v
	}
}

func (d *decoder) readValue(n *node, path string) flow.Value {
	d.at[path] = n
	switch n.kind {
	case listNode:
		v := flow.Value{Kind: flow.List}
		for i, item := range n.items {
			v.Items = append(v.Items, d.readValue(item, fmt.Sprintf("%s[%d]", path, i)))
		}
		return v
	case mapNode:
		v := flow.Value{Kind: flow.Object}
		for i, k := range n.keys {
			at := join(path, k.value)
			d.keyAt[at] = k
			if strings.Contains(k.value, "${{") {
				d.problem(k, at, "", "a key takes no expression")
			}
			v.Keys = append(v.Keys, k.value)
			v.Items = append(v.Items, d.readValue(n.items[i], at))
		}
		return v
	}
	return d.readScalar(n, path)
}

func (d *decoder) readScalar(n *node, path string) flow.Value {
	switch resolve(n) {
	case nullScalar:
		return flow.NullValue()
	case boolScalar:
		return flow.BoolValue(strings.EqualFold(n.value, "true"))
	case numberScalar:
		v, err := flow.NumberValue(n.value)
		if err != nil {
			d.problem(n, path, "", "%s", err)
		}
		return v
	case unclearScalar:
		d.unclear(n, path)
		return flow.NullValue()
	}
	text, shift := blockExpression(n)
	v, issues := flow.ParseString(text)
	d.expressionIssues(n, path, shift, issues)
	return v
}

// blockExpression takes the white space away that a block scalar leaves around what is otherwise exactly one expression:
// the line feed at its end would make a text of it.
func blockExpression(n *node) (text string, shift int) {
	trimmed := strings.TrimSpace(n.value)
	if n.style != literalStyle && n.style != foldedStyle || !strings.HasPrefix(trimmed, "${{") || !strings.HasSuffix(trimmed, "}}") {
		return n.value, 0
	}
	if parts, issues := expr.ParseTemplate(trimmed); len(issues) == 0 && len(parts) == 1 && parts[0].Source != "" {
		return trimmed, strings.Index(n.value, trimmed)
	}
	return n.value, 0
}

// expression reads a value that must be one expression, or a literal of the kinds given.
func (d *decoder) expression(dst *flow.Value, what string, literals ...flow.Kind) reader {
	return func(n *node, path string) {
		before := len(d.problems)
		v := d.readValue(n, path)
		if len(d.problems) > before {
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
		d.problem(n, path, suggestion, "expected %s, found %s", what, describeValue(n, &v))
	}
}

// object value: what must be a map, whose values may be anything.
func (d *decoder) objectValue(dst *flow.Value, what string) reader {
	return func(n *node, path string) {
		*dst = d.readValue(n, path)
		if dst.Kind != flow.Object {
			d.problem(n, path, "", "expected a map of %s, found %s", what, describeValue(n, dst))
		}
	}
}

// literal reads a value without expressions.
func (d *decoder) literal(dst *flow.Value, what string) reader {
	return func(n *node, path string) {
		*dst = d.readValue(n, path)
		if !dst.Literal() {
			d.problem(n, path, "", "%s takes no expression", what)
		}
	}
}

// textValue reads a text that may be a template or an expression.
func (d *decoder) textValue(dst *flow.Value, what string) reader {
	return func(n *node, path string) {
		before := len(d.problems)
		*dst = d.readValue(n, path)
		switch dst.Kind {
		case flow.String, flow.Template, flow.Expression:
		default:
			if len(d.problems) == before {
				d.problem(n, path, "", "expected %s, found %s", what, describeValue(n, dst))
			}
		}
	}
}

func describeValue(n *node, v *flow.Value) string {
	if v.Kind == flow.Template || v.Kind == flow.Expression {
		return v.Kind.String()
	}
	return describe(n)
}
