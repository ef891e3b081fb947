package runner

import (
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// handle takes one frame of a worker. An error ends the worker.
func (w *worker) handle(f wire.Frame) error {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	switch f.Type {
	case wire.TypeWorkerHello:
		return w.greet(f)
	case wire.TypeBound:
		return w.boundBy(f)
	case wire.TypeCall:
		return w.call(f)
	case wire.TypeReadPage:
		return w.page(f)
	case wire.TypeAppend, wire.TypeReply, wire.TypeView, wire.TypeProgress, wire.TypeState, wire.TypeJournalGet, wire.TypeBlobWrite, wire.TypeBlobRead,
		wire.TypeReleased, wire.TypeSandboxWant, wire.TypeSandboxOpen, wire.TypeSandboxRun, wire.TypeSandboxClose:
		if wire.ForRead(f) {
			return w.readBlob(f)
		}
		h, err := w.own(f)
		if err != nil || h == nil {
			return err
		}
		return w.about(h, f)
	default:
		return fmt.Errorf("%w: a %v frame", errProtocol, f.Type)
	}
}

// about takes a frame about an execution that is the worker's.
func (w *worker) about(h *held, f wire.Frame) error {
	switch f.Type {
	case wire.TypeReleased:
		var m wire.Released
		if err := f.Parse(&m); err != nil {
			return err
		}
		w.r.forget(h)
		w.r.cfg.Bus.Relay(wire.RoleServer, h.server, wire.TopicWork, f)
		return nil
	case wire.TypeSandboxWant, wire.TypeSandboxOpen, wire.TypeSandboxRun, wire.TypeSandboxClose:
		return w.r.sandboxFrame(h, f)
	case wire.TypeReply:
		return w.reply(h, f)
	}
	w.r.cfg.Bus.Relay(wire.RoleServer, h.server, wire.TopicWork, f)
	return nil
}

// reply takes an answer to the server where its sender waits, which may be another than the
// one that gave the execution out. It is sealed to that sender: whichever server a worker names,
// no other can read it, and one where nobody waits for it drops it.
func (w *worker) reply(h *held, f wire.Frame) error {
	var m wire.Reply
	if err := f.Parse(&m); err != nil {
		return err
	}
	server := h.server
	if !m.Server.IsZero() {
		server = m.Server
	}
	w.r.cfg.Bus.Relay(wire.RoleServer, server, wire.TopicWork, f)
	return nil
}

// own finds the execution that a frame is about. A frame about an execution that
// is not this worker's, or about an earlier stay of it, is dropped: it has left
// meanwhile. One that claims a fence that was not given is an error, and so are more
// stray frames than executions can leave behind.
func (w *worker) own(f wire.Frame) (*held, error) {
	e, fence, ok := wire.Scope(f)
	if !ok {
		return nil, fmt.Errorf("%w: a malformed %v frame", errProtocol, f.Type)
	}
	h := w.r.held[e]
	if !owns(w, h) || h.queued || fence != 0 && fence < h.fence {
		return nil, w.stray() // dropped
	}
	if fence > h.fence {
		return nil, fmt.Errorf("%w: it claims fence %d of %d", errProtocol, fence, h.fence)
	}
	if fence == 0 && fenced(f.Type) {
		return nil, fmt.Errorf("%w: a %v frame without a fence", errProtocol, f.Type)
	}
	return h, nil
}

// stray counts a frame about what a worker does not hold; too many are an error.
func (w *worker) stray() error {
	if w.strays.spend(1, time.Now()) > 0 {
		return fmt.Errorf("%w: too many frames about what it does not hold", errProtocol)
	}
	return nil
}

// fenced reports whether frames of a type carry a fence.
func fenced(t wire.Type) bool {
	switch t {
	case wire.TypeView, wire.TypeProgress, wire.TypeBlobWrite, wire.TypeBlobRead:
		return false
	}
	return true
}

func (w *worker) greet(f wire.Frame) error {
	var m wire.WorkerHello
	if err := f.Parse(&m); err != nil {
		return err
	}
	if w.greeted {
		return fmt.Errorf("%w: a second hello", errProtocol)
	}
	w.greeted, w.sealKey = true, m.Key
	close(w.hello)
	return nil
}

func (w *worker) boundBy(f wire.Frame) error {
	var m wire.Bound
	if err := f.Parse(&m); err != nil {
		return err
	}
	if !w.asked {
		return fmt.Errorf("%w: an answer to a bind that was not sent", errProtocol)
	}
	w.asked = false
	var err error
	if m.Error != "" {
		err = fmt.Errorf("%w: %s", errBind, m.Error)
	}
	w.answer <- err
	return nil
}

// callSlack is the header of a frame and the number of a worker: a call that grew
// over the largest frame would spoil the batch that it travels in.
const callSlack = 32

// call passes a sealed request on to the egress node that holds the lease.
func (w *worker) call(f wire.Frame) error {
	var m wire.Call
	if err := f.Parse(&m); err != nil {
		return err
	}
	if len(f.Body) > wire.MaxFrame-callSlack {
		return fmt.Errorf("%w: a call that leaves no room for its sender", errProtocol)
	}
	if !lends(w, &m) {
		return fmt.Errorf("%w: a call under another lease", errProtocol)
	}
	if w.leases[m.Lease].gone {
		w.write(&wire.Answer{Lease: m.Lease, Call: m.Call, Error: wire.ErrorLease})
		return nil
	}
	m.Worker = w.number
	w.r.cfg.Bus.Send(wire.RoleEgress, m.Egress, wire.TopicCall, &m)
	return nil
}
