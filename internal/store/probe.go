package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Prefixes of the names of hidden integrations, which no others have.
const (
	// TestPrefix begins those of test runs, whose instances are removed after some time.
	TestPrefix = "test--"
	// ProbePrefix begins those by which the platform itself asks through a connection, whose instances stay as long as it.
	ProbePrefix = "probe--"
)

// Probe is an instance by which the platform itself asks something through a connection.
type Probe struct {
	Instance   id.Instance
	Connection id.Connection
	Digest     [32]byte // of the definition that it runs
	State      InstanceState
}

// Probes lists the instances by which the platform asks through the connections of the customer, the newest first; all of
// them for a zero id. Those that are being removed are none.
func (c Customer) Probes(n id.Connection, limit int) ([]Probe, error) {
	var f filter
	f.and("i.customer_id = $%d", c.id[:])
	f.and("g.hidden = $%d", true)
	f.and("substr(g.name, 1, 7) = $%d", ProbePrefix)
	f.and("i.deleted = $%d", int64(0))
	f.and("i.state <> $%d", string(InstanceRemoving))
	if !n.IsZero() {
		f.and("s.connection_id = $%d", n[:])
	}
	var list []Probe
	err := c.q.rows(`
		SELECT i.instance_id, s.connection_id, i.digest, i.state
		FROM instance i
		JOIN integration g ON g.integration_id = i.integration_id
		JOIN instance_slot s ON s.customer_id = i.customer_id AND s.instance_id = i.instance_id
		WHERE `+f.String()+`
		ORDER BY i.instance_id DESC
		LIMIT `+f.limit(limit),
		f.args, func(r scanner) error {
			var x Probe
			err := r.Scan(fixed{x.Instance[:]}, fixed{x.Connection[:]}, fixed{x.Digest[:]}, &x.State)
			list = append(list, x)
			return err
		})
	return list, err
}

// SetTested notes what a test of a connection found. It changes nothing of a connection whose credential was entered after
// began, and nothing of one that must be connected again or was revoked: that is known better.
func (c CustomerTx) SetTested(n id.Connection, h Health, problem string, began, now time.Time) (changed bool, err error) {
	var was Health
	var since time.Time
	err = c.q.row(`
		SELECT health, changed
		FROM connection
		WHERE customer_id = $1 AND connection_id = $2 AND deleted = 0`,
		[]any{c.id[:], n[:]}, &was, moment{&since})
	if err != nil || was == HealthNeedsReconnect || was == HealthRevoked || since.After(began) {
		return false, err
	}
	if was == HealthExpiring && h == HealthOK {
		h = was // it works, and still ends soon
	}
	return c.SetHealth(n, h, problem, now)
}
