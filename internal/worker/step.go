package worker

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// steps runs a list. Its output is the last step's.
func (x *execution) steps(ctx context.Context, f *frame, list []flow.Step) (expr.Value, error) {
	out := expr.Null()
	f.ids, f.outs = make([]string, 0, len(list)), make([]expr.Value, 0, len(list))
	for i := range list {
		v, err := x.step(ctx, f, &list[i])
		if err != nil {
			return nil, err
		}
		f.finish(list[i].ID, v)
		out = v
	}
	return out, nil
}

// step runs one step with everything that any step may have: a condition, tries, a timeout. A fault that leaves it says
// which step it was.
func (x *execution) step(ctx context.Context, f *frame, s *flow.Step) (expr.Value, error) {
	if err := cause(ctx); err != nil {
		return nil, err
	}
	e := &env{f: f, path: f.prefix + s.ID}
	run, err := e.holds(ctx, &s.If)
	if err == nil && !run {
		x.view.progress(e.path, wire.StepSkipped, 0, 0, "")
		return expr.Null(), nil
	}
	var v expr.Value
	if err == nil {
		v, err = x.tries(ctx, e, s)
	}
	if flt, ok := err.(*fault); ok { //nolint:errorlint // never wrapped
		if flt.Step == "" {
			flt.Step = e.path
		}
		if flt.Attempts == 0 {
			flt.Attempts = 1
		}
	}
	return v, err
}

// try is what is stored about one that failed: the body of an attempt entry.
type try struct {
	Error    json.RawMessage `json:"error"`
	Until    int64           `json:"until"`              // when the next may begin, Unix microseconds
	Definite bool            `json:"definite,omitempty"` // the epoch advanced
	Sleeps   bool            `json:"sleeps,omitempty"`   // a timer was registered
}

// progress of the tries of one step.
type tries struct {
	done   int // tries that failed
	epoch  uint32
	sleeps int // timers registered
	base   int // of done: tries before the last retry by hand
	until  time.Time
}

// pastTries reads what earlier stays tried.
func (x *execution) pastTries(rec *record) (t tries, err error) {
	if rec == nil {
		return t, nil
	}
	for i, a := range rec.attempts {
		b, err := x.openEntry(a)
		if err != nil {
			return t, err
		}
		if a.Kind == wire.EntryFault {
			f, err := parseFault(b)
			if err != nil {
				return t, faultf(typeMismatch, "a journal entry cannot be read").atStep(a.Path)
			}
			t.add(&try{Definite: f.definite})
			t.base, t.until = t.done, time.Time{}
			if f.definite || a.Hash == [16]byte{} {
				rec.free = i + 1 // what comes now is another request, or the first
			}
			continue
		}
		var one try
		if err := json.Unmarshal(b, &one); err != nil {
			return t, faultf(typeMismatch, "a journal entry cannot be read").atStep(a.Path)
		}
		t.add(&one)
	}
	return t, nil
}

func (t *tries) add(one *try) {
	t.done++
	t.until = time.UnixMicro(one.Until)
	if one.Definite {
		t.epoch++
	}
	if one.Sleeps {
		t.sleeps++
	}
}

// tries runs a step until it succeeds or may not be tried again.
func (x *execution) tries(ctx context.Context, e *env, s *flow.Step) (expr.Value, error) {
	rec := x.journal.past(e.path)
	if err := x.voidRetried(ctx, e, rec); err != nil {
		return nil, err
	}
	if rec != nil && rec.fault != nil && rec.fault.Hash == [16]byte{} {
		return nil, x.pastFault(rec) // it came before there was an input to compare
	}
	t, err := x.pastTries(rec)
	if err != nil {
		return nil, err
	}
	uuids := e.uuids
	for {
		if t.done > 0 && (rec == nil || rec.result == nil && rec.fault == nil) {
			if err := x.pause(ctx, e, &t); err != nil {
				return nil, err
			}
		}
		e.uuids, e.took = uuids, 0
		began := x.view.started(e.path, t.done)
		v, err := x.timed(ctx, e, s, &t)
		if err == nil {
			x.view.done(e.path, began, t.done, v, rec != nil && rec.result != nil)
			return v, nil
		}
		flt, ok := caught(err)
		if !ok {
			return nil, err
		}
		if flt.replayed {
			return nil, flt
		}
		flt.Attempts = t.done + 1 - t.base
		if flt.Step == "" {
			flt.Step = e.path
		}
		delay, again, err := x.again(ctx, e, s, flt)
		if err != nil {
			return nil, err
		}
		if !again {
			x.view.failed(e.path, began, flt)
			switch {
			case effectful(s.Kind()) || flt.journaled:
				x.record(e.f, wire.Entry{
					Kind: wire.EntryFault, Path: e.path, Epoch: t.epoch, Hash: e.hash, Took: e.took, ErrorType: flt.Type,
				}, flt.appendEntry())
			case flt.Step == e.path:
				x.logFault(e.path, flt)
			}
			return nil, flt
		}
		x.view.retrying(e.path, began, flt)
		if err := x.recordTry(e, flt, &t, delay); err != nil {
			return nil, err
		}
	}
}

// voidRetried makes a fault that ended the execution a failed try, after a retry by hand. One that a step around it held
// stays: what came after it is in the journal.
func (x *execution) voidRetried(ctx context.Context, e *env, rec *record) error {
	if rec == nil || rec.result != nil || !x.journal.retried(rec.fault) {
		return nil
	}
	b, err := x.openEntry(rec.fault)
	if err != nil {
		return err
	}
	f, err := parseFault(b)
	if err != nil {
		return faultf(typeMismatch, "a journal entry cannot be read").atStep(rec.fault.Path)
	}
	if !e.f.holds(ctx, f) {
		rec.void(x.journal.retry.Epoch)
	}
	return nil
}

func (x *execution) pastFault(rec *record) error {
	b, err := x.openEntry(rec.fault)
	if err != nil {
		return err
	}
	f, err := parseFault(b)
	if err != nil {
		return faultf(typeMismatch, "a journal entry cannot be read").atStep(rec.fault.Path)
	}
	f.replayed = true
	x.view.failed(rec.fault.Path, time.Time{}, f)
	return f
}

// timed runs one try within the step's own timeout. Actions and code have theirs in the request.
func (x *execution) timed(ctx context.Context, e *env, s *flow.Step, t *tries) (expr.Value, error) {
	if s.Timeout == 0 || s.Action != nil || s.Code != nil {
		return x.do(ctx, e, s, t)
	}
	own := &expired{path: e.path, limit: s.Timeout.Std()}
	limited, stop := context.WithTimeoutCause(ctx, s.Timeout.Std(), own)
	defer stop()
	v, err := x.do(limited, e, s, t)
	if err == error(own) {
		return nil, own.fault()
	}
	return v, err
}

// do runs one try of a step by its kind.
func (x *execution) do(ctx context.Context, e *env, s *flow.Step, t *tries) (expr.Value, error) {
	switch s.Kind() {
	case flow.StepAction:
		return x.action(ctx, e, s, t)
	case flow.StepSet:
		return e.value(ctx, s.Set)
	case flow.StepCode:
		return x.code(ctx, e, s, t)
	case flow.StepWait:
		return x.wait(ctx, e, s, t)
	case flow.StepCall:
		return x.call(ctx, e, s, t)
	case flow.StepRespond:
		return x.respond(ctx, e, s)
	case flow.StepState:
		return x.state(ctx, e, s, t)
	case flow.StepReturn:
		v, err := e.value(ctx, s.Return)
		if err != nil {
			return nil, err
		}
		x.view.output(e.path, v)
		return nil, &returned{v}
	case flow.StepRaise:
		return nil, x.raise(ctx, e, s)
	}
	return x.nested(ctx, e, s, t)
}

// nested runs a step that holds other steps.
func (x *execution) nested(ctx context.Context, e *env, s *flow.Step, t *tries) (expr.Value, error) {
	in := scopeOf(e, s, t)
	switch s.Kind() {
	case flow.StepSwitch:
		return x.choose(ctx, e, s, in)
	case flow.StepFor:
		return x.loop(ctx, e, s, in)
	case flow.StepFork:
		return x.fork(ctx, e, s, in)
	case flow.StepTry:
		return x.try(ctx, e, s, in)
	}
	return nil, faultf(typeInvalidInput, "the step does nothing")
}

// place is where the steps inside a step stand.
type place struct {
	prefix string // of their paths
	round  string // of the paths of a loop's rounds
	once   bool
}

// scopeOf places nested steps: a later try of the step around them is another place.
func scopeOf(e *env, s *flow.Step, t *tries) place {
	p := place{prefix: e.f.prefix, round: e.path, once: s.Once || e.f.once}
	if t.done > 0 {
		p.round = fmt.Sprintf("%s#%d", e.path, t.done+1)
		p.prefix = p.round + "."
	}
	return p
}

func (p place) frame(e *env, names ...binding) *frame {
	f := e.f.inner(p.prefix, names...)
	f.once = p.once
	return f
}

// again decides whether and after which delay a step that faulted is tried again.
func (x *execution) again(ctx context.Context, e *env, s *flow.Step, f *fault) (time.Duration, bool, error) {
	if s.Retry == nil || f.Attempts >= s.Retry.Tries() || !f.repeatable() {
		return 0, false, nil
	}
	e.names = append(e.names, binding{"error", f.value()})
	ok, err := e.holds(ctx, &s.Retry.When)
	e.names = e.names[:len(e.names)-1]
	if err != nil || !ok {
		return 0, false, err
	}
	if f.retryAfter > 0 {
		return min(f.retryAfter, flow.MaxRetryDelay), true, nil
	}
	var random float64
	if s.Retry.Jitter {
		b := derive(&x.unit.Seed, "jitter", e.path, uint32(f.Attempts))
		random = float64(binary.BigEndian.Uint32(b[:])) / (math.MaxUint32 + 1)
	}
	return s.Retry.Pause(f.Attempts, random), true, nil
}

// retryPath, behind the path of a step, is where its long pauses between tries wait: the step itself may wait for something
// else, and the server knows a wait by its path.
const retryPath = ".retry"

// recordTry journals a failed try, with the timer of a long delay in the same commit.
func (x *execution) recordTry(e *env, f *fault, t *tries, delay time.Duration) error {
	one := &try{Error: f.appendJSON(), Until: time.Now().Add(delay).UnixMicro(), Definite: f.definite, Sleeps: delay > nap}
	body, err := json.Marshal(one)
	if err != nil {
		return fmt.Errorf("encode attempt: %w", err)
	}
	entry, err := x.entry(wire.Entry{
		Kind: wire.EntryAttempt, Path: e.path, Epoch: t.epoch, Hash: e.hash, Took: e.took, ErrorType: f.Type,
	}, body)
	if err != nil {
		return err
	}
	g := group{entries: []wire.Entry{entry}}
	t.add(one)
	if one.Sleeps {
		g.waits = []wire.Wait{{Path: e.path + retryPath, Kind: wire.WaitTimer, At: t.until}}
	}
	e.f.write()
	x.journal.add(g)
	return nil
}

// pause lets the time until the next try pass.
func (x *execution) pause(ctx context.Context, e *env, t *tries) error {
	if t.sleeps == 0 || time.Until(t.until) <= nap {
		return x.sleep(ctx, time.Until(t.until))
	}
	x.view.progress(e.path, wire.StepSleeping, uint32(t.done), 0, "")
	_, err := x.waits.block(ctx, e.path+retryPath, t.sleeps, t.until)
	return err
}

// sleep passes a short time in memory.
func (x *execution) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 || x.test.hurry {
		return cause(ctx)
	}
	if err := x.journal.kick(); err != nil {
		return err
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// raise ends with the author's own fault.
func (x *execution) raise(ctx context.Context, e *env, s *flow.Step) error {
	message, err := e.text(ctx, &s.Raise.Message)
	if err != nil {
		return err
	}
	f := faultf(s.Raise.Type, "%s", message)
	f.final = !s.Raise.Retry
	return f
}
