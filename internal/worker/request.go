package worker

import (
	"context"
	"net/url"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// prepared is a request that has been resolved but not been sent.
type prepared struct {
	wire.Request
	body   expr.Value // for viewers; nil without one
	locked *locked    // the action, of a connector that is not built in
}

// request resolves the inputs of an action.
func (e *env) request(ctx context.Context, a *flow.Action) (*prepared, error) {
	if lock := e.f.x.in.definition.Lock(a.Slot); lock != nil {
		return e.connectorRequest(ctx, lock, a)
	}
	if a.Action != flow.ActionRequest {
		return nil, faultf(typeInvalidInput, "connector http has no action %s", a.Action)
	}
	r := &prepared{Request: wire.Request{
		Execution: e.f.x.unit.Execution, Step: e.path, Slot: a.Slot, Action: flow.ActionRequest, Method: "GET", Accept: wire.ResponseAuto, Day: e.f.x.unit.Day,
	}}
	for i, key := range a.With.Keys {
		if err := e.requestField(ctx, r, key, &a.With.Items[i]); err != nil {
			return nil, err
		}
	}
	if r.Path == "" {
		r.Path = "/"
	}
	if err := r.asText(); err != nil {
		return nil, err
	}
	return r, nil
}

func (e *env) requestField(ctx context.Context, r *prepared, key string, v *flow.Value) (err error) {
	switch key {
	case "method":
		r.Method, err = e.text(ctx, v)
		r.Method = strings.ToUpper(r.Method)
	case "path":
		r.Path, err = e.requestPath(ctx, v)
	case "query":
		r.Query, err = e.pairs(ctx, v)
	case "headers":
		if r.Headers, err = e.pairs(ctx, v); err == nil {
			err = checkHeaders(r.Headers)
		}
	case "body":
		err = e.requestBody(ctx, r, v)
	case "form":
		var pairs []wire.Pair
		if pairs, err = e.pairs(ctx, v); err == nil {
			r.HasBody, r.ContentType = true, "application/x-www-form-urlencoded"
			for _, p := range pairs {
				r.Body = connector.AppendField(r.Body, p.Name, p.Value)
			}
		}
	case "multipart":
		r.Parts, err = e.parts(ctx, v)
	case "response":
		r.Accept, err = e.responseMode(ctx, v)
	case "expect":
		r.Expect, err = e.expected(ctx, v)
	default:
		err = faultf(typeInvalidInput, "action request has no input %s", key)
	}
	return err
}

// requestPath resolves a path. What is interpolated is one segment, or a part of one: it cannot add a slash, a query or a
// step up, and it cannot be empty, which would name another resource. rawPath(…) is taken as it is.
func (e *env) requestPath(ctx context.Context, v *flow.Value) (string, error) {
	var b strings.Builder
	if v.Kind == flow.String {
		b.WriteString(v.Text)
	} else {
		for i := range v.Parts {
			if v.Parts[i].Expr == nil {
				b.WriteString(v.Parts[i].Text)
				continue
			}
			s, err := e.pathPart(ctx, v.Parts[i].Expr)
			if err != nil {
				return "", err
			}
			b.WriteString(s)
		}
	}
	path := b.String()
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	for segment := range strings.SplitSeq(path, "/") {
		if plain, err := url.PathUnescape(segment); err != nil || plain == "." || plain == ".." {
			return "", faultf(typeInvalidInput, "the path has a segment that is no name: %s", quote(segment))
		}
	}
	return path, nil
}

func (e *env) pathPart(ctx context.Context, x *flow.Expr) (string, error) {
	s, err := e.partText(ctx, x)
	if err != nil {
		return "", err
	}
	if _, _, raw := x.RawPath(); raw {
		if strings.ContainsAny(s, "?#\r\n") {
			return "", faultf(typeInvalidInput, "a raw path has no ?, # or line end")
		}
		return s, nil
	}
	if s == "" {
		return "", faultf(typeInvalidInput, "the path needs %s, which is empty", x.Source)
	}
	return url.PathEscape(s), nil
}

// pairs resolves an object into names and values: a list repeats its name, null leaves it out.
func (e *env) pairs(ctx context.Context, v *flow.Value) ([]wire.Pair, error) {
	got, err := e.value(ctx, v)
	if err != nil {
		return nil, err
	}
	var list []wire.Pair
	add := func(name string, item expr.Value) error {
		if expr.Kind(item) == expr.KindNull {
			return nil
		}
		s, err := expr.Text(item)
		if err != nil {
			return expressionFault(ctx, err)
		}
		list = append(list, wire.Pair{Name: name, Value: s})
		return nil
	}
	for _, name := range expr.Keys(got) {
		item, _ := expr.Lookup(got, name)
		if expr.Kind(item) != expr.KindList {
			if err := add(name, item); err != nil {
				return nil, err
			}
			continue
		}
		for i := range expr.Len(item) {
			one, _ := expr.Index(item, i)
			if err := add(name, one); err != nil {
				return nil, err
			}
		}
	}
	if k := expr.Kind(got); k != expr.KindObject && k != expr.KindNull {
		return nil, faultf(typeInvalidInput, "an object of names and values is expected, not %s", k)
	}
	return list, nil
}

func checkHeaders(list []wire.Pair) error {
	for _, h := range list {
		if strings.ContainsAny(h.Name, "\r\n:") || strings.ContainsAny(h.Value, "\r\n\x00") {
			return faultf(typeInvalidInput, "header %s has a line end", quote(h.Name))
		}
	}
	return nil
}

// requestBody takes a file as a stream and everything else as JSON.
func (e *env) requestBody(ctx context.Context, r *prepared, v *flow.Value) error {
	got, err := e.value(ctx, v)
	if err != nil {
		return err
	}
	r.body, r.HasBody = got, true
	if f, ok := asFile(got); ok {
		r.ContentType = f.ref.Blob.ContentType
		if f.ref.Inline {
			r.Body = f.ref.Data
		} else {
			r.BodyBlob = &f.ref.Blob
		}
		return nil
	}
	r.ContentType = "application/json"
	if r.Body, err = appendJSON(nil, got); err != nil {
		return err
	}
	if len(r.Body) > MaxBody {
		return faultf(typeLimit, "the request body has %d bytes, more than %d", len(r.Body), MaxBody)
	}
	return nil
}

// asText sends a text body as it is where a header says that it is not JSON.
func (r *prepared) asText() error {
	for _, h := range r.Headers {
		if !isContentType(h.Name) {
			continue
		}
		r.ContentType = h.Value
		if s, ok := expr.Str(r.bodyValue()); ok && !isJSON(h.Value) {
			r.Body = []byte(s)
		}
	}
	return nil
}

func (r *prepared) bodyValue() expr.Value {
	if r.body == nil {
		return expr.Null()
	}
	return r.body
}

// parts resolves a multipart body: a file is a file part, an object or list JSON, everything else a field.
func (e *env) parts(ctx context.Context, v *flow.Value) ([]wire.FormPart, error) {
	got, err := e.value(ctx, v)
	if err != nil {
		return nil, err
	}
	var parts []wire.FormPart
	size := 0
	for _, name := range expr.Keys(got) {
		item, _ := expr.Lookup(got, name)
		p := wire.FormPart{Name: name}
		f, isFile := asFile(item)
		switch kind := expr.Kind(item); {
		case isFile:
			p.FileName, p.ContentType = orName(f.ref.Blob.Name), f.ref.Blob.ContentType
			if p.Data = f.ref.Data; !f.ref.Inline {
				p.Blob = &f.ref.Blob
			}
		case kind == expr.KindNull:
			continue
		case kind == expr.KindObject || kind == expr.KindList:
			p.ContentType = "application/json"
			if p.Data, err = appendJSON(nil, item); err != nil {
				return nil, err
			}
		default:
			s, err := expr.Text(item)
			if err != nil {
				return nil, expressionFault(ctx, err)
			}
			p.Data = []byte(s)
		}
		if size += len(p.Data); size > MaxCodeInput {
			return nil, faultf(typeLimit, "the parts have more than %d bytes; send large ones as files", MaxCodeInput)
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func orName(s string) string {
	if s == "" {
		return "file"
	}
	return s
}

func (e *env) responseMode(ctx context.Context, v *flow.Value) (wire.ResponseMode, error) {
	s, err := e.text(ctx, v)
	if err != nil {
		return 0, err
	}
	return responseMode(s)
}

func responseMode(s string) (wire.ResponseMode, error) {
	switch s {
	case "auto", "":
		return wire.ResponseAuto, nil
	case "json":
		return wire.ResponseJSON, nil
	case "text":
		return wire.ResponseText, nil
	case "file":
		return wire.ResponseFile, nil
	}
	return 0, faultf(typeInvalidInput, "response is auto, json, text or file, not %s", quote(s))
}

func (e *env) expected(ctx context.Context, v *flow.Value) ([]string, error) {
	got, err := e.value(ctx, v)
	if err != nil {
		return nil, err
	}
	if expr.Kind(got) != expr.KindList {
		got = expr.NewList([]expr.Value{got})
	}
	var list []string
	for i := range expr.Len(got) {
		item, _ := expr.Index(got, i)
		s, err := expr.Text(item)
		if err != nil {
			return nil, expressionFault(ctx, err)
		}
		list = append(list, s)
	}
	return list, nil
}

// inlineFile is a file whose bytes are here.
func inlineFile(now id.Blob, name, contentType string, data []byte) *file {
	return newFile(fileRef{Blob: wire.BlobRef{Blob: now, Size: uint64(len(data)), Name: name, ContentType: contentType}, Inline: true, Data: data})
}

func isContentType(name string) bool { return strings.EqualFold(name, "content-type") }
