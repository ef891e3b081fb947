package trigger

import (
	"sync"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// places counts what waits, in all and by customer, so that one customer's senders cannot
// take every place: a customer has a quarter at most. The zero value is ready. It is safe
// for concurrent use.
type places struct {
	mu  sync.Mutex
	all int
	own map[id.Customer]int
}

// take counts one more, unless all or this customer's share is taken.
func (s *places) take(c id.Customer, limit int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= limit || s.own[c] >= max(limit/shares, 1) {
		return false
	}
	if s.own == nil {
		s.own = map[id.Customer]int{}
	}
	s.all++
	s.own[c]++
	return true
}

// give gives back what was taken.
func (s *places) give(c id.Customer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.own[c]--; s.own[c] <= 0 {
		delete(s.own, c)
	}
}
