package runner

import (
	"slices"
	"time"
)

// Of the memory budget a worker that has something to do takes all that its jail allows, one
// that rests takes little. A worker that gets something to do is admitted when there is room;
// for its sake workers that rest leave, the one that did nothing for longest first. Where many
// are busy, with half of the budget, it stands in line for a moment before that: with more of
// them at a time little goes faster, and each that leaves must be started again for its next unit.
//
// Who stands first in line gets the next room, whatever else comes. When nothing else helps,
// workers that are busy without end make way: what comes for their instances stands in line too.

// heavyFrom is the size in bytes of one thing that is sent to a worker from which on its heap
// may have grown, so that it counts in full also when it has nothing to do.
const heavyFrom = 64 << 10

// plenty is how many workers may be busy at least before others stand in line although some
// rest.
const plenty = 16

// Times of the line.
const (
	// lineShort is how long no room comes back before workers that rest leave for those that
	// stand in line.
	lineShort = time.Second
	// lineLong is how long the first stands in line before others leave or make way for it also
	// while room comes back, for one in a heartbeat.
	lineLong = 5 * time.Second
	// lineMost is how long a unit stands in line before it is given back, because another runner
	// may have room. The first in line stays: the next room is its.
	lineMost = 15 * time.Second
)

// counts is what a worker counts in the budget. The caller holds mu.
func (w *worker) counts() int64 {
	switch {
	case w.state == dead: // its memory comes back in a moment
		return 0
	case w.admitted:
		return w.r.cfg.WorkerMemory
	case !w.started:
		return 0
	case w.heavy:
		return w.r.cfg.WorkerMemory
	}
	return w.r.cfg.IdleMemory
}

// weigh notes what a worker counts and whether it may leave, when that may have changed. The
// caller holds mu.
func (w *worker) weigh() {
	r := w.r
	if w.resting != nil {
		r.spareable -= w.weight
	}
	r.weight, r.busy = r.weight-w.weight, r.busy-w.busy
	w.weight, w.busy = w.counts(), 0
	if w.admitted {
		w.busy = w.weight
	}
	r.weight, r.busy = r.weight+w.weight, r.busy+w.busy
	switch rests := w.state == bound && w.idle(); {
	case rests && w.resting == nil:
		w.resting = r.resting.PushBack(w)
	case !rests && w.resting != nil:
		r.resting.Remove(w.resting)
		w.resting = nil
	}
	if w.resting != nil {
		r.spareable += w.weight
	}
}

// used is the budget that is taken, of both kinds. The caller holds mu.
func (r *Runner) used() int64 {
	return r.weight + int64(len(r.boxes))*r.cfg.SandboxMemory
}

// reserve is the part of the budget that is kept for sandboxes.
func (r *Runner) reserve() int64 { return max(r.cfg.Memory/4, r.cfg.SandboxMemory) }

// forWorkers is the part of the budget that workers may have. The caller holds mu.
func (r *Runner) forWorkers() int64 {
	return r.cfg.Memory - max(int64(len(r.boxes))*r.cfg.SandboxMemory, r.reserve())
}

// roomForWorker reports whether the budget has room for more bytes of workers. The caller holds mu.
func (r *Runner) roomForWorker(more int64) bool { return r.weight+more <= r.forWorkers() }

// makeRoom lets workers that rest leave until w may be admitted, and reports whether it may;
// none leaves in vain. Where many are busy none leaves unless w has stood in line for long. The caller holds mu.
func (r *Runner) makeRoom(w *worker, pressed bool) bool {
	more := r.cfg.WorkerMemory - w.weight
	if more <= 0 || r.roomForWorker(more) {
		return true
	}
	all := r.forWorkers()
	most := max(all/2, plenty*r.cfg.WorkerMemory)
	if r.weight-r.spareable+more > all || !pressed && r.busy+r.cfg.WorkerMemory > most {
		return false
	}
	for !r.roomForWorker(more) {
		r.evict()
	}
	return true
}

// evict kills the worker that did nothing for longest. The caller, who holds mu, knows that
// there is one.
func (r *Runner) evict() { r.resting.Front().Value.(*worker).kill("evicted") }

// roomForSandbox is roomForWorker for a sandbox. More than what is kept for sandboxes is taken
// only when no worker stands in line for it.
func (r *Runner) roomForSandbox() bool {
	return r.maySandbox() && r.used()+r.cfg.SandboxMemory <= r.cfg.Memory
}

func (r *Runner) maySandbox() bool {
	n := len(r.boxes)
	return n < r.cfg.Sandboxes && (len(r.line) == 0 || int64(n+1)*r.cfg.SandboxMemory <= r.reserve())
}

// makeRoomForSandbox is makeRoom for a sandbox.
func (r *Runner) makeRoomForSandbox() bool {
	if !r.maySandbox() || r.used()-r.spareable+r.cfg.SandboxMemory > r.cfg.Memory {
		return false
	}
	for !r.roomForSandbox() {
		r.evict()
	}
	return true
}

// begin lets a worker that has something to do go on, or stand in line for room. The caller
// holds mu.
func (r *Runner) begin(w *worker) {
	if w.admitted || w.idle() || w.state == dead || !w.since.IsZero() {
		return
	}
	now := time.Now()
	if len(r.line) == 0 && r.makeRoom(w, false) {
		r.admit(w, now)
		return
	}
	w.since = now
	w.weigh()
	if r.line = append(r.line, w); len(r.line) == 1 {
		r.due() // nothing is offered meanwhile
	}
}

// admit lets a worker for which there is room go on. The caller holds mu.
func (r *Runner) admit(w *worker, now time.Time) {
	w.admitted, w.began = true, now
	w.weigh()
	w.start()
	w.startFeeding()
}

// serveLine admits those that stand in line, as far as there is room. The caller holds mu.
func (r *Runner) serveLine(now time.Time) {
	for len(r.line) > 0 && !r.closing {
		w := r.line[0]
		if !r.makeRoom(w, min(now.Sub(w.since), now.Sub(r.returned)) >= lineShort) {
			return
		}
		w.leaveLine()
		r.admit(w, now)
	}
}

// leaveLine takes a worker from the line, if it stands there. The caller holds mu.
func (w *worker) leaveLine() {
	if w.since.IsZero() {
		return
	}
	w.since = time.Time{}
	i := slices.Index(w.r.line, w)
	if w.r.line = slices.Delete(w.r.line, i, i+1); len(w.r.line) == 0 {
		w.r.due()
	}
}

// lessToDo follows the end of something that a worker had to do. One that is not its
// instance's any more ends with the last of it. The caller holds mu.
func (w *worker) lessToDo() {
	if !w.idle() {
		return
	}
	now := time.Now()
	w.idleSince = now
	if w.admitted {
		w.admitted, w.r.returned = false, now
	}
	w.leaveLine()
	w.weigh()
	if w.state != dead && (!w.started || w.r.bound[w.key()] != w) {
		w.kill("idle")
	}
	w.r.serveLine(now)
}

// reapLine serves the line, and gives back what has stood there for too long. When the first has
// stood there for long, workers that rest leave for it, or the one makes way that has been busy
// for longest. The caller holds mu.
func (r *Runner) reapLine(now time.Time) {
	r.serveLine(now)
	late := 0
	for _, w := range slices.Clone(r.line) {
		if w != r.line[0] && now.Sub(w.since) > lineMost {
			r.giveUp(w, "unavailable")
			late++
		}
	}
	if late > 0 {
		r.cfg.Log.Warn("units given back: all room is taken by busy workers", "instances", late, "waiting", len(r.line))
	}
	if len(r.line) == 0 || now.Sub(r.line[0].since) < lineLong {
		return
	}
	if w := r.line[0]; r.makeRoom(w, true) {
		w.leaveLine()
		r.admit(w, now)
	} else {
		r.makeWay()
	}
}

// makeWay takes its instance from the worker that has been busy for longest, so that its room
// comes back when it is done with what it has. The caller holds mu.
func (r *Runner) makeWay() {
	var longest *worker
	for _, w := range r.bound {
		if w.admitted && w.state == bound && (longest == nil || w.began.Before(longest.began)) {
			longest = w
		}
	}
	if longest != nil {
		delete(r.bound, longest.key())
	}
}

// giveUp gives back everything that a worker has which stands in line. The caller holds mu.
func (r *Runner) giveUp(w *worker, why string) {
	for e := range w.executions {
		h := r.held[e]
		w.unqueue(h)
		r.release(h, why)
	}
	r.failReadings(w)
}
