package connector

import (
	"encoding/json"
	"slices"
	"strings"
)

// SchemaRef is how a schema of an action refers to a shared schema of its manifest: SchemaRef + name.
const SchemaRef = "#/schemas/"

// Refs are the references in a JSON Schema, each once. What is no JSON has none.
func Refs(raw json.RawMessage) []string {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return nil
	}
	var out []string
	collect(v, &out, 0)
	slices.Sort(out)
	return slices.Compact(out)
}

func collect(v any, out *[]string, depth int) {
	if depth > MaxDepth {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		for k, item := range v {
			switch ref, ok := item.(string); {
			case ok && (k == "$ref" || k == "$dynamicRef"):
				*out = append(*out, ref)
			case k == "enum" || k == "const" || k == "default" || k == "example" || k == "examples":
			default:
				collect(item, out, depth+1)
			}
		}
	case []any:
		for _, item := range v {
			collect(item, out, depth+1)
		}
	}
}

// Closure are the names of the shared schemas that some schemas need, those of schemas that they refer to included, in order.
func (m *Manifest) Closure(schemas ...json.RawMessage) []string {
	var names []string
	for len(schemas) > 0 {
		raw := schemas[0]
		schemas = schemas[1:]
		for _, ref := range Refs(raw) {
			name, ok := strings.CutPrefix(ref, SchemaRef)
			if !ok || m.Schemas[name] == nil || slices.Contains(names, name) {
				continue
			}
			names = append(names, name)
			schemas = append(schemas, m.Schemas[name])
		}
	}
	slices.Sort(names)
	return names
}
