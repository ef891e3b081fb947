package openapi

import (
	"encoding/json"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

type rawJSON = json.RawMessage

// typing is what a schema says of a value's type.
type typing struct {
	typ    connector.Type
	schema *node // resolved: never a reference
	core   *node // where it says what it is: below allOf
	file   bool
}

// typeOf finds the type of a schema through references, allOf with one member, and alternatives of one type.
func (s *schemas) typeOf(n *node, depth int) typing {
	if depth == 0 {
		s.steps = 0
	}
	s.steps++
	t := s.d.deref(n)
	if !t.is(kindMap) || depth > maxMerge || s.steps > maxLooks {
		return typing{typ: connector.TypeAny, schema: mapNode(), core: mapNode()}
	}
	if name := typeName(t); name != "" {
		return s.named(t, name)
	}
	for _, key := range []string{"allOf", "oneOf", "anyOf"} {
		list := t.get(key).list()
		if len(list) == 0 {
			continue
		}
		var found typing
		for _, member := range list {
			m := s.typeOf(member, depth+1)
			if m.typ == connector.TypeAny && key == "allOf" {
				continue
			}
			if found.typ != "" && found.typ != m.typ {
				return typing{typ: connector.TypeAny, schema: t, core: t}
			}
			found = m
		}
		if len(list) == 1 && found.typ != "" {
			return found
		}
		if found.typ != "" {
			return typing{typ: found.typ, schema: t, core: found.core, file: found.file}
		}
	}
	switch {
	case t.get("properties") != nil, t.get("additionalProperties") != nil:
		return typing{typ: connector.TypeObject, schema: t, core: t}
	case t.get("items") != nil:
		return typing{typ: connector.TypeArray, schema: t, core: t}
	case t.get("enum").size() > 0 && allTexts(t.get("enum")):
		return typing{typ: connector.TypeString, schema: t, core: t}
	}
	return typing{typ: connector.TypeAny, schema: t, core: t}
}

func allTexts(list *node) bool {
	for _, v := range list.list() {
		if !v.is(kindString) {
			return false
		}
	}
	return true
}

// typeName is the one type besides null that a schema names; empty for none or several.
func typeName(t *node) string {
	v := t.get("type")
	if v.is(kindString) {
		return v.text
	}
	name := ""
	for _, one := range v.list() {
		if one.str() == "null" {
			continue
		}
		if name != "" {
			return ""
		}
		name = one.str()
	}
	return name
}

func (s *schemas) named(t *node, name string) typing {
	switch name {
	case "string":
		format, encoding := t.get("format").str(), t.get("contentMediaType").str()
		if format == "binary" || format == "file" || encoding == "application/octet-stream" {
			return typing{typ: connector.TypeString, schema: t, core: t, file: true}
		}
		return typing{typ: connector.TypeString, schema: t, core: t}
	case "file":
		return typing{typ: connector.TypeString, schema: t, core: t, file: true}
	case "integer", "number", "boolean", "object", "array":
		return typing{typ: connector.Type(name), schema: t, core: t}
	}
	return typing{typ: connector.TypeAny, schema: t, core: t}
}

// describe fills in what a parameter or property and its schema say of an input.
func (s *schemas) describe(in *connector.Input, about, schema *node) typing {
	t := s.typeOf(schema, 0)
	in.Type = t.typ
	first := func(keys ...string) string {
		for _, k := range keys {
			for _, n := range []*node{about, schema, t.schema} {
				if v := n.get(k); v.is(kindString) && v.text != "" {
					return v.text
				}
			}
		}
		return ""
	}
	in.Title = line(first("x-ms-summary"), maxTitle)
	if s.detail < detailNone {
		in.Description = clip(first("description"), maxInputText)
	}
	if about.get("deprecated").yes() || t.schema.get("deprecated").yes() {
		in.Deprecated = "deprecated by the provider"
	}
	in.Secret = t.schema.get("format").str() == "password"
	in.Visibility = visibility(first("x-ms-visibility"))
	s.values(in, about, schema, t)
	s.dynamic(in, about, schema)
	return t
}

func visibility(word string) connector.Visibility {
	switch word {
	case "important", "advanced", "internal":
		return connector.Visibility(word)
	}
	return connector.VisibilityNormal
}

// values fills in enum, schema, example, and the default of what must be given: other defaults are the provider's to apply.
func (s *schemas) values(in *connector.Input, about, schema *node, t typing) {
	enum := t.core
	if in.Type == connector.TypeArray {
		enum = s.d.deref(t.core.get("items"))
	}
	in.Enum = s.enum(enum, in.Type)
	if s.detail < detailNone {
		in.Schema = s.inputSchema(schema, t.schema, in)
	}
	for _, n := range []*node{about.get("example"), t.schema.get("example"), first(t.schema.get("examples"))} {
		if n != nil && fits(n, in.Type) && !in.Secret && allowed(in.Enum, n) {
			if raw := n.json(); len(raw) <= maxExample && s.detail < detailNone {
				in.Example = raw
			}
			break
		}
	}
	if d := t.schema.get("default"); d != nil && in.Required && fits(d, in.Type) && d.kind != kindNull && allowed(in.Enum, d) {
		in.Default = d.json()
	}
}

func allowed(enum []string, n *node) bool {
	if len(enum) == 0 {
		return true
	}
	values := []*node{n}
	if n.kind == kindList {
		values = n.items
	}
	for _, v := range values {
		ok := false
		for _, e := range enum {
			ok = ok || e == v.str()
		}
		if !ok {
			return false
		}
	}
	return true
}

func first(n *node) *node {
	if n.is(kindList) && len(n.items) > 0 {
		return n.items[0]
	}
	return nil
}

// enum is the values of an enum as texts; none when they are no texts or numbers, or too many.
func (s *schemas) enum(t *node, typ connector.Type) []string {
	if typ == connector.TypeBoolean || typ == connector.TypeObject || typ == connector.TypeAny {
		return nil
	}
	var out []string
	seen := map[string]bool{}
	for _, v := range t.get("enum").list() {
		switch {
		case v.kind == kindNull:
		case v.kind != kindNumber && (v.kind != kindString || typ == connector.TypeInteger || typ == connector.TypeNumber):
			return nil
		case !seen[v.text]:
			seen[v.text] = true
			out = append(out, v.text)
		}
	}
	if len(out) > maxEnum {
		return nil
	}
	return out
}

// inputSchema is the schema of an input where it says more than the type and the enum. n is the schema as it stands there, t
// without references.
func (s *schemas) inputSchema(n, t *node, in *connector.Input) rawJSON {
	if ref(n) != "" && in.Type == connector.TypeObject && t.size() > 1 && s.detail < detailTop {
		return s.schema(n, 0).json()
	}
	out := s.schema(t, 0)
	for _, k := range []string{"description", "title", "readOnly", "deprecated"} {
		out.drop(k)
	}
	if e := out.get("enum"); in.Type == connector.TypeArray && e.size() > 0 && !e.items[0].is(kindList) {
		out.drop("enum") // of the items, where it is said once more or meant
	}
	if len(in.Enum) > 0 && in.Type != connector.TypeArray {
		out.drop("enum")
	}
	if typ := out.get("type"); typ.is(kindString) && typ.text == string(in.Type) && out.size() == 1 || out.size() == 0 {
		return nil
	}
	raw := out.json()
	if len(raw) > connector.MaxSchema {
		return nil
	}
	return raw
}

// fits tells whether a value is of a type.
func fits(n *node, t connector.Type) bool {
	switch t {
	case connector.TypeString:
		return n.is(kindString)
	case connector.TypeInteger:
		return n.is(kindNumber) && !strings.ContainsAny(n.text, ".eE")
	case connector.TypeNumber:
		return n.is(kindNumber)
	case connector.TypeBoolean:
		return n.is(kindBool)
	case connector.TypeObject:
		return n.is(kindMap)
	case connector.TypeArray:
		return n.is(kindList)
	}
	return n != nil
}
