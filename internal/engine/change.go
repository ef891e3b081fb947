package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Change is what becomes of an instance. What it does not say stays as it is.
type Change struct {
	Customer id.Customer
	Instance id.Instance
	Revision uint64   // that the instance must have; 0: any
	Digest   [32]byte // of a version of the same integration; zero: the present one
	// Config or Sealed are all config values, as of a [Deployment].
	Config      []byte
	Sealed      []byte
	Slots       []store.Slot // all connections, when Reconnect says so
	Reconnect   bool
	InFlightCap *uint32
}

// Change changes an instance. One that then lacks a connection or a config value takes no
// events before it has them; a paused one stays paused.
//
// Errors: ErrNotFound, ErrInvalid, ErrConflict when the revision is another or the instance
// is being removed, or one of the vault or the store.
func (e *Engine) Change(ctx context.Context, c *Change) (*store.Instance, error) {
	x, err := e.move(ctx, c, func(x *store.Instance) ([32]byte, error) {
		if c.Digest == [32]byte{} {
			return x.Digest, nil
		}
		return c.Digest, nil
	})
	if err != nil {
		return nil, fmt.Errorf("change instance: %w", err)
	}
	return x, nil
}

// move gives an instance another version, config, connections or cap.
func (e *Engine) move(ctx context.Context, c *Change, to func(*store.Instance) ([32]byte, error)) (*store.Instance, error) {
	turn := e.turnOf(c.Instance)
	turn.Lock()
	defer turn.Unlock()
	x, err := e.db.Customer(ctx, c.Customer).Instance(c.Instance)
	if err != nil {
		return nil, notFound(err)
	}
	if err := e.checkRevision(e.db.Customer(ctx, c.Customer), c.Instance, c.Revision); err != nil {
		return nil, err
	}
	old, err := e.catalog.version(ctx, x.Digest)
	if err != nil {
		return nil, err
	}
	present, was, before := x.Revision, x.State, x.Digest
	if x.Digest, err = to(x); err != nil {
		return nil, err
	}
	v, err := e.catalog.version(ctx, x.Digest)
	if err != nil {
		return nil, err
	}
	if x.Digest != before {
		switch of, err := e.integration(ctx, c.Customer, x.Digest); {
		case err != nil:
			return nil, err
		case of != x.Integration:
			return nil, fmt.Errorf("%w: it is a version of another integration", ErrInvalid)
		}
	}
	has := func(r *flow.ConfigVar) bool {
		return was != store.InstanceNeedsConfig && slices.ContainsFunc(old.required, func(o *flow.ConfigVar) bool { return o.Name == r.Name })
	}
	if c.Config != nil || c.Sealed != nil {
		has = (&Deployment{Config: c.Config, Sealed: c.Sealed}).gives
	}
	if err := e.reconnect(ctx, x, v, c); err != nil {
		return nil, err
	}
	switch x.State = v.state(x, has); {
	case x.State != store.InstanceEnabled:
	case was == store.InstancePaused:
		x.State = was
	default:
		if x.State, err = usableSlots(x, func(c id.Customer) store.Customer { return e.db.Customer(ctx, c) }); err != nil {
			return nil, err
		}
	}
	if err := e.putInstance(ctx, x, v, present, time.Now()); err != nil {
		return nil, err
	}
	return x, nil
}

// reconnect makes the changes to what an instance holds, and drops what its version has no
// slot for.
func (e *Engine) reconnect(ctx context.Context, x *store.Instance, v *version, c *Change) error {
	if c.Reconnect {
		x.Slots = nil
		if err := e.fillSlots(ctx, x, v, c.Slots); err != nil {
			return err
		}
	}
	x.Slots = slices.DeleteFunc(x.Slots, func(s store.Slot) bool {
		if !slices.Contains(v.slots, s.Name) {
			return true
		}
		n, err := e.db.Customer(ctx, s.Owner).Connection(s.Connection)
		return err == nil && !v.fits(s.Name, n) // the version before had a slot for another connector
	})
	if c.InFlightCap != nil {
		x.InFlightCap = *c.InFlightCap
	}
	if c.Config == nil && c.Sealed == nil {
		return nil
	}
	return e.sealConfig(ctx, x, &Deployment{Customer: c.Customer, Config: c.Config, Sealed: c.Sealed})
}
