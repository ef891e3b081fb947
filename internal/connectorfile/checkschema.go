package connectorfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// maxSteps bounds the keywords that are looked at in all schemas of a manifest.
const maxSteps = 2_000_000

// CheckSchemas reports what is certainly wrong with the JSON Schemas of a manifest.
func CheckSchemas(m *connector.Manifest) connector.Problems {
	c := &schemas{steps: maxSteps}
	for _, name := range slices.Sorted(maps.Keys(m.Schemas)) {
		c.schema(connector.Join("schemas", name), m.Schemas[name])
	}
	for i := range m.Actions {
		a := &m.Actions[i]
		at := connector.Join("actions", a.Name)
		c.schema(at+".output", a.Output)
		for n := range a.Inputs {
			c.schema(connector.Join(at+".input", a.Inputs[n].Name)+".schema", a.Inputs[n].Schema)
		}
	}
	for i := range m.Triggers {
		t := &m.Triggers[i]
		at := connector.Join("triggers", t.Name)
		c.schema(at+".payload", t.Payload)
		for n := range t.Inputs {
			c.schema(connector.Join(at+".input", t.Inputs[n].Name)+".schema", t.Inputs[n].Schema)
		}
	}
	if c.steps <= 0 {
		c.add("schemas", "the schemas have more than %d keywords", maxSteps)
	}
	return c.problems
}

type schemas struct {
	problems connector.Problems
	steps    int
}

func (c *schemas) add(at, format string, args ...any) {
	if len(c.problems) < 100 {
		c.problems = append(c.problems, connector.Problem{At: at, Message: fmt.Sprintf(format, args...)})
	}
}

func (c *schemas) schema(at string, raw json.RawMessage) {
	if len(raw) == 0 {
		return
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		c.add(at, "expected a JSON Schema: %s", err)
		return
	}
	c.value(at, v)
}

func (c *schemas) value(at string, v any) {
	if c.steps--; c.steps <= 0 {
		return
	}
	switch v := v.(type) {
	case bool:
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			c.keyword(connector.Join(at, k), k, v[k])
		}
	default:
		c.add(at, "expected a JSON Schema, found %s", describe(v))
	}
}

func (c *schemas) keyword(at, key string, v any) {
	switch key {
	case "type":
		c.types(at, v)
	case "properties", "patternProperties", "$defs", "dependentSchemas":
		m, ok := v.(map[string]any)
		if !ok {
			c.add(at, "expected a map of JSON Schemas, found %s", describe(v))
			return
		}
		for _, k := range slices.Sorted(maps.Keys(m)) {
			c.value(connector.Join(at, k), m[k])
		}
	case "items", "additionalProperties", "not", "contains", "if", "then", "else", "propertyNames", "unevaluatedProperties", "unevaluatedItems":
		c.value(at, v)
	case "anyOf", "oneOf", "allOf", "prefixItems":
		list, ok := v.([]any)
		if !ok || len(list) == 0 {
			c.add(at, "expected a list of JSON Schemas, found %s", describe(v))
			return
		}
		for i, item := range list {
			c.value(fmt.Sprintf("%s[%d]", at, i), item)
		}
	case "required":
		list, ok := v.([]any)
		if !ok {
			c.add(at, "expected a list of names, found %s", describe(v))
			return
		}
		for i, item := range list {
			if _, ok := item.(string); !ok {
				c.add(fmt.Sprintf("%s[%d]", at, i), "expected the name of a property, found %s", describe(item))
			}
		}
	case "enum":
		if _, ok := v.([]any); !ok {
			c.add(at, "expected a list of values, found %s", describe(v))
		}
	case "$ref":
		if _, ok := v.(string); !ok {
			c.add(at, "expected a reference such as #/schemas/user, found %s", describe(v))
		}
	}
}

func (c *schemas) types(at string, v any) {
	known := []string{"string", "integer", "number", "boolean", "null", "array", "object"}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, item := range list {
		if s, ok := item.(string); !ok || !slices.Contains(known, s) {
			c.add(at, "expected a type of JSON Schema: %s", strings.Join(known, ", "))
		}
	}
}

func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return fmt.Sprint(v)
	case json.Number:
		return "the number " + v.String()
	case string:
		if len(v) > 40 {
			v = strings.ToValidUTF8(v[:40], "") + "…"
		}
		return fmt.Sprintf("the text %q", v)
	case []any:
		return "a list"
	}
	return "a map"
}
