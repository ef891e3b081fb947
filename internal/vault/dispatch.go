package vault

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Limits of what one dispatch gives.
const (
	// maxLeasesPerDispatch is how many leases a runner gets with one dispatch. It needs one; a
	// few more where an egress node ends meanwhile, or where several workers of an instance
	// are renewed by one. See doc/threat-model.md, a breached runner.
	maxLeasesPerDispatch = 4
	// maxDispatches bounds the dispatches of one runner within the time that they are
	// remembered.
	maxDispatches = 1 << 16
)

// dispatches counts the leases that the dispatches of one runner gave, for as long as these
// would be accepted. It is safe for concurrent use.
type dispatches struct {
	mu    sync.Mutex
	given map[[32]byte]*given
	sweep time.Time
}

type given struct {
	leases int
	until  time.Time
}

// take counts a lease before it is made. back takes that back when it is not.
func (s *dispatches) take(d *lease.Dispatch, now time.Time) (back func(), err error) {
	// What it says, not how it was sent: one text can have several signatures.
	digest := sha256.Sum256(wire.AppendBody(nil, d))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given == nil || !now.Before(s.sweep) {
		kept := map[[32]byte]*given{}
		for k, g := range s.given {
			if now.Before(g.until) {
				kept[k] = g
			}
		}
		s.given, s.sweep = kept, now.Add(lease.MaxDispatchAge)
	}
	g := s.given[digest]
	if g == nil {
		if len(s.given) >= maxDispatches {
			return nil, ErrBusy
		}
		g = &given{until: d.Issued.Add(2*lease.MaxDispatchAge + time.Second)}
		s.given[digest] = g
	}
	if g.leases >= maxLeasesPerDispatch && !off(leasesCounted) {
		return nil, fmt.Errorf("%w: the dispatch gave %d leases already", ErrRefused, g.leases)
	}
	g.leases++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		g.leases--
	}, nil
}
