package worker

import (
	"context"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// call starts another flow of the integration as an execution of its own. It begins in the same commit as our entry, so it
// begins once. Without wait the output is its id.
func (x *execution) call(ctx context.Context, e *env, s *flow.Step, t *tries) (expr.Value, error) {
	c := s.Call
	body, err := e.value(ctx, &c.With)
	if err != nil {
		return nil, err
	}
	x.view.input(e.path, body)
	e.hash = x.in.mark(x.unit.Execution, e.path, expr.Hash(native([]string{"flow", "with"}, expr.String(c.Flow), body)))
	rec := x.journal.past(e.path)
	if rec != nil {
		if err := rec.check(e.path, e.hash); err != nil {
			return nil, err
		}
		if rec.result != nil {
			return x.pastResult(ctx, rec.result)
		}
		if rec.fault != nil {
			return nil, x.pastFault(rec)
		}
	}
	child, err := x.startedChild(ctx, rec, t)
	if err != nil {
		return nil, err
	}
	if child.IsZero() {
		var out expr.Value
		if child, out, err = x.startCall(ctx, e, s, t, body); err != nil || !c.Wait {
			return out, err
		}
	}
	x.view.progress(e.path, wire.StepSleeping, 0, 0, "")
	wake, err := x.waits.end(ctx, e.path, child)
	if err != nil {
		return nil, err
	}
	v, err := x.childOutput(wake)
	if err != nil {
		return nil, err
	}
	return x.recordResult(ctx, e, 0, outcome{value: v})
}

// startedChild is the child that an earlier stay started in this try, or zero. The epoch of an intent is its try.
func (x *execution) startedChild(ctx context.Context, rec *record, t *tries) (child id.Execution, err error) {
	if rec == nil {
		return child, nil
	}
	for _, i := range rec.intents {
		if i.Epoch != uint32(t.done) {
			continue
		}
		v, err := x.pastResult(ctx, i)
		if err != nil {
			return child, err
		}
		text, _ := expr.Str(v)
		if err := child.UnmarshalText([]byte(text)); err != nil {
			return child, faultf(typeMismatch, "a journal entry cannot be read").atStep(i.Path)
		}
	}
	return child, nil
}

// startCall queues the start of the child and what says that it was started: the result, or an intent when it is waited for.
func (x *execution) startCall(ctx context.Context, e *env, s *flow.Step, t *tries, body expr.Value) (id.Execution, expr.Value, error) {
	var none id.Execution
	if x.depth >= MaxCallDepth {
		return none, nil, faultf(typeLimit, "flows call each other more than %d deep", MaxCallDepth)
	}
	if x.in.definition.Flow(s.Call.Flow) == nil {
		return none, nil, faultf(typeInvalidInput, "the integration has no flow %s", s.Call.Flow)
	}
	child, err := x.child(s.Call.Flow, e.path, body, nil)
	if err != nil {
		return none, nil, err
	}
	child.Await = s.Call.Wait
	out := expr.String(child.Execution.String())
	entry := wire.Entry{Kind: wire.EntryResult, Path: e.path, Hash: e.hash}
	if s.Call.Wait {
		entry.Kind, entry.Epoch = wire.EntryIntent, uint32(t.done)
	}
	plain, err := x.pack(ctx, outcome{value: out})
	if err != nil {
		return none, nil, err
	}
	if entry, err = x.entry(entry, plain); err != nil {
		return none, nil, err
	}
	e.f.write()
	x.journal.add(group{entries: []wire.Entry{entry}, children: []wire.Child{child}})
	return child.Execution, out, nil
}

// childOutput opens how a child ended: the bytes are its own finish, sealed by its worker.
func (x *execution) childOutput(w *wire.Entry) (expr.Value, error) {
	status := wire.WakeReason(w.Epoch).Status()
	body, err := x.wakeBody(w)
	if err != nil {
		return nil, err
	}
	switch {
	case status == wire.StatusCancelled:
		return nil, faultf(typeInterrupted, "the called flow was cancelled")
	case status == 0:
		return nil, faultf(typeTimeout, "the called flow did not end in time")
	case len(body) == 0 && status == wire.StatusCompleted:
		return expr.Null(), nil
	case len(body) == 0:
		return nil, faultf(typeInterrupted, "the called flow ended without saying why")
	}
	plain, err := x.in.open(lease.Day(x.unit.Day), lease.OutputPlace(x.in.customer, id.Execution(w.Hash), status), body)
	if err != nil {
		return nil, faultf(typeInvalidInput, "the output of the called flow does not open")
	}
	if status == wire.StatusFaulted {
		inner, err := parseFault(plain)
		if err != nil {
			return nil, faultf(typeInterrupted, "the called flow faulted without saying why")
		}
		f := faultf(inner.Type, "%s", inner.Message)
		f.Status = inner.Status
		return nil, f
	}
	v, err := expr.ParseJSON(plain)
	if err != nil {
		return nil, faultf(typeInvalidInput, "the output of the called flow is not JSON")
	}
	return v, nil
}

// respond answers the request of a synchronous webhook, when it is still waiting. Everything before is committed first.
func (x *execution) respond(ctx context.Context, e *env, s *flow.Step) (expr.Value, error) {
	r := s.Respond
	status := int64(flow.DefaultStatus)
	if !r.Status.IsZero() {
		v, err := e.value(ctx, &r.Status)
		if err != nil {
			return nil, err
		}
		n, ok := expr.IsInt(v)
		if !ok || n < 200 || n > 599 {
			return nil, faultf(typeInvalidInput, "a status is a number from 200 to 599")
		}
		status = n
	}
	headers, err := e.pairs(ctx, &r.Headers)
	if err != nil {
		return nil, err
	}
	if err := checkHeaders(headers); err != nil {
		return nil, err
	}
	m := wire.ReplyBody{Status: uint32(status), Headers: headers}
	body, err := e.value(ctx, &r.Body)
	if err != nil {
		return nil, err
	}
	if err := fillReply(&m, r, body); err != nil {
		return nil, err
	}
	first := x.recordReply(e, &m)
	if err := x.journal.barrier(ctx); err != nil {
		return nil, err
	}
	if first {
		x.sendReply(&m)
	}
	x.view.reply(&m)
	return native([]string{"status"}, expr.Int(status)), nil
}

// fillReply sets the body of an answer: a text as it is where a header says that it is not JSON, else JSON.
func fillReply(m *wire.ReplyBody, r *flow.Respond, body expr.Value) error {
	if r.Body.IsZero() {
		return nil
	}
	m.ContentType = "application/json"
	rest := m.Headers[:0:0]
	for _, h := range m.Headers {
		if isContentType(h.Name) {
			m.ContentType = h.Value
		} else {
			rest = append(rest, h)
		}
	}
	m.Headers = rest
	if s, ok := expr.Str(body); ok && !isJSON(m.ContentType) {
		m.Body = []byte(s)
		return nil
	}
	var err error
	if m.Body, err = appendJSON(nil, body); err == nil && len(m.Body) > MaxOutput {
		err = faultf(typeLimit, "the answer has %d bytes, more than %d", len(m.Body), MaxOutput)
	}
	return err
}
