package flowfile

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// inputSchema is the part of a JSON Schema (2020-12) that says something about types.
type inputSchema struct {
	Type       json.RawMessage        `json:"type"`
	Properties map[string]inputSchema `json:"properties"`
	Required   []string               `json:"required"`
	Additional json.RawMessage        `json:"additionalProperties"`
	Items      *json.RawMessage       `json:"items"`
	Enum       json.RawMessage        `json:"enum"`
}

// closed says that there are no other properties than those named.
func (s inputSchema) closed() bool { return string(s.Additional) == "false" }

// readSchema reads what it can: a schema that is not understood says nothing.
func readSchema(raw json.RawMessage) inputSchema {
	var s inputSchema
	if json.Unmarshal(raw, &s) != nil {
		return inputSchema{}
	}
	return s
}

// schemaType is what a JSON Schema says about a value's type.
func schemaType(raw json.RawMessage) expr.Type { return readSchema(raw).expr(0) }

func (s inputSchema) expr(depth int) expr.Type {
	var name string
	if depth > flow.MaxDocumentDepth || json.Unmarshal(s.Type, &name) != nil {
		return expr.Dyn()
	}
	switch name {
	case "string":
		return expr.StringType()
	case "integer":
		return expr.IntType()
	case "number":
		return expr.NumberType()
	case "boolean":
		return expr.BoolType()
	case "null":
		return expr.NullType()
	case "array":
		if s.Items == nil {
			return expr.ListType(expr.Dyn())
		}
		return expr.ListType(readSchema(*s.Items).expr(depth + 1))
	case "object":
		fields := map[string]expr.Type{}
		for k, p := range s.Properties {
			fields[k] = p.expr(depth + 1)
			if !slices.Contains(s.Required, k) {
				fields[k] = fields[k].OrNull()
			}
		}
		if s.closed() {
			return expr.ObjectType(fields)
		}
		return expr.OpenObjectType(fields)
	}
	return expr.Dyn()
}

func schemaTypes() []string {
	return []string{"string", "integer", "number", "boolean", "null", "array", "object"}
}

// nodes is how many maps, lists and scalars a value is, with those in it.
func nodes(v *flow.Value) int {
	n := 1
	for i := range v.Items {
		n += nodes(&v.Items[i])
	}
	return n
}

// checkSchema reports what is certainly wrong with a JSON Schema.
func (d *decoder) checkSchema(v *flow.Value, path string) {
	if v.Kind == flow.Bool {
		return
	}
	if v.Kind != flow.Object {
		d.ProblemAt(path, "", "expected a JSON Schema, found %s", v.Kind)
		return
	}
	for i, k := range v.Keys {
		d.checkKeyword(k, &v.Items[i], source.Join(path, k))
	}
}

func (d *decoder) checkKeyword(key string, v *flow.Value, path string) {
	switch key {
	case "type":
		names := []flow.Value{*v}
		if v.Kind == flow.List {
			names = v.Items
		}
		for _, n := range names {
			if n.Kind != flow.String || !slices.Contains(schemaTypes(), n.Text) {
				d.ProblemAt(path, source.DidYouMean(n.Text, schemaTypes()), "expected a type of JSON Schema: %s", source.OneOf(schemaTypes()))
			}
		}
	case "properties", "patternProperties", "$defs":
		if v.Kind != flow.Object {
			d.ProblemAt(path, "", "expected a map of JSON Schemas, found %s", v.Kind)
			return
		}
		for i, k := range v.Keys {
			d.checkSchema(&v.Items[i], source.Join(path, k))
		}
	case "items", "additionalProperties", "not", "contains", "if", "then", "else":
		d.checkSchema(v, path)
	case "anyOf", "oneOf", "allOf", "prefixItems":
		if v.Kind != flow.List {
			d.ProblemAt(path, "", "expected a list of JSON Schemas, found %s", v.Kind)
			return
		}
		for i := range v.Items {
			d.checkSchema(&v.Items[i], fmt.Sprintf("%s[%d]", path, i))
		}
	case "required":
		for i := range v.Items {
			if v.Items[i].Kind != flow.String {
				d.ProblemAt(fmt.Sprintf("%s[%d]", path, i), "", "expected the name of a property, found %s", v.Items[i].Kind)
			}
		}
		if v.Kind != flow.List {
			d.ProblemAt(path, "", "expected a list of names, found %s", v.Kind)
		}
	case "$ref":
		if v.Kind != flow.String || len(v.Text) == 0 || v.Text[0] != '#' {
			d.ProblemAt(path, "", "a reference stays inside this schema and begins with #")
		}
	case "$dynamicRef", "$recursiveRef":
		d.ProblemAt(path, "write $ref", "a reference cannot depend on where it is used")
	}
}
