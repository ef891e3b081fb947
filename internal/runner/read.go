package runner

import (
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// maxReadings is how many reads are here at once; more are answered as unavailable.
	maxReadings = 256
	// readLife is how long a worker may take for a page.
	readLife = 30 * time.Second
	// maxPermits is how many reads a worker is known to be permitted.
	maxPermits = 1024
)

// reading is a read of a server and where it is: what it may open, the worker can only be
// told by the vault.
type reading struct {
	view      id.View
	execution id.Execution
	server    id.Node
	worker    *worker
	began     time.Time
	queued    bool // the worker has not been asked
}

// permitted is a read that a worker's lease allows.
type permitted struct {
	lease.Read
	expires time.Time
}

// coded is an error that another role answered, with its stable code.
type coded interface {
	error
	ErrorCode() string
}

// read takes a read: it goes to the worker of the instance, which is bound first, or given
// the permission when it does not have it.
func (r *Runner) read(from id.Node, f wire.Frame) error {
	m := &wire.Read{}
	if err := f.Parse(m); err != nil {
		return err
	}
	signed, err := lease.PeekDispatch(m.Signed)
	if err != nil {
		return err
	}
	if p := signed.Read; p == nil || p.View != m.View || p.Execution != m.Execution || p.Kind != m.Kind || signed.Instance != m.Instance ||
		signed.Customer != m.Customer || signed.Definition != m.Definition || signed.ConfigVersion != m.ConfigVersion ||
		signed.Runner != r.cfg.Node || signed.Server != from {
		return errDispatch
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.servers[from] = time.Now()
	if r.readings[m.View] != nil {
		return nil // it is under way
	}
	d := &wire.Dispatch{
		Customer: m.Customer, Instance: m.Instance, Definition: m.Definition, Config: m.Config, ConfigVersion: m.ConfigVersion, Signed: m.Signed,
	}
	x := &reading{view: m.View, execution: m.Execution, server: from, began: time.Now(), queued: true}
	if !r.closing && len(r.readings) < maxReadings {
		x.worker, err = r.workerFor(d)
	}
	if x.worker == nil {
		r.cfg.Log.Warn("read not taken", "instance", m.Instance.String(), "err", err)
		r.refuse(x, wire.ReadUnavailable)
		return nil
	}
	x.worker.readings++
	r.readings[m.View] = x
	x.worker.queue(&job{Dispatch: d, signed: signed, read: x, frame: f})
	return nil
}

// refuse answers a read with an error. The caller holds mu.
func (r *Runner) refuse(x *reading, code string) {
	r.cfg.Bus.Send(wire.RoleServer, x.server, wire.TopicWork, &wire.ReadPage{View: x.view, Error: code})
}

// endReading forgets a read. The caller holds mu.
func (r *Runner) endReading(x *reading) {
	if r.readings[x.view] != x {
		return
	}
	delete(r.readings, x.view)
	x.worker.readings--
	x.worker.lessToDo()
}

// failReading ends a read with an error. The caller holds mu.
func (r *Runner) failReading(x *reading, code string) {
	if r.readings[x.view] == x {
		r.endReading(x)
		r.refuse(x, code)
	}
}

// failReadings ends the reads of a worker that is gone. The caller holds mu.
func (r *Runner) failReadings(w *worker) {
	for _, x := range r.readings {
		if x.worker == w {
			r.failReading(x, wire.ReadUnavailable)
		}
	}
}

// reapReadings ends what takes too long. The caller holds mu.
func (r *Runner) reapReadings(now time.Time) {
	for _, x := range r.readings {
		if now.Sub(x.began) > readLife {
			r.failReading(x, wire.ReadUnavailable)
		}
	}
}

// unread follows a read whose lease was not got. Whatever else waits for the worker goes
// on. The caller holds mu.
func (w *worker) unread(j *job, err error) {
	w.jobs = w.jobs[1:]
	code := wire.ReadUnavailable
	if c, ok := errors.AsType[coded](err); ok && c.ErrorCode() == "refused" {
		code = wire.ReadRefused
	}
	w.r.failReading(j.read, code)
	if w.state == binding && len(w.jobs) == 0 {
		w.kill("lease")
	}
}

// allows reports whether a lease of w permits a read. The caller holds mu.
func (w *worker) allows(p *lease.Read, now time.Time) bool {
	have, ok := w.permits[p.View]
	return ok && have.Read == *p && now.Before(have.expires.Add(-leaseSlack))
}

// permit remembers a read that a new lease allows. The caller holds mu.
func (w *worker) permit(p *lease.Read, expires time.Time) {
	if len(w.permits) >= maxPermits {
		clear(w.permits)
	}
	w.permits[p.View] = permitted{*p, expires}
}

// page passes the page of a worker on to the server that asked for it.
func (w *worker) page(f wire.Frame) error {
	var m wire.ReadPage
	if err := f.Parse(&m); err != nil {
		return err
	}
	x := w.r.readings[m.View]
	if !reads(w, x) {
		return w.stray()
	}
	w.r.endReading(x)
	w.r.cfg.Bus.Relay(wire.RoleServer, x.server, wire.TopicWork, f)
	return nil
}

// readBlob passes a worker's wish for a part of stored data on to the server whose read it
// is for.
func (w *worker) readBlob(f wire.Frame) error {
	e, _, ok := wire.Scope(f)
	if !ok {
		return fmt.Errorf("%w: a malformed %v frame", errProtocol, f.Type)
	}
	for _, x := range w.r.readings {
		if x.execution == e && reads(w, x) {
			w.r.cfg.Bus.Relay(wire.RoleServer, x.server, wire.TopicWork, f)
			return nil
		}
	}
	return w.stray()
}

// readChunk passes stored data on to the workers that read its execution for this server.
// The caller holds mu.
func (r *Runner) readChunk(from id.Node, e id.Execution, f wire.Frame) {
	told := map[*worker]bool{}
	for _, x := range r.readings {
		if x.execution == e && x.server == from && !x.queued && !told[x.worker] {
			told[x.worker] = true
			x.worker.relay(f)
		}
	}
}
