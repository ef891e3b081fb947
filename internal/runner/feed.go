package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// errBind means that a worker refuses what it is to be bound to.
var errBind = errors.New("worker does not bind")

// queue gives a unit to the worker, in order. With a lease that covers it, it goes
// out at once. The caller holds mu.
func (w *worker) queue(j *job) {
	w.r.begin(w)
	if !w.admitted {
		w.jobs = append(w.jobs, j)
		return
	}
	if !w.feeding && w.state == bound && w.covers(j.signed, time.Now()) {
		w.deliver(j)
		return
	}
	w.jobs = append(w.jobs, j)
	w.startFeeding()
}

// startFeeding has the worker prepared for what waits for it. The caller holds mu.
func (w *worker) startFeeding() {
	if !w.feeding && len(w.jobs) > 0 {
		w.feeding = true
		w.r.processes.Go(func() error { w.feed(); return nil })
	}
}

// unqueue takes an execution out of the units and frames that wait. The caller holds mu.
func (w *worker) unqueue(h *held) {
	w.jobs = slices.DeleteFunc(w.jobs, func(j *job) bool { return j.of == h })
	for _, j := range w.jobs {
		if j.of == nil {
			j.Unit.Executions = slices.DeleteFunc(j.Unit.Executions, func(e wire.UnitExecution) bool {
				return e.Execution == h.execution && e.Fence == h.fence
			})
		}
	}
}

// deliver writes a job to the worker. The caller holds mu.
func (w *worker) deliver(j *job) {
	if j.read != nil {
		j.read.queued = false
	}
	if j.of != nil || j.read != nil {
		w.relay(j.frame)
		return
	}
	for _, e := range j.Unit.Executions {
		if h := w.r.held[e.Execution]; h != nil && h.worker == w && h.fence == e.Fence {
			h.queued = false
		}
	}
	if len(j.Unit.Executions) > 0 {
		w.write(&j.Unit)
	}
}

// feed binds the worker or renews its lease, and hands it the units that wait.
func (w *worker) feed() {
	for {
		w.r.mu.Lock()
		j := w.deliverReady(time.Now())
		w.r.mu.Unlock()
		if j == nil {
			return
		}
		err := w.prepare(j)
		w.r.mu.Lock()
		w.prepared(j, err)
		w.r.mu.Unlock()
	}
}

// deliverReady delivers what can be and returns the job that needs a lease first, which
// stays at the head, or nil at the end of the queue, or when the rest waits for room. The
// caller holds mu.
func (w *worker) deliverReady(now time.Time) *job {
	for ; len(w.jobs) > 0 && w.state != dead && w.admitted; w.jobs = w.jobs[1:] {
		j := w.jobs[0]
		switch {
		case j.of == nil && j.read == nil && len(j.Unit.Executions) == 0 && !j.renews: // all were cancelled
		case j.of != nil, w.state == bound && w.covers(j.signed, now):
			w.deliver(j)
		default:
			return j
		}
	}
	w.feeding = false
	return nil
}

// prepared follows a prepare. Without a lease a worker that is not bound has no use;
// one that is goes on, and only what its lease does not cover is given back. The
// caller holds mu.
func (w *worker) prepared(j *job, err error) {
	if w.state == dead {
		return
	}
	if err == nil {
		w.jobs = w.jobs[1:]
		w.deliver(j)
		return
	}
	w.r.cfg.Log.Error("prepare worker", "instance", j.Instance.String(), "err", err)
	switch {
	case j.read != nil && !errors.Is(err, errBind):
		w.unread(j, err)
	case errors.Is(err, errBind):
		w.kill("bind")
	case w.state == binding:
		w.kill("lease")
	default:
		now := time.Now()
		w.askAgain = now.Add(renewPause)
		if w.covers(j.signed, now) {
			return // it is delivered under the present lease
		}
		w.jobs = w.jobs[1:]
		for _, e := range slices.Clone(j.Unit.Executions) {
			if h := w.r.held[e.Execution]; h != nil && h.worker == w && h.fence == e.Fence {
				w.unqueue(h)
				w.r.release(h, "lease")
			}
		}
	}
}

// prepare gets a lease and gives it to the worker: with a Bind the first time.
func (w *worker) prepare(j *job) error {
	ctx, cancel := context.WithTimeout(context.Background(), bindTimeout)
	defer cancel()
	select {
	case <-w.hello:
	case <-w.ended:
		return errEnded
	case <-ctx.Done():
		return fmt.Errorf("wait for worker: %w", ctx.Err())
	}
	w.r.mu.Lock()
	first := w.state == binding
	w.r.mu.Unlock()
	grant, err := w.r.lend(ctx, w, j)
	if err != nil || !first {
		return err
	}
	definition, err := w.r.defs.get(ctx, j.Definition)
	if err != nil {
		return err
	}
	return w.bind(ctx, &wire.Bind{
		Lease: grant.Worker, Definition: definition, Config: j.Config,
		ConfigVersion: j.ConfigVersion,
	})
}

// bind makes the worker that of an instance and waits for its answer.
func (w *worker) bind(ctx context.Context, m *wire.Bind) error {
	w.r.mu.Lock()
	w.asked = true
	w.write(m)
	w.r.mu.Unlock()
	select {
	case err := <-w.answer:
		if err != nil {
			return err
		}
	case <-w.ended:
		return errEnded
	case <-ctx.Done():
		return fmt.Errorf("wait for worker: %w", ctx.Err())
	}
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	if w.state == binding {
		w.state = bound
		w.weigh()
		w.tellDropped()
	}
	return nil
}
