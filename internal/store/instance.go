package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// InstanceState is the state of an instance.
type InstanceState string

// The values of [InstanceState].
const (
	InstanceNeedsConfig     InstanceState = "needs_config"
	InstanceNeedsConnection InstanceState = "needs_connection"
	InstanceEnabled         InstanceState = "enabled"
	InstancePaused          InstanceState = "paused"
	InstanceFailing         InstanceState = "failing"
	InstanceRemoving        InstanceState = "removing"
)

// Slot fills one connection slot of an instance.
type Slot struct {
	Name       string
	Owner      id.Customer // who owns the connection: the customer, or the organization's own
	Connection id.Connection
}

// Instance is an instance with its slots.
type Instance struct {
	Customer      id.Customer
	ID            id.Instance
	Integration   id.Integration
	Digest        [32]byte
	Previous      [32]byte // the version before the last change of it, or zero
	State         InstanceState
	Config        []byte // sealed under the instance key
	ConfigVersion uint64
	EgressPool    string
	RunnerPool    string
	InFlightCap   uint32 // most executions that run at once; 0: the scheduler's default
	Revision      uint64 // counts changes
	Slots         []Slot
}

// PutInstance inserts an instance, or replaces its version, state, config and slots, and
// counts its revision up.
func (c CustomerTx) PutInstance(i *Instance, now time.Time) error {
	err := c.tx.returning(`
		INSERT INTO instance (customer_id, instance_id, integration_id, digest, state, config, config_version, egress_pool,
			runner_pool, in_flight_cap, created, changed)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
		ON CONFLICT (customer_id, instance_id) DO UPDATE
		SET integration_id = excluded.integration_id, digest = excluded.digest, state = excluded.state,
			config = excluded.config, config_version = excluded.config_version, egress_pool = excluded.egress_pool,
			runner_pool = excluded.runner_pool, in_flight_cap = excluded.in_flight_cap, changed = excluded.changed,
			previous_digest = CASE WHEN instance.digest <> excluded.digest THEN instance.digest ELSE instance.previous_digest END,
			revision = instance.revision + 1, deleted = 0
		RETURNING revision, previous_digest`,
		[]any{
			c.id[:], i.ID[:], i.Integration[:], i.Digest[:], string(i.State), blob(i.Config), int64(i.ConfigVersion),
			i.EgressPool, i.RunnerPool, int64(i.InFlightCap), micros(now),
		}, &i.Revision, fixed{i.Previous[:]})
	if err != nil {
		return err
	}
	if err := c.tx.send(`DELETE FROM instance_slot WHERE customer_id = $1 AND instance_id = $2`, c.id[:], i.ID[:]); err != nil {
		return err
	}
	for n := range i.Slots {
		s := &i.Slots[n]
		err := c.tx.send(`
			INSERT INTO instance_slot (customer_id, instance_id, slot, owner_id, connection_id)
			VALUES ($1, $2, $3, $4, $5)`,
			c.id[:], i.ID[:], s.Name, s.Owner[:], s.Connection[:])
		if err != nil {
			return err
		}
	}
	return nil
}

// Instance reads an instance with its slots.
func (c Customer) Instance(i id.Instance) (*Instance, error) {
	x := &Instance{Customer: c.id, ID: i}
	err := c.q.row(`
		SELECT integration_id, digest, previous_digest, state, config, config_version, egress_pool, runner_pool, in_flight_cap,
			revision
		FROM instance
		WHERE customer_id = $1 AND instance_id = $2 AND deleted = 0`,
		[]any{c.id[:], i[:]}, fixed{x.Integration[:]}, fixed{x.Digest[:]}, fixed{x.Previous[:]}, &x.State, &x.Config, &x.ConfigVersion,
		&x.EgressPool, &x.RunnerPool, &x.InFlightCap, &x.Revision)
	if err != nil {
		return nil, err
	}
	x.Slots, err = c.slots(i)
	return x, err
}

func (c Customer) slots(i id.Instance) ([]Slot, error) {
	var list []Slot
	err := c.q.rows(`
		SELECT slot, owner_id, connection_id
		FROM instance_slot
		WHERE customer_id = $1 AND instance_id = $2
		ORDER BY slot`,
		[]any{c.id[:], i[:]}, func(r scanner) error {
			var s Slot
			if err := r.Scan(&s.Name, fixed{s.Owner[:]}, fixed{s.Connection[:]}); err != nil {
				return err
			}
			list = append(list, s)
			return nil
		})
	return list, err
}

// SetInstanceState changes the state of an instance and counts its revision up.
func (c CustomerTx) SetInstanceState(i id.Instance, state InstanceState, now time.Time) error {
	n, err := c.tx.exec(`
		UPDATE instance
		SET state = $3, changed = $4, revision = revision + 1
		WHERE customer_id = $1 AND instance_id = $2 AND deleted = 0`,
		c.id[:], i[:], string(state), micros(now))
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}
