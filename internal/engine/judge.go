package engine

import (
	"context"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// failingAfter is how many executions in a row must fault for an instance to be failing.
const failingAfter = 5

// verdict is a change of state that follows from how executions end.
type verdict struct {
	customer id.Customer
	instance id.Instance
	from, to store.InstanceState
	recount  bool // or only: look how many faults there were before
}

// judge counts the faults in a row of an instance: after failingAfter of them it is failing,
// and enabled again after the next execution that completes. Callers hold the mutex.
func (e *Engine) judge(j *job, status store.Status) {
	switch status {
	case store.Faulted:
		n, known := e.faults[j.instance]
		e.faults[j.instance] = n + 1
		switch {
		case n+1 == failingAfter:
			e.sentence(verdict{customer: j.customer, instance: j.instance, from: store.InstanceEnabled, to: store.InstanceFailing})
		case !known: // those before may have been counted by a server that has ended since
			e.sentence(verdict{customer: j.customer, instance: j.instance, recount: true})
		}
	case store.Completed:
		if e.faults[j.instance] >= failingAfter {
			e.sentence(verdict{customer: j.customer, instance: j.instance, from: store.InstanceFailing, to: store.InstanceEnabled})
		}
		delete(e.faults, j.instance)
	default:
	}
}

// sentence queues a verdict. Callers hold the mutex.
func (e *Engine) sentence(v verdict) {
	e.verdicts = append(e.verdicts, v)
	select {
	case e.endKick <- struct{}{}:
	default:
	}
}

// execute carries verdicts out. One that fails is dropped: the next fault or end repeats it.
func (e *Engine) execute(ctx context.Context, list []verdict) {
	for _, v := range list {
		if v.recount {
			e.recountFaults(ctx, v)
			continue
		}
		now := time.Now()
		var x *store.Instance
		err := e.submit(ctx, func(tx *store.Tx) error {
			x = nil
			rows := tx.Customer(v.customer)
			changed, err := rows.JudgeInstance(v.instance, v.from, v.to, now)
			if err == nil && changed {
				x, err = rows.Instance(v.instance)
			}
			return err
		}, nil)
		switch {
		case err != nil:
			e.log.ErrorContext(ctx, "state of an instance cannot be changed", "instance", v.instance, "error", err)
		case x != nil:
			e.changed(x)
			e.log.WarnContext(ctx, "instance changed its state by how its executions end", "instance", v.instance, "customer", v.customer, "state", v.to)
		}
	}
}

// recountFaults counts the faults in a row of an instance in the database: what was in memory
// ended with the server before this one.
func (e *Engine) recountFaults(ctx context.Context, v verdict) {
	ends, err := e.db.Customer(ctx, v.customer).LastEnds(v.instance, failingAfter)
	if err != nil {
		e.log.ErrorContext(ctx, "faults of an instance cannot be counted", "instance", v.instance, "error", err)
		return
	}
	row := 0
	for row < len(ends) && ends[row] == store.Faulted {
		row++
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if was, ok := e.faults[v.instance]; !ok || row <= was { // one has completed meanwhile, or nothing was forgotten
		return
	} else if was < failingAfter && row >= failingAfter {
		e.sentence(verdict{customer: v.customer, instance: v.instance, from: store.InstanceEnabled, to: store.InstanceFailing})
	}
	e.faults[v.instance] = row
}

// failing seeds the counts of the instances that are failing when the server starts.
func (e *Engine) failing(ctx context.Context) error {
	list, err := e.db.System(ctx).InstancesIn(store.InstanceFailing)
	if err != nil {
		return err
	}
	for _, i := range list {
		e.faults[i] = failingAfter
	}
	return nil
}
