package worker

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// intent is what is stored about a wait when it begins: it begins once, however often the execution resumes.
type intent struct {
	At    int64  `json:"at,omitempty"`    // when it fires or times out, Unix microseconds
	Token string `json:"token,omitempty"` // of a callback
}

func (i *intent) at() time.Time {
	if i.At == 0 {
		return time.Time{}
	}
	return time.UnixMicro(i.At).UTC()
}

// wait pauses until a time, or until someone answers.
func (x *execution) wait(ctx context.Context, e *env, s *flow.Step, t *tries) (expr.Value, error) {
	w := s.Wait
	switch {
	case w.Callback != nil:
		return x.waitCallback(ctx, e, s, t)
	case w.Event != nil:
		return x.waitEvent(ctx, e, w.Event)
	}
	var at time.Time
	if !w.For.IsZero() {
		d, err := e.length(ctx, &w.For)
		if err != nil {
			return nil, err
		}
		if d > flow.MaxWait {
			return nil, faultf(typeLimit, "a wait is at most %v", flow.MaxWait)
		}
		at = time.Now().Add(d)
		e.hash = x.in.mark(x.unit.Execution, e.path, expr.Hash(expr.Int(int64(d))))
	} else {
		var err error
		if at, err = e.moment(ctx, &w.Until); err != nil {
			return nil, err
		}
		e.hash = x.in.mark(x.unit.Execution, e.path, expr.Hash(expr.Int(at.UnixMicro())))
		if at = x.test.real(at); at.After(time.Now().Add(flow.MaxWait)) {
			return nil, faultf(typeLimit, "a wait is at most %v", flow.MaxWait)
		}
	}
	began, done, v, err := x.begin(ctx, e, &intent{At: at.UnixMicro()}, wire.Wait{Kind: wire.WaitTimer})
	if err != nil || done {
		return v, err
	}
	if d := time.Until(began.at()); d <= nap {
		err = x.sleep(ctx, d)
	} else {
		x.view.progress(e.path, wire.StepSleeping, 0, 0, "")
		_, err = x.waits.answer(ctx, e.path, x.wokenBefore(e.path), began.at())
	}
	if err != nil {
		return nil, err
	}
	return x.recordResult(ctx, e, 0, outcome{value: expr.Null()})
}

// begin records that a wait begins, together with its registration, or finds that it had begun or even ended before.
func (x *execution) begin(ctx context.Context, e *env, i *intent, w wire.Wait) (*intent, bool, expr.Value, error) {
	if rec := x.journal.past(e.path); rec != nil {
		if err := rec.check(e.path, e.hash); err != nil {
			return nil, false, nil, err
		}
		if rec.result != nil {
			v, err := x.pastResult(ctx, rec.result)
			return nil, true, v, err
		}
		if rec.fault != nil {
			return nil, false, nil, x.pastFault(rec)
		}
		if len(rec.intents) > 0 {
			b, err := x.openEntry(rec.intents[0])
			if err != nil {
				return nil, false, nil, err
			}
			var was intent
			if err := json.Unmarshal(b, &was); err != nil {
				return nil, false, nil, faultf(typeMismatch, "a journal entry cannot be read").atStep(e.path)
			}
			return &was, false, nil, nil
		}
	}
	if was, ok := x.begun.Load(e.path); ok { // in an earlier try of this stay
		return was.(*intent), false, nil, nil
	}
	x.begun.Store(e.path, i)
	body, err := json.Marshal(i)
	if err != nil {
		return nil, false, nil, fmt.Errorf("encode wait: %w", err)
	}
	entry, err := x.entry(wire.Entry{Kind: wire.EntryIntent, Path: e.path, Hash: e.hash}, body)
	if err != nil {
		return nil, false, nil, err
	}
	g := group{entries: []wire.Entry{entry}}
	w.Path, w.At = e.path, i.at()
	if w.Kind != wire.WaitTimer || time.Until(w.At) > nap {
		g.waits = []wire.Wait{w}
	}
	e.f.write()
	x.journal.add(g)
	return i, false, nil, nil
}

// wokenBefore is how many wakes came before the wait at a path began, as far as it was retried by hand.
func (x *execution) wokenBefore(path string) uint32 {
	if rec := x.journal.past(path); rec != nil {
		return rec.woken
	}
	return 0
}

// waitCallback waits for a POST to an address made for this wait. The address is registered before anybody hears of it.
func (x *execution) waitCallback(ctx context.Context, e *env, s *flow.Step, t *tries) (expr.Value, error) {
	c := s.Wait.Callback
	e.hash = x.in.mark(x.unit.Execution, e.path, expr.Hash(expr.Int(int64(c.Timeout))))
	fresh := &intent{At: time.Now().Add(c.Timeout.Or(flow.DefaultComputedWait)).UnixMicro(), Token: token()}
	began, done, v, err := x.begin(ctx, e, fresh, wire.Wait{Kind: wire.WaitCallback, Key: sha256.Sum256([]byte(fresh.Token))})
	if err != nil || done {
		return v, err
	}
	if len(c.Notify) > 0 {
		if err := x.journal.barrier(ctx); err != nil {
			return nil, err
		}
		url := native([]string{"url"}, expr.String(x.in.callbacks+began.Token))
		if _, err := x.steps(ctx, scopeOf(e, s, t).frame(e, binding{"callback", url}), c.Notify); err != nil {
			return nil, err
		}
	}
	return x.answered(ctx, e, began, "nobody answered in time")
}

// answered waits for the answer to a wait that has begun, which is its output. late is what is said when its time comes first.
func (x *execution) answered(ctx context.Context, e *env, began *intent, late string) (expr.Value, error) {
	x.view.progress(e.path, wire.StepSleeping, 0, 0, "")
	wake, err := x.waits.answer(ctx, e.path, x.wokenBefore(e.path), began.at())
	if err != nil {
		return nil, err
	}
	if wake == nil || wire.WakeReason(wake.Epoch) != wire.WakeAnswer {
		f := faultf(typeTimeout, "%s", late)
		f.final = true
		return nil, f
	}
	v, err := x.openWake(wake)
	if err != nil {
		return nil, err
	}
	return x.recordResult(ctx, e, 0, outcome{value: v})
}

// token is what makes the address of a callback unguessable: 256 bits.
func token() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// openWake opens the answer to a wait: {body, headers, query, time}.
func (x *execution) openWake(w *wire.Entry) (expr.Value, error) {
	body, err := x.wakeBody(w)
	if err != nil {
		return nil, err
	}
	plain, err := x.in.open(lease.Day(x.unit.Day), lease.EntryPlace(x.in.customer, x.unit.Execution, w), body)
	if err != nil {
		return nil, faultf(typeInvalidInput, "the answer to the wait does not open")
	}
	v, err := expr.ParseJSON(plain)
	if err != nil {
		return nil, faultf(typeInvalidInput, "the answer to the wait is not JSON")
	}
	return v, nil
}
