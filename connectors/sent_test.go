package connectors_test

import (
	"encoding/json"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// bodySchema is the JSON Schema of the body that an action can send, or nil for none.
func bodySchema(a *connector.Action) map[string]any {
	var root map[string]any
	put := func(path string, s map[string]any, required bool) {
		if root == nil {
			root = map[string]any{"type": "object", closed: true}
		}
		at := root
		names := bodyPath(a.Body, path)
		for i, name := range names {
			if name == "" { // an item of a list
				items := object(at["items"])
				if items == nil {
					items = map[string]any{}
					if i < len(names)-1 {
						items = map[string]any{"type": "object", closed: true}
					}
					at["items"], at["type"] = items, "array"
					delete(at, closed)
				}
				at = items
				continue
			}
			props := object(at["properties"])
			if props == nil {
				props = map[string]any{}
				at["properties"] = props
			}
			if required {
				list, _ := at["required"].([]any)
				at["required"] = append(list, name)
			}
			if i == len(names)-1 {
				props[name] = s
				return
			}
			if object(props[name]) == nil {
				props[name] = map[string]any{"type": "object", closed: true}
			}
			at = object(props[name])
		}
	}
	for i := range a.Inputs {
		in := &a.Inputs[i]
		if in.In != connector.InBody {
			continue
		}
		if in.Whole {
			return inputSchema(in)
		}
		put(in.Key(), inputSchema(in), in.Required || len(in.Default) > 0)
	}
	for _, f := range a.Fields {
		var v any
		if json.Unmarshal(f.Value, &v) == nil {
			put(f.At, valueSchema(v), true)
		}
	}
	if p := a.Paginate; p != nil {
		if p.In == connector.InBody && p.Name != "" {
			put(p.Name, map[string]any{}, false)
		}
		if p.Size != nil && p.Size.In == connector.InBody {
			put(p.Size.Name, map[string]any{}, false)
		}
	}
	return root
}

// bodyPath takes the place of a field apart; an item of a list is an empty name.
func bodyPath(body connector.Body, path string) []string {
	if body == connector.BodyForm || body == connector.BodyMultipart {
		return strings.Split(strings.ReplaceAll(path, "]", ""), "[")
	}
	segments, err := connector.Segments(path)
	if err != nil {
		return []string{path}
	}
	var out []string
	for _, s := range segments {
		out = append(out, s.Key)
	}
	return out
}

// inputSchema is the JSON Schema of the values of an input.
func inputSchema(in *connector.Input) map[string]any {
	out := map[string]any{}
	if len(in.Schema) > 0 && json.Unmarshal(in.Schema, &out) != nil {
		return out
	}
	if out["type"] == nil {
		out["type"] = string(in.Type)
	}
	if len(in.Enum) > 0 {
		var list []any
		for _, e := range in.Enum {
			list = append(list, e)
		}
		if in.Type == connector.TypeArray {
			out["items"] = map[string]any{"enum": list}
		} else {
			out["enum"] = list
		}
	}
	return out
}

// valueSchema is the JSON Schema of one value.
func valueSchema(v any) map[string]any {
	switch v := v.(type) {
	case map[string]any:
		props := map[string]any{}
		var required []any
		for name, member := range v {
			props[name] = valueSchema(member)
			required = append(required, name)
		}
		return map[string]any{"type": "object", closed: true, "properties": props, "required": required}
	case []any:
		out := map[string]any{"type": "array"}
		if len(v) > 0 {
			out["items"] = valueSchema(v[0])
		}
		return out
	case string:
		return map[string]any{"type": "string", "enum": []any{v}}
	case float64:
		return map[string]any{"type": "number"}
	case bool:
		return map[string]any{"type": "boolean"}
	}
	return map[string]any{}
}
