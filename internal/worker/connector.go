package worker

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// typeRateLimited is the type of a fault of too many requests.
const typeRateLimited = "rate-limited"

// locked is an action of a connector, as the published integration carries it.
type locked struct {
	lock   *connector.Lock
	action *connector.Action
	built  *connector.Request
	hidden []expr.Value // values of secret inputs
}

// idempotency says how a repeated request is recognised.
func (l *locked) idempotency() connector.Idempotency {
	if l == nil {
		return connector.Idempotency{}
	}
	return l.lock.Defaults.IdempotencyOf(l.action)
}

// safe says whether a request has no effect.
func (r *prepared) safe() bool { return !changes(r.Method) || r.locked.idempotency().Safe }

// unsafe says whether a request that was interrupted must not be repeated: the other side does not recognise it, and its
// method is none of those that have the same effect when they are repeated (RFC 9110 section 9.2.2).
func (r *prepared) unsafe() bool {
	return r.locked.idempotency().Unsafe && (r.Method == "POST" || r.Method == "PATCH")
}

// key puts the idempotency key where the other side looks for it.
func (r *prepared) key(key string) {
	switch i := r.locked.idempotency(); {
	case i.Unsafe, i.Safe:
	case i.Query != "":
		r.Query = append(r.Query, wire.Pair{Name: i.Query, Value: key})
	case i.Header != "":
		r.Headers = append(r.Headers, wire.Pair{Name: i.Header, Value: key})
	default:
		r.IdempotencyKey = key
	}
}

// connectorRequest makes the request of an action of a connector.
func (e *env) connectorRequest(ctx context.Context, lock *connector.Lock, a *flow.Action) (*prepared, error) {
	action := lock.Action(a.Action)
	if action == nil {
		return nil, faultf(typeInvalidInput, "connector %s has no action %s", lock.Name, a.Action)
	}
	if err := literalQueries(action, &a.With); err != nil {
		return nil, err
	}
	in, err := e.value(ctx, &a.With)
	if err != nil {
		return nil, err
	}
	page := (*connector.Page)(nil)
	if e.page != nil {
		page = e.page.page
	}
	built, err := connector.Build(action, &lock.Defaults, in, func(v expr.Value) bool { _, ok := asFile(v); return ok }, page)
	if err != nil {
		return nil, faultf(typeInvalidInput, "%s", err)
	}
	r := &prepared{locked: &locked{lock: lock, action: action, built: built, hidden: secretInputs(action, in)}, Request: wire.Request{
		Execution: e.f.x.unit.Execution, Step: e.path, Slot: a.Slot, Action: a.Action, Method: built.Method, Base: built.Base, Path: built.Path,
		Query: wirePairs(built.Query), Headers: wirePairs(built.Headers), Expect: built.Expect, Day: e.f.x.unit.Day,
	}}
	if err := checkHeaders(r.Headers); err != nil {
		return nil, err
	}
	if r.Accept, err = responseMode(built.Response); err != nil {
		return nil, err
	}
	return r, r.connectorBody(built)
}

// literalQueries refuses a query that was put together of values: they belong into its parameters. A published integration
// was checked for it; what comes here otherwise was not.
func literalQueries(a *connector.Action, with *flow.Value) error {
	for i, key := range with.Keys {
		input := a.Input(key)
		if input == nil || input.Language == "" {
			continue
		}
		if k := with.Items[i].Kind; k != flow.String && k != flow.Absent {
			return faultf(typeInvalidInput, "input %s is a query: it must be a text without ${{ }}, with :names whose values are in %s", key, connector.ParametersInput)
		}
	}
	return nil
}

// secretInputs are the values that no viewer sees.
func secretInputs(a *connector.Action, in expr.Value) (list []expr.Value) {
	for i := range a.Inputs {
		if !a.Inputs[i].Secret {
			continue
		}
		if v, ok := expr.Lookup(in, a.Inputs[i].Name); ok {
			list = append(list, v)
		}
	}
	return list
}

func wirePairs(list []connector.Fixed) []wire.Pair {
	out := make([]wire.Pair, len(list))
	for i, f := range list {
		out[i] = wire.Pair(f)
	}
	return out
}

// connectorBody takes the body over: JSON and texts as they are, files by reference.
func (r *prepared) connectorBody(built *connector.Request) error {
	r.HasBody, r.ContentType, r.Body, r.body = built.HasBody, built.ContentType, built.Body, built.Content
	if built.File != nil {
		f, ok := asFile(built.File)
		if !ok {
			return faultf(typeInvalidInput, "the body is no file")
		}
		r.body = built.File
		if r.ContentType == "" {
			r.ContentType = f.ref.Blob.ContentType
		}
		if r.Body = f.ref.Data; !f.ref.Inline {
			r.BodyBlob = &f.ref.Blob
		}
	}
	size := len(r.Body)
	for i := range built.Parts {
		p := &built.Parts[i]
		out := wire.FormPart{Name: p.Name, ContentType: p.ContentType, Data: p.Data}
		if p.File != nil {
			f, ok := asFile(p.File)
			if !ok {
				return faultf(typeInvalidInput, "part %s is no file", p.Name)
			}
			out.FileName, out.ContentType = orName(f.ref.Blob.Name), f.ref.Blob.ContentType
			if out.Data = f.ref.Data; !f.ref.Inline {
				out.Blob = &f.ref.Blob
			}
		}
		if size += len(out.Data); size > MaxCodeInput {
			return faultf(typeLimit, "the parts have more than %d bytes; send large ones as files", MaxCodeInput)
		}
		r.Parts = append(r.Parts, out)
	}
	if len(r.Body) > MaxBody {
		return faultf(typeLimit, "the request body has %d bytes, more than %d", len(r.Body), MaxBody)
	}
	return nil
}

// limited says whether an answer refuses the request because there were too many, and when the next may come.
func (l *locked) limited(a *wire.Response) (time.Duration, bool) {
	if l == nil || l.lock.Defaults.Retry == nil || a.Status < 400 {
		return 0, false
	}
	get := func(name string) string { return header(a.Headers, strings.ToLower(name)) }
	if !l.lock.Defaults.Retry.Limited(int(a.Status), get) {
		return 0, false
	}
	return l.lock.Defaults.Retry.Wait(int(a.Status), get, time.Now()), true
}

// refusal is the fault of an answer with a status of 400 or more, with what the other side says about it.
func (l *locked) refusal(a *wire.Response, f *fault) *fault {
	if l == nil {
		return f
	}
	if wait, ok := l.limited(a); ok {
		f.Type, f.retryAfter = typeRateLimited, max(f.retryAfter, wait)
	}
	if len(a.Body) > 0 && isJSON(header(a.Headers, "content-type")) {
		if body, err := expr.ParseJSON(a.Body); err == nil {
			if told := l.lock.Defaults.Told(l.action, body); told != "" {
				f.Message = clip(f.Message + ": " + clipTo(told, maxTold))
			}
			if failure, ok := l.lock.Defaults.Failed(l.action, body); ok {
				l.judge(f, a, &failure)
			}
		}
	}
	return f
}

// judge says of a fault what the other side's own code means, which its status may not: Google refuses with 403 when there
// are too many requests.
func (l *locked) judge(f *fault, a *wire.Response, failure *connector.Failure) {
	switch {
	case failure.Auth:
		f.Type = typeAuth
	case failure.Limited:
		f.Type = typeRateLimited
		get := func(name string) string { return header(a.Headers, strings.ToLower(name)) }
		f.retryAfter = max(f.retryAfter, connector.DefaultRetryAfter, l.lock.Defaults.Retry.Refused(get, time.Now()))
	}
}

// maxTold is how many bytes of what the other side says are in a fault.
const maxTold = 500

// failed is the fault of an answer whose body says that the request failed, although its status does not. A status of 400
// and more comes here only where the action expects it, and is no error then, whatever the body says.
func (l *locked) failed(a *wire.Response, body expr.Value) error {
	if l == nil || a.Status >= 400 {
		return nil
	}
	if _, file := asFile(body); file {
		return nil
	}
	failure, ok := l.lock.Defaults.Failed(l.action, body)
	if !ok {
		return nil
	}
	f := faultf(typeUpstream, "the other side says that the request failed")
	if failure.Message != "" {
		f.Message = clip(f.Message + ": " + clipTo(failure.Message, maxTold))
	}
	f.Status, f.definite = int(a.Status), true
	l.judge(f, a, &failure)
	return f
}

// recipe is how all pages of a loop's action are read by its connector's own recipe; nil where the flow says it itself, or
// where the connector has none.
func (e *env) recipe(a *flow.Action) *connector.Paginate {
	lock := e.f.x.in.definition.Lock(a.Slot)
	if lock == nil {
		return nil
	}
	action := lock.Action(a.Action)
	if action == nil {
		return nil
	}
	return lock.Defaults.Pages(action)
}

// nextPage is where the page behind an answer is by a recipe; nil behind the last.
func nextPage(p *connector.Paginate, at *connector.Page, built *connector.Request, result expr.Value) (*pageAt, error) {
	body, _ := expr.Lookup(result, "body")
	headers, _ := expr.Lookup(result, "headers")
	next, err := p.Next(at, built, connector.Reply{Body: orNull(body), Header: func(name string) string {
		v, _ := expr.Lookup(headers, name)
		s, _ := expr.Str(orNull(v))
		return s
	}})
	switch {
	case errors.Is(err, connector.ErrNoList):
		return nil, faultf(typeInvalidInput, "%s", err)
	case err != nil:
		return nil, faultf(typeUpstream, "%s", err)
	case next == nil:
		return nil, nil
	}
	return &pageAt{cursor: orNull(next.Cursor), page: next}, nil
}
