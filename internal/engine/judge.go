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
}

// judge counts the faults in a row of an instance: after failingAfter of them it is failing,
// and enabled again after the next execution that completes. Callers hold the mutex.
func (e *Engine) judge(j *job, status store.Status) {
	switch status {
	case store.Faulted:
		if e.faults[j.instance]++; e.faults[j.instance] == failingAfter {
			e.sentence(verdict{j.customer, j.instance, store.InstanceEnabled, store.InstanceFailing})
		}
	case store.Completed:
		if e.faults[j.instance] >= failingAfter {
			e.sentence(verdict{j.customer, j.instance, store.InstanceFailing, store.InstanceEnabled})
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
