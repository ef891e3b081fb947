package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Deliver answers one wait of a test execution for an event as if the connected service had sent that. The event must be one
// of the trigger that the step at the path waits for, and match what it waits for; nothing proves its sender. So only test
// executions take one, and no other execution of the instance is resumed by it. The payload, JSON in clear, is what the step
// gives; it is sealed to the customer.
//
// Errors: ErrNotFound when nothing is open at the path that the event matches, ErrInvalid when the execution is not a test, the
// step waits for no event or its trigger takes no such event, ErrTooLarge, or one of the vault or the store.
func (e *Engine) Deliver(ctx context.Context, c id.Customer, x id.Execution, path string, d *connector.Delivery, payload []byte) error {
	row, err := e.Execution(ctx, c, x)
	if err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	if !row.Test {
		return fmt.Errorf("deliver: %w: it is not a test", ErrInvalid)
	}
	if len(payload) > MaxCallback {
		return fmt.Errorf("deliver: %w", ErrTooLarge)
	}
	v, err := e.catalog.version(ctx, row.Digest)
	if err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	uses := awaitedAt(v.integration.Flow(row.Flow), path)
	slot, name, _ := strings.Cut(uses, ".")
	_, t := v.integration.EventTrigger(uses)
	if t == nil {
		return fmt.Errorf("deliver: %w: no step of the flow waits there for an event", ErrInvalid)
	}
	if !t.Takes(d, expr.Null()) {
		return fmt.Errorf("deliver: %w: it is no event of the trigger %s", ErrInvalid, uses)
	}
	a := &Arrived{Customer: c, Instance: row.Instance, Slot: slot, Trigger: name, Text: d.Text}
	waits, err := e.listening(ctx, a, slot)
	if err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	waits = slices.DeleteFunc(waits, func(w store.Wait) bool { return w.Execution != x || w.Path != path })
	answered := 0
	if len(waits) > 0 {
		if answered, err = e.resume(ctx, a, waits, payload); err != nil {
			return fmt.Errorf("deliver: %w", err)
		}
	}
	if answered == 0 {
		return fmt.Errorf("deliver: %w", ErrNotFound)
	}
	return nil
}

// awaitedAt is the trigger, as slot.name, of whose events the step at a path waits for one; empty where none does.
func awaitedAt(f *flow.Flow, path string) string {
	if f == nil {
		return ""
	}
	step := flow.StepOf(path)
	for _, s := range flow.Walk("", f.Steps) {
		if s.ID == step && s.Wait != nil && s.Wait.Event != nil {
			return s.Wait.Event.Uses
		}
	}
	return ""
}
