package worker

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// errLate means that the other side of the link did not answer in time.
var errLate = errors.New("no answer in time")

// action calls an action of a connection. Its output is {status, headers, body}.
func (x *execution) action(ctx context.Context, e *env, s *flow.Step, t *tries) (expr.Value, error) {
	r, err := e.request(ctx, s.Action)
	if err != nil {
		return nil, err
	}
	if e.page != nil && e.page.linked {
		r.Query = e.page.query
	}
	own := flow.DefaultStepTimeout
	if r.locked != nil {
		e.built = r.locked.built
		if r.unsafe() {
			e.told = x.derived()
			e.once = !e.told
		}
		if t := r.locked.action.Timeout; t > 0 {
			own = t.Std()
		}
	}
	r.Timeout = s.Timeout.Or(own)
	return x.send(ctx, e, s, t, r)
}

// send is the effect of a request.
func (x *execution) send(ctx context.Context, e *env, s *flow.Step, t *tries, r *prepared) (expr.Value, error) {
	x.view.request(e.path, r)
	plain := wire.AppendBody(make([]byte, 0, 256+len(r.Body)), &r.Request)
	sum := sha256.Sum256(plain)
	return x.effect(ctx, e, s, t, [16]byte(sum[:16]), r.safe(), func(ctx context.Context) (outcome, error) {
		if changes(r.Method) {
			r.key(x.in.idempotencyKey(x.unit.Execution, e.path, t.epoch))
		}
		if len(r.Body) > MaxFrameBody {
			ref, err := x.writeBlob(ctx, r.Body)
			if err != nil {
				return outcome{}, err
			}
			ref.ContentType = r.ContentType
			r.Body, r.BodyBlob = nil, ref
		}
		answer, err := x.exchange(ctx, &r.Request)
		if err != nil {
			return outcome{}, err
		}
		if answer.ErrorType != "" {
			x.view.refused(e.path, answer)
		}
		return x.outcome(ctx, r, answer)
	})
}

// changes says whether a method may have an effect (RFC 9110 section 9.2.1).
func changes(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return false
	}
	return true
}

// exchange seals a request for egress and opens the answer. Under a lease that egress does not have any more the request is
// made again under the next one, with the same idempotency key: nobody knows how far it came.
func (x *execution) exchange(ctx context.Context, r *wire.Request) (*wire.Response, error) {
	var refused id.Lease
	for range maxLeases {
		l, err := x.in.current(ctx, refused)
		if err != nil {
			return nil, err
		}
		m, err := x.ask(ctx, l, r)
		if err != nil {
			return nil, err
		}
		if m.Error != "" {
			refused = l.id
			continue
		}
		plain, err := l.channel.Open(nil, m.Place(), m.Sealed)
		if err != nil {
			return nil, faultf(typeUpstream, "the answer does not open")
		}
		var answer wire.Response
		if err := wire.ParseBody(plain, &answer); err != nil {
			return nil, faultf(typeUpstream, "the answer cannot be read")
		}
		return &answer, nil
	}
	return nil, errLease
}

// ask sends one call and waits for its answer.
func (x *execution) ask(ctx context.Context, l *leased, r *wire.Request) (*wire.Answer, error) {
	plain := wire.AppendBody(nil, r)
	if len(plain) > MaxRequest {
		return nil, faultf(typeLimit, "the request has %d bytes, more than %d", len(plain), MaxRequest)
	}
	n := x.s.number.Add(1)
	ch := x.s.answers.begin(n)
	call := &wire.Call{Lease: l.id, Egress: l.egress, Call: n}
	call.Sealed = l.channel.Seal(nil, call.Place(), plain)
	if err := x.s.out.Write(call); err != nil {
		return nil, err
	}
	m, err := x.answer(ctx, ch, l, r.Timeout+answerGrace)
	if err != nil || m.Error != "" {
		x.s.answers.end(n)
	}
	if errors.Is(err, errLate) {
		return nil, faultf(typeTimeout, "no answer came within %v", r.Timeout)
	}
	if err == nil && m.Error == "" && m.Lease != l.id {
		return nil, faultf(typeUpstream, "the answer belongs to another lease")
	}
	return m, err
}

// answer waits for the answer to a call. One whose lease is gone is answered as egress would.
func (x *execution) answer(ctx context.Context, ch chan *wire.Answer, l *leased, d time.Duration) (*wire.Answer, error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case m := <-ch:
		return m, nil
	case <-l.gone:
		return &wire.Answer{Error: wire.ErrorLease}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-timer.C:
		return nil, errLate
	}
}

// outcome turns an answer into the step's output, or into its fault.
func (x *execution) outcome(ctx context.Context, r *prepared, a *wire.Response) (outcome, error) {
	mode := r.Accept
	if a.ErrorType != "" {
		f := faultf(a.ErrorType, "%s", a.Message)
		f.Status, f.retryAfter, f.definite = int(a.Status), a.RetryAfter, a.Definite
		return outcome{}, r.locked.refusal(a, f)
	}
	status, headers := expr.Int(int64(a.Status)), headerValue(a.Headers)
	contentType := header(a.Headers, "content-type")
	asJSON := mode == wire.ResponseJSON || mode == wire.ResponseAuto && isJSON(contentType)
	if a.Blob != nil {
		if mode != wire.ResponseFile && (asJSON || a.Text || mode == wire.ResponseText) {
			body, err := x.loadBody(ctx, a.Blob, !asJSON)
			if err != nil {
				return outcome{}, err
			}
			if err := r.locked.failed(a, body); err != nil {
				return outcome{}, err
			}
			head := native([]string{"status", "headers"}, status, headers)
			return outcome{value: withBody(head, body), head: head, load: a.Blob, text: !asJSON}, nil
		}
		x.files.Store(true)
		ref := *a.Blob
		if ref.Name == "" {
			ref.Name = fileName(a.Headers, r.Path)
		}
		return outcome{value: answerValue(status, headers, newFile(fileRef{Blob: ref}))}, nil
	}
	body, err := x.inlineBody(r, asJSON, contentType, a)
	if err != nil {
		return outcome{}, err
	}
	if err := r.locked.failed(a, body); err != nil {
		return outcome{}, err
	}
	return outcome{value: answerValue(status, headers, body)}, nil
}

func (x *execution) inlineBody(r *prepared, asJSON bool, contentType string, a *wire.Response) (expr.Value, error) {
	switch {
	case r.Accept == wire.ResponseFile:
	case len(a.Body) == 0:
		return expr.Null(), nil
	case asJSON:
		v, err := expr.ParseJSON(a.Body)
		if err == nil {
			return v, nil
		}
		f := faultf(typeUpstream, "the answer is not JSON: %s", err.Error())
		f.Status, f.definite = int(a.Status), true
		return nil, f
	case a.Text || r.Accept == wire.ResponseText:
		return expr.String(string(a.Body)), nil
	}
	x.files.Store(true)
	return inlineFile(id.NewBlob(time.Now()), fileName(a.Headers, r.Path), contentType, a.Body), nil
}

func answerValue(status, headers, body expr.Value) expr.Value {
	return native([]string{"status", "headers", "body"}, status, headers, body)
}

// headerValue is the object of an answer's headers; a repeated one is joined as RFC 9110 section 5.3 allows.
func headerValue(list []wire.Pair) expr.Value {
	keys, vals := make([]string, 0, len(list)), make([]expr.Value, 0, len(list))
next:
	for _, p := range list {
		for i, k := range keys {
			if k == p.Name {
				have, _ := expr.Str(vals[i])
				vals[i] = expr.String(have + ", " + p.Value)
				continue next
			}
		}
		keys, vals = append(keys, p.Name), append(vals, expr.String(p.Value))
	}
	return expr.NewObject(keys, vals)
}

func header(list []wire.Pair, name string) string {
	for _, p := range list {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// isJSON says whether a content type is JSON (RFC 8259, or the suffix of RFC 6839 section 3.1).
func isJSON(contentType string) bool {
	t, _, _ := strings.Cut(contentType, ";")
	t = strings.ToLower(strings.TrimSpace(t))
	return t == "application/json" || t == "text/json" || strings.HasSuffix(t, "+json")
}
