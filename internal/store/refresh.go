package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// RefreshBacklog says which refreshes wait at a moment.
type RefreshBacklog struct {
	Due     uint64 // their time has come
	Overdue uint64 // of those, it came before the moment that was asked about
	// Customers is how many customers those of Overdue are of: one slow provider of one customer is 1.
	Customers uint64
	Oldest    time.Time // when the one that waits longest was due; zero: none waits
}

// RefreshBacklog counts the refreshes that are due by now, and those that have been since a
// time before.
func (s System) RefreshBacklog(now, late time.Time) (*RefreshBacklog, error) {
	b := &RefreshBacklog{}
	err := s.q.row(`
		SELECT COUNT(*), COALESCE(SUM(CASE WHEN refresh_due <= $2 THEN 1 ELSE 0 END), 0),
			COUNT(DISTINCT CASE WHEN refresh_due <= $2 THEN customer_id END), COALESCE(MIN(refresh_due), 0)
		FROM connection
		WHERE refresh_due > 0 AND deleted = 0 AND refresh_due <= $1`,
		[]any{micros(now), micros(late)}, &b.Due, &b.Overdue, &b.Customers, moment{&b.Oldest})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// RefreshDue is a connection whose tokens are to be refreshed.
type RefreshDue struct {
	Customer      id.Customer
	Connection    id.Connection
	Connector     string
	RecordVersion uint64
	Due           time.Time
	Failures      uint32
	FailingSince  time.Time
	Place         uint64 // among those of its connector, whose customers take turns: from 1
}

// RefreshesDue lists connections whose refresh is due by a time, after one of an earlier call: every
// connector's first before anybody's second, and of a connector every customer's first before
// anybody's second, those that are due longest before others; at most each of a connector. So a page
// holds something of everybody, however much of one customer or provider is due.
func (s System) RefreshesDue(by time.Time, after RefreshDue, each, limit int) ([]RefreshDue, error) {
	var list []RefreshDue
	err := s.q.rows(`
		SELECT customer_id, connection_id, connector, record_version, refresh_due, refresh_failures, failing_since, place
		FROM (
			SELECT customer_id, connection_id, connector, record_version, refresh_due, refresh_failures, failing_since,
				ROW_NUMBER() OVER (PARTITION BY connector ORDER BY turn, refresh_due, connection_id) AS place
			FROM (
				SELECT customer_id, connection_id, connector, record_version, refresh_due, refresh_failures, failing_since,
					ROW_NUMBER() OVER (PARTITION BY connector, customer_id ORDER BY refresh_due, connection_id) AS turn
				FROM connection
				WHERE refresh_due > 0 AND deleted = 0 AND refresh_due <= $1
			) AS turns
		) AS places
		WHERE place <= $2
			AND (place > $3 OR place = $3 AND (refresh_due > $4 OR refresh_due = $4 AND connection_id > $5))
		ORDER BY place, refresh_due, connection_id
		LIMIT $6`,
		[]any{micros(by), int64(each), int64(after.Place), micros(after.Due), after.Connection[:], int64(limit)}, func(r scanner) error {
			var x RefreshDue
			err := r.Scan(
				fixed{x.Customer[:]}, fixed{x.Connection[:]}, &x.Connector, &x.RecordVersion, moment{&x.Due}, &x.Failures,
				moment{&x.FailingSince}, &x.Place,
			)
			list = append(list, x)
			return err
		})
	return list, err
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
