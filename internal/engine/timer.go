package engine

import (
	"container/heap"
	"context"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Timers within horizonAhead are in memory; every sweepEvery those that have come nearer
// are read from SQL.
const (
	horizonAhead = 2 * time.Minute
	sweepEvery   = time.Minute
	// maxExpiring is the most expiring executions read per shard and sweep.
	maxExpiring = 10_000
	// idle is how long the scheduler rests when it has no timer.
	idle = time.Minute
)

// timerKind is what a timer does.
type timerKind byte

const (
	waitTimer timerKind = iota // answers a wait
	expiry                     // faults the execution
	requeue                    // puts a delayed job into the queue
)

// timer is something that happens at a time. It says what to look at; whether there is
// still something to do is decided by the transaction that does it.
type timer struct {
	at        time.Time
	fires     time.Time // later than at, when it failed then; else zero
	kind      timerKind
	customer  id.Customer
	execution id.Execution
	path      string
	wait      wire.WaitKind
}

func (t *timer) due() time.Time {
	if t.fires.IsZero() {
		return t.at
	}
	return t.fires
}

// timerHeap is a heap of timers, the earliest first.
type timerHeap []timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, k int) bool { return h[i].due().Before(h[k].due()) }
func (h timerHeap) Swap(i, k int)      { h[i], h[k] = h[k], h[i] }

// Push implements heap.Interface.
func (h *timerHeap) Push(x any) { *h = append(*h, x.(timer)) }

// Pop implements heap.Interface.
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	*h = old[:len(old)-1]
	return t
}

func (h *timerHeap) push(t timer) { heap.Push(h, t) }

// addTimer adds a timer that SQL knows too. One beyond the horizon is left to the sweep.
// Callers hold the mutex.
func (e *Engine) addTimer(t timer) {
	if t.at.IsZero() || t.at.After(e.horizon) {
		return
	}
	first := len(e.timers) == 0 || t.at.Before(e.timers[0].due())
	e.timers.push(t)
	if first {
		e.wakeLoop()
	}
}

// sweep moves the horizon and reads the timers before it, of the shards that this server
// has. It moves the horizon first: what is committed from then on is added by its own
// commit, what was committed before is read here.
func (e *Engine) sweep(ctx context.Context, now time.Time) {
	e.mu.Lock()
	from := e.horizon
	due := from.IsZero() || from.Sub(now) <= horizonAhead-sweepEvery
	if due {
		e.horizon = now.Add(horizonAhead)
	}
	until := e.horizon
	var known, unread shardSet
	for shard := range e.claims {
		known[shard], unread[shard] = e.claims[shard].held && !e.claims[shard].unread, e.claims[shard].unread
	}
	e.mu.Unlock()
	if due {
		if err := e.readTimers(ctx, &known, from, until); err != nil {
			e.log.ErrorContext(ctx, "timers cannot be read", "error", err)
			e.mu.Lock()
			e.horizon = from
			e.mu.Unlock()
			return
		}
	}
	if unread == (shardSet{}) {
		return
	}
	if err := e.readTimers(ctx, &unread, time.Time{}, until); err != nil {
		e.log.ErrorContext(ctx, "timers cannot be read", "error", err)
		return // with the next turn
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for shard := range unread {
		if unread[shard] {
			e.claims[shard].unread = false
		}
	}
}

// shardSet is a set of shards.
type shardSet [store.Shards]bool

func (e *Engine) readTimers(ctx context.Context, shards *shardSet, from, until time.Time) error {
	if *shards == (shardSet{}) {
		return nil
	}
	system := e.db.System(ctx)
	waits, err := system.DueWaits(from, until)
	if err != nil {
		return err
	}
	var list []timer
	for i := range waits {
		if w := &waits[i]; shards[store.ShardOf(w.Customer)] {
			list = append(list, timer{at: w.At, kind: waitTimer, customer: w.Customer, execution: w.Execution, path: w.Path, wait: w.Kind})
		}
	}
	for shard, read := range shards {
		if !read {
			continue
		}
		err := system.Expiring(uint8(shard), until, maxExpiring, func(x *store.Unfinished) error {
			list = append(list, timer{at: x.Expires, kind: expiry, customer: x.Customer, execution: x.Execution})
			return nil
		})
		if err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range list {
		e.timers.push(t)
	}
	return nil
}

// fireTimers does what is due and returns how long it is until the next timer.
func (e *Engine) fireTimers(now time.Time) time.Duration {
	e.mu.Lock()
	var waits []timer
	for len(e.timers) > 0 && !e.timers[0].due().After(now) {
		t := heap.Pop(&e.timers).(timer)
		if !e.holds(t.customer) {
			continue
		}
		switch t.kind {
		case waitTimer:
			waits = append(waits, t)
		case expiry:
			e.addEnding(ending{customer: t.customer, execution: t.execution, errorType: "timeout", message: "the execution has expired"})
		case requeue:
			if j := e.jobs[t.execution]; j != nil && j.state == delayed {
				e.enqueue(j, front)
			}
		}
	}
	next := idle
	if len(e.timers) > 0 {
		next = e.timers[0].due().Sub(now)
	}
	e.mu.Unlock()
	for _, t := range waits {
		e.fireWait(t, now)
	}
	return next
}

// fireWait answers a wait whose time has come, unless somebody did.
func (e *Engine) fireWait(t timer, now time.Time) {
	entry := wire.Entry{Kind: wire.EntryWake, Path: t.path, Epoch: uint32(wire.WakeTimeout)}
	if t.wait == wire.WaitTimer {
		entry.Epoch = uint32(wire.WakeTimer)
	}
	var got *woken
	e.db.Submit(func(tx *store.Tx) error {
		var err error
		got, err = e.wake(tx.Customer(t.customer), t.execution, entry, now, func(c store.CustomerTx) (bool, error) {
			return c.CloseWaitAt(t.execution, t.path, t.at)
		})
		return err
	}, func(err error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if err != nil {
			e.log.Error("wait could not be answered", "execution", t.execution, "error", err)
			again := t
			again.fires = now.Add(retryDelay)
			e.timers.push(again)
			e.wakeLoop()
			return
		}
		if got != nil {
			e.woke(got)
		}
	})
}

// putWake adds a wake to an execution.
func (e *Engine) putWake(rows store.CustomerTx, x id.Execution, entry *wire.Entry, now time.Time) (*store.Woken, error) {
	row, err := rows.PutWake(x, entry, now)
	if err == nil {
		_, err = e.note(rows, x)
	}
	return row, err
}

// wake closes a wait and adds its wake. nil means that the wait was not open any more,
// or that the execution has ended.
func (e *Engine) wake(c store.CustomerTx, x id.Execution, entry wire.Entry, now time.Time, closing func(store.CustomerTx) (bool, error)) (*woken, error) {
	open, err := closing(c)
	if err != nil || !open {
		return nil, err
	}
	row, err := e.putWake(c, x, &entry, now)
	if isStale(err) {
		return nil, nil //nolint:nilnil // the execution has ended
	}
	if err != nil {
		return nil, err
	}
	entry.Seq = row.Number
	return &woken{c.ID(), x, entry, row}, nil
}
