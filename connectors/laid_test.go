package connectors_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// laid is a manifest that is being laid beside descriptions.
type laid struct {
	m       *connector.Manifest
	docs    []*described
	renamed map[string]string // beginnings of paths: ours, theirs
	ignored map[string]string // names that requests need not have although the description says so
	allNull bool              // the description says of everything that it may be null
	action  string
	op      *operation
	form    bool // its body is a form, where numbers are texts

	differences    []string
	actions, found int
	fields         int // names that were looked up
	known          int // of them, those that the description names
	silent         int // of them, those of which it says nothing: an object of any fields, an answer without a schema
}

// closed marks an object of a request that can have the fields named and no others.
const closed = "x-closed"

// maxNested is how deep schemas are compared; those that contain themselves have no end.
const maxNested = 12

func lay(m *connector.Manifest, docs []*described, c *compared) *laid {
	l := &laid{m: m, docs: docs, renamed: c.Paths, ignored: c.Ignored, allNull: c.Nulls != ""}
	for i := range m.Actions {
		l.one(&m.Actions[i])
	}
	l.action = "*"
	for _, h := range m.Defaults.Headers {
		l.everywhere("header", h.Name)
	}
	for _, q := range m.Defaults.Query {
		l.everywhere("query", q.Name)
	}
	slices.Sort(l.differences)
	l.differences = slices.Compact(l.differences)
	return l
}

func (l *laid) differ(format string, args ...any) {
	l.differences = append(l.differences, l.action+": "+fmt.Sprintf(format, args...))
}

// everywhere looks up what is sent with every request: one operation that knows it is enough.
func (l *laid) everywhere(in, name string) {
	if untold(in, name) {
		return
	}
	l.fields++
	for _, d := range l.docs {
		for _, o := range d.ops {
			if o.param(in, name) != nil {
				l.known++
				return
			}
		}
	}
	l.differ("%s %s", in, name)
}

// untold says whether a description does not name a parameter: OpenAPI wants these left out.
func untold(in, name string) bool {
	return in == "header" && slices.Contains([]string{"accept", "content-type", "authorization", "user-agent"}, strings.ToLower(name))
}

func (l *laid) one(a *connector.Action) {
	l.action = a.Name
	l.actions++
	_, path, _ := strings.Cut(strings.TrimPrefix(l.m.BaseURL, "https://"), "/")
	path = "/" + path
	if path == "/" {
		path = ""
	}
	path += a.Path
	for _, ours := range sorted(l.renamed) {
		if rest, ok := strings.CutPrefix(path, ours); ok {
			path = l.renamed[ours] + rest
			break
		}
	}
	if l.op = operationOf(l.docs, a.Method, path); l.op == nil {
		l.differ("no operation %s %s", a.Method, path)
		return
	}
	l.found++
	l.parameters(a)
	l.body(a)
	l.answer(a)
}

// parameters compares what goes into query and headers.
func (l *laid) parameters(a *connector.Action) {
	sent := map[string]bool{}
	add := func(in, name string, input *connector.Input) {
		sent[in+" "+strings.ToLower(name)] = true
		if untold(in, name) {
			return
		}
		l.fields++
		p := l.op.param(in, name)
		if p == nil {
			l.differ("%s %s", in, name)
			return
		}
		l.known++
		if input != nil {
			l.choice(in+" "+name, input.Enum, l.op.doc.view([]any{p["schema"]}), true)
			if p["required"] == true && !input.Required && len(input.Default) == 0 {
				l.differ("optional %s %s", in, name)
			}
		}
	}
	for i := range a.Inputs {
		switch in := &a.Inputs[i]; in.In {
		case connector.InQuery, connector.InHeader:
			add(string(in.In), in.Key(), in)
		}
	}
	for _, h := range a.Headers {
		add("header", h.Name, nil)
	}
	for _, q := range a.Query {
		add("query", q.Name, nil)
	}
	if p := l.pages(a); p != nil {
		if p.In != connector.InBody && (p.Type == connector.PageCursor || p.Type == connector.PageOffset || p.Type == connector.PageNumber) && !sent["query "+strings.ToLower(p.Name)] {
			add("query", p.Name, nil)
		}
		if p.Size != nil && p.Size.In != connector.InBody && !sent["query "+strings.ToLower(p.Size.Name)] {
			add("query", p.Size.Name, nil)
		}
	}
	for _, f := range l.m.Defaults.Headers {
		sent["header "+strings.ToLower(f.Name)] = true
	}
	for _, f := range l.m.Defaults.Query {
		sent["query "+strings.ToLower(f.Name)] = true
	}
	for i := range l.m.Auth {
		for _, place := range l.m.Auth[i].Places {
			sent[string(place.In)+" "+strings.ToLower(place.Name)] = true
		}
	}
	for _, p := range l.op.params {
		name, _ := p["name"].(string)
		in, _ := p["in"].(string)
		if p["required"] == true && (in == "query" || in == "header") && !l.op.doc.keys[name] && l.ignored[name] == "" && !untold(in, name) &&
			!sent[in+" "+strings.ToLower(name)] && !sent[in+" "+strings.ToLower(strings.TrimSuffix(name, "[]"))] {
			l.differ("needs %s %s", in, name)
		}
	}
}

// pages is how pages of an action are read, or nil.
func (l *laid) pages(a *connector.Action) *connector.Paginate {
	if a.Paginate != nil {
		return a.Paginate
	}
	p := l.m.Defaults.Paginate // of those that list, which their output tells
	if p == nil || a.Method != "GET" || len(a.Output) == 0 {
		return nil
	}
	var s any
	if json.Unmarshal(a.Output, &s) != nil {
		return nil
	}
	us := l.own(s)
	list, _, _ := strings.Cut(p.Items, ".")
	if list != "" {
		us = l.own(object(us["properties"])[list])
	}
	if us["type"] == "array" {
		return p
	}
	return nil
}

// body compares what goes into the body.
func (l *laid) body(a *connector.Action) {
	ours := bodySchema(a)
	if l.op.body == nil {
		for _, name := range sorted(object(ours["properties"])) {
			l.fields++
			l.differ("body %s", name)
		}
		return
	}
	l.form = a.Body == connector.BodyForm || a.Body == connector.BodyMultipart
	accept, kind := isJSON, "json"
	switch a.Body {
	case connector.BodyForm:
		kind, accept = "form", func(t string) bool { return t == "application/x-www-form-urlencoded" }
	case connector.BodyMultipart:
		kind, accept = "multipart", func(t string) bool { return strings.HasPrefix(t, "multipart/") }
	case connector.BodyText, connector.BodyFile:
		return
	}
	schemas, types := l.op.content([]any{l.op.body}, accept)
	if len(schemas) == 0 {
		if ours != nil {
			if len(types) > 3 {
				types = append(types[:3], "...")
			}
			l.differ("encoding %s, there %s", kind, strings.Join(types, ", "))
		}
		schemas, _ = l.op.content([]any{l.op.body}, func(string) bool { return true })
	}
	if ours == nil {
		if l.op.body["required"] != true {
			return
		}
		ours = map[string]any{"type": "object", closed: true}
	}
	l.compare(ours, schemas, "body", "", 0, true)
	l.needs(a, ours, schemas, "", 0)
}

// answer compares what is read of the answer.
func (l *laid) answer(a *connector.Action) {
	if a.Response == "text" || a.Response == "file" {
		return
	}
	schemas, _ := l.op.content(l.op.ok, isJSON)
	if len(a.Output) > 0 {
		var ours any
		if json.Unmarshal(a.Output, &ours) == nil {
			l.compare(ours, schemas, "answer", "", 0, false)
		}
	}
	if p := l.pages(a); p != nil {
		items := l.path(schemas, "items", p.Items)
		for _, path := range []string{p.From, p.Total, strings.TrimPrefix(p.More, "!")} {
			if !strings.HasPrefix(path, "header:") {
				l.path(schemas, "answer", path)
			}
		}
		l.path(l.items(items), "item", p.Last)
	}
	for i := range l.m.Triggers {
		poll := l.m.Triggers[i].Poll
		if poll == nil || poll.Action != a.Name {
			continue
		}
		items := poll.Items
		if items == "" && a.Paginate != nil {
			items = a.Paginate.Items
		}
		of := l.items(l.path(schemas, "items", items))
		for key := range strings.SplitSeq(poll.Key, "+") {
			l.path(of, "item", key)
		}
		l.path(of, "item", poll.Cursor)
	}
}

// items is the schemas of the items of a list.
func (l *laid) items(list []any) []any {
	return l.op.doc.view(list).items
}

// path looks a path into JSON up, and returns the schemas of what is there; none where the description is silent.
func (l *laid) path(schemas []any, what, path string) []any {
	if path == "" || path == "." {
		return schemas
	}
	segments, err := connector.Segments(path)
	if err != nil {
		return nil
	}
	l.fields++
	at, ok := l.walk(schemas, segments)
	switch {
	case !ok:
		l.differ("%s %s", what, path)
	case at == nil:
		l.silent++
	default:
		l.known++
	}
	return at
}

// walk follows segments; names that hold a dot are several. The schemas are nil where the description is silent.
func (l *laid) walk(schemas []any, path []connector.Segment) ([]any, bool) {
	if len(path) == 0 {
		return schemas, true
	}
	v := l.op.doc.view(schemas)
	if path[0].List || len(v.props) == 0 && len(v.items) > 0 {
		if len(v.items) == 0 {
			return nil, v.free
		}
		return l.walk(v.items, path[1:])
	}
	name := ""
	for i, s := range path {
		name = strings.TrimPrefix(name+"."+s.Key, ".")
		if v.props[name] != nil {
			if at, ok := l.walk(v.props[name], path[i+1:]); ok {
				return at, true
			}
		}
	}
	if len(v.values) > 0 {
		return l.walk(v.values, path[1:])
	}
	return nil, v.free
}

// compare looks up the names of our schema in theirs. at is where in the body or answer it is.
func (l *laid) compare(ours any, theirs []any, what, at string, depth int, request bool) {
	us := l.own(ours)
	if us == nil || depth > maxNested {
		return
	}
	v := l.op.doc.view(theirs)
	if at != "" {
		l.types(us, v, what, at, request)
	}
	for _, key := range []string{"anyOf", "oneOf", "allOf"} {
		for _, s := range l.branches(us[key]) {
			l.compare(s, theirs, what, at, depth+1, request)
		}
	}
	if us["items"] != nil && (len(v.items) > 0 || v.free) {
		l.compare(us["items"], v.items, what, at+"[]", depth+1, request)
	}
	if more := object(us["additionalProperties"]); len(more) > 0 && len(v.values) > 0 {
		l.compare(more, v.values, what, at+".*", depth+1, request)
	}
	ownFields := object(us["properties"])
	for _, name := range sorted(ownFields) {
		place := strings.TrimPrefix(at+"."+name, ".")
		l.fields++
		there, ok := v.props[name]
		switch {
		case ok:
			l.known++
		case v.free || len(v.values) > 0:
			l.silent++
			there = v.values
		default:
			l.differ("%s %s", what, place)
			continue
		}
		l.compare(ownFields[name], there, what, place, depth+1, request)
	}
}

// branches are the alternatives of our schema; where one of them is null, the others are said to allow it.
func (l *laid) branches(v any) []any {
	list, _ := v.([]any)
	null := func(s any) bool { return l.own(s)["type"] == "null" }
	if !slices.ContainsFunc(list, null) {
		return list
	}
	var out []any
	for _, s := range list {
		if null(s) {
			continue
		}
		one := maps.Clone(l.own(s))
		if t, ok := one["type"].(string); ok {
			one["type"] = []any{t, "null"}
		}
		out = append(out, one)
	}
	return out
}

// types compares types and choices.
func (l *laid) types(us map[string]any, v view, what, at string, request bool) {
	if request {
		l.choice(what+" "+at, texts(us["enum"]), v, !v.free)
	}
	ours := texts(us["type"])
	if t, ok := us["type"].(string); ok {
		ours = []string{t}
	}
	if !request && !l.allNull && len(ours) > 0 && slices.Contains(v.types, "null") && !slices.Contains(ours, "null") {
		l.differ("null %s %s", what, at)
	}
	theirs := slices.DeleteFunc(slices.Clone(v.types), func(t string) bool { return t == "null" })
	if len(v.props) > 0 {
		theirs = append(theirs, "object")
	}
	if len(v.items) > 0 {
		theirs = append(theirs, "array")
	}
	structured := func(types []string) bool {
		return slices.Contains(types, "object") || slices.Contains(types, "array")
	}
	if len(ours) == 0 || len(theirs) == 0 || v.free || request && l.form && !structured(ours) && !structured(theirs) {
		return
	}
	fits := slices.ContainsFunc(ours, func(t string) bool {
		return slices.Contains(theirs, t) || t == "any" || t == "file" || t == "integer" && slices.Contains(theirs, "number") ||
			t == "number" && !request && slices.Contains(theirs, "integer")
	})
	if !fits {
		slices.Sort(theirs)
		l.differ("type %s %s: %s, there %s", what, at, strings.Join(ours, " or "), strings.Join(slices.Compact(theirs), " or "))
	}
}

// choice compares the values that may be chosen.
func (l *laid) choice(at string, ours []string, v view, judged bool) {
	if items := l.op.doc.view(v.items); len(v.items) > 0 && len(v.enum) == 0 {
		v = items
	}
	if !judged || v.open || len(v.enum) == 0 {
		return
	}
	for _, value := range ours {
		if !slices.Contains(v.enum, value) {
			l.differ("value %s: %s", at, value)
		}
	}
}

// needs looks for fields that the description requires of a body and the manifest does not have, or does not ask for.
func (l *laid) needs(a *connector.Action, ours any, theirs []any, at string, depth int) {
	us := l.own(ours)
	if us == nil || depth > maxNested || us[closed] != true {
		return
	}
	v := l.op.doc.view(theirs)
	fields := object(us["properties"])
	asked := texts(us["required"])
	slices.Sort(v.required)
	for _, name := range slices.Compact(v.required) {
		place := strings.TrimPrefix(at+"."+name, ".")
		switch read := l.op.doc.view(v.props[name]); {
		case l.readOnly(v.props[name]) || l.op.doc.keys[name] || l.ignored[name] != "":
		case fields[name] == nil:
			l.differ("needs body %s", place)
		case !slices.Contains(asked, name) && at == "" && !read.free:
			l.differ("optional body %s", place)
		}
	}
	for _, name := range sorted(fields) {
		if v.props[name] != nil {
			l.needs(a, fields[name], v.props[name], strings.TrimPrefix(at+"."+name, "."), depth+1)
		}
	}
}

func (l *laid) readOnly(schemas []any) bool {
	return slices.ContainsFunc(schemas, func(s any) bool { return l.op.doc.deref(s)["readOnly"] == true || object(s)["readOnly"] == true })
}

// own follows a reference to the schemas of the manifest.
func (l *laid) own(s any) map[string]any {
	m := object(s)
	for range maxRefs {
		ref, ok := m["$ref"].(string)
		if !ok {
			return m
		}
		var next map[string]any
		if json.Unmarshal(l.m.Schemas[strings.TrimPrefix(ref, "#/schemas/")], &next) != nil {
			return nil
		}
		m = next
	}
	return nil
}
