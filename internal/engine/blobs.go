package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/blob"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Codes of BlobChunk.Error.
const (
	BlobNotFound = "not-found" // no such blob, or not of the execution's customer
	BlobOrder    = "order"     // chunks must come in order, once
	BlobTooLarge = "too-large"
	BlobInvalid  = "invalid" // another day than its execution's
	BlobFailed   = "failed"  // the disk, or the database
)

func blobCode(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, blob.ErrNotFound), errors.Is(err, store.ErrNotFound), errors.Is(err, ErrNotFound):
		return BlobNotFound
	case errors.Is(err, blob.ErrOrder):
		return BlobOrder
	case errors.Is(err, ErrInvalid):
		return BlobInvalid
	case errors.Is(err, blob.ErrTooLarge):
		return BlobTooLarge
	}
	return BlobFailed
}

// runs is the customer of an execution that runs now, for a runner on that runner, and
// the day on which its payloads expire.
func (e *Engine) runs(role wire.Role, from id.Node, x id.Execution) (id.Customer, lease.Day, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	j := e.jobs[x]
	if j == nil || j.state != running || role == wire.RoleRunner && (j.runner == nil || j.runner.node != from) {
		return id.Customer{}, 0, ErrNotFound
	}
	return j.customer, j.day, nil
}

// refuseBlob answers what a full lane did not take.
func (e *Engine) refuseBlob(role wire.Role, from id.Node, answer *wire.BlobChunk) {
	answer.Error = BlobFailed
	e.log.Warn("blob work is refused: the disk is too slow for it", "execution", answer.Execution)
	e.o.Link.Send(role, from, answer)
}

// blobWrite stores a chunk. The last one is acknowledged when the blob's row is committed.
func (e *Engine) blobWrite(role wire.Role, from id.Node, m *wire.BlobWrite) {
	answer := &wire.BlobChunk{Call: m.Call, Blob: m.Blob, Execution: m.Execution, Index: m.Index, Last: m.Last}
	customer, day, err := e.runs(role, from, m.Execution)
	if err == nil && lease.Day(m.Day) != day {
		err = fmt.Errorf("%w: it expires on another day than its execution", ErrInvalid) // it would outlive its retention
	}
	var size blob.Size
	if err == nil {
		size, err = e.blobs.Append(m.Day, m.Blob, m.Index, m.Last, m.Data)
	}
	if err != nil || !m.Last {
		if answer.Error = blobCode(err); answer.Error == BlobFailed {
			e.log.Error("blob could not be written", "execution", m.Execution, "error", err)
		}
		e.o.Link.Send(role, from, answer)
		return
	}
	row := &store.Blob{ID: m.Blob, Execution: m.Execution, Day: m.Day, Size: size.Bytes, Chunks: size.Chunks}
	now := time.Now()
	e.db.Submit(func(tx *store.Tx) error { return tx.Customer(customer).PutBlob(row, now) }, func(err error) {
		if answer.Error = blobCode(err); err != nil {
			e.log.Error("blob could not be recorded", "execution", m.Execution, "error", err)
		}
		e.o.Link.Send(role, from, answer)
	})
}

// mayRead is the customer of an execution that runs now, or that the runner reads for a
// viewer, where the call says so.
func (e *Engine) mayRead(role wire.Role, from id.Node, m *wire.BlobRead) (id.Customer, error) {
	if role == wire.RoleRunner && m.Call&wire.ReadCall != 0 {
		c, ok := e.readings.reads(from, m.Execution)
		if !ok {
			return c, ErrNotFound
		}
		return c, nil
	}
	c, _, err := e.runs(role, from, m.Execution)
	return c, err
}

// blobRead reads a chunk of a blob of the execution's customer.
func (e *Engine) blobRead(ctx context.Context, role wire.Role, from id.Node, m *wire.BlobRead) {
	answer := &wire.BlobChunk{Call: m.Call, Blob: m.Blob, Execution: m.Execution, Index: m.Index}
	customer, err := e.mayRead(role, from, m)
	var row *store.Blob
	if err == nil {
		row, err = e.db.Customer(ctx, customer).Blob(m.Blob)
	}
	if err == nil {
		answer.Data, answer.Last, err = e.blobs.Read(row.Day, m.Blob, m.Index)
	}
	if answer.Error = blobCode(err); answer.Error == BlobFailed {
		e.log.ErrorContext(ctx, "blob could not be read", "execution", m.Execution, "error", err)
	}
	e.o.Link.Send(role, from, answer)
}

// A blob without a row is removed when it was last written to longer than orphanAge ago:
// the row of a blob is committed with its last chunk. The sweep looks every orphanEvery.
const (
	orphanAge   = time.Hour
	orphanEvery = time.Hour
)

// sweepLoop removes the blobs that the end of a server left behind: at the start those of
// all times, then those that became old enough since the last look.
func (e *Engine) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(orphanEvery)
	defer tick.Stop()
	from := time.Time{}
	for now := time.Now(); ; {
		before := now.Add(-orphanAge)
		if _, err := e.SweepBlobs(ctx, from, before); err != nil {
			e.log.ErrorContext(ctx, "old blobs could not be swept", "error", err)
		} else {
			from = before
		}
		select {
		case <-ctx.Done():
			return
		case now = <-tick.C:
		}
	}
}

// SweepBlobs removes the blobs that were last written to between two times and that no
// row names, and says how many those were. The interval must end long enough ago for
// every row to be committed.
func (e *Engine) SweepBlobs(ctx context.Context, from, before time.Time) (int, error) {
	system := e.db.System(ctx)
	return e.blobs.Sweep(from, before, func(day uint32, b id.Blob) (bool, error) {
		if err := ctx.Err(); err != nil {
			return true, err
		}
		return system.HasBlob(day, b)
	})
}
