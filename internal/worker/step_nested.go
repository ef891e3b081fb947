package worker

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
)

// choose runs the first case that matches. Without one the output is null.
func (x *execution) choose(ctx context.Context, e *env, s *flow.Step, in place) (expr.Value, error) {
	for i := range s.Switch {
		c := &s.Switch[i]
		if !c.Else {
			ok, err := e.holds(ctx, &c.When)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
		}
		return x.steps(ctx, in.frame(e), c.Steps)
	}
	return expr.Null(), nil
}

// try runs steps and, where they fault, those of the catch.
func (x *execution) try(ctx context.Context, e *env, s *flow.Step, in place) (expr.Value, error) {
	body := in.frame(e)
	body.hold = func(ctx context.Context, f *fault) (bool, *fault) {
		catch := &env{f: e.f, path: e.path, names: append(slices.Clone(e.names), binding{"error", f.value()}), uuids: e.uuids, clock: e.clock}
		held, err := catch.holds(ctx, &s.Try.Catch.When)
		return held && err == nil, f
	}
	out, err := x.steps(ctx, body, s.Try.Steps)
	f, ok := caught(err)
	if !ok {
		return out, err
	}
	bound := binding{"error", f.value()}
	c := &s.Try.Catch
	e.names = append(e.names, bound)
	held, err := e.holds(ctx, &c.When)
	e.names = e.names[:len(e.names)-1]
	if err != nil {
		return nil, err
	}
	if !held {
		return nil, f
	}
	return x.steps(ctx, in.frame(e, bound), c.Steps)
}

// fork runs all branches at once. When one ends with anything but a fault, that is how the step ends.
func (x *execution) fork(ctx context.Context, e *env, s *flow.Step, in place) (expr.Value, error) {
	branches := s.Fork.Branches
	outs, errs := make([]expr.Value, len(branches)), make([]error, len(branches))
	x.parallel(len(branches), func(i int) {
		defer func() { x.recovered(recover(), e.path, &errs[i]) }()
		f := in.frame(e)
		f.hold = func(_ context.Context, f *fault) (bool, *fault) {
			return s.Fork.Settle, &fault{Type: typePartial, Message: f.Message, Step: e.path, Attempts: 1}
		}
		outs[i], errs[i] = x.steps(ctx, f, branches[i].Steps)
	})
	keys, vals := make([]string, len(branches)), make([]expr.Value, len(branches))
	var failed []string
	for i := range branches {
		f, isFault := caught(errs[i])
		if errs[i] != nil && !isFault {
			return nil, first(errs)
		}
		keys[i], vals[i] = branches[i].Name, outs[i]
		if isFault {
			failed = append(failed, branches[i].Name+": "+f.Error())
		}
		if s.Fork.Settle {
			vals[i] = settled(outs[i], f)
		}
	}
	if len(failed) > 0 && !s.Fork.Settle {
		return nil, faultf(typePartial, "%d of %d branches faulted: %s", len(failed), len(branches), strings.Join(failed, "; "))
	}
	return expr.NewObject(keys, vals), nil
}

// settled is how a branch of a settling fork ended.
func settled(out expr.Value, f *fault) expr.Value {
	if f != nil {
		return native([]string{"ok", "error"}, expr.Bool(false), f.value())
	}
	return native([]string{"ok", "value"}, expr.Bool(true), out)
}

// first picks the error that says most about why branches did not end by themselves: a fatal fault before everything else,
// and being suspended last.
func first(errs []error) error {
	var best error
	for _, err := range errs {
		switch _, ok := caught(err); {
		case err == nil || ok:
		case best == nil, best == errSuspended: //nolint:errorlint // sentinels of this package, never wrapped
			best = err
		default:
			if f, fatal := err.(*fault); fatal { //nolint:errorlint // never wrapped
				return f
			}
		}
	}
	return best
}

// parallel runs n branches and returns when all have ended. Each counts as active while it runs; the last one to end hands
// its count to the caller.
func (x *execution) parallel(n int, run func(i int)) {
	if n == 1 {
		run(0)
		return
	}
	if n == 0 {
		return
	}
	x.waits.enter(n - 1)
	left := n
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			run(i)
			if err := x.journal.kick(); err != nil {
				x.cancel(err)
			}
			x.waits.leave(&left)
		})
	}
	wg.Wait()
}
