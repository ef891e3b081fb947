package runner

import (
	"container/list"
	"errors"
	"fmt"
	"syscall"
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
	fresh   state = iota // may not have started or said hello yet
	binding              // it has an instance, and waits for its lease
	bound
	dead // it has ended, or was told to
)

// worker is one worker process. Its fields are guarded by the runner's mutex;
// number and the channels do not change, sealKey is set before hello is closed.
type worker struct {
	r       *Runner
	number  uint64
	hello   chan struct{} // closed when the worker has said hello
	ended   chan struct{} // closed when its state becomes dead
	answer  chan error    // what the worker answered to its bind; has room for it
	sealKey seal.PublicKey
	strays  bucket // of its reader

	child   *child       // nil until it has started
	out     *wire.Writer // the same
	state   state
	reason  string // why the runner killed it; empty when it ended by itself
	greeted bool
	asked   bool // a Bind has been sent and not been answered

	instance      id.Instance
	definition    [32]byte
	configVersion uint64

	jobs       []*job // waiting for the feeder
	feeding    bool
	executions map[id.Execution]struct{}
	boxes      int // sandboxes of its executions
	leases     map[id.Lease]lent
	newest     id.Lease
	dropped    []id.Lease // that it is to be told of when it is bound
	server     id.Node    // of the newest lease: labels are sealed to it
	expires    time.Time  // of the newest lease
	askAgain   time.Time  // the vault is not asked before without need
	days       map[lease.Day]bool
	views      map[id.View]bool
	readings   int // reads that it was asked for, or will be
	permits    map[id.View]permitted

	// Of its part of the memory budget, see room.go.
	started   bool // it has a process, or will have one in a moment
	heavy     bool // it was sent something large
	admitted  bool // it has something to do, and room for that
	weight    int64
	busy      int64         // weight while it is admitted, else 0
	since     time.Time     // when it joined the line; zero: it does not stand there
	began     time.Time     // when it was admitted last
	idleSince time.Time     // when it had nothing to do any more
	resting   *list.Element // its place among those that may leave, or nil
}

// idle reports whether nothing needs the worker. The caller holds mu.
func (w *worker) idle() bool { return len(w.executions) == 0 && w.readings == 0 }

func (w *worker) key() boundKey { return boundKey{w.instance, w.definition} }

var (
	// errMany means that a server gave out far more than was offered.
	errMany = errors.New("more than was offered")
	// errEnded means that a worker has ended meanwhile.
	errEnded = errors.New("the worker has ended")
)

// take gives a fresh worker: a spare, or one that is started when it has room. The caller holds mu.
func (r *Runner) take() *worker {
	n := len(r.spare)
	if n == 0 {
		return r.newWorker()
	}
	w := r.spare[n-1]
	r.spare = r.spare[:n-1]
	r.refilling = true
	r.due()
	return w
}

// newWorker makes a worker, without a process yet. The caller holds mu.
func (r *Runner) newWorker() *worker {
	r.lastNumber++
	w := &worker{
		r: r, number: r.lastNumber, idleSince: time.Now(),
		hello: make(chan struct{}), ended: make(chan struct{}), answer: make(chan error, 1),
		strays:     bucket{left: maxStray, size: maxStray, rate: strayRate},
		executions: map[id.Execution]struct{}{}, leases: map[id.Lease]lent{}, days: map[lease.Day]bool{}, views: map[id.View]bool{},
		permits: map[id.View]permitted{},
	}
	r.workers[w] = struct{}{}
	r.byNumber[w.number] = w
	return w
}

// start starts the jailed process of a worker, if that has none; it starts while the caller, who
// holds mu, goes on.
func (w *worker) start() {
	if w.started {
		return
	}
	w.started = true
	w.weigh()
	w.r.processes.Go(func() error { w.live(); return nil })
}

// refill starts spare workers and sandboxes up to the configured number.
func (r *Runner) refill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refilling = false
	for !r.closing && len(r.line) == 0 && len(r.spare) < r.cfg.Spare && r.roomForWorker(r.cfg.IdleMemory) {
		w := r.newWorker()
		w.start()
		r.spare = append(r.spare, w)
	}
	for !r.closing && len(r.spareBoxes) < r.cfg.Spare && r.roomForSandbox() {
		r.spareBoxes = append(r.spareBoxes, r.newSandbox())
	}
}

// refillTaken replaces spares that were taken. Those that ended by themselves wait
// for the next heartbeat, so that a program that cannot run is not started in a loop.
func (r *Runner) refillTaken() {
	r.mu.Lock()
	taken := r.refilling
	r.mu.Unlock()
	if taken {
		r.refill()
	}
}

// live is the life of a worker process.
func (w *worker) live() {
	c, err := w.r.spawn(jail.KindWorker)
	if err != nil {
		w.r.mu.Lock()
		w.kill("unavailable")
		w.r.mu.Unlock()
		w.r.gone(w, jail.Exit{}, fmt.Errorf("start worker: %w", err))
		return
	}
	w.r.mu.Lock()
	w.child, w.out = c, wire.NewFailingWriter(c.conn)
	if w.state == dead {
		_ = c.kill()
	}
	w.r.mu.Unlock()
	err = w.r.serve(c, w.handle)
	w.r.mu.Lock()
	if refused(err) {
		w.kill("protocol")
	} else {
		w.retire("")
	}
	w.r.mu.Unlock()
	w.r.gone(w, c.end(w.out), err)
}

// kill ends the process. What it held is given back when it is gone. The caller holds mu.
func (w *worker) kill(why string) {
	w.retire(why)
	switch {
	case !w.started:
		w.r.giveUp(w, why)
		w.r.remove(w)
	case w.child != nil:
		c, log := w.child, w.r.cfg.Log
		go func() { // it takes a millisecond, and many may leave at once
			if err := c.kill(); err != nil {
				log.Error("kill worker", "err", err)
			}
		}()
	}
}

// retire keeps a worker from being given anything. The caller holds mu.
func (w *worker) retire(why string) {
	if w.state == dead {
		return
	}
	w.state, w.reason = dead, why
	w.leaveLine()
	w.weigh()
	close(w.ended)
	if w.r.bound[w.key()] == w {
		delete(w.r.bound, w.key())
	}
	for i, s := range w.r.spare {
		if s == w {
			w.r.spare = append(w.r.spare[:i], w.r.spare[i+1:]...)
			break
		}
	}
}

// write sends a frame. A worker that does not read is killed, so that it cannot
// hold up the others. The caller holds mu.
func (w *worker) write(m wire.Typed) {
	if w.out != nil && errors.Is(w.out.Write(m), wire.ErrSlow) {
		w.kill("slow")
	}
}

// relay passes a frame on like write.
func (w *worker) relay(f wire.Frame) {
	w.heavy = w.heavy || len(f.Body) >= heavyFrom
	if w.out != nil && errors.Is(w.out.WriteRaw(f), wire.ErrSlow) {
		w.kill("slow")
	}
}

// fault is why a worker has ended: why the runner ended it, if it did, however long its end then
// took; else what it ended of by itself.
func (w *worker) fault(exit jail.Exit) string {
	switch {
	case w.reason != "":
		return w.reason
	case exit.Reason == jail.ReasonKilled, exit.Reason == jail.ReasonCrash && exit.Signal == syscall.SIGKILL:
		// By somebody else, a person or the kernel for want of memory; or here, because it closed its
		// stream and was not gone in time: nobody knows of what.
		return "killed"
	}
	return exit.Reason.String()
}

// itsOwn reports whether the end of a worker says something about what it was running, and so
// nothing about what it was not given yet.
func itsOwn(fault string) bool {
	switch fault {
	case "memory", "cpu", "violation", "crash", "clean", "killed", "protocol", "slow", "cancel":
		return true
	}
	return false
}

// gone gives back what an ended worker held.
func (r *Runner) gone(w *worker, exit jail.Exit, cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fault := w.fault(exit)
	if len(w.executions) > 0 || exit.Reason != jail.ReasonKilled {
		r.cfg.Log.Warn("worker ended", "reason", fault, "executions", len(w.executions), "cause", cause)
	}
	r.remove(w)
	for e := range w.executions {
		if h := r.held[e]; h.queued && itsOwn(fault) {
			r.release(h, "unavailable") // it was never given to the worker
		} else {
			r.release(h, fault)
		}
	}
	r.failReadings(w)
	for l, to := range w.leases {
		r.cfg.Bus.Send(wire.RoleEgress, to.node, wire.TopicCall, &wire.LeaseDrop{Lease: l})
	}
	r.serveWanting()
	r.serveLine(time.Now())
	r.due()
}

// remove forgets a worker. The caller holds mu.
func (r *Runner) remove(w *worker) {
	delete(r.workers, w)
	delete(r.byNumber, w.number)
}
