package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Skip lets the time of a wait come at once. Only test executions can be hurried:
// in every other one, time is part of what the builder promised.
//
// Without a path, it lets the time of every timer come that an execution called by it
// waits for, which nobody watches.
//
// Errors: ErrNotFound when no wait with a time is open at the path, ErrInvalid when the
// execution is not a test.
func (e *Engine) Skip(ctx context.Context, c id.Customer, x id.Execution, path string) error {
	if path == "" {
		return e.skipCalled(ctx, c, x)
	}
	now := time.Now()
	var got *woken
	err := e.submit(ctx, func(tx *store.Tx) error {
		rows := tx.Customer(c)
		row, err := rows.Execution(x)
		if err != nil {
			return err
		}
		if !row.Test {
			return fmt.Errorf("%w: it is not a test", ErrInvalid)
		}
		kind, err := rows.SkipWait(x, path)
		if err != nil {
			return err
		}
		reason := wire.WakeTimeout
		if kind == wire.WaitTimer {
			reason = wire.WakeTimer
		}
		entry := wire.Entry{Kind: wire.EntryWake, Path: path, Epoch: uint32(reason)}
		got, err = e.wake(rows, x, entry, now, func(store.CustomerTx) (bool, error) { return true, nil })
		return err
	}, func() {
		if got != nil {
			e.woke(got)
		}
	})
	if err != nil {
		return fmt.Errorf("skip wait: %w", err)
	}
	return nil
}

// skipCalled skips the timers of what an execution has called.
func (e *Engine) skipCalled(ctx context.Context, c id.Customer, x id.Execution) error {
	waits, err := e.db.Customer(ctx, c).CalledWaits(x)
	if err != nil {
		return fmt.Errorf("find waits of called flows: %w", err)
	}
	for i := range waits {
		err := e.Skip(ctx, c, waits[i].Execution, waits[i].Path)
		if err != nil && !errors.Is(err, ErrNotFound) { // it may have ended meanwhile
			return err
		}
	}
	return nil
}
