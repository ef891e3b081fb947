package engine

import (
	"context"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Accepting an event costs less than running it, so that senders who send the next event
// when the last was accepted would fill the queue for as long as they send. Where all runners
// are full, an event of a customer that has paceFrom executions or more under way, and as many
// events before them, therefore waits until one of these begins, for paceMost at most. Who has
// less never waits.
const (
	paceFrom = 64
	paceMost = 200 * time.Millisecond
)

// paced is an event that waits at the door. It is guarded by the engine's mutex.
type paced struct {
	customer id.Customer
	turn     chan struct{} // closed when it may go on
	gone     bool          // it does not wait any more
}

// Pace holds up an event of a customer a little that would only wait in the queue.
func (e *Engine) Pace(ctx context.Context, c id.Customer) {
	e.mu.Lock()
	if !e.ahead(c, 0) || e.spareRoom(time.Now()) > 0 {
		e.mu.Unlock()
		return
	}
	p := &paced{customer: c, turn: make(chan struct{})}
	e.paced = append(e.paced, p)
	e.mu.Unlock()
	most := time.NewTimer(paceMost)
	defer most.Stop()
	select {
	case <-p.turn:
		return
	case <-most.C:
	case <-ctx.Done():
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p.gone = true
}

// ahead reports whether a customer has sent more than the runners keep up with, when some
// more of its events are let in. Callers hold the mutex.
func (e *Engine) ahead(c id.Customer, more int) bool {
	return e.queue.running[c] >= paceFrom && e.backlog.customers[c].events+more >= paceFrom
}

// spareRoom is how many more executions the runners take when those in the queue have been
// given out that can be. Callers hold the mutex.
func (e *Engine) spareRoom(now time.Time) int {
	room := e.free(now)
	if !e.queue.drained {
		room -= e.queue.size
	}
	return room
}

// free is how many more executions the runners take. Callers hold the mutex.
func (e *Engine) free(now time.Time) (n int) {
	for _, r := range e.runners {
		if now.Sub(r.seen) <= e.o.LeaseTTL {
			n += max(r.room(), 0)
		}
	}
	return n
}

// letIn lets those go on who wait at the door and need not any more.
func (e *Engine) letIn(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.paced) == 0 {
		return
	}
	room, in := e.spareRoom(now), map[id.Customer]int{}
	rest := e.paced[:0]
	for _, p := range e.paced {
		switch {
		case p.gone:
		case room > 0 || !e.ahead(p.customer, in[p.customer]):
			close(p.turn)
			in[p.customer]++
			room--
		default:
			rest = append(rest, p)
		}
	}
	clear(e.paced[len(rest):])
	e.paced = rest
}
