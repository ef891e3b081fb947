package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// AwaitConnection lets an instance that runs wait for a connection of its slots, which only a
// person can help. One that somebody has paused stays paused, and one that needs config needs
// that first: when they are enabled, their connections are looked at. One that uses another
// connection meanwhile, is being removed or is gone is no error.
//
// Errors: those of the store.
func (e *Engine) AwaitConnection(ctx context.Context, c id.Customer, i id.Instance, n id.Connection) error {
	for {
		x, err := e.db.Customer(ctx, c).Instance(i)
		switch {
		case isStale(err):
			return nil
		case err != nil:
			return fmt.Errorf("read instance: %w", err)
		case isHeld(x.State), x.State == store.InstanceRemoving,
			!slices.ContainsFunc(x.Slots, func(s store.Slot) bool { return s.Connection == n }):
			return nil
		}
		err = e.ChangeInstanceState(ctx, c, i, store.InstanceNeedsConnection, x.Revision)
		switch {
		case errors.Is(err, ErrRevision):
			continue // it was changed meanwhile
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrConflict):
			return nil // it is gone, or being removed
		}
		return err
	}
}

// awaitUsers lets all instances that use a connection wait for it. Errors: those of the store.
func (e *Engine) awaitUsers(ctx context.Context, n store.Owned) error {
	users, err := e.db.System(ctx).Users(n)
	if err != nil {
		return fmt.Errorf("list instances of connection: %w", err)
	}
	for _, x := range users {
		if err := e.AwaitConnection(ctx, x.Customer, x.Instance, n.Connection); err != nil {
			return err
		}
	}
	return nil
}
