package engine

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Awaits reports with ErrNotFound that nobody waits for a callback with that token, so that
// what strangers send need not be read.
func (e *Engine) Awaits(ctx context.Context, token string) error {
	if _, err := e.db.System(ctx).WaitByKey(sha256.Sum256([]byte(token))); err != nil {
		return notFound(fmt.Errorf("find wait: %w", err))
	}
	return nil
}

// Wake answers the wait for a callback with that token. The payload, JSON in clear, is
// sealed to the customer before it is stored. When Wake returns without an error the
// answer is durable. ErrNotFound means that the token is unknown, was answered before,
// or timed out: it does not say which.
func (e *Engine) Wake(ctx context.Context, token string, payload []byte) error {
	if len(payload) > MaxCallback {
		return fmt.Errorf("wake: %w", ErrTooLarge)
	}
	key := sha256.Sum256([]byte(token))
	w, err := e.db.System(ctx).WaitByKey(key)
	if err == nil && w.Kind != wire.WaitCallback {
		err = store.ErrNotFound
	}
	if err != nil {
		return notFound(fmt.Errorf("wake: %w", err))
	}
	now := time.Now()
	sealer, err := e.keys.sealer(ctx, w.Customer, lease.Day(w.Day))
	if err != nil {
		return fmt.Errorf("wake: %w", err)
	}
	entry := wire.Entry{Kind: wire.EntryWake, Path: w.Path, Epoch: uint32(wire.WakeAnswer)}
	entry.Body, err = sealer.Seal(nil, now, lease.EntryPlace(w.Customer, w.Execution, &entry), payload)
	if err != nil {
		return fmt.Errorf("wake: %w", err)
	}
	var got *woken
	err = e.submit(ctx, func(tx *store.Tx) error {
		var err error
		got, err = e.wake(tx.Customer(w.Customer), w.Execution, entry, now, func(c store.CustomerTx) (bool, error) {
			return c.CloseWaitKey(w.Execution, w.Path, key)
		})
		if err == nil && got == nil {
			err = ErrNotFound
		}
		return err
	}, func() { e.woke(got) })
	if err != nil {
		return fmt.Errorf("wake: %w", err)
	}
	return nil
}
