package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// RefreshBacklog says which refreshes wait at a moment.
type RefreshBacklog struct {
	Due     uint64    // their time has come
	Overdue uint64    // of those, it came before the moment that was asked about
	Oldest  time.Time // when the one that waits longest was due; zero: none waits
}

// RefreshBacklog counts the refreshes that are due by now, and those that have been since a
// time before.
func (s System) RefreshBacklog(now, late time.Time) (*RefreshBacklog, error) {
	b := &RefreshBacklog{}
	err := s.q.row(`
		SELECT COUNT(*), COALESCE(SUM(CASE WHEN refresh_due <= $2 THEN 1 ELSE 0 END), 0), COALESCE(MIN(refresh_due), 0)
		FROM connection
		WHERE refresh_due > 0 AND deleted = 0 AND refresh_due <= $1`,
		[]any{micros(now), micros(late)}, &b.Due, &b.Overdue, moment{&b.Oldest})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// EgressPool is the pool of egress nodes that serve a connection of the customer, of one
// that is gone too; [ErrNotFound] when there never was one.
func (c Customer) EgressPool(n id.Connection) (string, error) {
	var pool string
	err := c.q.row(`
		SELECT egress_pool
		FROM connection
		WHERE customer_id = $1 AND connection_id = $2`,
		[]any{c.id[:], n[:]}, &pool)
	return pool, err
}
