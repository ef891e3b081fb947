package flowfile

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
)

// maxOutputSteps bounds how much of a manifest's schemas is read for one answer: schemas may refer to themselves.
const maxOutputSteps = 5000

// outputs reads what the schemas of a manifest say about the answers of its actions.
type outputs struct {
	m     *connector.Manifest
	steps int
}

// outputDepth is how deep an answer is known: deeper, anything goes.
const outputDepth = 8

func (o *outputs) expr(raw json.RawMessage, depth int) expr.Type {
	if o.steps++; o.steps > maxOutputSteps || depth > outputDepth {
		return expr.Dyn()
	}
	var s struct {
		inputSchema
		Ref        string                     `json:"$ref"`
		Properties map[string]json.RawMessage `json:"properties"`
		AnyOf      []json.RawMessage          `json:"anyOf"`
		OneOf      []json.RawMessage          `json:"oneOf"`
		AllOf      []json.RawMessage          `json:"allOf"`
	}
	if json.Unmarshal(raw, &s) != nil || len(s.AnyOf)+len(s.OneOf) > 0 {
		return expr.Dyn()
	}
	if name, ok := strings.CutPrefix(s.Ref, connector.SchemaRef); ok {
		return o.expr(o.m.Schemas[name], depth+1)
	}
	names, null := s.types()
	if len(names) == 0 && (len(s.Properties) > 0 || len(s.AllOf) > 0) {
		names = []string{"object"}
	}
	if len(names) != 1 {
		return expr.Dyn()
	}
	var t expr.Type
	switch names[0] {
	case "array":
		item := expr.Dyn()
		if s.Items != nil {
			item = o.expr(*s.Items, depth+1)
		}
		t = expr.ListType(item)
	case "object":
		t = o.object(s.Properties, s.AllOf, s.Required, depth)
	default:
		s.Type = json.RawMessage(`"` + names[0] + `"`)
		t = s.inputSchema.expr(flow.MaxDocumentDepth)
	}
	if null {
		t = t.OrNull()
	}
	return t
}

// object joins the fields of a schema with those of the schemas that hold too. Vendors send more than they write down.
func (o *outputs) object(properties map[string]json.RawMessage, all []json.RawMessage, required []string, depth int) expr.Type {
	fields := map[string]expr.Type{}
	for _, raw := range all {
		t := o.expr(raw, depth+1)
		for _, name := range t.FieldNames() {
			fields[name], _ = t.Field(name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		t := o.expr(properties[name], depth+1)
		if !slices.Contains(required, name) {
			t = t.OrNull()
		}
		fields[name] = t
	}
	return expr.OpenObjectType(fields)
}

// types are the types of a schema but null, and whether that is one.
func (s inputSchema) types() (names []string, null bool) {
	var one string
	if json.Unmarshal(s.Type, &one) == nil {
		return []string{one}, false
	}
	var many []string
	if json.Unmarshal(s.Type, &many) != nil {
		return nil, false
	}
	return slices.DeleteFunc(many, func(n string) bool { return n == "null" }), slices.Contains(many, "null")
}

// enum are the texts that a schema allows, or nothing where it says nothing of them.
func (s inputSchema) enum() []string {
	var values []string
	if json.Unmarshal(s.Enum, &values) != nil {
		return nil
	}
	return values
}

func propertyNames(s inputSchema) []string { return slices.Sorted(maps.Keys(s.Properties)) }
