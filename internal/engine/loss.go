package engine

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Why a lease was lost.
const (
	interruptMemory  = "memory"  // the worker ran out of memory
	interruptCPU     = "cpu"     // the worker used too much processor time
	interruptCrash   = "crash"   // the worker ended
	interruptKilled  = "killed"  // the worker was killed from outside
	interruptLapsed  = "lapsed"  // nobody renewed it
	interruptStore   = "store"   // this server could not read or write
	interruptGone    = "gone"    // its runner has ended
	interruptUnheld  = "unheld"  // its runner does not hold it any more, and what would have said so was lost
	interruptLost    = "lost"    // its runner gave it back because messages were lost
	interruptRestart = "restart" // this server was restarted, and the runner does not hold it any more
)

// counted says whether an interruption is held against the execution: only the end of
// its worker is, while it was running there. What runners say of themselves (no lease from the vault, no room, a worker
// stopped for another's sake), a runner that is gone or silent, and what this server did
// is not.
func counted(why string) store.Counted {
	switch why {
	case "lease", "shutdown", "unavailable", "unanswered", "idle", "evicted", interruptStore, interruptRestart, interruptLapsed, interruptGone, interruptUnheld, interruptLost:
		return store.Counted(off(ownEnds))
	}
	return true
}

// loss is a job that is to be taken from its runner.
type loss struct {
	job   *job
	fence uint64
	why   string
}

// lose takes a job from its runner: it will be given out again with a higher fence.
func (e *Engine) lose(j *job, why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.loseLocked(j, why)
}

func (e *Engine) loseLocked(j *job, why string) {
	e.lapsed = append(e.lapsed, loss{j, j.fence, why})
	e.wakeLoop()
}

// released is a runner's word that it holds an execution no more. Without a fault its
// finish is on the way, or the lease lapses.
func (e *Engine) released(from id.Node, m *wire.Released) {
	if m.Fault == "" {
		return
	}
	why := interruptCrash
	if m.Fault == interruptMemory || m.Fault == interruptCPU || m.Fault == interruptKilled || !bool(counted(m.Fault)) {
		why = m.Fault
	}
	if m.Fault == "lease" {
		e.suspect()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if j := e.held(from, m.Execution, m.Fence); j != nil {
		if m.Fault == "shutdown" || m.Fault == "unavailable" {
			j.runner.capacity = 0 // until it says what it can take
		}
		e.loseLocked(j, why)
	}
}

// checkLeases finds leases that nobody renewed, and forgets runners that went long ago.
func (e *Engine) checkLeases(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now.Before(e.nextCheck) {
		return
	}
	e.nextCheck = now.Add(e.o.LeaseTTL / 8)
	for n, r := range e.runners {
		for _, j := range r.jobs {
			switch {
			case j.state != running || !now.After(j.until):
			case j.restored:
				e.loseLocked(j, interruptRestart)
			default:
				e.loseLocked(j, interruptLapsed)
			}
		}
		if len(r.jobs) == 0 && now.Sub(r.seen) > 10*e.o.LeaseTTL {
			delete(e.runners, n)
		}
	}
}

// RunnerGone says that a runner has ended for good: what it held is given out again at once.
func (e *Engine) RunnerGone(n id.Node) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.runners[n]
	if r == nil {
		return
	}
	r.dead, r.capacity, r.seen = true, 0, time.Time{}
	for _, j := range r.jobs {
		if j.state == running {
			e.loseLocked(j, interruptGone)
		}
	}
}

// KeepRunners says which runners there are: those that are not live have ended for good.
func (e *Engine) KeepRunners(live func(id.Node) bool) {
	e.mu.Lock()
	var gone []id.Node
	for n := range e.runners {
		if !live(n) {
			gone = append(gone, n)
		}
	}
	e.mu.Unlock()
	for _, n := range gone {
		e.RunnerGone(n)
	}
}

// Lost tells every runner that messages to and from this server may have been lost.
func (e *Engine) Lost() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for n := range e.runners {
		e.o.Link.Send(wire.RoleRunner, n, &wire.Lost{})
	}
}

// interruptLapsed commits the losses.
func (e *Engine) interruptLapsed() {
	e.mu.Lock()
	list := e.lapsed
	e.lapsed = nil
	e.mu.Unlock()
	for _, l := range list {
		e.interrupt(l)
	}
}

func (e *Engine) interrupt(l loss) {
	var times uint32
	gone := false
	e.db.Submit(func(tx *store.Tx) error {
		var err error
		times, err = tx.Customer(l.job.customer).Interrupt(l.job.execution, l.fence, l.why, counted(l.why))
		if gone = isStale(err); gone {
			return nil
		}
		return err
	}, func(err error) { e.interrupted(l, times, gone, err) })
}

// interrupted follows the commit of a loss.
func (e *Engine) interrupted(l loss, times uint32, gone bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	j := l.job
	if gone && e.jobs[j.execution] == j && j.fence == l.fence {
		e.stray(j.customer, j.execution) // another server changed it
	}
	if gone || e.jobs[j.execution] != j || j.state != running || j.fence != l.fence {
		return
	}
	if err != nil {
		e.log.Error("loss of a lease could not be committed", "execution", j.execution, "error", err)
		j.until = time.Now().Add(retryDelay) // it is found again
		return
	}
	e.counters.interrupted.Add(1)
	if j.runner != nil && j.sent {
		e.o.Link.Send(wire.RoleRunner, j.runner.node, &wire.Cancel{Execution: j.execution, Fence: j.fence})
	}
	if l.why == interruptMemory {
		e.isolate(j) // whichever of those that the worker ran was too large, it harms no other again
	}
	if bool(counted(l.why)) && times >= limitOf(l.why) { // what does not count is not the last straw either
		e.drop(j)
		j.state = delayed
		e.addEnding(interruptionFault(j, l.why, times))
		return
	}
	e.later(j, time.Now().Add(backoff(l.why, times)))
}

// limitOf is how many losses in a row fault an execution, by the reason of the last one.
func limitOf(why string) uint32 {
	if why == interruptKilled {
		return MaxKills
	}
	return MaxInterruptions
}

// backoff is the rest before an interrupted execution is given out again.
func backoff(why string, times uint32) time.Duration {
	switch {
	case why == interruptRestart, why == interruptGone, why == interruptUnheld, why == interruptLost:
		return 0
	case !bool(counted(why)):
		return retryDelay
	case times <= 1:
		return 0
	case why == interruptKilled:
		return retryDelay / 4
	}
	return retryDelay << min(times-2, 5)
}

func interruptionFault(j *job, why string, times uint32) ending {
	x := ending{
		customer: j.customer, execution: j.execution, errorType: "interrupted", attempts: times,
		message: "the worker ended unexpectedly each time it ran this",
	}
	switch why {
	case interruptMemory:
		x.errorType, x.message = "limit", "the worker ran out of memory each time it ran this"
	case interruptCPU:
		x.errorType, x.message = "limit", "the worker used too much processor time each time it ran this"
	}
	return x
}
