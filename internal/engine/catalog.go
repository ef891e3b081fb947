package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Limits of the catalog's memory.
const (
	maxInstances = 10_000
	maxVersions  = 1_000
	maxProfiles  = 10_000
	// profileAge is how long a change of a customer that another server made may stay unseen.
	profileAge = 10 * time.Second
)

// catalog keeps instances and published versions in memory. It is safe for concurrent use.
type catalog struct {
	db *store.Store

	mu        sync.Mutex
	instances map[id.Instance]*store.Instance
	versions  map[[32]byte]*version
	profiles  map[id.Customer]*profile
}

// profile is how the organization describes a customer, and when it was read.
type profile struct {
	row  *store.CustomerRow
	read time.Time
}

// version is a published integration with what the engine needs of it.
type version struct {
	row         *store.Version
	integration *flow.Integration
	flows       map[string]*flow.Flow
	slots       []string          // names of the connection slots
	required    []*flow.ConfigVar // config values without which an instance cannot run
}

func newCatalog(db *store.Store) *catalog {
	return &catalog{db: db, instances: map[id.Instance]*store.Instance{}, versions: map[[32]byte]*version{}, profiles: map[id.Customer]*profile{}}
}

// profile reads how the organization describes a customer. The result is shared.
func (c *catalog) profile(ctx context.Context, customer id.Customer) (*store.CustomerRow, error) {
	now := time.Now()
	c.mu.Lock()
	p := c.profiles[customer]
	c.mu.Unlock()
	if p != nil && now.Sub(p.read) < profileAge {
		return p.row, nil
	}
	row, err := c.db.Customer(ctx, customer).Profile()
	if err != nil {
		return nil, notFound(fmt.Errorf("find customer: %w", err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.profiles) >= maxProfiles {
		clear(c.profiles)
	}
	c.profiles[customer] = &profile{row, now}
	return row, nil
}

// forgetProfile makes the next event read the customer again.
func (c *catalog) forgetProfile(customer id.Customer) {
	c.mu.Lock()
	delete(c.profiles, customer)
	c.mu.Unlock()
}

// instance finds an instance of a customer. The result is shared: do not change it.
func (c *catalog) instance(ctx context.Context, customer id.Customer, i id.Instance) (*store.Instance, error) {
	c.mu.Lock()
	x := c.instances[i]
	c.mu.Unlock()
	if x == nil {
		var err error
		if x, err = c.db.Customer(ctx, customer).Instance(i); err != nil {
			return nil, notFound(fmt.Errorf("find instance: %w", err))
		}
		c.keep(x)
	}
	if x.Customer != customer {
		return nil, fmt.Errorf("find instance: %w", ErrNotFound)
	}
	return x, nil
}

// keep remembers an instance, unless a newer revision is known.
func (c *catalog) keep(x *store.Instance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.instances) >= maxInstances {
		clear(c.instances)
	}
	if newer := c.instances[x.ID]; newer == nil || newer.Revision < x.Revision {
		c.instances[x.ID] = x
	}
}

// newest is the instance of the highest revision that is known: x, or what was kept of it.
func (c *catalog) newest(x *store.Instance) *store.Instance {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kept := c.instances[x.ID]; kept != nil && kept.Revision > x.Revision {
		return kept
	}
	return x
}

// older reports whether what is known of an instance is older than a revision, or nothing is.
func (c *catalog) older(i id.Instance, revision uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.instances[i]
	return x == nil || x.Revision < revision
}

// forget drops an instance that is no more.
func (c *catalog) forget(i id.Instance) {
	c.mu.Lock()
	delete(c.instances, i)
	c.mu.Unlock()
}

// version finds a published version by its digest.
func (c *catalog) version(ctx context.Context, digest [32]byte) (*version, error) {
	c.mu.Lock()
	v := c.versions[digest]
	c.mu.Unlock()
	if v != nil {
		return v, nil
	}
	row, err := c.db.System(ctx).Version(digest)
	if err != nil {
		return nil, notFound(fmt.Errorf("find version: %w", err))
	}
	i, err := flow.Decode(row.Definition)
	if err != nil {
		return nil, fmt.Errorf("read version: %w", err)
	}
	v = &version{row: row, integration: i, flows: map[string]*flow.Flow{}}
	for n := range i.Connections {
		v.slots = append(v.slots, i.Connections[n].Name)
	}
	for n := range i.Config {
		if c := &i.Config[n]; c.Required && c.Default.IsZero() && c.If.IsZero() {
			v.required = append(v.required, c)
		}
	}
	for n := range i.Flows {
		v.flows[i.Flows[n].Name] = &i.Flows[n]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.versions) >= maxVersions {
		clear(c.versions)
	}
	c.versions[digest] = v
	return v, nil
}

// flow finds a flow of a version.
func (c *catalog) flow(ctx context.Context, digest [32]byte, name string) (*flow.Flow, error) {
	v, err := c.version(ctx, digest)
	if err != nil {
		return nil, err
	}
	f := v.flows[name]
	if f == nil {
		return nil, fmt.Errorf("find flow: %w", ErrNotFound)
	}
	return f, nil
}

// notFound makes the store's ErrNotFound the engine's.
func notFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}
