package worker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// waitEvent waits for an event of a connector's trigger that matches. What is to match goes to the server sealed, which keeps
// a blind index of it: no process between the two learns what is waited for.
func (x *execution) waitEvent(ctx context.Context, e *env, a *flow.Await) (expr.Value, error) {
	m, err := x.listens(ctx, e, a)
	if err != nil {
		return nil, err
	}
	body := wire.AppendBody(nil, m)
	e.hash = x.in.mark(x.unit.Execution, e.path, expr.Hash(expr.NewList([]expr.Value{expr.Int(int64(a.Timeout)), expr.String(string(body))})))
	now := time.Now()
	sealed, err := x.in.sealLabel(now, lease.ListenPlace(x.in.customer, x.unit.Execution, e.path), body)
	if err != nil {
		return nil, fmt.Errorf("seal wait: %w", err)
	}
	began, done, v, err := x.begin(ctx, e, &intent{At: now.Add(a.Timeout.Std()).UnixMicro()}, wire.Wait{Kind: wire.WaitEvent, Listen: sealed})
	if err != nil || done {
		return v, err
	}
	return x.answered(ctx, e, began, "no event came in time")
}

// listens is what an event must be that the step waits for.
func (x *execution) listens(ctx context.Context, e *env, a *flow.Await) (*wire.Listen, error) {
	slot, name, err := flow.SplitUses(a.Uses)
	if err != nil {
		return nil, faultf(typeInvalidInput, "%q names no trigger", a.Uses)
	}
	_, t := x.in.definition.EventTrigger(a.Uses)
	if t == nil || t.Type == connector.TriggerPoll {
		return nil, faultf(typeInvalidInput, "%s sends no events that can be waited for", a.Uses)
	}
	m := &wire.Listen{Slot: slot, Trigger: name}
	with, err := e.value(ctx, &a.With)
	if err != nil {
		return nil, err
	}
	for i := range t.Inputs {
		in := &t.Inputs[i]
		v, given := expr.Lookup(orNull(with), in.Name)
		if !given && len(in.Default) > 0 && t.Type == connector.TriggerApp {
			if v, err = expr.ParseJSON(in.Default); err != nil {
				return nil, faultf(typeInvalidInput, "the default of the input %s cannot be read", in.Name)
			}
		}
		if expr.Kind(orNull(v)) == expr.KindNull {
			continue // what is not given excludes nothing
		}
		if err := addTerms(m, "with."+in.Name, t.Compared(in.Name), v); err != nil {
			return nil, err
		}
	}
	match, err := e.value(ctx, &a.Match)
	if err != nil {
		return nil, err
	}
	for _, field := range expr.Keys(orNull(match)) {
		places, err := t.Places(field)
		if err != nil {
			return nil, faultf(typeInvalidInput, "match.%s is no place in an event: %v", field, err)
		}
		v, _ := expr.Lookup(match, field)
		if err := addTerms(m, "match."+field, places, v); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(m.Terms, func(a, b wire.Term) int { return cmp.Compare(a.Place, b.Place) })
	for i := 1; i < len(m.Terms); i++ {
		if a, b := m.Terms[i-1], m.Terms[i]; a.Place == b.Place && a.Text != b.Text {
			return nil, faultf(typeInvalidInput, "no event can have two values at %s", a.Place)
		}
	}
	if m.Terms = slices.Compact(m.Terms); len(m.Terms) > wire.MaxTerms {
		return nil, faultf(typeLimit, "a wait compares at most %d values", wire.MaxTerms)
	}
	return m, nil
}

// addTerms adds the condition that one value stands at each of some places.
func addTerms(m *wire.Listen, what string, places []string, v expr.Value) error {
	if len(places) == 0 {
		return nil
	}
	if expr.Kind(v) == expr.KindList && expr.Len(v) == 1 {
		v, _ = expr.Index(v, 0)
	}
	var text string
	var err error
	switch kind := expr.Kind(orNull(v)); kind {
	case expr.KindString, expr.KindNumber, expr.KindBool:
		text, err = expr.Text(v)
	default:
		return faultf(typeInvalidInput, "%s is %s: an event is compared with a text, a number, true or false", what, kind)
	}
	if err != nil || len(text) > wire.MaxTermText {
		return faultf(typeLimit, "%s is longer than %d bytes", what, wire.MaxTermText)
	}
	for _, p := range places {
		m.Terms = append(m.Terms, wire.Term{Place: p, Text: text})
	}
	return nil
}
