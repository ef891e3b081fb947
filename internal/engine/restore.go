package engine

import (
	"context"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// restoreShard puts the executions of a shard into memory that have not ended. Who had a
// place in a gate gets it back before anybody else is let in.
func (e *Engine) restoreShard(ctx context.Context, shard uint8, now time.Time) error {
	var jobs []*job
	var rows []store.Unfinished
	err := e.db.System(ctx).OpenExecutions(shard, func(x *store.Unfinished) error {
		j := &job{
			customer: x.Customer, execution: x.Execution, instance: x.Instance, digest: x.Digest, day: lease.Day(x.Day),
			fence: x.Fence, size: min(x.Size, maxJob), order: x.OrderKey,
		}
		jobs, rows = append(jobs, j), append(rows, *x)
		return nil
	})
	if err != nil {
		return err
	}
	for i, j := range jobs {
		j.concurrency = e.concurrency(ctx, &rows[i])
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, j := range jobs {
		e.restoreBegun(j, &rows[i], now)
	}
	for i, j := range jobs {
		if x := &rows[i]; x.Status == store.Pending {
			if !x.Begun && !x.Called {
				j.counted = max(j.size, 1)
				e.backlog.restore(j.customer, j.counted)
			}
			e.enqueue(j, back)
		}
	}
	return nil
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
