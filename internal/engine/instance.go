package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

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
	// Revision is the one that the instance must have; 0: any. Partial saves an instance
	// that lacks a connection or, as far as that can be seen, a config value: it takes no
	// events before it is filled.
	Revision uint64
	Partial  bool
	// Quiet has nothing start the flows but who asks for it: no webhook is opened and no
	// schedule made. Test runs of drafts are deployed so.
	Quiet bool
}

// Deploy makes or changes an instance and enables it. Every connection slot of the
// integration must be filled with a connection that exists, and every required config value
// given, unless the deployment is partial. Executions that have begun end on the version
// that they began on.
//
// Errors: ErrNotFound, ErrInvalid, ErrConflict when the instance has another revision or is
// being removed, or one of the vault or the store.
func (e *Engine) Deploy(ctx context.Context, d *Deployment) (*store.Instance, error) {
	now := time.Now()
	v, err := e.catalog.version(ctx, d.Digest)
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	integration, err := e.integration(ctx, d.Customer, d.Digest)
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	i := &store.Instance{
		Customer: d.Customer, ID: d.Instance, Integration: integration, Digest: d.Digest, State: store.InstanceEnabled,
		EgressPool: d.EgressPool, RunnerPool: d.RunnerPool, InFlightCap: d.InFlightCap,
	}
	if i.ID.IsZero() {
		i.ID = id.NewInstance(now)
	}
	if err := e.fillSlots(ctx, i, v, d.Slots); err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	i.State = v.state(i, func(c *flow.ConfigVar) bool { return d.gives(c) })
	if i.State != store.InstanceEnabled && !d.Partial {
		return nil, fmt.Errorf("deploy: %w: it %s", ErrInvalid, lacks(i.State))
	}
	// Config versions count up in the vault: they come into the database in that order.
	turn := e.turnOf(i.ID)
	turn.Lock()
	defer turn.Unlock()
	if err := e.checkRevision(e.db.Customer(ctx, d.Customer), i.ID, d.Revision); err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	if err := e.sealConfig(ctx, i, d); err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	triggers := v
	if d.Quiet {
		triggers = &version{row: v.row, integration: v.integration}
	}
	if err := e.putInstance(ctx, i, triggers, d.Revision, now); err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	return i, nil
}

// integration finds which integration of a customer's organization a version is of. Another
// organization may have published the same definition: what it runs is the same, whose it
// is is not.
func (e *Engine) integration(ctx context.Context, c id.Customer, digest [32]byte) (id.Integration, error) {
	p, err := e.catalog.profile(ctx, c)
	if err != nil {
		return id.Integration{}, err
	}
	v, err := e.db.Org(ctx, p.Organization).VersionByDigest(digest)
	if err != nil {
		return id.Integration{}, notFound(fmt.Errorf("find version: %w", err))
	}
	return v.Integration, nil
}

// instanceTurns is into how many groups instances are divided of which one is deployed at a time.
const instanceTurns = 64

// turnOf is held by who has the vault count an instance's config, until the row says so too.
func (e *Engine) turnOf(i id.Instance) *sync.Mutex { return &e.turns[i[len(i)-1]%instanceTurns] }

// gives reports whether a deployment has a config value. What was sealed by whoever entered
// it is taken as complete.
func (d *Deployment) gives(c *flow.ConfigVar) bool {
	if d.Sealed != nil {
		return true
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(d.Config, &given); err != nil {
		return false
	}
	value, ok := given[c.Name]
	return ok && string(value) != "null"
}

// state is the state of an instance of the version: enabled unless something is missing.
// Config comes first: it cannot be read again, so that an instance which needs a connection
// is one whose config is complete.
func (v *version) state(i *store.Instance, has func(*flow.ConfigVar) bool) store.InstanceState {
	for _, c := range v.required {
		if !has(c) {
			return store.InstanceNeedsConfig
		}
	}
	for _, name := range v.slots {
		if !slices.ContainsFunc(i.Slots, func(s store.Slot) bool { return s.Name == name }) {
			return store.InstanceNeedsConnection
		}
	}
	return store.InstanceEnabled
}

func lacks(s store.InstanceState) string {
	if s == store.InstanceNeedsConnection {
		return "has a slot without a connection"
	}
	return "lacks a required config value"
}

// checkRevision compares an instance with what a change was made for.
func (e *Engine) checkRevision(rows store.Customer, i id.Instance, revision uint64) error {
	x, err := rows.Instance(i)
	switch {
	case isStale(err) && revision == 0:
		return nil
	case err != nil:
		return notFound(err)
	case x.State == store.InstanceRemoving:
		return fmt.Errorf("%w: the instance is being removed", ErrConflict)
	case revision != 0 && x.Revision != revision:
		return fmt.Errorf("%w: it is %d, not %d", ErrRevision, x.Revision, revision)
	}
	return nil
}

// sealConfig has the vault seal the config of a deployment under the instance's key.
func (e *Engine) sealConfig(ctx context.Context, i *store.Instance, d *Deployment) error {
	sealed := d.Sealed
	if sealed == nil {
		config := d.Config
		if config == nil {
			config = []byte("{}")
		}
		var err error
		sealed, err = seal.Seal(e.VaultKey(), lease.PurposeVault, lease.ConfigPlace(d.Customer, i.ID, 0), config)
		if err != nil {
			return err
		}
	}
	var answer lease.InstanceAnswer
	ask := &lease.InstanceCall{Customer: d.Customer, Instance: i.ID, Config: sealed}
	if err := e.keys.call(ctx, lease.OpInstance, ask, &answer); err != nil {
		return err
	}
	i.Config, i.ConfigVersion = answer.Config, answer.Version
	return nil
}

// putInstance writes an instance with what starts the flows of v.
func (e *Engine) putInstance(ctx context.Context, i *store.Instance, v *version, revision uint64, now time.Time) error {
	if err := e.prepareTriggers(ctx, v); err != nil {
		return err
	}
	err := e.submit(ctx, func(tx *store.Tx) error {
		rows := tx.Customer(i.Customer)
		if err := e.checkRevision(rows.Customer, i.ID, revision); err != nil {
			return err
		}
		if err := rows.PutInstance(i, now); err != nil {
			return err
		}
		return e.putTriggers(ctx, rows, i, v, now)
	}, nil)
	if err != nil {
		return err
	}
	e.changed(i)
	return nil
}

// changed makes a committed change of an instance known, unless a newer one is: two may come
// here in another order than they were committed in.
func (e *Engine) changed(i *store.Instance) {
	e.catalog.keep(i)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hold(e.catalog.newest(i))
}

// fillSlots checks that what is connected are slots of the integration, and connections
// that exist.
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
		n, err := e.db.Customer(ctx, s.Owner).Connection(s.Connection)
		if err == nil && n.Kind == store.KindClient {
			err = store.ErrNotFound // the client of a template connects nothing
		}
		if err != nil {
			return notFound(fmt.Errorf("find connection of slot %q: %w", s.Name, err))
		}
		if !v.fits(s.Name, n) {
			return fmt.Errorf("%w: slot %q is for %s, and the connection is one of %s", ErrInvalid, s.Name, v.connector(s.Name), n.Connector)
		}
		i.Slots = append(i.Slots, s)
	}
	return nil
}

// connector is the name of the connector that a slot is for.
func (v *version) connector(slot string) string {
	s := v.integration.Slot(slot)
	if s == nil {
		return ""
	}
	name, _ := flow.SplitConnector(s.Connector)
	return name
}

// fits reports whether a connection can fill a slot. That of one connector fills no slot of another, whose actions mean
// something else by the same names, by which its sealed record may say what it is shared for. The built-in connector goes with all.
func (v *version) fits(slot string, n *store.ConnectionInfo) bool {
	of := v.connector(slot)
	return of == n.Connector || flow.BuiltInConnector(of) || flow.BuiltInConnector(n.Connector)
}

// Upgrade moves an instance to another version of its integration, with its config and its
// connections. Executions that have begun end on theirs. The version before is kept for
// [Engine.RollBack]. When the new version has a slot that is not filled, or requires a value
// that the one before did not require, the instance takes no events before it is deployed
// with them. A paused instance stays paused.
//
// Errors: ErrNotFound, ErrInvalid when it is a version of something else, ErrConflict when the
// revision is not 0 and not the present one, or one of the store.
func (e *Engine) Upgrade(ctx context.Context, c id.Customer, i id.Instance, digest [32]byte, revision uint64) (*store.Instance, error) {
	x, err := e.move(ctx, &Change{Customer: c, Instance: i, Revision: revision}, func(*store.Instance) ([32]byte, error) { return digest, nil })
	if err != nil {
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	return x, nil
}

// RollBack moves an instance to the version that it had before the last upgrade. A second
// roll-back undoes the first. ErrConflict means that there was none, or as for Upgrade.
func (e *Engine) RollBack(ctx context.Context, c id.Customer, i id.Instance, revision uint64) (*store.Instance, error) {
	x, err := e.move(ctx, &Change{Customer: c, Instance: i, Revision: revision}, func(x *store.Instance) ([32]byte, error) {
		if x.Previous == [32]byte{} {
			return x.Previous, fmt.Errorf("%w: it has had no other version", ErrConflict)
		}
		return x.Previous, nil
	})
	if err != nil {
		return nil, fmt.Errorf("roll back: %w", err)
	}
	return x, nil
}

// SetInstanceState changes the state of an instance. While it is paused, events are
// accepted and nothing is given out. To remove one, use [Engine.Remove].
//
// Errors: ErrNotFound, ErrConflict when it is being removed, or one of the store.
func (e *Engine) SetInstanceState(ctx context.Context, c id.Customer, i id.Instance, state store.InstanceState) error {
	if _, err := e.setState(ctx, c, i, state, 0); err != nil {
		return fmt.Errorf("set instance state: %w", err)
	}
	return nil
}

// ChangeInstanceState is SetInstanceState for a revision that the instance must have.
func (e *Engine) ChangeInstanceState(ctx context.Context, c id.Customer, i id.Instance, state store.InstanceState, revision uint64) error {
	if _, err := e.setState(ctx, c, i, state, revision); err != nil {
		return fmt.Errorf("set instance state: %w", err)
	}
	return nil
}

func (e *Engine) setState(ctx context.Context, c id.Customer, i id.Instance, state store.InstanceState, revision uint64) (*store.Instance, error) {
	now := time.Now()
	var x *store.Instance
	err := e.submit(ctx, func(tx *store.Tx) error {
		rows := tx.Customer(c)
		if err := e.checkRevision(rows.Customer, i, revision); err != nil {
			return err
		}
		state := state
		if state == store.InstanceEnabled {
			var err error
			if state, err = connectedState(rows.Customer, i, func(c id.Customer) store.Customer { return tx.Customer(c).Customer }); err != nil {
				return err
			}
		}
		err := rows.SetInstanceState(i, state, now)
		if err == nil {
			x, err = rows.Instance(i)
		}
		switch {
		case err != nil:
		case state == store.InstanceRemoving:
			err = closeTriggers(rows, i, now)
		case state == store.InstanceEnabled:
			err = rows.ArmDeployRuns(i, now)
		}
		return err
	}, nil)
	if err != nil {
		return nil, err
	}
	e.changed(x)
	return x, nil
}

// connectedState is the state of an instance that is to be enabled: it needs a connection
// when one of its own is gone or must be connected again.
func connectedState(rows store.Customer, i id.Instance, of func(id.Customer) store.Customer) (store.InstanceState, error) {
	x, err := rows.Instance(i)
	if err != nil {
		return "", err
	}
	return usableSlots(x, of)
}

func usableSlots(x *store.Instance, of func(id.Customer) store.Customer) (store.InstanceState, error) {
	for _, s := range x.Slots {
		n, err := of(s.Owner).Connection(s.Connection)
		switch {
		case isStale(err), err == nil && n.Health == store.HealthNeedsReconnect:
			return store.InstanceNeedsConnection, nil
		case err != nil:
			return "", err
		}
	}
	return store.InstanceEnabled, nil
}

// hold tells the queue whether nothing of an instance is given out, and its cap. Callers hold
// the mutex.
func (e *Engine) hold(i *store.Instance) {
	if i.State != store.InstanceRemoving { // what was held is cancelled first: see removeStep
		e.queue.hold(i.ID, isHeld(i.State))
	}
	if i.State == store.InstanceEnabled {
		delete(e.faults, i.ID)
	}
	if i.InFlightCap > 0 {
		e.queue.caps[i.ID] = i.InFlightCap
	} else {
		delete(e.queue.caps, i.ID)
	}
	e.wakeLoop()
}
