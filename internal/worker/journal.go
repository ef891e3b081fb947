package worker

import (
	"context"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// record is what the journal already holds about one path. Only [record.void] changes it, in the goroutine that runs the path.
type record struct {
	result     *wire.Entry
	fault      *wire.Entry
	checkpoint *wire.Entry
	clock      *wire.Entry
	reply      *wire.Entry
	intents    []*wire.Entry
	attempts   []*wire.Entry // tries that failed, with the faults that were retried by hand
	// What was before the last retry by hand: attempts that do not bind the input, intents that are over, wakes that are.
	free, past int
	woken      uint32
}

// void makes the step's fault one of its failed tries: it runs again. Woken is how many wakes the execution had by then.
func (r *record) void(woken uint32) {
	r.attempts = append(r.attempts, r.fault)
	r.fault, r.woken = nil, woken
	r.past += len(r.intents)
	r.intents = nil
}

// hashed are the entries that carry the hash of the step's input.
func (r *record) hashed() []*wire.Entry {
	var list []*wire.Entry
	if r.result != nil {
		list = append(list, r.result)
	}
	if r.fault != nil {
		list = append(list, r.fault)
	}
	list = append(list, r.attempts[r.free:]...)
	return append(list, r.intents...)
}

// len is how many entries the record holds.
func (r *record) len() (n int) {
	r.each(func(*wire.Entry) { n++ })
	return n
}

// each calls do with every entry.
func (r *record) each(do func(*wire.Entry)) {
	for _, e := range []*wire.Entry{r.result, r.fault, r.checkpoint, r.clock, r.reply} {
		if e != nil {
			do(e)
		}
	}
	for _, e := range r.intents {
		do(e)
	}
	for _, e := range r.attempts {
		do(e)
	}
}

// add takes a later entry. Of several checkpoints the last one counts.
func (r *record) add(e *wire.Entry) {
	switch e.Kind {
	case wire.EntryResult:
		r.result = e
	case wire.EntryFault:
		r.fault = e
	case wire.EntryCheckpoint:
		r.checkpoint = e
	case wire.EntryClock:
		r.clock = e
	case wire.EntryReply:
		r.reply = e
	case wire.EntryIntent:
		r.intents = append(r.intents, e)
	case wire.EntryAttempt:
		r.attempts = append(r.attempts, e)
	}
}

// group is what must be committed together.
type group struct {
	entries  []wire.Entry
	waits    []wire.Wait
	children []wire.Child
}

func (g *group) size() int {
	n := 0
	for i := range g.entries {
		n += len(g.entries[i].Body) + len(g.entries[i].Path) + 64
	}
	for i := range g.children {
		n += len(g.children[i].Event) + 64
	}
	return n
}

// journal is the record of one execution: what was committed before it came here, and what this stay adds. One append is in
// flight at a time. It is safe for concurrent use.
type journal struct {
	send  func(*wire.Append) error
	empty wire.Append // with the execution and fence

	takeLogs    func() []wire.LogLines // what goes out with an append
	repeatAfter time.Duration          // how long an append may be without an answer until it is sent again

	records  map[string]*record // nil on a first run
	recalled *recalled          // of a long journal; else nil
	retry    *wire.Entry        // the last retry by hand, or nil

	mu        sync.Mutex
	seq       uint32 // of the last entry sent
	entries   int
	queue     []group
	queued    uint64 // groups ever queued
	sent      uint64 // groups ever sent
	committed uint64 // groups ever committed
	labels    []wire.Label
	flight    *wire.Append // the append that has no answer yet, or nil
	flown     time.Time    // when it was sent last
	ended     bool         // the finish was sent
	stale     bool
	waiting   []waitCommit
}

// waitCommit is a goroutine that waits until a number of groups is committed.
type waitCommit struct {
	until uint64
	done  chan struct{} // closed when it is
}

// load indexes the entries of an earlier stay.
func (j *journal) load(entries []wire.Entry) {
	if len(entries) == 0 {
		return
	}
	j.records = make(map[string]*record, len(entries))
	j.entries = len(entries)
	for i := range entries {
		e := &entries[i]
		j.seq = max(j.seq, e.Seq)
		if e.Kind == wire.EntryRetry {
			j.retry = e
			continue
		}
		r := j.records[e.Path]
		if r == nil {
			r = &record{}
			j.records[e.Path] = r
		}
		j.put(r, e)
	}
}

// past returns what the journal held about a path when this stay began, or nil.
func (j *journal) past(path string) *record { return j.records[path] }

// put adds a later entry to its record.
func (j *journal) put(r *record, e *wire.Entry) {
	if r.fault != nil && j.retry != nil && reruns(e.Kind) {
		r.void(j.retry.Epoch) // it has begun to run again
	}
	r.add(e)
}

// reruns says whether an entry behind a fault of its path, after a retry by hand, means that the step runs again.
func reruns(k wire.EntryKind) bool {
	switch k {
	case wire.EntryResult, wire.EntryFault, wire.EntryAttempt, wire.EntryIntent:
		return true
	default:
		return false
	}
}

// retried reports whether a retry by hand came after an entry.
func (j *journal) retried(e *wire.Entry) bool {
	return e != nil && j.retry != nil && e.Seq < j.retry.Seq
}

// add queues a group. It goes out with the next barrier, kick or finish.
func (j *journal) add(g group) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.queue = append(j.queue, g)
	j.queued++
	j.entries += len(g.entries)
}

// full reports whether the execution has written as many entries as it may.
func (j *journal) full() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.entries >= MaxEntries
}

// behind is how many groups are not committed yet.
func (j *journal) behind() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.queued - j.committed
}

// label queues labels for the first append.
func (j *journal) label(l []wire.Label) { j.labels = l }

// kick sends what is queued unless an append is in flight, which sends it when it is answered.
func (j *journal) kick() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.flight != nil || len(j.queue) == 0 {
		return nil
	}
	return j.fly(nil)
}

// fly sends the next append, with the end of the execution if it is given, is the last thing to say and fits. The caller holds
// mu, and nothing is in flight.
func (j *journal) fly(end *wire.Finish) error {
	a := j.empty
	size, n := 0, 0
	for n < len(j.queue) && (n == 0 || size < MaxAppend) {
		size += j.queue[n].size()
		n++
	}
	for _, g := range j.queue[:n] {
		for i := range g.entries {
			j.seq++
			g.entries[i].Seq = j.seq
		}
		if a.Entries == nil && len(j.queue) == 1 {
			a.Entries, a.Waits, a.Children = g.entries, g.waits, g.children
			continue
		}
		a.Entries = append(a.Entries, g.entries...)
		a.Waits = append(a.Waits, g.waits...)
		a.Children = append(a.Children, g.children...)
	}
	j.queue = j.queue[n:]
	if len(j.queue) == 0 {
		j.queue = nil
		if end != nil && (n == 0 || size+len(end.Output) <= MaxAppend+MaxOutput/2) {
			a.Finish, j.ended = end, true
		}
	}
	a.Labels, j.labels = j.labels, nil
	a.Logs = j.takeLogs()
	j.sent += uint64(n)
	j.flight, j.flown = &a, time.Now()
	return j.send(&a)
}

// appended takes the answer to the append in flight.
func (j *journal) appended(m *wire.Appended) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.flight == nil || !m.Stale && m.Seq < j.flight.Last() {
		return nil // an answer that came twice
	}
	j.flight = nil
	if m.Stale {
		j.stale = true
		j.release(^uint64(0))
		return nil
	}
	j.seq = max(j.seq, m.Seq)
	j.committed = j.sent
	j.release(j.committed)
	if len(j.waiting) > 0 && len(j.queue) > 0 {
		return j.fly(nil)
	}
	return nil
}

func (j *journal) release(committed uint64) {
	keep := j.waiting[:0]
	for _, w := range j.waiting {
		if w.until <= committed {
			close(w.done)
		} else {
			keep = append(keep, w)
		}
	}
	j.waiting = keep
}

// barrier returns once everything queued so far is committed.
func (j *journal) barrier(ctx context.Context) error {
	j.mu.Lock()
	if j.stale {
		j.mu.Unlock()
		return errStale
	}
	if j.committed >= j.queued {
		j.mu.Unlock()
		return nil
	}
	w := waitCommit{j.queued, make(chan struct{})}
	j.waiting = append(j.waiting, w)
	var err error
	if j.flight == nil {
		err = j.fly(nil)
	}
	j.mu.Unlock()
	if err != nil {
		return err
	}
	return j.await(ctx, w.done)
}

// await waits for the answer to an append. One that does not come may be lost on the way, as the append itself may be: it is
// sent again, ever more rarely, because the server may only be slow. In the end the execution is given back, and the next fence
// settles what was committed.
func (j *journal) await(ctx context.Context, done chan struct{}) error {
	pause := j.repeatAfter
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for waited := time.Duration(0); waited < appendWait; {
		select {
		case <-timer.C:
			if err := j.repeat(); err != nil {
				return err
			}
			waited += pause
			pause = min(2*pause, appendWait-waited)
			timer.Reset(pause)
		case <-done:
			j.mu.Lock()
			defer j.mu.Unlock()
			if j.stale {
				return errStale
			}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return errLost
}

// repeat sends the append in flight again, unless another branch did a moment ago.
func (j *journal) repeat() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	if j.flight == nil || now.Sub(j.flown) < j.repeatAfter {
		return nil
	}
	j.flown = now
	return j.send(j.flight)
}

// finish appends the end with whatever is still queued and returns once it is committed.
func (j *journal) finish(ctx context.Context, end *wire.Finish, g group) error {
	j.add(g)
	for {
		j.mu.Lock()
		if j.stale {
			j.mu.Unlock()
			return errStale
		}
		if j.flight == nil {
			if j.ended {
				j.mu.Unlock()
				return nil
			}
			if err := j.fly(end); err != nil {
				j.mu.Unlock()
				return err
			}
		}
		w := waitCommit{j.sent, make(chan struct{})}
		j.waiting = append(j.waiting, w)
		j.mu.Unlock()
		if err := j.await(ctx, w.done); err != nil {
			return err
		}
	}
}
