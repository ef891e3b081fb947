package openapi

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// detail is how much of a document's schemas goes into a manifest: less when it would be too large.
type detail uint8

const (
	detailAll    detail = iota
	detailPlain         // without descriptions in schemas
	detailTop           // outputs without the schemas that they refer to
	detailInputs        // without outputs
	detailNone          // without schemas and descriptions of inputs
)

// Lengths of texts that are kept.
const (
	maxTitle       = 200
	maxDescription = 1000
	maxInputText   = 300
	maxSchemaText  = 200
	maxExample     = 500 // bytes
	maxEnum        = 500 // values
)

// schemas turns schemas of a document into JSON Schema 2020-12, and collects those that others refer to.
type schemas struct {
	d      *document
	detail detail
	names  map[string]string // reference → name
	taken  map[string]string // name → reference
	queue  []string          // references to be written
	broken map[string]bool   // patterns that are none
	steps  int               // schemas that were looked at for one answer
}

func newSchemas(d *document, level detail) *schemas {
	return &schemas{d: d, detail: level, names: map[string]string{}, taken: map[string]string{}, broken: map[string]bool{}}
}

// name is how the manifest calls the schema of a reference.
func (s *schemas) name(r string) string {
	if n, ok := s.names[r]; ok {
		return n
	}
	last := r[strings.LastIndexByte(r, '/')+1:]
	if !strings.HasPrefix(r, "#/components/schemas/") || strings.Count(r, "/") != 3 {
		last = words(strings.NewReplacer("components", "", "schemas", "", "properties", "", "~1", "/", "%7B", "", "%7D", "").Replace(r))
	}
	n := identifier(last, "Schema")
	if other, ok := s.taken[n]; ok && other != r {
		n = suffixed(n, r)
	}
	s.names[r], s.taken[n] = n, r
	s.queue = append(s.queue, r)
	return n
}

// plainKeywords say something about single values and stay as they are.
func plainKeyword(k string, n *node) bool {
	switch k {
	case "format", "contentEncoding", "contentMediaType", "$comment":
		return n.is(kindString)
	case "title":
		return n.is(kindString) && len(n.text) <= maxTitle
	case "minimum", "maximum", "multipleOf":
		return n.is(kindNumber)
	case "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains":
		return n.is(kindNumber) && !strings.ContainsAny(n.text, "-.eE")
	case "uniqueItems", "readOnly", "writeOnly", "deprecated":
		return n.is(kindBool)
	case "default", "const":
		return true
	}
	return false
}

// schema translates one schema. The result holds only keywords that JSON Schema 2020-12 knows.
func (s *schemas) schema(n *node, depth int) *node {
	if n.is(kindBool) {
		return n
	}
	out := mapNode()
	if !n.is(kindMap) || depth > MaxNesting {
		return out
	}
	if r := ref(n); r != "" {
		if t := s.d.deref(n); t == nil {
			return out
		}
		if s.detail >= detailTop {
			return s.shallow(s.d.deref(n))
		}
		out.set("$ref", textNode("#/schemas/"+s.name(r)))
		return out
	}
	n.each(func(k string, v *node) { s.keyword(out, n, k, v, depth) })
	if n.get("nullable").yes() || n.get("x-nullable").yes() {
		nullable(out)
	}
	for exclusive, plain := range map[string]string{"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"} {
		if x := out.get(exclusive); x != nil && x.equal(out.get(plain)) {
			out.drop(plain)
		}
	}
	return out
}

// shallow is what a schema says of its kind only.
func (s *schemas) shallow(n *node) *node {
	out := mapNode()
	if t := n.get("type"); t.is(kindString) && knownType(t.text) {
		out.set("type", t)
	}
	return out
}

func (s *schemas) keyword(out, n *node, k string, v *node, depth int) {
	switch k {
	case "type":
		s.types(out, v)
	case "description":
		if text := clip(v.str(), maxSchemaText); text != "" && s.detail == detailAll {
			out.set(k, textNode(text))
		}
	case "enum":
		if v.size() > 0 && v.is(kindList) {
			out.set(k, v)
		}
	case "required":
		if names := texts(v); len(names) > 0 {
			list := listNode()
			for _, name := range names {
				list.items = append(list.items, textNode(name))
			}
			out.set(k, list)
		} else if v.is(kindBool) && v.yes() {
			s.d.violate("required", "required is a list of names; a boolean is left out")
		}
	case "pattern":
		s.pattern(out, v)
	case "exclusiveMinimum", "exclusiveMaximum":
		s.exclusive(out, n, k, v)
	case "properties", "patternProperties", "dependentSchemas":
		s.members(out, k, v, depth)
	case "items":
		if v.is(kindList) {
			out.set("prefixItems", s.all(v, depth))
		} else {
			out.set(k, s.schema(v, depth+1))
		}
	case "additionalProperties", "not", "contains", "if", "then", "else", "propertyNames":
		out.set(k, s.schema(v, depth+1))
	case "anyOf", "oneOf":
		if v.is(kindList) && v.size() > 0 {
			out.set(k, s.discriminated(s.all(v, depth), n, v))
		}
	case "allOf", "prefixItems":
		if v.is(kindList) && v.size() > 0 {
			out.set(k, s.all(v, depth))
		}
	default:
		if plainKeyword(k, v) {
			out.set(k, v)
		}
	}
}

func (s *schemas) members(out *node, k string, v *node, depth int) {
	if !v.is(kindMap) {
		return
	}
	members := mapNode()
	v.each(func(name string, member *node) { members.set(name, s.schema(member, depth+1)) })
	out.set(k, members)
}

func (s *schemas) all(list *node, depth int) *node {
	out := listNode()
	for _, v := range list.list() {
		out.items = append(out.items, s.schema(v, depth+1))
	}
	return out
}

// discriminated adds to each alternative what its discriminator says: JSON Schema has no other word for it.
func (s *schemas) discriminated(all, n, list *node) *node {
	property := n.at("discriminator", "propertyName").str()
	if property == "" {
		return all
	}
	for i, alternative := range list.items {
		r := ref(alternative)
		if r == "" {
			continue
		}
		value := r[strings.LastIndexByte(r, '/')+1:]
		n.at("discriminator", "mapping").each(func(word string, target *node) {
			if target.str() == r {
				value = word
			}
		})
		is, properties, with := mapNode(), mapNode(), mapNode()
		is.set("const", textNode(value))
		properties.set(property, is)
		with.set("properties", properties)
		with.set("required", listNode(textNode(property)))
		both := mapNode()
		both.set("allOf", listNode(all.items[i], with))
		all.items[i] = both
	}
	return all
}

func knownType(t string) bool {
	switch t {
	case "string", "integer", "number", "boolean", "object", "array", "null":
		return true
	}
	return false
}

func (s *schemas) types(out, v *node) {
	if v.is(kindList) {
		list := listNode()
		for _, t := range v.list() {
			if knownType(t.str()) {
				list.items = append(list.items, t)
			}
		}
		if list.size() > 0 {
			out.set("type", list)
		}
		return
	}
	switch t := v.str(); {
	case knownType(t):
		out.set("type", textNode(t))
	case t == "file":
		out.set("type", textNode("string"))
	case t != "" && t != "any":
		s.d.violate("type", "%q is no type: string, integer, number, boolean, object and array are", clip(t, 50))
	}
}

// exclusive turns the boolean of OpenAPI 3.0 into the number of later versions.
func (s *schemas) exclusive(out, n *node, k string, v *node) {
	if v.is(kindNumber) {
		out.set(k, v)
		return
	}
	plain := map[string]string{"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}[k]
	if limit := n.get(plain); v.yes() && limit.is(kindNumber) {
		out.set(k, limit)
	}
}

// pattern keeps those that are patterns of RE2 too.
func (s *schemas) pattern(out, v *node) {
	if !v.is(kindString) || len(v.text) > maxInputText || s.broken[v.text] {
		return
	}
	text := v.text
	if inner, ok := strings.CutPrefix(text, "/^"); ok { // a literal of JavaScript, whose slashes and flags are no part of it
		if end := strings.LastIndexByte(inner, '/'); end >= 0 {
			s.d.violate("pattern", "a pattern has no slashes around it: %s", clip(text, maxTitle))
			text = "^" + inner[:end]
		}
	}
	if _, err := regexp.Compile(text); err != nil {
		s.broken[v.text] = true
		return
	}
	out.set("pattern", textNode(text))
}

// nullable adds null to the types and the enum of a schema.
func nullable(out *node) {
	if t := out.get("type"); t.is(kindString) {
		out.set("type", listNode(t, textNode("null")))
	}
	if e := out.get("enum"); e != nil {
		for _, v := range e.items {
			if v.kind == kindNull {
				return
			}
		}
		out.set("enum", listNode(append(e.items[:len(e.items):len(e.items)], &node{})...))
	}
}

// flush writes the schemas that are referred to, and those that they refer to.
func (s *schemas) flush(m *connector.Manifest) (left int) {
	for len(s.queue) > 0 {
		r := s.queue[0]
		s.queue = s.queue[1:]
		target := s.d.target(r)
		var out *node
		if next := ref(target); next != "" && next != r {
			out = s.schema(target, 0)
		} else {
			out = s.schema(target, 0)
		}
		raw := out.json()
		if len(raw) > connector.MaxSchema || len(m.Schemas) >= connector.MaxSchemas {
			left++
			raw = []byte("{}")
			if len(m.Schemas) >= connector.MaxSchemas {
				continue
			}
		}
		if m.Schemas == nil {
			m.Schemas = map[string]rawJSON{}
		}
		m.Schemas[s.names[r]] = raw
	}
	return left
}

// texts are the texts of a list.
func texts(n *node) []string {
	var out []string
	for _, v := range n.list() {
		if v.is(kindString) {
			out = append(out, v.text)
		}
	}
	return out
}

// clip shortens a text to whole characters, without control characters.
func clip(s string, limit int) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return -1
		}
		return r
	}, s))
	if len(s) <= limit {
		return s
	}
	cut := limit - len("…")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strings.TrimSpace(s[:cut]) + "…"
}

// line is a text on one line.
func line(s string, limit int) string { return clip(strings.Join(strings.Fields(s), " "), limit) }
