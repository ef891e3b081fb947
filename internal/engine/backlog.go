package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Bounds of what has been accepted and has not begun, and what a refused sender is told.
const (
	// DefaultPending and DefaultPendingBytes bound the events of one customer.
	DefaultPending      = 10_000
	DefaultPendingBytes = 4 << 30
	// DefaultAllPending and DefaultAllPendingBytes bound the events of all customers.
	DefaultAllPending      = 250_000
	DefaultAllPendingBytes = 16 << 30
	// busyFor is how long a refused sender should wait; pausedFor when the instance is paused.
	busyFor   = 5 * time.Second
	pausedFor = time.Minute
)

// ErrBusy: too much is pending, of the customer or in all. The error is a [*BusyError].
var ErrBusy = errors.New("too many events are pending")

// BusyError refuses an event because of what is pending. It is [ErrBusy].
type BusyError struct {
	RetryAfter time.Duration // when the sender may try again
	All        bool          // the bound is that of all customers, not of this one
}

// Error implements error.
func (e *BusyError) Error() string {
	if e.All {
		return fmt.Sprintf("%v in all: try again in %v", ErrBusy, e.RetryAfter)
	}
	return fmt.Sprintf("%v for this customer: try again in %v", ErrBusy, e.RetryAfter)
}

// Is makes it ErrBusy.
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// load is a number of events and their bytes.
type load struct {
	events int
	bytes  int64
}

func (l load) over(limit load) bool { return l.events > limit.events || l.bytes > limit.bytes }

func (l load) add(events int, bytes int64) load { return load{l.events + events, l.bytes + bytes} }

// backlog counts the events that were accepted and whose execution has not begun. Those
// of paused instances count too. Executions that others call do not: refusing them would
// fault what runs. It is guarded by the engine's mutex.
type backlog struct {
	each, all load // limits
	total     load
	customers map[id.Customer]load
}

// floor is what every customer may have pending while all together are at their bound, so
// that a few with much do not close the door for everybody: up to twice that bound.
func (b *backlog) floor() load { return load{b.all.events / 2500, b.all.bytes / 256} }

// put counts an event, unless there is no room for it. Others is what other servers have.
func (b *backlog) put(c id.Customer, bytes int64, others load) *BusyError {
	own, total := b.customers[c].add(1, bytes), b.total.add(1, bytes)
	if busy := b.room(own, total, others); busy != nil {
		return busy
	}
	b.customers[c], b.total = own, total
	return nil
}

// room refuses what is over a bound: own is of a customer with the new event, total of this
// server's shards, others of those of other servers.
func (b *backlog) room(own, total, others load) *BusyError {
	total = total.add(others.events, others.bytes)
	switch {
	case own.over(b.each):
		return &BusyError{RetryAfter: busyFor}
	case total.over(b.all) && (own.over(b.floor()) || total.over(load{2 * b.all.events, 2 * b.all.bytes})):
		return &BusyError{RetryAfter: busyFor, All: true}
	}
	return nil
}

// restore counts an event whatever the bounds are.
func (b *backlog) restore(c id.Customer, bytes int64) {
	b.customers[c], b.total = b.customers[c].add(1, bytes), b.total.add(1, bytes)
}

// remove forgets an event that was counted.
func (b *backlog) remove(c id.Customer, bytes int64) {
	b.total = b.total.add(-1, -bytes)
	if own := b.customers[c].add(-1, -bytes); own.events > 0 {
		b.customers[c] = own
	} else {
		delete(b.customers, c)
	}
}

// admit counts a new job among the pending events. Callers hold the mutex.
func (e *Engine) admit(j *job) error {
	bytes, here := max(j.size, 1), e.holds(j.customer)
	var busy *BusyError
	if here {
		busy = e.backlog.put(j.customer, bytes, e.elsewhere.all)
	} else {
		busy = e.admitElsewhere(j, bytes)
	}
	if busy != nil {
		if e.queue.held[j.instance] {
			busy.RetryAfter = pausedFor
		}
		return busy
	}
	if here {
		j.counted = bytes
	}
	return nil
}

// begun takes a job out of the pending events, if it was one. Callers hold the mutex.
func (e *Engine) begun(j *job) {
	if j.counted > 0 {
		if j.state == running && !j.again {
			e.counters.beginning.observe(time.Since(madeAt(j.execution)))
		}
		e.backlog.remove(j.customer, j.counted)
		j.counted = 0
	}
}
