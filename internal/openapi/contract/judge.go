package contract

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/openapi/strict"
)

// judge checks requests by a document, as kin-openapi reads it.
type judge struct {
	doc    *openapi3.T
	parsed map[string]any // schemas of the manifest, parsed once
}

func newJudge(document []byte, _ string) (*judge, error) {
	doc, err := strict.Load(document)
	if err != nil {
		return nil, err
	}
	for _, item := range doc.Paths.Map() {
		plainParameters(item.Parameters)
		for _, o := range item.Operations() {
			plainParameters(o.Parameters)
		}
	}
	return &judge{doc: doc, parsed: map[string]any{}}, nil
}

// plainParameters takes wrappers off schemas of parameters that add nothing but words: an allOf of one schema and a
// description means that schema, and kin-openapi does not decode the former.
func plainParameters(list openapi3.Parameters) {
	for _, p := range list {
		if p.Value != nil && p.Value.Schema != nil {
			p.Value.Schema = plain(p.Value.Schema)
			if s := p.Value.Schema.Value; s != nil && s.Items != nil {
				s.Items = plain(s.Items)
			}
		}
	}
}

func plain(s *openapi3.SchemaRef) *openapi3.SchemaRef {
	for s.Value != nil && s.Value.Type == nil && len(s.Value.AllOf) > 0 {
		var says *openapi3.SchemaRef
		for _, part := range s.Value.AllOf {
			v := part.Value
			if v == nil || v.Type == nil && len(v.AllOf)+len(v.OneOf)+len(v.AnyOf)+len(v.Properties)+len(v.Enum) == 0 && v.Min == nil && v.Max == nil && v.Pattern == "" && v.MaxLength == nil && v.MinLength == 0 {
				continue // words only
			}
			if says != nil {
				return s
			}
			says = part
		}
		if says == nil {
			return s
		}
		s = says
	}
	return s
}

// request judges a request.
func (j *judge) request(x *exchange, r *http.Request, body []byte) *Failure {
	item := j.doc.Paths.Value(x.origin.Path)
	if item == nil {
		return failf("judge", "the judge does not know the path", "%s", x.origin.Path)
	}
	operation := item.GetOperation(x.origin.Method)
	if operation == nil {
		return failf("judge", "the judge does not know the operation", "%s", x.origin.Method)
	}
	if r.Method != x.origin.Method {
		return failf("judge", "wrong method", "%s", r.Method)
	}
	parameters, f := pathParameters(x, r, j.servers(item, operation))
	if f != nil {
		return f
	}
	queried(x, r, parameters)
	if f := x.lease.check(r, body); f != nil {
		return f
	}
	x.lease.strip(r)
	declared := parametersOf(item, operation)
	item, operation = x.relax(item, operation)
	if f := undeclared(x, r, declared); f != nil {
		return f
	}
	if f := arrived(x, r, body, parameters); f != nil {
		return f
	}
	byType := x.action.Body == connector.BodyText || x.action.Body == connector.BodyFile
	if byType {
		if f := bodyByType(r, operation, body); f != nil {
			return f
		}
	}
	input := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: parameters, QueryParams: r.URL.Query(),
		Route: &routers.Route{Spec: j.doc, Path: x.origin.Path, PathItem: item, Method: r.Method, Operation: operation},
		Options: &openapi3filter.Options{
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, ExcludeRequestBody: byType, SkipSettingDefaults: true, RejectWhenRequestBodyNotSpecified: true, RegexCompiler: lenient,
			SchemaValidationOptions: []openapi3.SchemaValidationOption{openapi3.SetSchemaRegexCompiler(lenient)},
		},
	}
	if err := openapi3filter.ValidateRequest(context.Background(), input); err != nil {
		return refused(err)
	}
	return j.response(x, operation)
}

// bodyByType judges a body that kin-openapi cannot read: a text or a file.
func bodyByType(r *http.Request, operation *openapi3.Operation, body []byte) *Failure {
	if operation.RequestBody == nil || operation.RequestBody.Value == nil {
		return failf("judge", "a body is sent that the document does not know", "")
	}
	b := operation.RequestBody.Value
	if len(body) == 0 {
		if b.Required {
			return failf("judge", "the document refuses the body: value is required but missing", "")
		}
		return nil
	}
	if b.Content.Get(r.Header.Get("Content-Type")) == nil {
		return failf("judge", "the document does not know the type of the body", "%s", r.Header.Get("Content-Type"))
	}
	return nil
}

// lenient takes everything for a pattern that Go cannot compile: patterns are of another language.
func lenient(pattern string) (openapi3.RegexMatcher, error) {
	if inner, ok := strings.CutPrefix(pattern, "/^"); ok && strings.Contains(inner, "/") { // a literal of JavaScript
		pattern = "^" + inner[:strings.LastIndexByte(inner, '/')]
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		re = regexp.MustCompile("")
	}
	return re, nil
}

func refused(err error) *Failure {
	var request *openapi3filter.RequestError
	var schema *openapi3.SchemaError
	reason := "the document refuses the request"
	if errors.As(err, &request) {
		switch {
		case request.Parameter != nil:
			reason = "the document refuses a parameter in " + request.Parameter.In
		case request.RequestBody != nil:
			reason = "the document refuses the body"
		}
		if request.Reason != "" && request.Reason != "doesn't match schema" && len(request.Reason) < 60 {
			reason += ": " + request.Reason
		}
	}
	if errors.As(err, &schema) {
		reason += ": " + schema.SchemaField
	}
	text, _, _ := strings.Cut(err.Error(), "\nSchema:")
	return failf("judge", reason, "%s", cut(text))
}

func cut(s string) string {
	if len(s) > 400 {
		s = s[:400]
	}
	return s
}

// response judges the answer that was made from the manifest's schema.
func (j *judge) response(x *exchange, operation *openapi3.Operation) *Failure {
	if x.answer == nil {
		return nil
	}
	schema := responseSchema(operation)
	if schema == nil || schema.Value == nil {
		return failf("answer", "the judge finds no schema of the answer", "")
	}
	var v any
	d := json.NewDecoder(strings.NewReader(string(x.answer)))
	if err := d.Decode(&v); err != nil {
		return failf("answer", "the answer cannot be read", "%v", err)
	}
	if err := schema.Value.VisitJSON(v, openapi3.VisitAsResponse(), openapi3.SetSchemaRegexCompiler(lenient)); err != nil {
		field := ""
		var e *openapi3.SchemaError
		if errors.As(err, &e) {
			field = e.SchemaField
		}
		text, _, _ := strings.Cut(err.Error(), "\nSchema:")
		return failf("answer", "the document refuses an answer made from the manifest's schema: "+field, "%s", cut(text))
	}
	return nil
}

func responseSchema(operation *openapi3.Operation) *openapi3.SchemaRef {
	if operation.Responses == nil {
		return nil
	}
	var statuses []string
	for status := range operation.Responses.Map() {
		if strings.HasPrefix(status, "2") {
			statuses = append(statuses, status)
		}
	}
	slices.Sort(statuses)
	statuses = append(statuses, "default")
	for _, status := range statuses {
		r := operation.Responses.Value(status)
		if r == nil || r.Value == nil {
			continue
		}
		if c := r.Value.Content.Get("application/json"); c != nil && c.Schema != nil {
			return c.Schema
		}
		for t, c := range r.Value.Content {
			if strings.Contains(t, "json") && c.Schema != nil {
				return c.Schema
			}
		}
	}
	return nil
}

// servers are the paths under which an operation may be served.
func (j *judge) servers(item *openapi3.PathItem, operation *openapi3.Operation) []string {
	list := j.doc.Servers
	if len(item.Servers) > 0 {
		list = item.Servers
	}
	if operation.Servers != nil && len(*operation.Servers) > 0 {
		list = *operation.Servers
	}
	var out []string
	for _, s := range list {
		address := s.URL
		for name, v := range s.Variables {
			if v != nil && v.Default != "" {
				address = strings.ReplaceAll(address, "{"+name+"}", v.Default)
			}
		}
		if _, rest, ok := strings.Cut(address, "://"); ok {
			if _, path, ok := strings.Cut(rest, "/"); ok {
				address = "/" + path
			} else {
				address = ""
			}
		}
		out = append(out, strings.TrimRight("/"+strings.TrimLeft(address, "/"), "/"))
	}
	return out
}

// pathParameters matches a path with the document's template, and returns the values, unescaped.
func pathParameters(x *exchange, r *http.Request, servers []string) (map[string]string, *Failure) {
	path := r.URL.EscapedPath()
	template, _, _ := strings.Cut(x.origin.Path, "#")
	template, query, _ := strings.Cut(template, "?")
	rest, below := strings.CutPrefix(path, x.base)
	if !below {
		return nil, failf("judge", "the path is not below the server's", "%s", path)
	}
	for _, s := range servers {
		if s, err := url.Parse(s); err == nil && s.EscapedPath() != x.base && strings.HasPrefix(s.EscapedPath(), x.base+"/") {
			rest, _ = strings.CutPrefix(path, s.EscapedPath()) // an operation with a server of its own below the same host
		}
	}
	var names []string
	pattern := "^"
	for part := range strings.SplitSeq(template, "{") {
		name, literal, ok := strings.Cut(part, "}")
		if !ok {
			pattern += literalPattern(part)
			continue
		}
		names = append(names, strings.TrimPrefix(name, "?"))
		pattern += "([^/]+?)" + literalPattern(literal)
	}
	re, err := regexp.Compile(strings.ReplaceAll(pattern, "^/", "^/?") + "/?$")
	if err != nil {
		return nil, failf("judge", "the document's path is no template", "%v", err)
	}
	if expected, values := filled(x, template, names); expected == rest { // also where parts of the path touch
		return values, nil
	}
	groups := re.FindStringSubmatch(rest)
	if groups == nil {
		return nil, failf("judge", "the path does not match the document's", "%s is not %s", rest, template)
	}
	out := map[string]string{}
	for i, name := range names {
		if out[name], err = url.PathUnescape(groups[i+1]); err != nil {
			return nil, failf("judge", "the path has a wrong escape", "%s", rest)
		}
	}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, ok := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(value); ok && err == nil && !strings.ContainsAny(pair, "{}") && r.URL.Query().Get(name) != plain && x.given[name] == nil {
			return nil, failf("judge", "the query of the document's path is not sent", "%s", pair)
		}
	}
	return out, nil
}

// queried are the values of parameters that the document puts into the query behind a path.
func queried(x *exchange, r *http.Request, parameters map[string]string) {
	_, query, _ := strings.Cut(x.origin.Path, "?")
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if name, ok := strings.CutPrefix(value, "{"); ok {
			parameters[strings.TrimSuffix(name, "}")] = r.URL.Query().Get(key)
		}
	}
}

// filled is a path with the values that were given.
func filled(x *exchange, template string, names []string) (string, map[string]string) {
	values := map[string]string{}
	for _, name := range names {
		for i := range x.action.Inputs {
			if in := &x.action.Inputs[i]; in.In == connector.InPath && in.Key() == name {
				values[name] = scalarText(x.given[in.Name])
				template = strings.ReplaceAll(template, "{"+name+"}", url.PathEscape(values[name]))
			}
		}
	}
	return template, values
}

// literalPattern matches a literal part of a path, with or without escapes.
func literalPattern(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if strings.IndexByte("/-._~!$&'()*+,;=:@%", c) >= 0 || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			b.WriteString(regexp.QuoteMeta(string(c)))
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func parametersOf(item *openapi3.PathItem, operation *openapi3.Operation) []*openapi3.Parameter {
	var out []*openapi3.Parameter
	for _, list := range []openapi3.Parameters{operation.Parameters, item.Parameters} {
		for _, p := range list {
			if p.Value != nil && !slices.ContainsFunc(out, func(o *openapi3.Parameter) bool { return o.In == p.Value.In && o.Name == p.Value.Name }) {
				out = append(out, p.Value)
			}
		}
	}
	return out
}

// undeclared reports query parameters that the document does not know.
func undeclared(x *exchange, r *http.Request, declared []*openapi3.Parameter) *Failure {
	_, fixed, _ := strings.Cut(x.origin.Path, "?")
	for name := range r.URL.Query() {
		known := slices.ContainsFunc(declared, func(p *openapi3.Parameter) bool {
			if p.In != "query" {
				return false
			}
			if p.Name == name || strings.HasPrefix(name, p.Name+"[") {
				return true
			}
			return p.Schema != nil && p.Schema.Value != nil && hasProperty(p.Schema.Value, name, 0)
		})
		if !known && !strings.Contains("&"+fixed, "&"+name+"=") && !strings.Contains("&"+fixed, "&"+url.QueryEscape(name)+"=") {
			return failf("judge", "a query parameter is sent that the document does not know", "%s", name)
		}
	}
	for name := range r.Header {
		switch name {
		case "Accept", "Accept-Encoding", "Content-Type", "Content-Length", "User-Agent", "Idempotency-Key":
			continue
		}
		if !slices.ContainsFunc(declared, func(p *openapi3.Parameter) bool { return p.In == "header" && strings.EqualFold(p.Name, name) }) {
			return failf("judge", "a header is sent that the document does not know", "%s", name)
		}
	}
	return nil
}

func hasProperty(s *openapi3.Schema, name string, depth int) bool {
	if depth > maxLevels {
		return false
	}
	if s.Properties[name] != nil {
		return true
	}
	return slices.ContainsFunc(s.AllOf, func(p *openapi3.SchemaRef) bool { return p.Value != nil && hasProperty(p.Value, name, depth+1) })
}

// relax leaves out of an operation what the document declares twice, or against itself: headers that OpenAPI says are
// ignored (Parameter Object), parameters that are the place of the credential, and parameters of a path that has no such part.
func (x *exchange) relax(item *openapi3.PathItem, operation *openapi3.Operation) (*openapi3.PathItem, *openapi3.Operation) {
	keep := func(list openapi3.Parameters) openapi3.Parameters {
		var out openapi3.Parameters
		for _, p := range list {
			v := p.Value
			switch {
			case v == nil:
			case v.In == "header" && (strings.EqualFold(v.Name, "Authorization") || strings.EqualFold(v.Name, "Accept") || strings.EqualFold(v.Name, "Content-Type") ||
				strings.EqualFold(v.Name, "Content-Length") || strings.EqualFold(v.Name, "Host")): // the last two are every request's own
			case x.lease.takes(v.In, v.Name):
			case v.In == "query" && v.Style == "deepObject" && v.Schema != nil && v.Schema.Value != nil && v.Schema.Value.Type.Is("array"):
				// OpenAPI does not say what that is; arrived looks for it
			case v.In == "path" && !strings.Contains(x.origin.Path, "{"+v.Name+"}"):
			default:
				out = append(out, p)
			}
		}
		return out
	}
	i, o := *item, *operation
	i.Parameters, o.Parameters = keep(item.Parameters), keep(operation.Parameters)
	return &i, &o
}

// arrived reports a value that was given and did not come where the action says.
func arrived(x *exchange, r *http.Request, body []byte, path map[string]string) *Failure {
	var tree any
	base, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	isJSON := x.action.Body == connector.BodyJSON || x.action.Body == ""
	if isJSON && len(body) > 0 && base == "" {
		return failf("judge", "the body has no type", "")
	}
	if isJSON && len(body) > 0 {
		d := json.NewDecoder(strings.NewReader(string(body)))
		d.UseNumber()
		if d.Decode(&tree) != nil {
			return failf("judge", "the body is no JSON", "%s", cut(string(body)))
		}
	}
	for i := range x.action.Inputs {
		in := &x.action.Inputs[i]
		v, ok := x.given[in.Name]
		if !ok || v == nil {
			continue
		}
		text := scalarText(v)
		missing := false
		switch in.In {
		case connector.InPath:
			missing = text != "" && path[in.Key()] != text
		case connector.InQuery:
			missing = text != "" && !slices.Contains(r.URL.Query()[in.Key()], text)
			if l, ok := v.([]any); ok && len(l) > 0 {
				missing = !slices.ContainsFunc(slices.Collect(maps.Keys(r.URL.Query())), func(k string) bool { return k == in.Key() || strings.HasPrefix(k, in.Key()+"[") })
			}
		case connector.InHeader:
			missing = text != "" && r.Header.Get(in.Key()) != text
		case connector.InBody:
			if in.Type == connector.TypeFile {
				missing = !strings.Contains(string(body), fileContent)
			} else if isJSON {
				missing = !inTree(tree, in, v)
			} else {
				missing = text != "" && !strings.Contains(string(body), text) && !strings.Contains(string(body), url.QueryEscape(text))
			}
		}
		if missing {
			return failf("judge", "a value that was given does not arrive in "+string(in.In), "%s", in.Name)
		}
	}
	return nil
}

func inTree(tree any, in *connector.Input, v any) bool {
	want, err := json.Marshal(v)
	if err != nil {
		return false
	}
	got := tree
	if !in.Whole {
		o, _ := tree.(object)
		got = o[unescape(in.Key())]
	}
	have, err := json.Marshal(got)
	return err == nil && string(have) == string(want)
}

func unescape(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '\\' && i+1 < len(path) {
			i++
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

func scalarText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return fmt.Sprint(v)
	}
	return ""
}
