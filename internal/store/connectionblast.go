package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Use is what one execution did through one connection at one host.
type Use struct {
	Connection id.Connection
	Customer   id.Customer // of the execution
	Instance   id.Instance
	Execution  id.Execution
	Host       string
	Requests   int64
	Sent       int64 // bytes
	Received   int64
	First      time.Time
	Last       time.Time
}

// Uses tells what was done through connections since a time, by the records of calls out:
// one Use for each execution and host, those of a connection together. It reads every such
// record of the organization, or of one customer, once. each may end it with an error.
func (o Org) Uses(c id.Customer, since time.Time, each func(*Use) error) error {
	var f filter
	f.and("c.organization_id = $%d", o.id[:])
	f.and("f.at >= $%d", micros(since))
	if !c.IsZero() {
		f.and("f.customer_id = $%d", c[:])
	}
	return o.q.rows(`
		SELECT f.connection_id, f.customer_id, f.instance_id, f.execution_id, f.host, COUNT(DISTINCT f.request_id), CAST(SUM(f.sent) AS BIGINT), CAST(SUM(f.received) AS BIGINT),
			MIN(f.at), MAX(f.at)
		FROM flow_record f
		JOIN customer c ON c.customer_id = f.customer_id
		WHERE `+f.String()+`
		GROUP BY f.connection_id, f.customer_id, f.instance_id, f.execution_id, f.host
		ORDER BY f.connection_id, f.execution_id, f.host`,
		f.args, func(r scanner) error {
			var u Use
			err := r.Scan(fixed{u.Connection[:]}, fixed{u.Customer[:]}, fixed{u.Instance[:]}, fixed{u.Execution[:]}, &u.Host, &u.Requests, &u.Sent,
				&u.Received, moment{&u.First}, moment{&u.Last})
			if err != nil {
				return err
			}
			return each(&u)
		})
}

// UnusedSince lists connections of all customers that nothing has used since a time, and that
// were neither entered nor noticed for it since then, in the order of their ids after one;
// not the clients of templates.
func (s System) UnusedSince(t time.Time, after id.Connection, limit int) ([]Owned, error) {
	return s.owned(`
		SELECT n.customer_id, n.connection_id
		FROM connection n
		WHERE n.connection_id > $1 AND n.deleted = 0 AND n.kind <> $2 AND n.last_used < $3 AND n.changed < $3
			AND NOT EXISTS (SELECT 1 FROM connection_notice o WHERE o.connection_id = n.connection_id AND o.kind = 'unused' AND o.at >= $3)
		ORDER BY n.connection_id
		LIMIT $4`,
		after[:], KindClient, micros(t), int64(limit))
}

// ExpiringBy lists connections of all customers whose credential ends by a time and that
// nothing refreshes, and that are not known to expire, in the order of their ids after one.
func (s System) ExpiringBy(t time.Time, after id.Connection, limit int) ([]Owned, error) {
	return s.owned(`
		SELECT customer_id, connection_id
		FROM connection
		WHERE connection_id > $1 AND deleted = 0 AND token_expires > 0 AND token_expires <= $2 AND refresh_due = 0 AND health IN ('ok', 'unknown')
		ORDER BY connection_id
		LIMIT $3`,
		after[:], micros(t), int64(limit))
}

// EndedBy lists connections of all customers whose client certificate has ended by a time, but for those that are known to need
// another, in the order of their ids after one.
func (s System) EndedBy(t time.Time, after id.Connection, limit int) ([]Owned, error) {
	return s.owned(`
		SELECT customer_id, connection_id
		FROM connection
		WHERE connection_id > $1 AND deleted = 0 AND kind = 'mtls' AND token_expires > 0 AND token_expires <= $2
			AND health NOT IN ('needs_reconnect', 'revoked')
		ORDER BY connection_id
		LIMIT $3`,
		after[:], micros(t), int64(limit))
}
