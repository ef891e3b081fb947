package engine

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// PutOrganization makes an organization unless it exists.
func (e *Engine) PutOrganization(ctx context.Context, o *store.Organization) error {
	now := time.Now()
	err := e.db.Write(ctx, func(tx *store.Tx) error { return tx.System().PutOrganization(o, now) })
	if err != nil {
		return fmt.Errorf("put organization: %w", err)
	}
	return nil
}

// PutCustomer makes a customer with its keys, or changes the one with the same external
// id. It returns the id of the customer, which is c.ID only when it is new. A zero c.ID
// is made.
func (e *Engine) PutCustomer(ctx context.Context, c *store.CustomerRow) (id.Customer, error) {
	now := time.Now()
	row := *c
	if row.ID.IsZero() {
		row.ID = id.NewCustomer(now)
	}
	var kept id.Customer
	err := e.db.Write(ctx, func(tx *store.Tx) error {
		var err error
		if kept, err = tx.System().PutCustomer(&row, now); err != nil {
			return err
		}
		return tx.Customer(kept).UnplanSchedules() // they may depend on the time zone
	})
	if err != nil {
		return kept, fmt.Errorf("put customer: %w", err)
	}
	e.catalog.forgetProfile(kept)
	// The row comes first: keys without a customer would be nobody's to delete.
	if err := e.keys.call(ctx, lease.OpCustomer, &lease.CustomerCall{Customer: kept}, nil); err != nil {
		return kept, fmt.Errorf("put customer: %w", err)
	}
	e.mu.Lock()
	if row.Weight > 1 {
		e.queue.weights[kept] = row.Weight
	} else {
		delete(e.queue.weights, kept)
	}
	e.mu.Unlock()
	return kept, nil
}

// Publish makes a version of an integration from its canonical JSON, unless its newest
// version is the same.
func (e *Engine) Publish(ctx context.Context, org id.Org, definition []byte) (*store.Version, error) {
	i, err := flow.Decode(definition)
	if err != nil {
		return nil, fmt.Errorf("publish integration: %w: %w", ErrInvalid, err)
	}
	now := time.Now()
	made := id.NewIntegration(now)
	v := &store.Version{}
	err = e.db.Write(ctx, func(tx *store.Tx) error {
		*v = store.Version{
			Integration: made, Digest: sha256.Sum256(definition), Profile: uint32(i.ProfileVersion), Definition: definition,
		}
		return tx.System().Publish(org, i.Name, v, now)
	})
	if err != nil {
		return nil, fmt.Errorf("publish integration: %w", err)
	}
	return v, nil
}

// Credential is a connection to be saved: its metadata and its record.
type Credential struct {
	Connection store.Connection
	// Record is the credential in clear, which is sealed to the vault at once; its
	// Connection and Customer are set. Or else Sealed holds it, sealed to the vault with
	// lease.PurposeVault at lease.ConnectionPlace by whoever entered it.
	Record *lease.Record
	Sealed []byte
}

// PutConnection saves a credential in the vault and its metadata here.
func (e *Engine) PutConnection(ctx context.Context, c *Credential) error {
	n := c.Connection
	if n.ID.IsZero() || n.Customer.IsZero() {
		return fmt.Errorf("put connection: %w: it has no id or no owner", ErrInvalid)
	}
	sealed := c.Sealed
	if c.Record != nil {
		r := *c.Record
		r.Connection, r.Customer = n.ID, n.Customer
		if n.Kind == "" {
			n.Kind, n.Connector, n.Host = string(r.Kind), r.Connector, r.Binding.Authority()
		}
		var err error
		sealed, err = seal.Seal(e.VaultKey(), lease.PurposeVault, lease.ConnectionPlace(n.Customer, n.ID), wire.AppendBody(nil, &r))
		if err != nil {
			return fmt.Errorf("put connection: %w", err)
		}
	}
	var answer lease.ConnectionAnswer
	ask := &lease.ConnectionCall{Customer: n.Customer, Connection: n.ID, Record: sealed}
	if err := e.keys.call(ctx, lease.OpConnection, ask, &answer); err != nil {
		return fmt.Errorf("put connection: %w", err)
	}
	n.RecordVersion = answer.Version
	now := time.Now()
	err := e.db.Write(ctx, func(tx *store.Tx) error { return tx.Customer(n.Customer).PutConnection(&n, now) })
	if err != nil {
		return fmt.Errorf("put connection: %w", err)
	}
	return nil
}

// DeleteConnection destroys a credential and leaves a tombstone of its metadata.
func (e *Engine) DeleteConnection(ctx context.Context, c id.Customer, n id.Connection) error {
	if _, err := e.db.Customer(ctx, c).Connection(n); err != nil {
		return notFound(fmt.Errorf("delete connection: %w", err))
	}
	ask := &lease.ConnectionCall{Customer: c, Connection: n}
	if err := e.keys.call(ctx, lease.OpConnectionDelete, ask, nil); err != nil {
		return fmt.Errorf("delete connection: %w", err)
	}
	now := time.Now()
	err := e.db.Write(ctx, func(tx *store.Tx) error { return tx.Customer(c).DeleteConnection(n, now) })
	if err != nil {
		return notFound(fmt.Errorf("delete connection: %w", err))
	}
	return nil
}

// Deployment is an instance to be made or changed.
type Deployment struct {
	Customer id.Customer
	Instance id.Instance // zero: a new one
	Digest   [32]byte    // of a published version
	// Config is the config values as JSON in clear, which are sealed to the vault at once.
	// Or else Sealed holds them, sealed with lease.PurposeVault at lease.ConfigPlace of
	// version 0 by whoever entered them.
	Config      []byte
	Sealed      []byte
	Slots       []store.Slot // a zero Owner is the customer
	EgressPool  string
	RunnerPool  string
	InFlightCap uint32
}

// Deploy makes or changes an instance and enables it. Every connection slot of the
// integration must be filled with a connection that exists. Executions that have begun
// end on the version that they began on.
func (e *Engine) Deploy(ctx context.Context, d *Deployment) (*store.Instance, error) {
	now := time.Now()
	v, err := e.catalog.version(ctx, d.Digest)
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	i := &store.Instance{
		Customer: d.Customer, ID: d.Instance, Integration: v.row.Integration, Digest: d.Digest, State: store.InstanceEnabled,
		EgressPool: d.EgressPool, RunnerPool: d.RunnerPool, InFlightCap: d.InFlightCap,
	}
	if i.ID.IsZero() {
		i.ID = id.NewInstance(now)
	}
	if err := e.fillSlots(ctx, i, v, d.Slots); err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	sealed := d.Sealed
	if sealed == nil {
		config := d.Config
		if config == nil {
			config = []byte("{}")
		}
		sealed, err = seal.Seal(e.VaultKey(), lease.PurposeVault, lease.ConfigPlace(d.Customer, i.ID, 0), config)
		if err != nil {
			return nil, fmt.Errorf("deploy: %w", err)
		}
	}
	var answer lease.InstanceAnswer
	ask := &lease.InstanceCall{Customer: d.Customer, Instance: i.ID, Config: sealed}
	if err := e.keys.call(ctx, lease.OpInstance, ask, &answer); err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	i.Config, i.ConfigVersion = answer.Config, answer.Version
	if err := e.prepareTriggers(ctx, v); err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	err = e.db.Write(ctx, func(tx *store.Tx) error {
		rows := tx.Customer(d.Customer)
		if err := rows.PutInstance(i, now); err != nil {
			return err
		}
		return e.putTriggers(ctx, rows, i, v, now)
	})
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	e.catalog.keep(i)
	e.hold(i)
	return i, nil
}

// fillSlots checks that every slot of the integration has a connection that exists, and
// that nothing else is connected.
func (e *Engine) fillSlots(ctx context.Context, i *store.Instance, v *version, slots []store.Slot) error {
	open := map[string]bool{}
	for _, name := range v.slots {
		open[name] = true
	}
	for _, s := range slots {
		if !open[s.Name] {
			return fmt.Errorf("%w: slot %q does not exist or is filled twice", ErrInvalid, s.Name)
		}
		delete(open, s.Name)
		if s.Owner.IsZero() {
			s.Owner = i.Customer
		}
		if _, err := e.db.Customer(ctx, s.Owner).Connection(s.Connection); err != nil {
			return notFound(fmt.Errorf("find connection of slot %q: %w", s.Name, err))
		}
		i.Slots = append(i.Slots, s)
	}
	for name := range open {
		return fmt.Errorf("%w: slot %q has no connection", ErrInvalid, name)
	}
	return nil
}

// SetInstanceState changes the state of an instance. While it is paused, events are
// accepted and nothing is given out.
func (e *Engine) SetInstanceState(ctx context.Context, c id.Customer, i id.Instance, state store.InstanceState) error {
	now := time.Now()
	var x *store.Instance
	err := e.db.Write(ctx, func(tx *store.Tx) error {
		rows := tx.Customer(c)
		err := rows.SetInstanceState(i, state, now)
		if err == nil {
			x, err = rows.Instance(i)
		}
		if err == nil && state == store.InstanceRemoving {
			err = closeTriggers(rows, i, now)
		}
		return err
	})
	if err != nil {
		return notFound(fmt.Errorf("set instance state: %w", err))
	}
	e.catalog.keep(x)
	e.hold(x)
	return nil
}

// hold tells the queue whether nothing of an instance is given out, and its cap.
func (e *Engine) hold(i *store.Instance) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue.hold(i.ID, isHeld(i.State))
	if i.InFlightCap > 0 {
		e.queue.caps[i.ID] = i.InFlightCap
	} else {
		delete(e.queue.caps, i.ID)
	}
	e.wakeLoop()
}
