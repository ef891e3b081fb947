package connector

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/expr"
)

// ParametersInput is the name of the input that carries the :parameters of an action's query-language input.
const ParametersInput = "parameters"

// The answers that an action may ask for.
const (
	ResponseAuto = "auto"
	ResponseJSON = "json"
	ResponseText = "text"
	ResponseFile = "file"
)

// Request is what an action with its inputs asks of the other side. It names neither host nor credential.
type Request struct {
	Method  string
	Base    string // which of the manifest's bases the path is behind; empty: base_url
	Path    string // escaped, begins with /
	Query   []Fixed
	Headers []Fixed // without the content type

	ContentType string
	HasBody     bool
	Body        []byte     // the body, unless Content is a file
	Content     expr.Value // what Body was made of, for those who show it; nil without one, or of a form or parts
	File        expr.Value // a body that is a file, as the caller knows files; else nil
	Parts       []Part     // of a multipart body; nil: none

	Response string // auto, json, text, file
	Expect   []string
}

// Part is one part of a multipart body: a file, or data.
type Part struct {
	Name        string
	ContentType string     // empty: text, or the file's own
	Data        []byte     //
	File        expr.Value // instead of Data, as the caller knows files
}

// InputError says what is wrong with the inputs of an action. Its text holds no value of an input.
type InputError struct {
	Action  string
	Input   string // empty: the inputs as a whole
	Problem string
}

// Error names the input and what was expected.
func (e *InputError) Error() string {
	if e.Input == "" {
		return fmt.Sprintf("action %s: %s", e.Action, e.Problem)
	}
	return fmt.Sprintf("action %s: input %s: %s", e.Action, e.Input, e.Problem)
}

// Build makes the request of an action from its resolved inputs, an object by input name or null. isFile says whether a
// value is a file of the caller's; nil: none is. page is which page of a list is asked for; nil: no page in particular.
//
// Inputs are checked against their types and enums, and defaults are filled in. An input that is null counts as not given,
// but in a JSON body whose schema allows null it is sent. The error is an *InputError.
func Build(a *Action, d *Defaults, in expr.Value, isFile func(expr.Value) bool, page *Page) (*Request, error) {
	if isFile == nil {
		isFile = func(expr.Value) bool { return false }
	}
	b := &builder{a: a, d: d, isFile: isFile, r: &Request{Method: a.Method, Base: a.Base, Response: orText(a.Response, ResponseAuto), Expect: a.Expect}}
	given, err := b.inputs(in)
	if err != nil {
		return nil, err
	}
	if page != nil {
		if p := d.Pages(a); p != nil {
			given = p.ask(given, page)
		}
	}
	if err := b.build(given); err != nil {
		return nil, err
	}
	if page != nil {
		page.follow(b.r)
	}
	return b.r, nil
}

// builder builds one request.
type builder struct {
	a      *Action
	d      *Defaults
	isFile func(expr.Value) bool
	r      *Request
}

func (b *builder) faultf(input, format string, args ...any) error {
	return &InputError{Action: b.a.Name, Input: input, Problem: fmt.Sprintf(format, args...)}
}

// part is an input with its value.
type part struct {
	*Input
	value expr.Value
}

func (b *builder) build(given []part) error {
	body := &body{b: b}
	var args tree
	path := map[string]string{}
	for _, p := range given {
		var err error
		switch p.In {
		case InPath:
			path[p.Key()], err = b.pathValue(p)
		case InQuery:
			err = b.pairs(&b.r.Query, p)
		case InHeader:
			err = b.header(p)
		case InBody:
			err = body.add(p)
		case InArgs:
			err = b.argument(&args, p)
		default:
			err = b.faultf(p.Name, "it has no place in a request")
		}
		if err != nil {
			return err
		}
	}
	var err error
	if b.r.Path, err = b.path(path); err != nil {
		return err
	}
	if err := b.arguments(&args); err != nil {
		return err
	}
	b.r.Query = fixed(b.r.Query, b.a.Query, b.d.Query, sameName)
	b.r.Headers = fixed(b.r.Headers, b.a.Headers, b.d.Headers, strings.EqualFold)
	return body.end()
}

// fixed adds parameters that are always the same: the action's own, and the defaults that it does not set. What a flow
// gives for an input of the same name stands instead of a default, never instead of the action's own.
func fixed(given, own, defaults []Fixed, same func(a, b string) bool) []Fixed {
	in := func(list []Fixed, name string) bool {
		return slices.ContainsFunc(list, func(f Fixed) bool { return same(f.Name, name) })
	}
	out := slices.DeleteFunc(given, func(f Fixed) bool { return in(own, f.Name) })
	n := len(out)
	for _, f := range defaults {
		if !in(own, f.Name) && !in(out[:n], f.Name) {
			out = append(out, f)
		}
	}
	return append(out, own...)
}

// sameName compares names in which case counts.
func sameName(a, b string) bool { return a == b }

// pathValue is an input as one segment of the path, or a part of one: it cannot add a slash, a query or a step up.
func (b *builder) pathValue(p part) (string, error) {
	s, err := b.text(p)
	switch {
	case err != nil:
		return "", err
	case s == "":
		return "", b.faultf(p.Name, "a part of the path cannot be empty")
	case !p.Raw:
		return url.PathEscape(s), nil
	}
	var out []string
	for segment := range strings.SplitSeq(s, "/") {
		out = append(out, url.PathEscape(segment))
	}
	return strings.Join(out, "/"), nil
}

// path fills the template of the path in.
func (b *builder) path(values map[string]string) (string, error) {
	var out strings.Builder
	for rest := b.a.Path; rest != ""; {
		before, after, ok := strings.Cut(rest, "{")
		out.WriteString(before)
		if !ok {
			break
		}
		name, tail, ok := strings.Cut(after, "}")
		if !ok {
			return "", b.faultf("", "its path has a brace that is not closed")
		}
		v, ok := values[name]
		switch {
		case ok:
		case !slices.ContainsFunc(b.a.Inputs, func(i Input) bool { return i.In == InPath && i.Key() == name }):
			v = url.PathEscape("{" + name + "}") // the credential's, which egress puts there
		default:
			return "", b.faultf(name, "a value is required: the path needs it")
		}
		out.WriteString(v)
		rest = tail
	}
	path := out.String()
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	for segment := range strings.SplitSeq(path, "/") {
		if plain, err := url.PathUnescape(segment); err != nil || plain == "." || plain == ".." {
			return "", b.faultf("", "its path has a segment that is no name")
		}
	}
	return path, nil
}

// header adds an input as a header.
func (b *builder) header(p part) error {
	s, err := b.text(p)
	if err != nil {
		return err
	}
	if strings.ContainsAny(s, "\r\n\x00") {
		return b.faultf(p.Name, "a header has no line end")
	}
	b.r.Headers = append(b.r.Headers, Fixed{Name: p.Key(), Value: s})
	return nil
}

// text is an input that is written as one text: a list is separated by commas or what its style says, an object is JSON.
func (b *builder) text(p part) (string, error) {
	if expr.Kind(p.value) == expr.KindList && p.Style != StyleJSON {
		return b.joined(p, separator(p.Style))
	}
	s, err := expr.Text(p.value)
	if err != nil {
		return "", b.faultf(p.Name, "the value cannot be written as text")
	}
	return s, nil
}

func separator(s Style) string {
	switch s {
	case StyleSpace:
		return " "
	case StylePipe:
		return "|"
	}
	return ","
}

func (b *builder) joined(p part, separator string) (string, error) {
	var list []string
	for i := range expr.Len(p.value) {
		item, _ := expr.Index(p.value, i)
		s, err := expr.Text(item)
		if err != nil {
			return "", b.faultf(p.Name, "an item cannot be written as text")
		}
		list = append(list, s)
	}
	return strings.Join(list, separator), nil
}

// pairs adds an input as parameters of a query or form, in the style that it has.
func (b *builder) pairs(to *[]Fixed, p part) error {
	kind := expr.Kind(p.value)
	compound := kind == expr.KindList || kind == expr.KindObject
	switch {
	case compound && (p.Style == StyleBrackets || p.Style == StyleIndex):
		return b.nested(to, p, p.Key(), p.value, 0)
	case kind == expr.KindList && p.Style == StyleRepeat:
		for i := range expr.Len(p.value) {
			item, _ := expr.Index(p.value, i)
			s, err := expr.Text(item)
			if err != nil {
				return b.faultf(p.Name, "an item cannot be written as text")
			}
			*to = append(*to, Fixed{Name: p.Key(), Value: s})
		}
		return nil
	}
	s, err := b.text(p)
	if err != nil {
		return err
	}
	*to = append(*to, Fixed{Name: p.Key(), Value: s})
	return nil
}

// nested writes lists and objects with brackets: a[]=1, a[k]=v, and with indexes a[0][k]=v.
func (b *builder) nested(to *[]Fixed, p part, name string, v expr.Value, depth int) error {
	if depth > MaxDepth {
		return b.faultf(p.Name, "the value is nested too deep")
	}
	switch expr.Kind(v) {
	case expr.KindObject:
		for _, k := range expr.Keys(v) {
			item, _ := expr.Lookup(v, k)
			if err := b.nested(to, p, name+"["+k+"]", item, depth+1); err != nil {
				return err
			}
		}
		return nil
	case expr.KindList:
		for i := range expr.Len(v) {
			item, _ := expr.Index(v, i)
			at := name + "[]"
			if p.Style == StyleIndex {
				at = fmt.Sprintf("%s[%d]", name, i)
			}
			if err := b.nested(to, p, at, item, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	s, err := expr.Text(v)
	if err != nil {
		return b.faultf(p.Name, "a value in it cannot be written as text")
	}
	*to = append(*to, Fixed{Name: name, Value: s})
	return nil
}

// value reads JSON of the manifest.
func (b *builder) value(input string, raw json.RawMessage) (expr.Value, error) {
	v, err := expr.ParseJSON(raw)
	if err != nil {
		return nil, b.faultf(input, "the connector's own value is not JSON")
	}
	return v, nil
}

func orText(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
