package connectors_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// described is an API description of a vendor, Swagger 2.0, OpenAPI 3.0 or 3.1, as it is laid beside a manifest. It is read here and not by package
// openapi, so that a mistake of the importer is not one of the comparison too.
type described struct {
	root map[string]any
	keys map[string]bool // names that its security schemes use, such as query parameters for a key
	ops  []*operation
}

// operation is one operation of a description.
type operation struct {
	doc    *described
	method string
	path   string // of the whole address, with the names of its variables left out: /v1/customers/{}
	find   *regexp.Regexp
	params []map[string]any
	body   map[string]any // the Request Body Object, or nil
	ok     []any          // the Response Objects of success
}

// maxRefs bounds references that lead to references, and compositions inside of compositions.
const maxRefs = 40

var braces = regexp.MustCompile(`\{[^{}]*\}`)

func readDescribed(text []byte) (*described, error) {
	d := &described{keys: map[string]bool{}}
	if json.Unmarshal(text, &d.root) != nil {
		var v any
		if err := yaml.Unmarshal(text, &v); err != nil {
			return nil, fmt.Errorf("read description: %w", err)
		}
		d.root = object(plain(v))
	}
	if d.root["swagger"] == "2.0" {
		d.upgrade()
	} else if version, _ := d.root["openapi"].(string); !strings.HasPrefix(version, "3.") {
		return nil, fmt.Errorf("read description: version %q of the specification is not compared", version)
	}
	for _, s := range object(object(d.root["components"])["securitySchemes"]) {
		if name, ok := d.deref(s)["name"].(string); ok {
			d.keys[name] = true
		}
	}
	bases := base(d.root)
	paths := object(d.root["paths"])
	for _, path := range sorted(paths) {
		item := d.deref(paths[path])
		for _, method := range []string{"get", "head", "post", "put", "patch", "delete"} {
			op := object(item[method])
			if op == nil {
				continue
			}
			for _, b := range slices.Concat(base(op), base(item), bases) {
				d.ops = append(d.ops, d.read(strings.ToUpper(method), b+path, item, op))
			}
		}
	}
	return d, nil
}

// plain makes the keys of YAML texts, such as statuses without quotes.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name := range v {
			v[name] = plain(v[name])
		}
	case map[any]any:
		out := make(map[string]any, len(v))
		for name := range v {
			out[fmt.Sprint(name)] = plain(v[name])
		}
		return out
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	}
	return v
}

// base is the paths of the servers of a document, a path or an operation.
func base(in map[string]any) []string {
	var out []string
	servers, _ := in["servers"].([]any)
	for _, s := range servers {
		address, _ := object(s)["url"].(string)
		for name, v := range object(object(s)["variables"]) {
			if value, ok := object(v)["default"].(string); ok && !strings.Contains(value, "://") {
				address = strings.ReplaceAll(address, "{"+name+"}", value)
			}
		}
		u, err := url.Parse(braces.ReplaceAllString(address, "x"))
		if err != nil {
			continue
		}
		if p := strings.TrimSuffix(u.Path, "/"); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	if len(out) == 0 && in["paths"] != nil {
		out = append(out, "")
	}
	return out
}

func (d *described) read(method, path string, item, op map[string]any) *operation {
	path, fixed, _ := strings.Cut(path, "?") // some name fixed parameters there
	path, _, _ = strings.Cut(path, "#")
	path = strings.TrimSuffix(path, "/")
	path = strings.ReplaceAll(strings.TrimSuffix(path, "()"), "microsoft.graph.", "") // OData's long names of functions; both work
	o := &operation{doc: d, method: method, path: braces.ReplaceAllString(path, "{}"), body: d.deref(op["requestBody"])}
	pattern := strings.ReplaceAll(regexp.QuoteMeta(o.path), `\{\}`, `[^/]+`)
	o.find = regexp.MustCompile("^" + pattern + "$")
	own, _ := op["parameters"].([]any)
	shared, _ := item["parameters"].([]any)
	for _, p := range slices.Concat(own, shared) {
		o.params = append(o.params, d.deref(p))
	}
	for pair := range strings.SplitSeq(fixed, "&") {
		if name, _, _ := strings.Cut(pair, "="); name != "" {
			o.params = append(o.params, map[string]any{"name": name, "in": "query"})
		}
	}
	answers := object(op["responses"])
	for _, status := range sorted(answers) {
		if strings.HasPrefix(status, "2") {
			o.ok = append(o.ok, answers[status])
		}
	}
	if len(o.ok) == 0 && answers["default"] != nil {
		o.ok = append(o.ok, answers["default"])
	}
	return o
}

// operationOf finds what a manifest's action calls. A part of the path that is fixed in the manifest may be a variable there.
func operationOf(docs []*described, method, path string) *operation {
	path = strings.TrimSuffix(braces.ReplaceAllString(path, "{}"), "/")
	var best *operation
	for _, d := range docs {
		for _, o := range d.ops {
			switch {
			case o.method != method:
			case o.path == path:
				return o
			case o.find.MatchString(path) && (best == nil || strings.Count(o.path, "{}") < strings.Count(best.path, "{}")):
				best = o
			}
		}
	}
	return best
}

// param returns the parameter of a name; lists are often named with brackets behind, and objects spread over several names.
func (o *operation) param(in, name string) map[string]any {
	head, _, _ := strings.Cut(name, "[")
	for _, p := range o.params {
		n, _ := p["name"].(string)
		switch bare := strings.TrimSuffix(n, "[]"); {
		case p["in"] != in:
		case n == name, bare == name, head != name && n == head, in == "header" && strings.EqualFold(n, name):
			return p
		}
	}
	return nil
}

// content returns the schemas of a body or answers by a test of their type, and which types there are.
func (o *operation) content(of []any, accept func(string) bool) (schemas []any, types []string) {
	for _, c := range of {
		content := object(o.doc.deref(c)["content"])
		for _, name := range sorted(content) {
			short, _, _ := strings.Cut(name, ";")
			types = append(types, short)
			if accept(short) {
				schemas = append(schemas, object(content[name])["schema"])
			}
		}
	}
	return schemas, types
}

func isJSON(contentType string) bool {
	return strings.Contains(contentType, "json") || contentType == "*/*"
}

// deref follows references within the document.
func (d *described) deref(v any) map[string]any {
	m := object(v)
	for range maxRefs {
		ref, ok := m["$ref"].(string)
		if !ok {
			return m
		}
		m = object(d.at(ref))
	}
	return nil
}

// at is what a reference points to: a JSON Pointer (RFC 6901) in the document itself.
func (d *described) at(ref string) any {
	pointer, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return nil
	}
	var v any = d.root
	for part := range strings.SplitSeq(pointer, "/") {
		if plain, err := url.PathUnescape(part); err == nil {
			part = plain
		}
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch in := v.(type) {
		case map[string]any:
			v = in[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(in) {
				return nil
			}
			v = in[i]
		default:
			return nil
		}
	}
	return v
}

// view is what one or several schemas say of a value, one level deep.
type view struct {
	free     bool             // it may have any field: the description does not say which
	props    map[string][]any // schemas by name
	required []string
	items    []any // schemas of a list's items
	values   []any // schemas of further fields
	types    []string
	enum     []string
	open     bool // there is a value without an enum
	explicit bool // free because the description says so, not because it is silent
}

// view reads schemas of which any may hold.
func (d *described) view(schemas []any) view {
	out := view{free: len(schemas) == 0}
	for i, s := range schemas {
		v := d.one(s, 0)
		if i == 0 {
			out = v
			continue
		}
		out = either(out, v)
	}
	return out
}

func (d *described) one(s any, depth int) view {
	m := d.deref(s)
	v := view{props: map[string][]any{}, open: true}
	if depth > maxRefs || m == nil {
		v.free = true
		return v
	}
	for name, p := range object(m["properties"]) {
		v.props[name] = []any{p}
	}
	v.required = texts(m["required"])
	v.types = texts(m["type"])
	if t, ok := m["type"].(string); ok {
		v.types = []string{t}
	}
	if m["nullable"] == true || m["x-nullable"] == true {
		v.types = append(v.types, "null")
	}
	if list, ok := m["enum"].([]any); ok && len(list) > 0 {
		v.open = false
		for _, e := range list {
			v.enum = append(v.enum, fmt.Sprint(e))
		}
	}
	if m["items"] != nil {
		v.items = []any{m["items"]}
	}
	switch more := m["additionalProperties"].(type) {
	case bool:
		v.explicit = more
	case map[string]any:
		v.explicit = len(more) == 0
		if len(more) > 0 {
			v.values = []any{more}
		}
	}
	parts, _ := m["allOf"].([]any)
	scalar := slices.ContainsFunc(v.types, func(t string) bool { return t != "null" }) && !slices.Contains(v.types, "object")
	v.free = v.explicit || len(v.props) == 0 && len(v.items) == 0 && len(v.values) == 0 && len(v.enum) == 0 && !scalar
	for _, p := range parts {
		v = both(v, d.one(p, depth+1))
	}
	if loose := object(m["items"]); m["type"] == nil && len(loose) == 1 && loose["anyOf"] != nil {
		m, v.items = loose, nil // Slack writes alternatives so, because Swagger 2.0 has none
	}
	for _, key := range []string{"anyOf", "oneOf"} {
		list, _ := m[key].([]any)
		var any1 *view
		for _, p := range list {
			w := d.one(p, depth+1)
			if any1 != nil {
				w = either(*any1, w)
			}
			any1 = &w
		}
		if any1 != nil {
			v = both(v, *any1)
		}
	}
	return v
}

// both is a value of which two views hold. A view that says nothing leaves the other as it is.
func both(a, b view) view {
	a.props = joined(a.props, b.props)
	a.required = append(slices.Clone(a.required), b.required...)
	a.items = append(slices.Clone(a.items), b.items...)
	a.values = append(slices.Clone(a.values), b.values...)
	a.types = append(slices.Clone(a.types), b.types...)
	a.enum = append(slices.Clone(a.enum), b.enum...)
	a.open = a.open && b.open
	a.explicit = a.explicit || b.explicit
	a.free = a.explicit || a.free && b.free
	return a
}

// either is a value of which one of two views holds.
func either(a, b view) view {
	aFields, bFields := len(a.props) > 0 || a.free, len(b.props) > 0 || b.free
	switch {
	case aFields && bFields:
		a.required = slices.DeleteFunc(slices.Clone(a.required), func(s string) bool { return !slices.Contains(b.required, s) })
	case bFields:
		a.required = b.required
	}
	a.props = joined(a.props, b.props)
	a.items = append(slices.Clone(a.items), b.items...)
	a.values = append(slices.Clone(a.values), b.values...)
	a.types = append(slices.Clone(a.types), b.types...)
	a.enum = append(slices.Clone(a.enum), b.enum...)
	a.open = a.open || b.open
	a.explicit = a.explicit || b.explicit
	a.free = a.free || b.free
	return a
}

func joined(a, b map[string][]any) map[string][]any {
	out := make(map[string][]any, len(a)+len(b))
	for name, s := range a {
		out[name] = s
	}
	for name, s := range b {
		out[name] = append(slices.Clone(out[name]), s...)
	}
	return out
}

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func texts(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, e := range list {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

func sorted[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
