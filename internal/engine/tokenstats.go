package engine

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// refreshLateAfter is how long after its time a refresh is called overdue: looks at what is
// due, and attempts that failed a moment ago, take less.
const refreshLateAfter = 2 * time.Minute

// refreshOutcome is how a refresh ended.
type refreshOutcome int

// The outcomes of refreshes.
const (
	refreshSaved      refreshOutcome = iota // there are new tokens
	refreshNo                               // the provider refused: somebody has to connect again
	refreshFailed                           // it may pass, and is tried again
	refreshLost                             // the answer was lost, and the tokens with it
	refreshNotOrdered                       // no egress node took the order, or its answer did not come
)

// refreshOutcomes are the names of outcomes.
var refreshOutcomes = [...]string{"saved", "refused", "failed", "lost_answer", "not_ordered"}

// RefreshStats are numbers about the refreshes of tokens. Those that count do so since the
// server started, for the customers whose shards it has.
type RefreshStats struct {
	Outcomes map[string]uint64 // saved, refused, failed, lost_answer, not_ordered
	Due      uint64            // refreshes whose time has come, of all customers
	Overdue  uint64            // of those, the ones that wait for longer than they should
	// Customers is how many customers the overdue ones are of.
	Customers uint64
	Ordered   int           // refreshes that this server has ordered, and that are not answered
	Oldest    time.Duration // since the longest waiting was due; 0: none waits
}

// refreshCounters count outcomes.
type refreshCounters [len(refreshOutcomes)]atomic.Uint64

func (c *refreshCounters) count(o refreshOutcome) { c[o].Add(1) }

// RefreshStats reads the numbers about refreshes. The error is one of the store.
func (e *Engine) RefreshStats(ctx context.Context) (*RefreshStats, error) {
	now := time.Now()
	b, err := e.db.System(ctx).RefreshBacklog(now, now.Add(-refreshLateAfter))
	if err != nil {
		return nil, fmt.Errorf("count refreshes: %w", err)
	}
	s := &RefreshStats{Outcomes: map[string]uint64{}, Due: b.Due, Overdue: b.Overdue, Customers: b.Customers, Ordered: e.tokens.ordered()}
	for o, name := range refreshOutcomes {
		s.Outcomes[name] = e.tokens.ended[o].Load()
	}
	if !b.Oldest.IsZero() {
		s.Oldest = max(0, now.Sub(b.Oldest))
	}
	return s, nil
}
