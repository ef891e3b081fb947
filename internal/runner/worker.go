package runner

import (
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// state is where a worker is in its life: fresh → binding → bound → dead.
type state uint8

const (
	fresh state = iota // in its jail, may not have said hello yet
	binding
	bound
	dead
)

// worker is one worker process. Its fields are guarded by the runner's mutex,
// except out, hello and key, which are set before others see them.
type worker struct {
	r       *Runner
	process *jail.Process
	out     *wire.Writer
	number  uint64
	hello   chan struct{} // closed when the worker has said hello, or is gone
	key     seal.PublicKey
	answer  chan error // what the worker answered to its bind; one value

	state      state
	reason     string // why the runner killed it
	dispatch   wire.Dispatch
	jobs       []*job // waiting for the feeder
	feeding    bool
	executions map[id.Execution]uint64 // with fences
	leases     map[id.Lease]id.Node
	expires    time.Time
	days       map[lease.Day]bool
	views      map[id.View]bool
	idleSince  time.Time
}

// errFull means that the memory budget has no room for another process.
var errFull = errors.New("no room for another worker")

// take gives a fresh worker from the spares or starts one. The caller holds mu.
func (r *Runner) take() (*worker, error) {
	if n := len(r.spare); n > 0 {
		w := r.spare[n-1]
		r.spare = r.spare[:n-1]
		r.due()
		return w, nil
	}
	if len(r.workers) >= r.cfg.Workers && !r.evict() {
		return nil, errFull
	}
	return r.start()
}

// evict kills the worker that has been idle for longest. The caller holds mu.
func (r *Runner) evict() bool {
	var oldest *worker
	for w := range r.workers {
		if w.state == bound && len(w.executions) == 0 && (oldest == nil || w.idleSince.Before(oldest.idleSince)) {
			oldest = w
		}
	}
	if oldest == nil {
		return false
	}
	oldest.kill("evicted")
	return true
}

// start starts a jailed worker process. The caller holds mu.
func (r *Runner) start() (*worker, error) {
	ctx, cancel := bindContext()
	defer cancel()
	p, err := r.cfg.Jail.Start(ctx, jail.KindWorker)
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	r.lastNumber++
	w := &worker{
		r: r, process: p, out: wire.NewFailingWriter(p.Conn), number: r.lastNumber,
		hello: make(chan struct{}), answer: make(chan error, 1), idleSince: time.Now(),
		executions: map[id.Execution]uint64{}, leases: map[id.Lease]id.Node{},
	}
	r.workers[w] = struct{}{}
	r.byNumber[w.number] = w
	r.processes.Go(func() error { w.serve(); return nil })
	return w, nil
}

// refill starts spare workers and sandboxes up to the configured number.
func (r *Runner) refill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.closing && len(r.spare) < r.cfg.Spare && len(r.workers) < r.cfg.Workers {
		w, err := r.start()
		if err != nil {
			r.cfg.Log.Error("start spare worker", "err", err)
			return
		}
		r.spare = append(r.spare, w)
	}
	for !r.closing && len(r.spareBoxes) < r.cfg.Spare && r.boxes < r.cfg.Sandboxes {
		s, err := r.startSandbox()
		if err != nil {
			r.cfg.Log.Error("start spare sandbox", "err", err)
			return
		}
		r.spareBoxes = append(r.spareBoxes, s)
	}
}

// runs reports whether w can run a dispatch's version and config.
func (w *worker) runs(d *wire.Dispatch) bool {
	return w.dispatch.Definition == d.Definition && w.dispatch.ConfigVersion == d.ConfigVersion
}

// assign makes w the worker of an instance. The caller holds mu.
func (w *worker) assign(d *wire.Dispatch) {
	w.state = binding
	w.dispatch = *d
	w.dispatch.Unit = wire.Unit{}
}

// queue gives a unit to the worker, in order. The caller holds mu. With a lease
// that covers it, a unit goes out at once.
func (w *worker) queue(j *job) {
	if w.state == bound && !w.feeding && w.covers(j.signed, time.Now()) {
		w.write(&j.Unit)
		return
	}
	w.jobs = append(w.jobs, j)
	if !w.feeding {
		w.feeding = true
		w.r.processes.Go(func() error { w.feed(); return nil })
	}
}

func (w *worker) write(m wire.Typed) {
	if err := w.out.Write(m); errors.Is(err, wire.ErrSlow) {
		_ = w.process.Kill()
	}
}

// relay passes a frame on. A worker that does not read is killed, so that it
// cannot hold up the others.
func (w *worker) relay(f wire.Frame) error {
	err := w.out.WriteRaw(f)
	if errors.Is(err, wire.ErrSlow) {
		_ = w.process.Kill()
	}
	return err
}

// feed binds the worker or renews its lease, and hands it the units that wait.
func (w *worker) feed() {
	for {
		w.r.mu.Lock()
		if len(w.jobs) == 0 || w.state == dead {
			w.feeding = false
			w.r.mu.Unlock()
			return
		}
		j := w.jobs[0]
		w.jobs = w.jobs[1:]
		ready := w.state == bound && w.covers(j.signed, time.Now())
		w.r.mu.Unlock()
		if !ready {
			if err := w.prepare(j); err != nil {
				w.r.cfg.Log.Error("bind worker", "instance", j.Instance.String(), "err", err)
				w.r.mu.Lock()
				w.kill("lease")
				w.r.mu.Unlock()
				return
			}
		}
		if len(j.Unit.Executions) > 0 {
			w.write(&j.Unit)
		}
	}
}

// prepare gets a lease and gives it to the worker: with a Bind the first time.
func (w *worker) prepare(j *job) error {
	ctx, cancel := bindContext()
	defer cancel()
	select {
	case <-w.hello:
	case <-ctx.Done():
		return fmt.Errorf("wait for worker: %w", ctx.Err())
	}
	grant, err := w.r.lend(ctx, w, j)
	if err != nil {
		return err
	}
	w.r.mu.Lock()
	first := w.state == binding
	w.r.mu.Unlock()
	if !first {
		return w.out.Write(&wire.Renew{Lease: grant.Worker})
	}
	definition, err := w.r.defs.get(ctx, j.Definition)
	if err != nil {
		return err
	}
	err = w.out.Write(&wire.Bind{
		Lease: grant.Worker, Definition: definition, Config: j.Config,
		ConfigVersion: j.ConfigVersion, CallbackBase: j.CallbackBase,
	})
	if err != nil {
		return fmt.Errorf("bind worker: %w", err)
	}
	select {
	case err := <-w.answer:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return fmt.Errorf("wait for worker: %w", ctx.Err())
	}
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	if w.state == binding {
		w.state = bound
	}
	return nil
}

// kill ends the process. The caller holds mu; what it held is given back in gone.
func (w *worker) kill(why string) {
	if w.reason == "" {
		w.reason = why
	}
	if err := w.process.Kill(); err != nil {
		w.r.cfg.Log.Error("kill worker", "err", err)
	}
}

// serve reads what the worker says until it ends, then cleans up after it.
func (w *worker) serve() {
	in := wire.NewReader(w.process.Conn)
	var err error
	for err == nil {
		var f wire.Frame
		if f, err = in.Read(); err == nil {
			err = w.handle(f)
		}
	}
	w.r.mu.Lock()
	w.kill("protocol")
	w.r.mu.Unlock()
	exit := w.process.Wait()
	_ = w.process.Conn.Close()
	_ = w.out.Close()
	w.r.gone(w, exit, err)
}

// gone gives back what a dead worker held.
func (r *Runner) gone(w *worker, exit jail.Exit, cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fault := w.reason
	if exit.Reason != jail.ReasonKilled || fault == "protocol" {
		fault = exit.Reason.String()
	}
	if len(w.executions) > 0 || exit.Reason != jail.ReasonKilled {
		r.cfg.Log.Warn("worker ended", "reason", fault, "executions", len(w.executions), "cause", cause)
	}
	w.state = dead
	delete(r.workers, w)
	delete(r.byNumber, w.number)
	if r.byInstance[w.dispatch.Instance] == w {
		delete(r.byInstance, w.dispatch.Instance)
	}
	for i, s := range r.spare {
		if s == w {
			r.spare = append(r.spare[:i], r.spare[i+1:]...)
			break
		}
	}
	select {
	case <-w.hello:
	default:
		close(w.hello)
	}
	select {
	case w.answer <- fmt.Errorf("worker ended: %s", fault):
	default:
	}
	for e, fence := range w.executions {
		if h := r.held[e]; h != nil && h.worker == w {
			r.cfg.Bus.Send(wire.RoleServer, h.server, wire.TopicWork, &wire.Released{Execution: e, Fence: fence, Fault: fault})
			delete(r.held, e)
		}
		r.endSandbox(e)
	}
	for l, node := range w.leases {
		r.cfg.Bus.Send(wire.RoleEgress, node, wire.TopicCall, &wire.LeaseDrop{Lease: l})
	}
	r.due()
}
