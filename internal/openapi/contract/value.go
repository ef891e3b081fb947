package contract

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
)

// maker makes values that satisfy JSON Schemas of a manifest.
type maker struct {
	schemas map[string]json.RawMessage
	parsed  map[string]any
	full    bool   // optional properties too
	hidden  string // properties with this keyword are left out: readOnly in requests, writeOnly in answers
	variant int    // which of several alternatives
	steps   int    // values that may still be made
}

const (
	maxSteps   = 3000
	maxLevels  = 12
	fullLevels = 4
	maxRepeat  = 200
)

type object = map[string]any

func (m *maker) resolve(name string) any {
	if v, ok := m.parsed[name]; ok {
		return v
	}
	v := decode(m.schemas[name])
	m.parsed[name] = v
	return v
}

func decode(raw json.RawMessage) any {
	if len(raw) == 0 {
		return object{}
	}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return object{}
	}
	return v
}

// flat is a schema without references, with its allOf and one of its alternatives merged in.
func (m *maker) flat(schema any, stack []string) (object, []string) {
	s, ok := schema.(object)
	if !ok {
		return object{}, stack
	}
	for range maxLevels {
		name, ok := s["$ref"].(string)
		if !ok {
			break
		}
		name = strings.TrimPrefix(name, "#/schemas/")
		stack = append(stack[:len(stack):len(stack)], name)
		if s, ok = m.resolve(name).(object); !ok {
			return object{}, stack
		}
	}
	out := object{}
	for k, v := range s {
		if k != "allOf" && k != "oneOf" && k != "anyOf" {
			out[k] = v
		}
	}
	if len(stack) > maxLevels*2 {
		return out, stack
	}
	limit(out, out)
	for _, part := range list(s["allOf"]) {
		var p object
		p, stack = m.flat(part, stack)
		limit(out, p)
		merge(out, p)
	}
	for _, k := range []string{"oneOf", "anyOf"} {
		if options := list(s[k]); len(options) > 0 {
			p, deeper := m.flat(options[m.variant%len(options)], stack)
			if p["type"] == "null" && len(options) > 1 {
				p, deeper = m.flat(options[(m.variant+1)%len(options)], stack)
			}
			stack = deeper
			merge(out, p)
		}
	}
	return out, stack
}

// onlyKey holds the properties that every part of a schema allows, where one allows no others: additionalProperties sees
// only the properties beside it.
const onlyKey = "\x00only"

func limit(to, part object) {
	if only, ok := part[onlyKey].(object); ok {
		narrow(to, only)
		return
	}
	switch more := part["additionalProperties"].(type) {
	case bool:
		if more {
			return
		}
	case object:
		if len(more) == 0 {
			return
		}
	default:
		return
	}
	own := object{}
	if props, ok := part["properties"].(object); ok {
		for name := range props {
			own[name] = true
		}
	}
	narrow(to, own)
}

func narrow(to, only object) {
	old, ok := to[onlyKey].(object)
	if !ok {
		to[onlyKey] = only
		return
	}
	both := object{}
	for name := range old {
		if only[name] == true {
			both[name] = true
		}
	}
	to[onlyKey] = both
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// merge adds what another schema asks for: properties and required ones are joined.
func merge(to, from object) {
	for k, v := range from {
		old, there := to[k]
		switch {
		case !there:
			to[k] = v
		case k == "properties":
			joined := object{}
			for _, side := range []any{old, v} {
				props, _ := side.(object)
				for name, p := range props {
					if before, ok := joined[name]; ok {
						p = object{"allOf": []any{before, p}}
					}
					joined[name] = p
				}
			}
			to[k] = joined
		case k == "required":
			to[k] = append(slices.Clone(list(old)), list(v)...)
		case k == "enum":
			to[k] = common(list(old), list(v))
		case k == "minLength" || k == "minItems" || k == "minimum":
			if number(v) > number(old) {
				to[k] = v
			}
		case k == "maxLength" || k == "maxItems" || k == "maximum":
			if number(v) < number(old) {
				to[k] = v
			}
		case k == "title" || k == "description" || k == "default" || k == onlyKey:
		case k == "type":
			if _, many := old.([]any); many {
				to[k] = v
			}
		default:
			to[k] = v
		}
	}
}

func common(a, b []any) []any {
	var out []any
	for _, v := range a {
		if slices.ContainsFunc(b, func(w any) bool { return fmt.Sprint(v) == fmt.Sprint(w) }) {
			out = append(out, v)
		}
	}
	if len(out) == 0 {
		return a
	}
	return out
}

func number(v any) float64 {
	n, ok := v.(json.Number)
	if !ok {
		return math.NaN()
	}
	f, err := n.Float64()
	if err != nil {
		return math.NaN()
	}
	return f
}

// value makes one. index tells items of a list apart.
func (m *maker) value(schema any, stack []string, level, index int) any {
	m.steps--
	s, stack := m.flat(schema, stack)
	if c, ok := s["const"]; ok {
		return c
	}
	if e := list(s["enum"]); len(e) > 0 {
		at := index % len(e)
		if e[at] == nil && len(e) > 1 {
			at = (at + 1) % len(e)
		}
		return e[at]
	}
	switch typeOf(s) {
	case "string":
		return m.text(s, index)
	case "integer", "number":
		return m.number(s, index)
	case "boolean":
		return true
	case "null":
		return nil
	case "array":
		return m.array(s, stack, level)
	case "object":
		return m.object(s, stack, level)
	}
	return "any" + suffix(index)
}

func suffix(index int) string {
	if index == 0 {
		return ""
	}
	return strconv.Itoa(index)
}

func typeOf(s object) string {
	switch t := s["type"].(type) {
	case string:
		return t
	case []any:
		for _, one := range t {
			if one != "null" {
				name, _ := one.(string)
				return name
			}
		}
		return "null"
	}
	if f, ok := s["format"].(string); ok {
		if _, known := formats()[f]; known {
			return "string"
		}
	}
	for _, k := range [][2]string{{"properties", "object"}, {"additionalProperties", "object"}, {"required", "object"}, {"items", "array"}, {"pattern", "string"}, {"minLength", "string"}, {"maxLength", "string"}, {"minimum", "number"}, {"maximum", "number"}} {
		if _, ok := s[k[0]]; ok {
			return k[1]
		}
	}
	return ""
}

func (m *maker) array(s object, stack []string, level int) any {
	n := 1
	if v := number(s["minItems"]); v > 1 {
		n = int(min(v, maxRepeat))
	}
	if v := number(s["maxItems"]); v == 0 || m.steps <= 0 && !(number(s["minItems"]) > 0) || level > maxLevels {
		return []any{}
	}
	out := []any{}
	if prefix := list(s["prefixItems"]); len(prefix) > 0 {
		for i, p := range prefix {
			out = append(out, m.value(p, stack, level+1, i))
		}
		return out
	}
	items, ok := s["items"]
	if !ok {
		items = object{"type": "string"}
	}
	if m.loops(items, stack) && !(number(s["minItems"]) > 0) {
		return out
	}
	for i := range n {
		out = append(out, m.value(items, stack, level+1, i))
	}
	return out
}

// loops tells whether a schema is one that is being made already.
func (m *maker) loops(schema any, stack []string) bool {
	s, ok := schema.(object)
	if !ok {
		return false
	}
	if name, ok := s["$ref"].(string); ok {
		return slices.Contains(stack, strings.TrimPrefix(name, "#/schemas/"))
	}
	for _, k := range []string{"allOf", "oneOf", "anyOf"} {
		for _, part := range list(s[k]) {
			if m.loops(part, stack) {
				return true
			}
		}
	}
	return false
}

func (m *maker) object(s object, stack []string, level int) any {
	out := object{}
	required := map[string]bool{}
	for _, r := range list(s["required"]) {
		name, _ := r.(string)
		required[name] = true
	}
	props, _ := s["properties"].(object)
	names := make([]string, 0, len(props))
	for name := range props {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		p, _ := props[name].(object)
		flat, _ := m.flat(p, stack)
		if flat[m.hidden] == true {
			continue
		}
		if only, ok := s[onlyKey].(object); ok && only[name] != true && !required[name] {
			continue
		}
		if !required[name] && (!m.full || level >= fullLevels || m.steps <= 0 || m.loops(p, stack)) {
			continue
		}
		if level > maxLevels {
			continue
		}
		out[name] = m.value(p, stack, level+1, 0)
	}
	more := s["additionalProperties"]
	for name := range required {
		if _, made := out[name]; !made && props[name] == nil {
			out[name] = m.value(more, stack, level+1, 0)
		}
	}
	if _, open := more.(object); (open || more == true) && (m.full && level < fullLevels || number(s["minProperties"]) > 0) && len(props) == 0 && !m.loops(more, stack) {
		out["key"] = m.value(more, stack, level+1, 0)
	}
	for i := 0; float64(len(out)) < number(s["minProperties"]) && i < maxRepeat; i++ {
		if i < len(names) {
			out[names[i]] = m.value(props[names[i]], stack, level+1, 0)
		} else {
			out["key"+strconv.Itoa(i)] = m.value(more, stack, level+1, i)
		}
	}
	return out
}

func (m *maker) number(s object, index int) any {
	low, high := number(s["minimum"]), number(s["maximum"])
	if x := number(s["exclusiveMinimum"]); !math.IsNaN(x) && !(low > x) {
		low = x + 1
		if !math.IsNaN(high) && low >= high || typeOf(s) == "number" && number(s["exclusiveMaximum"]) <= low {
			low = x + 0.0001
		}
	}
	if x := number(s["exclusiveMaximum"]); !math.IsNaN(x) && !(high < x) {
		high = x - 1
		if high < low {
			high = x - 0.00001
		}
	}
	v := float64(1 + index)
	if step := number(s["multipleOf"]); step > 0 {
		v = step * float64(1+index)
		if low > v {
			v = math.Ceil(low/step) * step
		}
		if high < v {
			v = math.Floor(high/step) * step
		}
	} else {
		if low > v {
			v = low + float64(index)
		}
		if high < v {
			v = high
		}
	}
	if typeOf(s) == "integer" {
		return json.Number(strconv.FormatFloat(math.Ceil(v), 'f', 0, 64))
	}
	return json.Number(strconv.FormatFloat(v, 'f', -1, 64))
}

func formats() map[string]string {
	return map[string]string{
		"date": "2026-01-02", "date-time": "2026-01-02T03:04:05Z", "time": "03:04:05Z", "duration": "P1D", "partial-time": "03:04:05",
		"uuid": "6f1c0f6e-8a4b-4c57-9d3f-2b1a7c5e9d10", "guid": "6f1c0f6e-8a4b-4c57-9d3f-2b1a7c5e9d10", "email": "someone@example.com", "idn-email": "someone@example.com",
		"uri": "https://example.com/a", "url": "https://example.com/a", "uri-reference": "https://example.com/a", "iri": "https://example.com/a",
		"hostname": "example.com", "idn-hostname": "example.com", "ipv4": "192.0.2.1", "ip": "192.0.2.1", "ipv6": "2001:db8::1", "byte": "dGV4dA==", "base64": "dGV4dA==", "json-pointer": "/a",
		"int64": "1", "uint64": "1", "int32": "1", "google-datetime": "2026-01-02T03:04:05Z", "google-duration": "3s", "google-fieldmask": "a",
	}
}

func (m *maker) text(s object, index int) any {
	v, fixed := "text", false
	if f, ok := s["format"].(string); ok {
		if known, ok := formats()[f]; ok {
			v, fixed = known, true
		}
	}
	if p, ok := s["pattern"].(string); ok && !(fixed && takes(p, v)) {
		if made, ok := match(p, index, least(s)); ok {
			v, fixed = made, true
		}
	}
	if !fixed {
		v += suffix(index)
	} else if f := s["format"]; (f == "uuid" || f == "guid") && index > 0 {
		v = fmt.Sprintf("%s%03d", v[:len(v)-3], index)
	}
	if low := number(s["minLength"]); float64(len(v)) < low && low < 1<<16 {
		v += strings.Repeat("x", int(low)-len(v))
	}
	if high := number(s["maxLength"]); float64(len(v)) > high && !fixed {
		v = v[len(v)-int(high):]
	}
	return v
}

func takes(pattern, text string) bool {
	re, err := regexp.Compile(pattern)
	return err == nil && re.MatchString(text)
}

func least(s object) int {
	if n := number(s["minLength"]); n > 0 && n < 1<<16 {
		return int(n)
	}
	return 1 // an empty text is rarely a value
}

// match makes a text that a pattern takes.
func match(pattern string, index, least int) (string, bool) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return "", false
	}
	for repeat := range 3 {
		var b strings.Builder
		write(&b, re.Simplify(), index, repeat*max(least, 1))
		if len(b.String()) >= least {
			return b.String(), true
		}
	}
	return "", false
}

// write writes a text that matches; more is how often what may be repeated is.
func write(b *strings.Builder, re *syntax.Regexp, index, more int) {
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		b.WriteRune(pick(re.Rune, index))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte("abcdefghij"[index%10])
	case syntax.OpCapture, syntax.OpConcat:
		for _, sub := range re.Sub {
			write(b, sub, index, more)
		}
	case syntax.OpAlternate:
		write(b, re.Sub[0], index, more)
	case syntax.OpPlus:
		for range max(1, more) {
			write(b, re.Sub[0], index, 0)
		}
	case syntax.OpStar:
		for range max(0, more) {
			write(b, re.Sub[0], index, 0)
		}
	case syntax.OpQuest:
		if more > 0 {
			write(b, re.Sub[0], index, 0)
		}
	case syntax.OpRepeat:
		n := max(re.Min, min(more, max(re.Max, re.Min)))
		for range min(n, 1<<12) {
			write(b, re.Sub[0], index, 0)
		}
	}
}

// pick takes a character of a class: a letter or digit where there is one.
func pick(ranges []rune, index int) rune {
	for _, want := range [][2]rune{{'a', 'z'}, {'A', 'Z'}, {'0', '9'}, {'!', '~'}} {
		for i := 0; i+1 < len(ranges); i += 2 {
			low, high := max(ranges[i], want[0]), min(ranges[i+1], want[1])
			if low <= high {
				return low + rune(index)%(high-low+1)
			}
		}
	}
	return ranges[0]
}
