package connectorfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// Run compares what a manifest makes of every case with what the case says. No problems mean that all hold.
func (t *Tests) Run(m *connector.Manifest) source.Problems {
	r := &run{m: m, schemas: compiler(m), followed: map[string]bool{}}
	seen := map[string]bool{}
	for i := range t.Cases {
		c := &t.Cases[i]
		r.c, r.at = c, fmt.Sprintf("cases[%d]", i)
		if c.Action != "" {
			seen["action "+c.Action] = true
			r.action(m.Action(c.Action))
		} else {
			seen["trigger "+c.Trigger] = true
			r.trigger(m.Trigger(c.Trigger))
		}
	}
	for i := range m.Actions {
		a := &m.Actions[i]
		switch {
		case !seen["action "+a.Name]:
			r.add("", "the action %s has no case", a.Name)
		case len(a.Follow) > 0 && !r.followed[a.Name]:
			r.add("", "no case of the action %s answers with a redirect that its follow is for", a.Name)
		}
	}
	for i := range m.Triggers {
		if name := m.Triggers[i].Name; m.Triggers[i].Type != connector.TriggerPoll && !seen["trigger "+name] {
			r.add("", "the trigger %s has no case", name)
		}
	}
	d := source.NewDecoder(t.d.Src, nil)
	d.At, d.KeyAt = t.d.At, t.d.KeyAt
	for _, p := range r.problems {
		d.ProblemAt(p.At, "", "%s", p.Message)
	}
	return source.Sort(d.Problems)
}

// run is the state of one run.
type run struct {
	m        *connector.Manifest
	schemas  *jsonschema.Compiler
	c        *Case
	at       string
	followed map[string]bool // actions with a case whose redirect is followed to another host
	problems connector.Problems
}

func (r *run) add(at, format string, args ...any) {
	if len(r.problems) < source.MaxProblems {
		r.problems = append(r.problems, connector.Problem{At: at, Message: fmt.Sprintf(format, args...)})
	}
}

// base is where the schemas of a manifest are for the compiler; it is never fetched.
const base = "urn:bulkhead:manifest"

// compiler knows all schemas of a manifest, under the places of their actions and triggers.
func compiler(m *connector.Manifest) *jsonschema.Compiler {
	doc := map[string]any{"schemas": map[string]any{}, "output": map[string]any{}, "payload": map[string]any{}}
	put := func(part, name string, raw json.RawMessage) {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if in, ok := doc[part].(map[string]any); ok && err == nil {
			in[name] = v
		}
	}
	for name, raw := range m.Schemas {
		put("schemas", name, raw)
	}
	for i := range m.Actions {
		put("output", m.Actions[i].Name, m.Actions[i].Output)
	}
	for i := range m.Triggers {
		put("payload", m.Triggers[i].Name, m.Triggers[i].Payload)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(jsonschema.SchemeURLLoader{})
	if err := c.AddResource(base, doc); err != nil {
		return jsonschema.NewCompiler()
	}
	return c
}

// fits checks a body against the schema of an action or trigger.
func (r *run) fits(at, part, name string, schema, body json.RawMessage) {
	if len(schema) == 0 || len(body) == 0 {
		return
	}
	s, err := r.schemas.Compile(base + "#/" + part + "/" + name)
	if err != nil {
		r.add(at, "the schema of %s cannot be compiled: %s", name, err)
		return
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		r.add(at, "expected JSON: %s", err)
		return
	}
	if err := s.Validate(v); err != nil {
		lines := strings.Split(err.Error(), "\n")
		r.add(at, "it does not fit the %s of %s: %s", part, name, strings.Join(lines[min(1, len(lines)-1):], "; "))
	}
}

// fileKey marks a file among the inputs of a case.
const fileKey = "$file"

func isFile(v expr.Value) bool {
	_, ok := expr.Lookup(v, fileKey)
	return ok
}

func (r *run) action(a *connector.Action) {
	in := expr.Null()
	if len(r.c.With) > 0 {
		var err error
		if in, err = expr.ParseJSON(r.c.With); err != nil {
			r.add(r.at+".with", "%s", err)
			return
		}
	}
	var page *connector.Page
	if paged := r.c.Next != nil || r.c.Items != nil || r.c.Last; paged {
		page = &connector.Page{}
	}
	req, err := connector.Build(a, &r.m.Defaults, in, isFile, page)
	var refused *connector.InputError
	switch {
	case r.c.Refused != "" && err == nil:
		r.add(r.at+".refused", "the inputs are not refused")
		return
	case r.c.Refused != "":
		if !strings.Contains(err.Error(), r.c.Refused) {
			r.add(r.at+".refused", "the inputs are refused with other words: %s", err)
		}
		return
	case errors.As(err, &refused) && refused.Input != "":
		r.add(connector.Join(r.at+".with", refused.Input), "%s", refused.Problem)
		return
	case err != nil:
		r.add(r.at+".with", "%s", err)
		return
	}
	r.request(r.at+".request", r.c.Request, req)
	r.answer(a, in, req, page)
}

// request compares a request with what it must be.
func (r *run) request(at string, want *CaseRequest, got *connector.Request) {
	if want.Method != "" && want.Method != got.Method {
		r.add(at+".method", "it is %s", got.Method)
	}
	if want.Base != got.Base {
		r.add(at+".base", "it is %q", got.Base)
	}
	if want.Path != "" && want.Path != got.Path {
		r.add(at+".path", "it is %q", got.Path)
	}
	r.pairs(at+".query", want.Query, got.Query)
	for _, name := range slices.Sorted(maps.Keys(want.Headers)) {
		if value, ok := header(got, name); !ok || value != want.Headers[name] {
			r.add(connector.Join(at+".headers", name), "it is %q", value)
		}
	}
	switch {
	case want.Form != nil && got.Parts != nil:
		r.parts(at+".form", want.Form, got.Parts)
	case want.Form != nil:
		r.pairs(at+".form", want.Form, connector.ParseQuery(string(got.Body)))
	case want.Text != nil:
		if got.File != nil || string(got.Body) != *want.Text {
			r.add(at+".text", "it is %q", source.Cut(string(got.Body), 200))
		}
	case len(want.Body) > 0:
		if !sameJSON(want.Body, got.Body) {
			r.add(at+".body", "it is %s", source.Cut(string(got.Body), 1000))
		}
	case got.HasBody && len(got.Body) > 0:
		r.add(at, "there is a body: %s", source.Cut(string(got.Body), 1000))
	}
}

func header(req *connector.Request, name string) (string, bool) {
	if strings.EqualFold(name, "content-type") {
		return req.ContentType, req.ContentType != ""
	}
	i := slices.IndexFunc(req.Headers, func(f connector.Fixed) bool { return strings.EqualFold(f.Name, name) })
	if i < 0 {
		return "", false
	}
	return req.Headers[i].Value, true
}

// pairs compares a query or form, in which a name may come several times.
func (r *run) pairs(at string, want map[string]json.RawMessage, got []connector.Fixed) {
	values := map[string][]string{}
	for _, f := range got {
		values[f.Name] = append(values[f.Name], f.Value)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		list := texts(want[name])
		if !slices.Equal(list, values[name]) {
			r.add(connector.Join(at, name), "it is %q", values[name])
		}
		delete(values, name)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		r.add(at, "there is %s=%s too", name, strings.Join(values[name], ","))
	}
}

// texts are one or more values of a query as texts.
func texts(raw json.RawMessage) []string {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		list = []json.RawMessage{raw}
	}
	out := make([]string, len(list))
	for i, item := range list {
		if json.Unmarshal(item, &out[i]) != nil {
			out[i] = string(item)
		}
	}
	return out
}

func (r *run) parts(at string, want map[string]json.RawMessage, got []connector.Part) {
	left := map[string]bool{}
	for i := range got {
		p := &got[i]
		left[p.Name] = true
		raw, ok := want[p.Name]
		switch {
		case !ok:
			r.add(at, "there is a part %q too", p.Name)
		case p.File != nil:
			var file, given string
			if v, ok := expr.Lookup(p.File, fileKey); ok {
				given, _ = expr.Str(v)
			}
			var f map[string]json.RawMessage
			if json.Unmarshal(raw, &f) != nil || json.Unmarshal(f[fileKey], &file) != nil || file != given {
				r.add(connector.Join(at, p.Name), "it is the file %q", given)
			}
		default:
			if list := texts(raw); len(list) != 1 || list[0] != string(p.Data) && !sameJSON(raw, p.Data) {
				r.add(connector.Join(at, p.Name), "it is %q", source.Cut(string(p.Data), 200))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !left[name] {
			r.add(connector.Join(at, name), "there is no such part")
		}
	}
}

func sameJSON(a, b []byte) bool {
	x, errX := expr.ParseJSON(a)
	y, errY := expr.ParseJSON(b)
	return errX == nil && errY == nil && expr.Equal(x, y)
}

// answer checks what is made of the vendor's answer.
func (r *run) answer(a *connector.Action, in expr.Value, req *connector.Request, page *connector.Page) {
	at, want := r.at+".answer", r.c.Answer
	body := expr.Null()
	if len(want.Body) > 0 {
		var err error
		if body, err = expr.ParseJSON(want.Body); err != nil {
			r.add(at+".body", "%s", err)
			return
		}
	}
	status := want.Status
	if status == 0 {
		status = 200
	}
	r.redirect(a, status)
	failure, failed := r.m.Defaults.Failed(a, body)
	failed = failed && !(status >= 400 && expected(a.Expect, status))
	switch {
	case r.c.Fails != "" && !failed && status < 400:
		r.add(r.at+".fails", "the answer is not taken as an error")
	case r.c.Fails != "" && failed && r.c.Fails != failure.Code && r.c.Fails != failure.Message:
		r.add(r.at+".fails", "the answer fails with %q: %q", failure.Code, failure.Message)
	case r.c.Fails == "" && failed:
		r.add(at, "the answer is taken as an error: %s", failure.Message)
	case r.c.Fails == "" && status < 400:
		r.fits(at+".body", "output", a.Name, a.Output, want.Body)
	}
	if page != nil {
		r.page(a, in, req, page, connector.Reply{Header: lookup(want.Headers), Body: body})
	}
}

// redirect checks that an answer which sends the action elsewhere is followed there, as egress will.
func (r *run) redirect(a *connector.Action, status int) {
	if !slices.Contains([]int{301, 302, 303, 307, 308}, status) || expected(a.Expect, status) {
		return
	}
	at := connector.Join(r.at+".answer.headers", "location")
	location, err := url.Parse(lookup(r.c.Answer.Headers)("location"))
	switch {
	case err != nil || location.String() == "":
		r.add(r.at+".answer", "a redirect has the header location with a URL")
	case !location.IsAbs() || slices.Contains(r.m.Hosts, location.Host):
		// within the connector's own hosts the credential's binding decides
	case !a.Follows(location):
		r.add(at, "the redirect to %s is not followed: follow has %s, over https", source.Cut(location.Host, 100), source.OneOf(a.Follow))
	default:
		r.followed[a.Name] = true
	}
}

// expected reports whether a status, or its class such as 4xx, is listed.
func expected(list []string, status int) bool {
	text := strconv.Itoa(status)
	return slices.ContainsFunc(list, func(s string) bool { return s == text || strings.EqualFold(s, text[:1]+"xx") })
}

func lookup(headers map[string]string) func(string) string {
	lower := map[string]string{}
	for k, v := range headers {
		lower[strings.ToLower(k)] = v
	}
	return func(name string) string { return lower[strings.ToLower(name)] }
}

// page checks the items of a page and the request of the one behind it.
func (r *run) page(a *connector.Action, in expr.Value, req *connector.Request, page *connector.Page, reply connector.Reply) {
	p := r.m.Defaults.Pages(a)
	if p == nil {
		r.add(r.at, "the action %s is not read in pages", a.Name)
		return
	}
	list, err := p.List(reply.Body)
	if err != nil {
		r.add(r.at+".answer.body", "%s", err)
		return
	}
	if r.c.Items != nil && expr.Len(list) != *r.c.Items {
		r.add(r.at+".items", "the page has %d", expr.Len(list))
	}
	next, err := p.Next(page, req, reply)
	switch {
	case err != nil:
		r.add(r.at+".answer", "%s", err)
	case next == nil && r.c.Next != nil:
		r.add(r.at+".next", "there is no page behind this one")
	case next != nil && r.c.Last:
		r.add(r.at+".last", "there is a page behind this one")
	case r.c.Next != nil:
		following, err := connector.Build(a, &r.m.Defaults, in, isFile, next)
		if err != nil {
			r.add(r.at+".next", "%s", err)
			return
		}
		r.request(r.at+".next", r.c.Next, following)
	}
}

// mediaType is the type of a delivery's body without its parameters.
func mediaType(s string) string {
	t, _, err := mime.ParseMediaType(s)
	if err != nil {
		return s
	}
	return t
}
