package runner

import (
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// errProtocol ends a process that says what it may not.
var errProtocol = errors.New("worker broke the protocol")

// handle takes one frame of a worker. An error ends the worker.
func (w *worker) handle(f wire.Frame) error {
	switch f.Type {
	case wire.TypeWorkerHello:
		return w.greet(f)
	case wire.TypeBound:
		return w.boundBy(f)
	case wire.TypeCall:
		return w.call(f)
	case wire.TypeAppend, wire.TypeReply, wire.TypeView, wire.TypeProgress, wire.TypeState, wire.TypeBlobWrite, wire.TypeBlobRead:
		h, err := w.own(f)
		if err != nil || h == nil {
			return err
		}
		w.r.cfg.Bus.Relay(wire.RoleServer, h.server, wire.TopicWork, f)
		return nil
	case wire.TypeReleased:
		return w.released(f)
	case wire.TypeSandboxWant, wire.TypeSandboxOpen, wire.TypeSandboxRun, wire.TypeSandboxClose:
		h, err := w.own(f)
		if err != nil || h == nil {
			return err
		}
		return w.r.sandboxFrame(w, h, f)
	default:
		return fmt.Errorf("%w: a %v frame", errProtocol, f.Type)
	}
}

// own finds the execution that a frame is about. A frame about an execution that
// is not this worker's is dropped: it has left meanwhile, or never was. One that
// claims a fence that was not given is an error.
func (w *worker) own(f wire.Frame) (*held, error) {
	e, fence, ok := wire.Scope(f)
	if !ok {
		return nil, fmt.Errorf("%w: a malformed %v frame", errProtocol, f.Type)
	}
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	h := w.r.held[e]
	if h == nil || h.worker != w {
		return nil, nil
	}
	if fence > h.fence {
		return nil, fmt.Errorf("%w: it claims fence %d of %d", errProtocol, fence, h.fence)
	}
	return h, nil
}

func (w *worker) greet(f wire.Frame) error {
	var m wire.WorkerHello
	if err := f.Parse(&m); err != nil {
		return err
	}
	select {
	case <-w.hello:
		return fmt.Errorf("%w: a second hello", errProtocol)
	default:
	}
	w.key = m.Key
	close(w.hello)
	return nil
}

func (w *worker) boundBy(f wire.Frame) error {
	var m wire.Bound
	if err := f.Parse(&m); err != nil {
		return err
	}
	var err error
	if m.Error != "" {
		err = fmt.Errorf("worker does not bind: %s", m.Error)
	}
	select {
	case w.answer <- err:
		return nil
	default:
		return fmt.Errorf("%w: a second answer to its bind", errProtocol)
	}
}

// call passes a sealed request on to the egress node that holds the lease.
func (w *worker) call(f wire.Frame) error {
	var m wire.Call
	if err := f.Parse(&m); err != nil {
		return err
	}
	w.r.mu.Lock()
	node, ok := w.leases[m.Lease]
	w.r.mu.Unlock()
	if !ok || node != m.Egress {
		return fmt.Errorf("%w: a call under another lease", errProtocol)
	}
	m.Worker = w.number
	w.r.cfg.Bus.Send(wire.RoleEgress, node, wire.TopicCall, &m)
	return nil
}

// released forgets an execution that the worker is done with.
func (w *worker) released(f wire.Frame) error {
	var m wire.Released
	if err := f.Parse(&m); err != nil {
		return err
	}
	h, err := w.own(f)
	if err != nil || h == nil {
		return err
	}
	w.r.mu.Lock()
	if m.Fence == h.fence {
		w.r.forget(m.Execution, w)
	}
	w.r.mu.Unlock()
	w.r.cfg.Bus.Relay(wire.RoleServer, h.server, wire.TopicWork, f)
	w.r.due()
	return nil
}

// forget drops an execution and its sandbox. The caller holds mu.
func (r *Runner) forget(e id.Execution, w *worker) {
	delete(r.held, e)
	delete(w.executions, e)
	if len(w.executions) == 0 {
		w.idleSince = time.Now()
	}
	r.endSandbox(e)
}
