package engine

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
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
	// KeepSharing: see lease.ConnectionCall.
	KeepSharing bool
}

// PutConnection saves a credential in the vault and its metadata here. What the vault has is noted at once, whether the caller
// waits or not, and before egress nodes are told of it, which may take seconds.
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
	ask := &lease.ConnectionCall{Customer: n.Customer, Connection: n.ID, Record: sealed, KeepSharing: c.KeepSharing}
	if err := e.keys.call(ctx, lease.OpConnection, ask, &answer); err != nil {
		return fmt.Errorf("put connection: %w", err)
	}
	n.RecordVersion = answer.Version
	now := time.Now()
	err := e.db.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.Customer(n.Customer).PutConnection(&n, now) })
	if answer.Version > 1 {
		e.replaced(ctx, n.Customer, n.ID, answer.Version)
	}
	if err != nil {
		return fmt.Errorf("put connection: %w", err)
	}
	return nil
}

// DeleteConnection destroys a credential and leaves a tombstone of its metadata, with the
// reason why.
func (e *Engine) DeleteConnection(ctx context.Context, c id.Customer, n id.Connection, reason string) error {
	if _, err := e.db.Customer(ctx, c).Connection(n); err != nil {
		return notFound(fmt.Errorf("delete connection: %w", err))
	}
	ask := &lease.ConnectionCall{Customer: c, Connection: n}
	if err := e.keys.call(ctx, lease.OpConnectionDelete, ask, nil); err != nil {
		return fmt.Errorf("delete connection: %w", err)
	}
	now := time.Now()
	err := e.db.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.Customer(c).DeleteConnection(n, reason, now) })
	e.replaced(ctx, c, n, math.MaxUint64)
	if err != nil {
		return notFound(fmt.Errorf("delete connection: %w", err))
	}
	return nil
}

// ForgetConnection destroys a credential of which there is no metadata, if the vault has it: what was begun and not ended.
func (e *Engine) ForgetConnection(ctx context.Context, c id.Customer, n id.Connection) error {
	known, err := e.connectionVersions(ctx, []store.Owned{{Customer: c, Connection: n}})
	if err == nil && known[0].Number > 0 && !known[0].Gone {
		err = e.keys.call(ctx, lease.OpConnectionDelete, &lease.ConnectionCall{Customer: c, Connection: n}, nil)
	}
	if err != nil {
		return fmt.Errorf("forget connection: %w", err)
	}
	return nil
}
