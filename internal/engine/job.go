package engine

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// jobState is where a job is in memory. SQL knows pending and running only.
type jobState byte

const (
	queued  jobState = iota // pending, in the queue
	delayed                 // pending, comes into the queue later
	leasing                 // its lease is being committed
	running                 // leased to a runner
)

// job is an execution that is pending or running, as the scheduler knows it. Its fields
// are guarded by the engine's mutex; those of the first group never change.
type job struct {
	customer  id.Customer
	execution id.Execution
	instance  id.Instance
	digest    [32]byte
	day       lease.Day
	viewer    lease.Viewer // who watches it, or zero
	// order and concurrency are those of its flow, if that has any.
	order       [32]byte
	concurrency *flow.Concurrency

	state jobState
	fence uint64 // the row's
	size  int64  // of its event, journal and wakes, in bytes
	grown int    // of size, what journal and wakes added since it was read
	// counted is what it counts in the backlog until it begins, at least 1; 0: it is not counted.
	counted int64
	again   bool  // it was retried: it began before
	gate    *gate // in which it has a place or stands before; nil: none
	runner  *runner
	until   time.Time // the lease's
	out     bool      // it is in the outbox
	sent    bool      // its unit has been sent
	left    uint64    // the fence of its last stay that its worker ended; 0: none
	// It was with its runner when this server started; the runner has not named it yet.
	restored bool
	named    time.Time // when its runner named it last
	unnamed  time.Time // since when its runner does not name it; zero while it does
	wakes    []wire.Entry
	known    *store.Known // of its row, with the appends that are under way; nil: nothing

	// row and event are kept between accepting and the first dispatch, so that nothing
	// has to be read. Without them everything is read from SQL.
	row   *store.Execution
	event []byte
	kept  bool // event is counted
	noted bool // a notice tells the server that schedules it
}

// learn notes what was read of a job's row.
func (j *job) learn(x *store.Execution) {
	j.known = &store.Known{LastSeq: x.LastSeq, Day: x.Day, Parent: x.Parent, ParentPath: x.ParentPath, Awaited: x.Awaited}
}

// advance is what is known of a job's row before an append, and notes that. The numbers of
// the entries say more than the memory: an append may come twice.
func (j *job) advance(m *wire.Append) *store.Known {
	if j.known == nil {
		return nil
	}
	k := *j.known
	if last := m.Last(); last != 0 {
		k.LastSeq = last - uint32(len(m.Entries))
	}
	j.known.LastSeq = max(j.known.LastSeq, k.LastSeq+uint32(len(m.Entries)))
	return &k
}

// Up to maxKept queued jobs keep their events in memory, of up to maxKeptEvent bytes each.
// Those of all jobs that were not dispatched yet have at most maxKeptBytes.
const (
	maxKept      = 8192
	maxKeptEvent = 64 << 10
	maxKeptBytes = 16 << 20
)

// keep counts what a new job keeps in memory until its dispatch, or lets it be read from
// SQL then, when too much is kept. Callers hold the mutex.
func (e *Engine) keep(j *job) {
	if j.row == nil {
		return
	}
	if e.kept+len(j.event) > maxKeptBytes {
		j.row, j.event = nil, nil
		return
	}
	e.kept += len(j.event)
	j.kept = true
}

// unkeep takes what a job keeps. Callers hold the mutex.
func (e *Engine) unkeep(j *job) (*store.Execution, []byte) {
	row, event := j.row, j.event
	if j.kept {
		e.kept -= len(event)
	}
	j.row, j.event, j.kept = nil, nil, false
	return row, event
}

// runner is a node that runs units.
type runner struct {
	node     id.Node
	seen     time.Time
	dead     bool  // it has ended for good
	capacity int   // executions that it can hold
	bytes    int64 // size of its jobs
	jobs     map[id.Execution]*job
	bound    map[boundKey]struct{}
	renew    []boundKey // leases that end soon
}

type boundKey struct {
	instance id.Instance
	digest   [32]byte
}

// runner finds or makes the runner of a node. Callers hold the mutex.
func (e *Engine) runner(n id.Node) *runner {
	r := e.runners[n]
	if r == nil {
		r = &runner{node: n, jobs: map[id.Execution]*job{}}
		e.runners[n] = r
	}
	return r
}

func (r *runner) room() int { return r.capacity - len(r.jobs) }

// fits reports whether a job's bytes fit beside those that a runner holds. A large one
// always fits an empty runner.
func (e *Engine) fits(r *runner, j *job) bool {
	return len(r.jobs) == 0 || r.bytes+j.size <= e.o.RunnerBytes
}

// What a job counts for its runner: its event and up to maxGrown bytes of journal and
// wakes, because a longer journal is read in pages. One whose parts are not known any more
// counts at most maxJob.
const (
	maxGrown = 1 << 20
	maxJob   = MaxEvent + maxGrown
)

// grow adds journal and wakes to the size of a job. Callers hold the mutex.
func (e *Engine) grow(j *job, by int) {
	by = min(by, maxGrown-j.grown)
	j.grown += by
	e.resize(j, j.size+int64(by))
}

// resize changes what a job counts. Callers hold the mutex.
func (e *Engine) resize(j *job, size int64) {
	if j.runner != nil {
		j.runner.bytes += size - j.size
	}
	j.size = size
}

// isolatedBeside is what may run beside an isolated job: so little that those who are given
// out all the time do not keep it waiting.
const isolatedBeside = 4 << 20

// isolate makes a job count as if it filled a runner: of those that were isolated no two
// are given out to one runner. Callers hold the mutex.
func (e *Engine) isolate(j *job) { e.resize(j, max(j.size, e.o.RunnerBytes-isolatedBeside)) }

// take puts a job with a runner. Callers hold the mutex.
func (e *Engine) take(r *runner, j *job) {
	j.runner = r
	r.bytes += j.size
	if e.large == j {
		e.large = nil
	}
	r.jobs[j.execution] = j
	e.queue.ran(j, 1)
}

// drop takes a job from its runner. Callers hold the mutex.
func (e *Engine) drop(j *job) {
	if j.runner != nil {
		delete(j.runner.jobs, j.execution)
		j.runner.bytes -= j.size
		e.queue.ran(j, -1)
		j.runner = nil
	}
	j.sent, j.restored, j.wakes, j.unnamed, j.known = false, false, nil, time.Time{}, nil
}

// post puts a job whose lease is committed into the outbox. Callers hold the mutex.
func (e *Engine) post(j *job) {
	j.state = running
	e.begun(j)
	if !j.out {
		j.out = true
		e.outbox = append(e.outbox, j)
	}
	e.wakeLoop()
}

// enqueue puts a pending job into the queue, or leaves it to the server whose it is. Callers hold the mutex.
func (e *Engine) enqueue(j *job, end queueEnd) {
	if !e.holds(j.customer) {
		e.forget(j)
		if !j.noted {
			e.stray(j.customer, j.execution)
		}
		return
	}
	e.drop(j)
	if e.queue.size+e.gates.parked >= maxKept || len(j.event) > maxKeptEvent {
		e.unkeep(j)
	}
	j.state = queued
	e.jobs[j.execution] = j
	if j.gate == nil && j.concurrency != nil {
		e.gates.join(j, j.order, j.concurrency)
	}
	if !e.gates.enters(j) {
		e.gates.park(j)
		return
	}
	e.queue.push(j, end)
	e.wakeLoop()
}

// forget removes a job that has ended or waits. Callers hold the mutex.
func (e *Engine) forget(j *job) {
	if j.state == queued {
		e.queue.remove(j)
	}
	e.drop(j)
	e.unkeep(j)
	e.begun(j)
	e.admitted(e.gates.leave(j))
	if e.large == j {
		e.large = nil
	}
	delete(e.jobs, j.execution)
	e.wakeLoop()
}

// held is the running job that a node holds with a fence, or nil. Callers hold the mutex.
func (e *Engine) held(from id.Node, x id.Execution, fence uint64) *job {
	j := e.jobs[x]
	if j == nil || j.state != running || j.fence != fence || j.runner == nil || j.runner.node != from {
		return nil
	}
	return j
}
