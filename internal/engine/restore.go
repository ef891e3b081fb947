package engine

import (
	"context"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// newFoundJob makes the job of an execution that was found.
func newFoundJob(f *foundRow) *job {
	x := f.row
	return &job{
		customer: x.Customer, execution: x.Execution, instance: x.Instance, digest: x.Digest, day: lease.Day(x.Day),
		fence: x.Fence, size: min(x.Size, maxJob), order: x.OrderKey, concurrency: f.concurrency,
	}
}

// restoreBegun puts an execution into memory that has begun. Callers hold the mutex.
func (e *Engine) restoreBegun(j *job, x *store.Unfinished, now time.Time) {
	switch {
	case x.Status == store.Waiting:
		if j.concurrency != nil {
			e.gates.join(j, j.order, j.concurrency)
			if e.gates.waits(j.gate, j.execution); j.gate.fifo {
				j.gate.places[j.execution] = struct{}{}
			}
		}
	case x.Status == store.Running:
		e.keepPlace(j)
		// Its runner may still be at it: it gets the life of a lease to say so.
		e.jobs[j.execution] = j
		j.state, j.sent, j.restored, j.until = running, true, true, now.Add(e.o.LeaseTTL)
		e.take(e.runner(x.Runner), j)
	case x.Begun && x.Retries == 0 && j.concurrency != nil && j.concurrency.Order == flow.OrderFIFO:
		e.keepPlace(j) // it was interrupted or woken, and goes on
	}
}

// keepPlace gives a job back its place in its gate. Callers hold the mutex.
func (e *Engine) keepPlace(j *job) {
	if j.concurrency == nil {
		return
	}
	e.gates.join(j, j.order, j.concurrency)
	j.gate.places[j.execution] = struct{}{}
}

// concurrency is what the flow of an execution says about it. An order key without it is
// of a definition that cannot be read any more, and bounds nothing.
func (e *Engine) concurrency(ctx context.Context, x *store.Unfinished) *flow.Concurrency {
	if x.OrderKey == [32]byte{} {
		return nil
	}
	f, err := e.catalog.flow(ctx, x.Digest, x.Flow)
	if err != nil {
		e.log.ErrorContext(ctx, "flow of an execution cannot be read", "execution", x.Execution, "error", err)
		return nil
	}
	return f.Concurrency
}
