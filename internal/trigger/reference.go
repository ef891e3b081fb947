package trigger

import (
	"net/http"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
)

// maxKey bounds the text of a delivery id or an ordering key; a longer one is none.
const maxKey = 4096

// Key is the text that a template of references of trigger makes of a request. It is empty
// when any of them names nothing, so that two requests without an id are never the same.
func (q *Request) Key(v *flow.Value) string {
	var b strings.Builder
	for i := range v.Parts {
		p := &v.Parts[i]
		if p.Expr == nil {
			b.WriteString(p.Text)
			continue
		}
		text := q.reference(p.Expr.Reference)
		if text == "" {
			return ""
		}
		b.WriteString(text)
	}
	if b.Len() > maxKey {
		return ""
	}
	return b.String()
}

// reference is the text of one reference; empty for what is missing or no scalar.
func (q *Request) reference(path []string) string {
	if len(path) < 2 || path[0] != "trigger" {
		return ""
	}
	v, err := expr.ResolveReference(path[1:], (*fields)(q))
	if err != nil {
		return ""
	}
	switch expr.Kind(v) {
	case expr.KindString, expr.KindNumber, expr.KindBool:
		text, err := expr.Text(v)
		if err != nil {
			return ""
		}
		return text
	}
	return ""
}

// fields are the fields of trigger, made when they are asked for.
type fields Request

// Resolve implements [expr.Vars].
func (f *fields) Resolve(name string) (expr.Value, bool) {
	switch name {
	case "body":
		return f.body, f.body != nil
	case "id", "source", "type":
		return f.attribute(name)
	case "method":
		return expr.String(f.Method), true
	case "query":
		return object(f.Query, func(values []string) expr.Value { return expr.String(values[0]) }), true
	case "headers":
		return object(f.Header, func(values []string) expr.Value { return expr.String(values[0]) }), true
	case "headers_all":
		return object(f.Header, func(values []string) expr.Value {
			list := make([]expr.Value, len(values))
			for i, s := range values {
				list[i] = expr.String(s)
			}
			return expr.NewList(list)
		}), true
	}
	return nil, false
}

// attribute is what the sender says of its event.
func (f *fields) attribute(name string) (expr.Value, bool) {
	if f.cloud == nil {
		return nil, false
	}
	switch name {
	case "id":
		return expr.String(f.cloud.id), true
	case "source":
		return expr.String(f.cloud.source), true
	}
	return expr.String(f.cloud.kind), true
}

func object[M ~map[string][]string](m M, value func([]string) expr.Value) expr.Value {
	keys, vals := make([]string, 0, len(m)), make([]expr.Value, 0, len(m))
	_, header := any(m).(http.Header)
	for name, values := range m {
		if header {
			name = strings.ToLower(name)
		}
		keys, vals = append(keys, name), append(vals, value(values))
	}
	return expr.NewObject(keys, vals)
}
