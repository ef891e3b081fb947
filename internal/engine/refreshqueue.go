package engine

import (
	"container/list"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// refreshQueue holds refreshes that are due: those that wait, and those that are ordered and not
// answered. Customers take turns, and one gets another slot only while it has fewer of them than
// are free: alone it has half of them, and with n others that want as many, one of n+2 parts, so
// that whoever comes next finds some. The same holds for connectors, whose customers come to one
// provider: what it does not let in is passed over. Connections of one customer, or of many
// at one provider, that nobody answers keep nobody else's tokens waiting.
//
// What waits is what the last look at SQL found: each look puts it anew, so that it is what is
// due now, and of everybody alike, and what finds no room is not forgotten. fairQueue is
// another: its jobs come one by one and stay, belong to instances with holds and caps, and are
// bounded at the door. It is guarded by the mutex of tokens.
type refreshQueue struct {
	slots, room    int // of orders at a time, and of what waits
	ordered, waits int // of all customers
	customers      map[id.Customer]*orders
	connectors     map[string]int         // orders; none: absent
	turns          *list.List             // of *orders, the next first
	known          map[id.Connection]bool // wait, are ordered, or are in answered
	looking        bool                   // from clear to filled
	answered       []id.Connection        // during the look, which may find them as they were
	left           bool                   // SQL has more than there was room for
}

// orders are those of one customer.
type orders struct {
	customer id.Customer
	waits    []store.RefreshDue // the longest due first
	ordered  int
	turn     *list.Element // nil: it does not wait for one
}

func newRefreshQueue(slots, room int) refreshQueue {
	return refreshQueue{
		slots: slots, room: room, customers: map[id.Customer]*orders{}, connectors: map[string]int{}, turns: list.New(), known: map[id.Connection]bool{},
	}
}

// turnOf is whose turn it is with a customer's refreshes: the customer's.
func turnOf(c id.Customer) id.Customer {
	if off(refreshTurns) {
		return id.Customer{}
	}
	return c
}

// clear begins a look: nothing waits, and everybody keeps the turn.
func (q *refreshQueue) clear() {
	for turn := q.turns.Front(); turn != nil; turn = turn.Next() {
		c := turn.Value.(*orders)
		for i := range c.waits {
			delete(q.known, c.waits[i].Connection)
		}
		c.waits = c.waits[:0]
	}
	q.waits, q.looking, q.left = 0, true, false
}

// put lets a refresh wait, unless it does or is ordered. It reports whether there is room.
func (q *refreshQueue) put(x *store.RefreshDue) bool {
	if q.known[x.Connection] {
		return true
	}
	if q.waits >= q.room {
		q.left = true
		return false
	}
	c := q.customers[turnOf(x.Customer)]
	if c == nil {
		c = &orders{customer: turnOf(x.Customer)}
		q.customers[c.customer] = c
	}
	if c.turn == nil {
		c.turn = q.turns.PushBack(c)
	}
	c.waits = append(c.waits, *x)
	q.known[x.Connection] = true
	q.waits++
	return true
}

// filled ends a look.
func (q *refreshQueue) filled() {
	for _, n := range q.answered {
		delete(q.known, n)
	}
	q.looking, q.answered = false, q.answered[:0]
	for turn := q.turns.Front(); turn != nil; {
		c := turn.Value.(*orders)
		turn = turn.Next()
		q.forget(c)
	}
}

// forget drops what is kept of a customer for nothing. During a look it keeps the turn.
func (q *refreshQueue) forget(c *orders) {
	if len(c.waits) > 0 {
		return
	}
	if c.turn != nil && !q.looking {
		q.turns.Remove(c.turn)
		c.turn, c.waits = nil, nil
	}
	if c.turn == nil && c.ordered == 0 {
		delete(q.customers, c.customer)
	}
}

// next takes the refresh to order next; nil: none may be ordered now. more says that SQL has to be
// looked at before the customer gets another.
func (q *refreshQueue) next() (x *store.RefreshDue, more bool) {
	for turn := q.turns.Front(); turn != nil && q.ordered < q.slots; turn = turn.Next() {
		c := turn.Value.(*orders)
		i := q.ready(c)
		if i < 0 {
			continue // it stays before those who had a turn
		}
		x := c.waits[i]
		c.waits = slices.Delete(c.waits, i, i+1)
		q.waits--
		c.ordered++
		q.ordered++
		q.connectors[x.Connector]++
		q.turns.MoveToBack(turn)
		more = q.left && len(c.waits) == 0
		q.forget(c)
		return &x, more
	}
	return nil, false
}

// ready is the index of the customer's refresh that may be ordered next, or -1. A slot is free.
func (q *refreshQueue) ready(c *orders) int {
	free := q.slots - q.ordered
	if off(refreshTurns) {
		return min(len(c.waits), 1) - 1
	}
	if c.ordered >= free {
		return -1
	}
	return slices.IndexFunc(c.waits, func(x store.RefreshDue) bool { return q.connectors[x.Connector] < free })
}

// done says that an order is answered, and that what came of it is noted.
func (q *refreshQueue) done(x *store.RefreshDue) {
	c := q.customers[turnOf(x.Customer)]
	c.ordered--
	q.ordered--
	if q.connectors[x.Connector]--; q.connectors[x.Connector] == 0 {
		delete(q.connectors, x.Connector)
	}
	q.forget(c)
	if q.looking {
		q.answered = append(q.answered, x.Connection)
	} else {
		delete(q.known, x.Connection)
	}
}
