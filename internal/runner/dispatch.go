package runner

import (
	"errors"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// errDispatch means that a dispatch and the permission in it are about different things.
var errDispatch = errors.New("a dispatch is not what its signed permission says")

// dispatch takes a unit: it goes to the worker of the instance, which is bound
// first or given a newer lease when the one it has does not cover the unit. A unit
// without executions is only the permission for a newer lease.
func (r *Runner) dispatch(from id.Node, f wire.Frame) error {
	d := &wire.Dispatch{}
	if err := f.Parse(d); err != nil {
		return err
	}
	signed, err := lease.PeekDispatch(d.Signed)
	if err != nil {
		return err
	}
	if signed.Instance != d.Instance || signed.Customer != d.Customer || signed.Definition != d.Definition ||
		signed.ConfigVersion != d.ConfigVersion || signed.Runner != r.cfg.Node || signed.Server != from || signed.Read != nil {
		return errDispatch
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.servers[from] = time.Now()
	j := &job{Dispatch: d, signed: signed}
	if len(d.Unit.Executions) == 0 {
		j.renews = true
		r.renew(j)
		return nil
	}
	d.Unit.Executions = slices.DeleteFunc(d.Unit.Executions, r.knows)
	if len(d.Unit.Executions) == 0 {
		return nil
	}
	if r.closing || r.draining {
		r.giveBack(from, d, "shutdown")
		return nil
	}
	for i := range d.Unit.Executions {
		if old := r.held[d.Unit.Executions[i].Execution]; old != nil {
			r.displace(old)
		}
	}
	w, err := r.workerFor(d)
	if err != nil {
		r.cfg.Log.Warn("unit given back", "executions", len(d.Unit.Executions), "err", err)
		r.giveBack(from, d, "unavailable")
		return nil
	}
	for i := range d.Unit.Executions {
		e := &d.Unit.Executions[i]
		r.held[e.Execution] = &held{execution: e.Execution, fence: e.Fence, server: from, worker: w, queued: true}
		w.executions[e.Execution] = struct{}{}
		w.heavy = w.heavy || len(e.Event) >= heavyFrom
	}
	w.queue(j)
	return nil
}

// knows reports whether an execution is held already under this fence or a newer
// one: then this is an old word about it. The caller holds mu.
func (r *Runner) knows(e wire.UnitExecution) bool {
	h := r.held[e.Execution]
	return h != nil && h.fence >= e.Fence
}

// workerFor finds or makes the worker of a unit. The caller holds mu.
func (r *Runner) workerFor(d *wire.Dispatch) (*worker, error) {
	if len(r.held)+len(d.Unit.Executions) > overload*r.cfg.Capacity {
		return nil, errMany
	}
	key := boundKey{d.Instance, d.Definition}
	if w := r.bound[key]; w != nil && w.configVersion == d.ConfigVersion {
		return w, nil
	}
	w := r.take() // one with another version of the config finishes what it has
	w.state, w.instance, w.definition, w.configVersion = binding, d.Instance, d.Definition, d.ConfigVersion
	r.bound[key] = w
	return w, nil
}

// renew gets newer leases for the workers of an instance that need them. The caller holds mu.
func (r *Runner) renew(j *job) {
	for w := range r.workers {
		if w.state == bound && w.key() == (boundKey{j.Instance, j.Definition}) && len(w.executions) > 0 && !w.covers(j.signed, time.Now()) {
			w.queue(j)
		}
	}
}

// displace takes an execution from where it was, because it has been given out
// again under a higher fence: nothing of the old stay may go on. The caller holds mu.
func (r *Runner) displace(h *held) {
	if h.queued {
		h.worker.unqueue(h)
	} else {
		h.worker.write(&wire.Cancel{Execution: h.execution, Fence: h.fence})
	}
	r.forget(h)
}

// giveBack tells the server that a unit could not be taken. The caller holds mu.
func (r *Runner) giveBack(server id.Node, d *wire.Dispatch, why string) {
	for _, e := range d.Unit.Executions {
		r.cfg.Bus.Send(wire.RoleServer, server, wire.TopicWork, &wire.Released{Execution: e.Execution, Fence: e.Fence, Fault: why})
	}
	r.due() // what is free was not what the server believed
}

// release forgets an execution and tells its server. The caller holds mu.
func (r *Runner) release(h *held, fault string) {
	r.forget(h)
	r.cfg.Bus.Send(wire.RoleServer, h.server, wire.TopicWork, &wire.Released{Execution: h.execution, Fence: h.fence, Fault: fault})
}

// forget drops an execution and its sandbox. The caller holds mu.
func (r *Runner) forget(h *held) {
	delete(r.held, h.execution)
	delete(h.worker.executions, h.execution)
	r.endSandbox(h)
	h.worker.lessToDo()
	if r.draining {
		close(r.heldLess)
		r.heldLess = make(chan struct{})
	}
}

// job is a unit on its way to a worker, or a frame that comes behind it.
type job struct {
	*wire.Dispatch
	signed *lease.Dispatch

	renews bool     // it is a permission only
	read   *reading // its frame asks for a page

	of    *held // what the frame is about; nil for a unit
	frame wire.Frame
}
