package trigger

import (
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

func TestOneCustomerHasAQuarter(t *testing.T) {
	t.Parallel()
	const limit = 16
	greedy, other := id.NewCustomer(time.Now()), id.NewCustomer(time.Now())
	var s places
	taken := 0
	for range 2 * limit {
		if s.take(greedy, limit) {
			taken++
		}
	}
	if taken != limit/4 {
		t.Errorf("one customer has %d of %d places", taken, limit)
	}
	if !s.take(other, limit) {
		t.Error("another customer finds no place")
	}
	s.give(greedy)
	if !s.take(greedy, limit) || s.take(greedy, limit) {
		t.Error("what was given back is not one place")
	}
	full := 0
	for s.all < limit {
		if c := id.NewCustomer(time.Now()); !s.take(c, limit) {
			t.Fatal("there is room, and none is given")
		}
		full++
	}
	if s.take(id.NewCustomer(time.Now()), limit) {
		t.Error("there are more places than all")
	}
	for c, n := range s.own {
		for range n {
			s.give(c)
		}
	}
	if s.all != 0 || len(s.own) != 0 {
		t.Errorf("%d places of %d customers are lost", s.all, len(s.own))
	}
}

// count is how many places are taken.
func (s *places) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}
