package runner

import (
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
	readings   int   // reads that it was asked for, or will be
	heavy      bool  // it was sent something large
	weight     int64 // what it counts in the budget
	busy       int64 // the same while it has something to do, else 0
	permits    map[id.View]permitted
	idleSince  time.Time
}

// idle reports whether nothing needs the worker. The caller holds mu.
func (w *worker) idle() bool { return len(w.executions) == 0 && w.readings == 0 }

func (w *worker) key() boundKey { return boundKey{w.instance, w.definition} }

var (
	// errFull means that there is no room for more.
	errFull = errors.New("no room in the memory budget")
	// errEnded means that a worker has ended meanwhile.
	errEnded = errors.New("the worker has ended")
)

// heavyFrom is the size in bytes of one thing that is sent to a worker from which on its heap
// may have grown, so that it counts in full also when it has nothing to do.
const heavyFrom = 64 << 10

// counts is what a worker counts in the budget. The caller holds mu.
func (w *worker) counts() int64 {
	switch {
	case w.state == dead: // its memory comes back in a moment
		return 0
	case w.idle() && !w.heavy:
		return w.r.cfg.IdleMemory
	}
	return w.r.cfg.WorkerMemory
}

// weigh notes what a worker counts, when that may have changed. The caller holds mu.
func (w *worker) weigh() {
	now, busy := w.counts(), int64(0)
	if !w.idle() {
		busy = now
	}
	w.r.weight += now - w.weight
	w.r.busy += busy - w.busy
	w.weight, w.busy = now, busy
}

// used is the budget that is taken, of both kinds. The caller holds mu.
func (r *Runner) used() int64 {
	return r.weight + int64(len(r.boxes))*r.cfg.SandboxMemory
}

// forWorkers is the part of the budget that workers may have. The caller holds mu.
func (r *Runner) forWorkers() int64 {
	reserve := max(r.cfg.Memory/4, r.cfg.SandboxMemory)
	return r.cfg.Memory - max(int64(len(r.boxes))*r.cfg.SandboxMemory, reserve)
}

// roomForWorker reports whether the budget has room for more bytes of workers. The caller holds mu.
func (r *Runner) roomForWorker(more int64) bool { return r.weight+more <= r.forWorkers() }

// keepIdle is how long an idle worker stays at least when busy ones have half of the budget:
// more of these at a time do not go faster, and starting one is what takes longest.
const keepIdle = 10 * time.Second

// youngest is since when a worker must be idle to leave for one that becomes busy. The caller
// holds mu.
func (r *Runner) youngest(now time.Time) time.Time {
	if r.busy+r.cfg.WorkerMemory <= r.forWorkers()/2 {
		return now
	}
	return now.Add(-keepIdle)
}

// startable is how many more workers may be busy when those that are idle leave that may. The
// caller holds mu.
func (r *Runner) startable(now time.Time) int {
	all, young := r.forWorkers(), int64(0)
	for w := range r.workers {
		if w.idle() && now.Sub(w.idleSince) < keepIdle {
			young += w.weight
		}
	}
	return int(max(all/2-r.busy, all-r.busy-young, 0) / r.cfg.WorkerMemory)
}

// makeRoom lets idle workers leave until a worker may do something; nil is one that is
// started. It reports whether there is room. The caller holds mu.
func (r *Runner) makeRoom(w *worker) bool {
	more := r.cfg.WorkerMemory
	if w != nil {
		more -= w.weight
	}
	now := time.Now()
	for more > 0 && !r.roomForWorker(more) {
		if !r.evict(w, r.youngest(now)) {
			return false
		}
	}
	return true
}

// roomForSandbox is the same for a sandbox.
func (r *Runner) roomForSandbox() bool {
	return len(r.boxes) < r.cfg.Sandboxes && r.used()+r.cfg.SandboxMemory <= r.cfg.Memory
}

// take gives a fresh worker from the spares or starts one. The caller holds mu.
func (r *Runner) take() (*worker, error) {
	if n := len(r.spare); n > 0 {
		w := r.spare[n-1]
		if !r.makeRoom(w) {
			return nil, errFull
		}
		r.spare = r.spare[:n-1]
		r.refilling = true
		r.due()
		return w, nil
	}
	if !r.makeRoom(nil) {
		return nil, errFull
	}
	return r.newWorker(), nil
}

// evictOf is of how many idle workers the one that has been idle for longest leaves. The
// oldest of all would always be the wrong one where more instances than fit take turns.
const evictOf = 16

// evict kills a worker that has been idle for long and since a time at least, but not keep. The
// caller holds mu.
func (r *Runner) evict(keep *worker, since time.Time) bool {
	var oldest *worker
	seen := 0
	for w := range r.workers { // in no order
		if w == keep || w.state != bound || !w.idle() || w.idleSince.After(since) {
			continue
		}
		if oldest == nil || w.idleSince.Before(oldest.idleSince) {
			oldest = w
		}
		if seen++; seen == evictOf {
			break
		}
	}
	if oldest == nil {
		return false
	}
	oldest.kill("evicted")
	return true
}

// newWorker starts a jailed worker process; it starts while the caller, who holds
// mu, goes on.
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
	w.weigh()
	r.processes.Go(func() error { w.live(); return nil })
	return w
}

// refill starts spare workers and sandboxes up to the configured number.
func (r *Runner) refill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refilling = false
	for !r.closing && len(r.spare) < r.cfg.Spare && r.roomForWorker(r.cfg.IdleMemory) {
		r.spare = append(r.spare, r.newWorker())
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
	if w.child == nil {
		return
	}
	if err := w.child.kill(); err != nil {
		w.r.cfg.Log.Error("kill worker", "err", err)
	}
}

// retire keeps a worker from being given anything. The caller holds mu.
func (w *worker) retire(why string) {
	if w.state == dead {
		return
	}
	w.state, w.reason = dead, why
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

// gone gives back what an ended worker held.
func (r *Runner) gone(w *worker, exit jail.Exit, cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fault := w.reason
	switch exit.Reason {
	case jail.ReasonNone: // it never started
	case jail.ReasonKilled:
		if fault == "" {
			fault = "crash" // it closed its stream and went on
		}
	default:
		fault = exit.Reason.String()
		if exit.Reason == jail.ReasonCrash && exit.Signal == syscall.SIGKILL {
			fault = "killed" // by somebody else: a person, or the kernel for want of memory
		}
	}
	if len(w.executions) > 0 || exit.Reason != jail.ReasonKilled {
		r.cfg.Log.Warn("worker ended", "reason", fault, "executions", len(w.executions), "cause", cause)
	}
	delete(r.workers, w)
	delete(r.byNumber, w.number)
	for e := range w.executions {
		if h := r.held[e]; h.queued && w.reason == "" {
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
	r.due()
}
