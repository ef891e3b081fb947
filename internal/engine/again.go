package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// ErrConflict: what was asked for does not fit the state in which something is.
var ErrConflict = errors.New("conflict")

// ErrRevision: something has been changed since the revision that a change is bound to. It
// is [ErrConflict].
var ErrRevision = fmt.Errorf("%w: it has another revision", ErrConflict)

// expiryMargin is how long before its payload key is destroyed an execution must have ended.
const expiryMargin = 10 * time.Minute

// lifeWithin is how long an execution of a flow may live that begins now and whose payloads
// expire on a day that is fixed already.
func lifeWithin(f *flow.Flow, day uint32, now time.Time) (time.Time, error) {
	end := time.Unix((int64(day)+1)*86400, 0).Add(-expiryMargin)
	if !now.Before(end) {
		return time.Time{}, ErrExpired
	}
	if expires := now.Add(f.Life()); expires.Before(end) {
		return expires, nil
	}
	return end, nil
}

// takesWork finds an instance that is not waiting to be filled in and not being removed.
func (e *Engine) takesWork(ctx context.Context, c id.Customer, i id.Instance) (*store.Instance, error) {
	x, err := e.catalog.instance(ctx, c, i)
	if err != nil {
		return nil, err
	}
	switch x.State {
	case store.InstanceEnabled, store.InstancePaused, store.InstanceFailing:
		return x, nil
	default:
		return nil, ErrNotEnabled
	}
}

// Retry continues an execution that faulted: what is finished stays, what ended it runs
// again, with a new idempotency key after a definite answer and with the same when nobody
// knows what became of the last try. It ends on the version that it began on. Who had
// called it has gone on without it.
//
// Errors: ErrNotFound, ErrConflict when it is not faulted, ErrExpired when its payloads
// are, ErrNotEnabled, ErrBusy, or one of the store.
func (e *Engine) Retry(ctx context.Context, c id.Customer, x id.Execution) error {
	row, err := e.Execution(ctx, c, x)
	if err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	if row.Status != store.Faulted {
		return fmt.Errorf("retry: %w: the execution is %s, not faulted", ErrConflict, row.Status)
	}
	if _, err := e.takesWork(ctx, c, row.Instance); err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	f, err := e.catalog.flow(ctx, row.Digest, row.Flow)
	if err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	now := time.Now()
	expires, err := lifeWithin(f, row.Day, now)
	if err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	j := &job{
		customer: c, execution: x, instance: row.Instance, digest: row.Digest, day: lease.Day(row.Day), size: row.Size, order: row.OrderKey,
		again: true,
	}
	if row.OrderKey != [32]byte{} {
		j.concurrency = f.Concurrency
	}
	if err := e.recount(ctx, j); err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	var got *store.Retried
	noted := false
	err = e.submit(ctx, func(tx *store.Tx) error {
		rows := tx.Customer(c)
		var err error
		if got, err = rows.Retry(x, row.ErrorStep, row.Day, expires, now); isStale(err) {
			return fmt.Errorf("%w: the execution is not faulted any more", ErrConflict)
		} else if err != nil {
			return err
		}
		if err := e.hearChildren(rows, x, now); err != nil {
			return err
		}
		noted, err = e.note(rows, x)
		return err
	}, nil, func(stored bool) {
		if !stored {
			e.begun(j)
			return
		}
		j.fence, j.size, j.noted = got.Fence, got.Size, noted
		e.counters.retried.Add(1)
		e.enqueue(j, back)
		e.addTimer(timer{at: expires, kind: expiry, customer: c, execution: x})
	})
	if err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	return nil
}

// recount counts an execution that is to run again among the pending: many at once are
// bounded like new events.
func (e *Engine) recount(ctx context.Context, j *job) error {
	if err := e.countElsewhere(ctx, j.customer); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.admit(j)
}

// hearChildren wakes a retried execution for the children that ended while it had ended.
func (e *Engine) hearChildren(rows store.CustomerTx, x id.Execution, now time.Time) error {
	children, err := rows.UnheardChildren(x)
	if err != nil {
		return err
	}
	for i := range children {
		child := &children[i]
		if _, err := rows.CloseWaitChild(x, child.ParentPath, child.ID); err != nil {
			return err
		}
		entry := wire.Entry{
			Kind: wire.EntryWake, Path: child.ParentPath, Epoch: uint32(wire.WakeOf(child.Status.Wire())), Hash: child.ID, Body: child.Output,
		}
		if _, err := rows.PutWake(x, &entry, now); err != nil {
			return err
		}
	}
	return nil
}

// ReplayOptions say how an execution is replayed.
type ReplayOptions struct {
	// Newest runs the version that the instance has now; otherwise the one that the
	// execution began on.
	Newest bool
}

// Replay starts a new execution with the event of another, whatever became of that. The
// event is stored once, sealed until its day: a replay does not lengthen its life, and its
// own payloads expire with it.
//
// Errors: ErrNotFound (also when the flow is not in the version), ErrExpired, ErrNotEnabled,
// ErrBusy, or one of the store.
func (e *Engine) Replay(ctx context.Context, c id.Customer, x id.Execution, o ReplayOptions) (id.Execution, error) {
	now := time.Now()
	j, err := e.replayJob(ctx, c, x, o, now)
	if err != nil {
		return id.Execution{}, fmt.Errorf("replay: %w", err)
	}
	if err := e.reserve(ctx, j); err != nil {
		return id.Execution{}, fmt.Errorf("replay: %w", err)
	}
	row := j.row
	j.row = nil // the event is read when it is given out
	noted := false
	err = e.submit(ctx, func(tx *store.Tx) error {
		rows := tx.Customer(c)
		if err := rows.InsertExecution(row); err != nil {
			return err
		}
		var err error
		noted, err = e.note(rows, row.ID)
		return err
	}, nil, func(stored bool) {
		j.noted = noted
		if !stored {
			e.unplace(j)
			return
		}
		e.enqueue(j, back)
		e.addTimer(timer{at: row.Expires, kind: expiry, customer: c, execution: row.ID})
	})
	if err != nil {
		return id.Execution{}, fmt.Errorf("replay: %w", err)
	}
	return row.ID, nil
}

// replayJob makes the execution that replays another.
func (e *Engine) replayJob(ctx context.Context, c id.Customer, x id.Execution, o ReplayOptions, now time.Time) (*job, error) {
	was, err := e.Execution(ctx, c, x)
	if err != nil {
		return nil, err
	}
	i, err := e.takesWork(ctx, c, was.Instance)
	if err != nil {
		return nil, err
	}
	digest := was.Digest
	if o.Newest {
		digest = i.Digest
	}
	f, err := e.catalog.flow(ctx, digest, was.Flow)
	if err != nil {
		return nil, err
	}
	row := &store.Execution{
		Customer: c, ID: id.NewExecution(now), Instance: i.ID, Digest: digest, Flow: f.Name, Trigger: was.Trigger, Event: was.Event,
		EventSource: was.EventSource, EventType: was.EventType, Status: store.Pending, Test: was.Test, Accepted: now, Day: was.Day,
		Retention: was.Retention, Cause: store.CauseReplay, CauseID: was.ID, EgressPool: i.EgressPool, RunnerPool: i.RunnerPool,
	}
	row.Root = row.ID
	newSeed(row)
	if row.Expires, err = lifeWithin(f, was.Day, now); err != nil {
		return nil, err
	}
	rows := e.db.Customer(ctx, c)
	if row.Size, err = rows.EventSize(x); err != nil {
		return nil, fmt.Errorf("read size of event: %w", err)
	}
	if f.Concurrency != nil {
		// The value of its key is in the event, which is sealed: the index of it is not.
		if row.OrderKey = was.OrderKey; row.OrderKey == [32]byte{} {
			row.OrderKey = flowKey(row)
		}
	}
	return &job{
		customer: c, execution: row.ID, instance: i.ID, digest: digest, day: lease.Day(row.Day), row: row, size: row.Size,
		order: row.OrderKey, concurrency: f.Concurrency,
	}, nil
}
