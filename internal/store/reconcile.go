package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Configured is an instance with the version of its config.
type Configured struct {
	Customer      id.Customer
	Instance      id.Instance
	ConfigVersion uint64
}

// ConfiguredAfter lists instances of all customers in order of their ids, from one on,
// without those that are being removed.
func (s System) ConfiguredAfter(after id.Instance, limit int) ([]Configured, error) {
	var list []Configured
	err := s.q.rows(`
		SELECT customer_id, instance_id, config_version
		FROM instance
		WHERE instance_id > $1 AND deleted = 0 AND state <> 'removing'
		ORDER BY instance_id
		LIMIT $2`,
		[]any{after[:], int64(limit)}, func(r scanner) error {
			var x Configured
			err := r.Scan(fixed{x.Customer[:]}, fixed{x.Instance[:]}, &x.ConfigVersion)
			list = append(list, x)
			return err
		})
	return list, err
}

// Owned is a connection with its owner.
type Owned struct {
	Customer   id.Customer
	Connection id.Connection
}

// ConnectionsAfter lists connections of all customers in order of their ids, from one on.
func (s System) ConnectionsAfter(after id.Connection, limit int) ([]Owned, error) {
	return s.ownedAfter("deleted = 0", after, limit)
}

// EndedAfter lists deleted connections of all customers in order of their ids, from one on. Their rows stay: they say what a
// keystore that was restored must not have.
func (s System) EndedAfter(after id.Connection, limit int) ([]Owned, error) {
	return s.ownedAfter("deleted <> 0", after, limit)
}

// ownedAfter lists the connections for which a condition of this file holds.
func (s System) ownedAfter(condition string, after id.Connection, limit int) ([]Owned, error) {
	return s.owned(`
		SELECT customer_id, connection_id
		FROM connection
		WHERE connection_id > $1 AND `+condition+`
		ORDER BY connection_id
		LIMIT $2`,
		after[:], int64(limit))
}

// owned reads the owners and ids of connections.
func (s System) owned(query string, args ...any) ([]Owned, error) {
	var list []Owned
	err := s.q.rows(query, args, func(r scanner) error {
		var x Owned
		err := r.Scan(fixed{x.Customer[:]}, fixed{x.Connection[:]})
		list = append(list, x)
		return err
	})
	return list, err
}

// Users lists the instances with a slot that a connection fills.
func (s System) Users(n Owned) ([]Configured, error) {
	var list []Configured
	err := s.q.rows(`
		SELECT i.customer_id, i.instance_id, i.config_version
		FROM instance_slot AS s
		JOIN instance AS i ON i.customer_id = s.customer_id AND i.instance_id = s.instance_id
		JOIN integration AS g ON g.integration_id = i.integration_id
		WHERE s.owner_id = $1 AND s.connection_id = $2 AND i.deleted = 0 AND i.state <> 'removing' AND substr(g.name, 1, 7) <> $3`,
		[]any{n.Customer[:], n.Connection[:], ProbePrefix}, func(r scanner) error {
			var x Configured
			err := r.Scan(fixed{x.Customer[:]}, fixed{x.Instance[:]}, &x.ConfigVersion)
			list = append(list, x)
			return err
		})
	return list, err
}

// Reconnect notes that a connection has no credential and must be entered again.
func (c CustomerTx) Reconnect(n id.Connection, now time.Time) error {
	return c.tx.send(`
		UPDATE connection
		SET health = 'needs_reconnect', health_checked = $3
		WHERE customer_id = $1 AND connection_id = $2 AND deleted = 0`,
		c.id[:], n[:], micros(now))
}

// HeldInstances lists the instances of which nothing is given out at first: those that are
// paused, those that lack config or a connection, and those that are being removed, until
// what was accepted before has ended.
func (s System) HeldInstances() ([]id.Instance, error) {
	var list []id.Instance
	err := s.q.rows(`
		SELECT instance_id
		FROM instance
		WHERE state IN ('paused', 'needs_config', 'needs_connection', 'removing') AND deleted = 0`, nil, func(r scanner) error {
		var i id.Instance
		err := r.Scan(fixed{i[:]})
		list = append(list, i)
		return err
	})
	return list, err
}
