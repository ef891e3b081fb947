package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Schema is the part of a JSON Schema (2020-12) by which [Decoder.Convert] reads a document. Keys that begin with x- are
// annotations for it.
type Schema struct {
	Ref         string             `json:"$ref"`
	Type        string             `json:"type"` // empty: any value
	Description string             `json:"description"`
	Properties  map[string]*Schema `json:"properties"`
	Required    []string           `json:"required"`
	Additional  *Schema            `json:"additionalProperties"` // of a map by name
	Names       *Schema            `json:"propertyNames"`
	MaxNames    int                `json:"maxProperties"`
	Items       *Schema            `json:"items"`
	MinItems    int                `json:"minItems"`
	MaxItems    int                `json:"maxItems"`
	Enum        []string           `json:"enum"`
	Pattern     string             `json:"pattern"`
	MaxLength   int                `json:"maxLength"`
	Minimum     *float64           `json:"minimum"`
	Maximum     *float64           `json:"maximum"`
	Defs        map[string]*Schema `json:"$defs"`

	Rule string `json:"x-rule"` // what Pattern says, in words
	// Instead says of words that are not in Enum what to do instead.
	Instead map[string]string `json:"x-instead"`
	// Key makes a list of a map by name: each entry is an object that has the name under Key. Where Value is set too, the entry
	// stands under Value of that object; and where From is set, an entry that is a map with that key alone is the object itself.
	Key   string `json:"x-key"`
	Value string `json:"x-value"`
	From  string `json:"x-from"`
	// Duration reads a text as ISO 8601 says and gives whole seconds.
	Duration bool `json:"x-duration"`

	False bool `json:"-"` // the schema false
}

// UnmarshalJSON reads a schema, or true or false.
func (s *Schema) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "false":
		*s = Schema{False: true}
		return nil
	case "true":
		*s = Schema{}
		return nil
	}
	type plain Schema
	return json.Unmarshal(b, (*plain)(s))
}

// ReadSchema reads a schema.
func ReadSchema(b []byte) (*Schema, error) {
	s := &Schema{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	return s, nil
}

// Durations reads an ISO 8601 duration in whole seconds.
type Durations func(text string) (seconds int64, err error)

// Converter reads documents by a schema. It is for one goroutine.
type Converter struct {
	*Decoder
	Root      *Schema
	Durations Durations
	patterns  map[string]*regexp.Regexp
}

// Convert checks a value against a schema and writes it as JSON, keys in the order of the document. Problems are added to
// the decoder; then the JSON means nothing.
func (c *Converter) Convert(out *bytes.Buffer, n *Node, path string, s *Schema) {
	c.At[path] = n
	s = c.resolve(s)
	switch s.Type {
	case "":
		c.anything(out, n, path)
	case "object":
		if s.Properties == nil && s.Additional != nil && !s.Additional.False {
			c.entries(out, n, path, s)
		} else {
			c.object(out, n, path, s)
		}
	case "array":
		c.list(out, n, path, s)
	case "string":
		c.text(out, n, path, s)
	case "boolean":
		var b bool
		c.Boolean(&b)(n, path)
		out.WriteString(strconv.FormatBool(b))
	default:
		c.number(out, n, path, s)
	}
}

func (c *Converter) resolve(s *Schema) *Schema {
	for range 10 {
		if s == nil {
			return &Schema{}
		}
		name, ok := strings.CutPrefix(s.Ref, "#/$defs/")
		if !ok {
			return s
		}
		s = c.Root.Defs[name]
	}
	return &Schema{}
}

func (c *Converter) object(out *bytes.Buffer, n *Node, path string, s *Schema) {
	keys := slices.Sorted(maps.Keys(s.Properties))
	if n.Kind != Map {
		c.Problem(n, path, "", "expected a map with the keys %s, found %s", OneOf(shortened(keys)), Describe(n))
		return
	}
	out.WriteByte('{')
	first := true
	for i, k := range n.Keys {
		at := Join(path, k.Value)
		c.KeyAt[at], c.At[at] = k, n.Items[i]
		p := s.Properties[k.Value]
		if p == nil {
			c.Problem(k, at, DidYouMean(k.Value, keys), "unknown key %q", Cut(k.Value, 80))
			continue
		}
		if !first {
			out.WriteByte(',')
		}
		first = false
		quote(out, k.Value)
		out.WriteByte(':')
		c.Convert(out, n.Items[i], at, p)
	}
	out.WriteByte('}')
	for _, key := range s.Required {
		if n.Get(key) == nil {
			c.Missing(n, path, key)
		}
	}
}

// shortened leaves the first of many names.
func shortened(names []string) []string {
	if len(names) <= 12 {
		return names
	}
	return append(slices.Clone(names[:11]), "others")
}

// entries reads a map by name.
func (c *Converter) entries(out *bytes.Buffer, n *Node, path string, s *Schema) {
	opening, closing := byte('{'), byte('}')
	if s.Key != "" {
		opening, closing = '[', ']'
	}
	name, rule := c.compile(".*"), ""
	if s.Names != nil && s.Names.Pattern != "" {
		name, rule = c.compile(s.Names.Pattern), s.Names.Rule
	}
	limit := s.MaxNames
	if limit == 0 {
		limit = 1 << 30
	}
	out.WriteByte(opening)
	first := true
	c.Entries(n, path, "values", limit, name, rule, func(key string, item *Node, at string) {
		if !first {
			out.WriteByte(',')
		}
		first = false
		c.entry(out, key, item, at, s)
	})
	out.WriteByte(closing)
}

func (c *Converter) entry(out *bytes.Buffer, key string, item *Node, at string, s *Schema) {
	if s.Key == "" {
		quote(out, key)
		out.WriteByte(':')
		c.Convert(out, item, at, s.Additional)
		return
	}
	out.WriteByte('{')
	quote(out, s.Key)
	out.WriteByte(':')
	quote(out, key)
	switch {
	case s.From != "" && item.Kind == Map && len(item.Keys) == 1 && item.Keys[0].Value == s.From:
		out.WriteByte(',')
		quote(out, s.From)
		out.WriteByte(':')
		c.Convert(out, item.Items[0], Join(at, s.From), &Schema{Type: "string", MaxLength: MaxText})
	case s.Value != "":
		out.WriteByte(',')
		quote(out, s.Value)
		out.WriteByte(':')
		c.Convert(out, item, at, s.Additional)
	default:
		c.merged(out, item, at, s)
	}
	out.WriteByte('}')
}

// merged writes the members of an entry behind its name.
func (c *Converter) merged(out *bytes.Buffer, item *Node, at string, s *Schema) {
	var inner bytes.Buffer
	if item.Kind == Scalar && Resolve(item) == NullScalar {
		return // "name:" alone is an entry of which everything is left out
	}
	c.Convert(&inner, item, at, s.Additional)
	if b := inner.Bytes(); len(b) > 2 && b[0] == '{' {
		out.WriteByte(',')
		out.Write(b[1 : len(b)-1])
	}
}

func (c *Converter) list(out *bytes.Buffer, n *Node, path string, s *Schema) {
	limit := s.MaxItems
	if limit == 0 {
		limit = 1 << 30
	}
	if n.Kind == List && len(n.Items) < s.MinItems {
		c.Problem(n, path, "", "expected at least %d, found %d", s.MinItems, len(n.Items))
	}
	out.WriteByte('[')
	first := true
	c.List("values", limit, func(item *Node, at string) {
		if !first {
			out.WriteByte(',')
		}
		first = false
		c.Convert(out, item, at, s.Items)
	})(n, path)
	out.WriteByte(']')
}

func (c *Converter) text(out *bytes.Buffer, n *Node, path string, s *Schema) {
	what := "a text"
	switch {
	case s.Duration:
		what = "a duration such as PT30S or PT5M"
	case len(s.Enum) > 0:
		what = OneOf(s.Enum)
	}
	limit := s.MaxLength
	if limit == 0 {
		limit = MaxText
	}
	t, ok := c.PlainText(n, path, what, limit)
	if !ok {
		out.WriteString("null")
		return
	}
	switch {
	case s.Duration:
		c.duration(out, n, path, t)
		return
	case len(s.Enum) > 0 && !slices.Contains(s.Enum, t):
		suggestion := s.Instead[t]
		if near := Nearest(t, s.Enum); near != "" && suggestion == "" {
			suggestion = fmt.Sprintf("did you mean %q?", near)
		}
		c.Problem(n, path, suggestion, "expected %s, found %s", what, Describe(n))
	case s.Pattern != "" && !c.compile(s.Pattern).MatchString(t):
		c.Problem(n, path, NameSuggestion(t, c.compile(s.Pattern)), "%q is not allowed here: %s", Cut(t, 80), s.Rule)
	}
	quote(out, t)
}

func (c *Converter) duration(out *bytes.Buffer, n *Node, path, t string) {
	seconds, err := c.Durations(t)
	if err != nil {
		c.Problem(n, path, "", "expected a duration such as PT30S, PT15M or P2D, found %s", Describe(n))
	}
	out.WriteString(strconv.FormatInt(seconds, 10))
}

func (c *Converter) number(out *bytes.Buffer, n *Node, path string, s *Schema) {
	what := "a number"
	if s.Type == "integer" {
		what = "a whole number"
	}
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		what += fmt.Sprintf(" from %g to %g", *s.Minimum, *s.Maximum)
	case s.Minimum != nil:
		what += fmt.Sprintf(" of at least %g", *s.Minimum)
	}
	if n.Kind == Scalar && Resolve(n) == UnclearScalar {
		c.Unclear(n, path)
		out.WriteString("0")
		return
	}
	f, err := strconv.ParseFloat(n.Value, 64)
	_, whole := strconv.ParseInt(n.Value, 10, 64)
	bad := n.Kind != Scalar || Resolve(n) != NumberScalar || err != nil || s.Type == "integer" && whole != nil
	if bad || s.Minimum != nil && f < *s.Minimum || s.Maximum != nil && f > *s.Maximum {
		c.Problem(n, path, "", "expected %s, found %s", what, Describe(n))
		out.WriteString("0")
		return
	}
	out.WriteString(n.Value)
}

// anything writes a value of which the schema says nothing.
func (c *Converter) anything(out *bytes.Buffer, n *Node, path string) {
	switch n.Kind {
	case Map:
		out.WriteByte('{')
		for i, k := range n.Keys {
			at := Join(path, k.Value)
			c.KeyAt[at], c.At[at] = k, n.Items[i]
			if i > 0 {
				out.WriteByte(',')
			}
			quote(out, k.Value)
			out.WriteByte(':')
			c.anything(out, n.Items[i], at)
		}
		out.WriteByte('}')
	case List:
		out.WriteByte('[')
		for i, item := range n.Items {
			if i > 0 {
				out.WriteByte(',')
			}
			at := fmt.Sprintf("%s[%d]", path, i)
			c.At[at] = item
			c.anything(out, item, at)
		}
		out.WriteByte(']')
	default:
		c.scalar(out, n, path)
	}
}

func (c *Converter) scalar(out *bytes.Buffer, n *Node, path string) {
	switch Resolve(n) {
	case NullScalar:
		out.WriteString("null")
	case BoolScalar:
		out.WriteString(strings.ToLower(n.Value))
	case NumberScalar:
		out.WriteString(n.Value)
	case UnclearScalar:
		c.Unclear(n, path)
		out.WriteString("null")
	default:
		quote(out, n.Value)
	}
}

func (c *Converter) compile(pattern string) *regexp.Regexp {
	if re := c.patterns[pattern]; re != nil {
		return re
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		re = regexp.MustCompile(`^`) // a pattern that RE2 does not know is another program's to check
	}
	if c.patterns == nil {
		c.patterns = map[string]*regexp.Regexp{}
	}
	c.patterns[pattern] = re
	return re
}

// quote writes a JSON string without escaping what HTML would need.
func quote(out *bytes.Buffer, s string) {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\ufffd")
	}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err == nil {
		out.Truncate(out.Len() - 1)
	}
}
