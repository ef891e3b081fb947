package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Times of a removal.
const (
	// DefaultRemoveGrace is how long executions that run may go on when their instance is
	// removed, and then how long the flow with a remove trigger may.
	DefaultRemoveGrace = 2 * time.Minute
	// removeEvery is the pause between two looks at the instances that are being removed.
	removeEvery = time.Second
	// removePage is how many open executions of an instance are looked at at a time.
	removePage = 500
)

// Remove removes an instance: from now on it takes no events, what is pending or waits is
// cancelled, what runs may end within [Options.RemoveGrace], and the flow with a remove trigger
// runs, if there is one. Then its key is destroyed in the vault, which makes its config and
// its state unreadable, and only a tombstone stays. Remove returns when that has begun; it
// goes on after a restart, which gives out nothing again that was accepted before the removal: what was paused is not known
// any more then. What executions have left behind stays until their expiry days.
//
// Errors: ErrNotFound, ErrConflict when the revision is not 0 and not the present one, or
// when it is being removed already, or one of the store.
func (e *Engine) Remove(ctx context.Context, c id.Customer, i id.Instance, revision uint64) error {
	if _, err := e.setState(ctx, c, i, store.InstanceRemoving, revision); err != nil {
		return fmt.Errorf("remove instance: %w", err)
	}
	e.kickRemovals()
	return nil
}

// kickRemovals has the loop look for instances that are being removed.
func (e *Engine) kickRemovals() {
	select {
	case e.removeKick <- struct{}{}:
	default:
	}
}

// removeLoop carries removals on.
func (e *Engine) removeLoop(ctx context.Context) {
	tick := time.NewTicker(removeEvery)
	defer tick.Stop()
	for busy := true; ; {
		if busy {
			var err error
			if busy, err = e.removeAll(ctx, time.Now()); err != nil && ctx.Err() == nil {
				e.log.ErrorContext(ctx, "instance cannot be removed yet", "error", err)
				busy = true
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-e.removeKick:
			busy = true
		case <-tick.C:
		}
	}
}

// removeAll carries every removal one step on. It reports whether any is left.
func (e *Engine) removeAll(ctx context.Context, now time.Time) (bool, error) {
	list, err := e.db.System(ctx).Removals()
	if err != nil {
		return false, fmt.Errorf("list removals: %w", err)
	}
	var errs []error
	for i := range list {
		if !e.schedules(list[i].Customer) {
			continue // another server's
		}
		if err := e.removeStep(ctx, &list[i], now); err != nil {
			errs = append(errs, fmt.Errorf("remove %v: %w", list[i].Instance, err))
		}
	}
	return len(list) > 0, errors.Join(errs...)
}

// removeStep does the next part of a removal. What has been done is in the database: it may
// begin again anywhere.
func (e *Engine) removeStep(ctx context.Context, r *store.Removal, now time.Time) error {
	open, err := e.db.Customer(ctx, r.Customer).OpenOf(r.Instance, removePage)
	if err != nil {
		return err
	}
	before := 0
	for _, x := range open {
		age := now.Sub(r.Since)
		old := x.Accepted.Before(r.Since)
		if old {
			before++
		}
		if old && (x.Status != store.Running || age > e.o.RemoveGrace) || age > 2*e.o.RemoveGrace {
			if err := e.Cancel(ctx, r.Customer, x.ID); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
	}
	if before > 0 {
		return nil // what it left behind may still be needed
	}
	e.mu.Lock()
	e.queue.hold(r.Instance, false) // it may have been paused, or the server has started since
	e.mu.Unlock()
	begun, err := false, error(nil)
	if !r.Test {
		begun, err = e.cleanUp(ctx, r)
	}
	if err != nil || begun || len(open) > 0 {
		return err
	}
	return e.destroy(ctx, r, now)
}

// cleanUp starts the flows with a remove trigger, each once: the integration's own, and those that
// take subscriptions back. It reports whether it started any.
func (e *Engine) cleanUp(ctx context.Context, r *store.Removal) (bool, error) {
	x, err := e.db.Customer(ctx, r.Customer).Instance(r.Instance)
	if err != nil {
		return false, notFound(err)
	}
	e.catalog.keep(x) // another server may have begun the removal
	v, err := e.catalog.version(ctx, x.Digest)
	if err != nil {
		return false, err
	}
	names, err := e.dropped(ctx, x, v)
	if err != nil {
		return false, err
	}
	for name, f := range v.flows {
		if f.Trigger.Kind() == flow.TriggerRemove {
			names = append(names, name)
		}
	}
	begun := false
	for _, name := range names {
		done, err := e.db.Customer(ctx, r.Customer).Started(r.Instance, name, string(flow.TriggerRemove), r.Since)
		if err != nil {
			return begun, err
		}
		if done {
			continue
		}
		body, err := e.eventOf(ctx, r.Customer, flow.TriggerRemove)
		if err != nil {
			return begun, err
		}
		if _, err := e.Accept(ctx, &Event{Customer: r.Customer, Instance: r.Instance, Flow: name, Body: body, Type: string(flow.TriggerRemove)}); err != nil {
			return begun, err
		}
		begun = true
	}
	return begun, nil
}

// eventOf is the event of a trigger that the platform itself pulls, as JSON.
func (e *Engine) eventOf(ctx context.Context, c id.Customer, kind flow.TriggerKind) ([]byte, error) {
	customer, err := e.Describe(ctx, c)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(map[string]any{
		"body": nil, "type": string(kind), "source": "bulkhead", "time": time.Now().UTC().Format(time.RFC3339Nano), "customer": customer,
	})
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return b, nil
}

// destroy ends a removal: the key first, so that no row outlives it as something readable.
func (e *Engine) destroy(ctx context.Context, r *store.Removal, now time.Time) error {
	ask := &lease.InstanceCall{Customer: r.Customer, Instance: r.Instance}
	if err := e.keys.call(ctx, lease.OpInstanceDelete, ask, nil); err != nil {
		return err
	}
	err := e.submit(ctx, func(tx *store.Tx) error { return tx.Customer(r.Customer).RemoveInstance(r.Instance, now) }, func() {
		e.queue.hold(r.Instance, false)
		delete(e.queue.caps, r.Instance)
		delete(e.faults, r.Instance)
	})
	if errors.Is(err, ErrNotFound) {
		return nil // something came in meanwhile: it is cancelled first
	}
	if err == nil {
		e.catalog.forget(r.Instance)
	}
	return err
}
