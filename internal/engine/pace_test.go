package engine

import (
	"context"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// An event of a customer that is far ahead of the runners waits until one of those before it
// begins; nobody else waits.
func TestWhoIsAheadOfTheRunnersWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	busy, other := b.tenant("c1"), b.tenant("c2")
	r := b.runner()
	r.want(paceFrom)
	var units []wire.UnitExecution
	for range paceFrom {
		b.accept(busy, "main", `{}`)
	}
	for len(units) < paceFrom {
		units = append(units, r.dispatch()...)
	}
	ahead := func(n tenant) bool {
		b.e.mu.Lock()
		defer b.e.mu.Unlock()
		return b.e.ahead(n.customer, 0)
	}
	for range paceFrom - 1 {
		b.accept(busy, "main", `{}`)
	}
	if ahead(busy) {
		t.Error("there is room before the runners, and an event waits")
	}
	b.accept(busy, "main", `{}`)
	if !ahead(busy) || ahead(other) {
		t.Errorf("ahead are %v, another %v", ahead(busy), ahead(other))
	}
	b.e.Pace(t.Context(), other.customer) // returns at once
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	b.e.Pace(gone, busy.customer)
	list := make([]*paced, 3)
	b.e.mu.Lock()
	if len(b.e.paced) != 1 || !b.e.paced[0].gone {
		t.Errorf("%d wait, want the one that is gone", len(b.e.paced))
	}
	for i := range list {
		list[i] = &paced{customer: busy.customer, turn: make(chan struct{})}
		b.e.paced = append(b.e.paced, list[i])
	}
	b.e.mu.Unlock()
	for i, p := range list {
		r.finish(units[i])
		r.dispatch() // of the next, which makes room before the runners
		<-p.turn
	}
}
