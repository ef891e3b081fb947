package connect

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Limits of breaking glass.
const (
	// MaxPlanned is the most connections that a plan names.
	MaxPlanned = 10_000
	// MaxUses is the most uses that a plan tells; more are counted.
	MaxUses = 50_000
	// MaxBatch is the most connections that one call ends.
	MaxBatch = 50
	// atOnce is how many providers are asked at a time.
	atOnce = 8
	// pageSize is how many rows are read at a time.
	pageSize = 500
)

// Scope says which connections are meant: of a connector, of a customer, of both, or all.
type Scope struct {
	Org       id.Org
	Connector string
	Customer  id.Customer
	All       bool
}

// check refuses a scope that means everything without saying so.
func (c *Scope) check() error {
	if named := c.Connector != "" || !c.Customer.IsZero(); named == c.All {
		return invalid("all", "name a connector or a customer, or say all")
	}
	return nil
}

// Plan says what would be ended, and what was done with it: the blast radius.
type Plan struct {
	Connections []store.ConnectionInfo
	Uses        []store.Use // by connection
	More        int64       // uses beyond MaxUses
}

// Plan makes a plan; nothing changes. Uses since a time are told, from the flow records.
//
// Errors: [InvalidError], or one of the store.
func (s *Service) Plan(ctx context.Context, c *Scope, since time.Time) (*Plan, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	p := &Plan{}
	targets := map[id.Connection]bool{}
	err := s.targets(ctx, c, func(n *store.ConnectionInfo) error {
		if len(p.Connections) == MaxPlanned {
			return invalid("all", "more than %d connections: name a connector or a customer", MaxPlanned)
		}
		p.Connections = append(p.Connections, *n)
		targets[n.ID] = true
		return nil
	})
	if err != nil || len(targets) == 0 {
		return p, err
	}
	err = s.db.Org(ctx, c.Org).Uses(id.Customer{}, since, func(u *store.Use) error {
		switch {
		case !targets[u.Connection]:
		case len(p.Uses) < MaxUses:
			p.Uses = append(p.Uses, *u)
		default:
			p.More++
		}
		return nil
	})
	return p, err
}

// targets tells the connections of a scope.
func (s *Service) targets(ctx context.Context, c *Scope, each func(*store.ConnectionInfo) error) error {
	q := &store.ConnectionQuery{Connector: c.Connector, Customer: c.Customer}
	for {
		page, err := s.db.Org(ctx, c.Org).Connections(q, pageSize)
		if err != nil {
			return err
		}
		for n := range page {
			if err := each(&page[n]); err != nil {
				return err
			}
			q.After = page[n].ID
		}
		if len(page) < pageSize {
			return nil
		}
	}
}

// Broken says what became of one connection.
type Broken struct {
	Connection store.ConnectionInfo
	Ended      *Ended // nil: it could not be ended, see Err
	Link       string // address by which it is connected again; empty: it must be entered
	Err        error
}

// Breakage is what one call of [Service.Break] did.
type Breakage struct {
	Broken    []Broken
	Paused    []store.InstanceKey
	Links     int // connect links that were taken back
	Remaining int // connections of the scope that are left: call again
}

// Break breaks the glass: it takes back the open links of a scope, pauses every instance
// that uses a connection of it, and then ends up to MaxBatch of those connections: revoked
// at the provider, destroyed here, with a link by which each is connected again. It is
// called until nothing remains; what was done is not done twice.
//
// Errors: [InvalidError], or one of the store; those of single connections are in the result.
func (s *Service) Break(ctx context.Context, c *Scope, by string) (*Breakage, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	b := &Breakage{}
	now := time.Now()
	err := s.db.Write(ctx, func(tx *store.Tx) (err error) {
		b.Links, err = tx.Org(c.Org).RevokeLinksOf(c.Connector, c.Customer, now)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("take back links: %w", err)
	}
	err = s.targets(ctx, c, func(n *store.ConnectionInfo) error {
		if len(b.Broken) < MaxBatch {
			b.Broken = append(b.Broken, Broken{Connection: *n})
		} else {
			b.Remaining++
		}
		return s.pause(ctx, c.Org, n.ID, &b.Paused)
	})
	if err != nil {
		return nil, err
	}
	room := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for n := range b.Broken {
		room <- struct{}{}
		all.Go(func() {
			s.breakOne(ctx, c, &b.Broken[n], by)
			<-room
		})
	}
	all.Wait()
	return b, nil
}

// pause pauses the instances that use a connection.
func (s *Service) pause(ctx context.Context, o id.Org, n id.Connection, paused *[]store.InstanceKey) error {
	users, err := s.db.Org(ctx, o).Using(n)
	if err != nil {
		return err
	}
	for _, k := range users {
		i, err := s.db.Customer(ctx, k.Customer).Instance(k.Instance)
		if err != nil || i.State == store.InstancePaused || i.State == store.InstanceRemoving {
			continue
		}
		err = s.engine.SetInstanceState(ctx, k.Customer, k.Instance, store.InstancePaused)
		if err != nil && !errors.Is(err, engine.ErrNotFound) && !errors.Is(err, engine.ErrConflict) {
			return err
		}
		*paused = append(*paused, k)
	}
	return nil
}

func (s *Service) breakOne(ctx context.Context, c *Scope, b *Broken, by string) {
	n := &b.Connection
	if b.Ended, b.Err = s.End(ctx, c.Org, n.ID, ReasonRevoked); b.Err != nil {
		s.log.ErrorContext(ctx, "connection is not revoked", "connection", n.ID.String(), "err", b.Err)
		return
	}
	s.notify(ctx, n.Customer, n.ID, store.NoticeRevoked, ReasonRevoked)
	if flow.BuiltInConnector(n.Connector) {
		return
	}
	e := &LinkEntry{
		Org: c.Org, Customer: n.Customer, Connector: n.Connector, Template: n.Template, Name: n.Name, Methods: []string{n.Method}, Vars: n.Vars,
		Shared: n.Shared, Replaces: n.ID, By: by,
	}
	_, address, err := s.MakeLink(ctx, e)
	if _, invalid := errors.AsType[InvalidError](err); invalid && isShared(&e.Shared) { // such as with a customer who is gone
		s.log.WarnContext(ctx, "what replaces a connection is not shared as it was", "connection", n.ID.String(), "err", err)
		e.Shared = store.Shared{}
		_, address, err = s.MakeLink(ctx, e)
	}
	if err != nil { // such as a connector that is not offered any more: it must be entered in another way
		s.log.WarnContext(ctx, "no link to connect again", "connection", n.ID.String(), "err", err)
		return
	}
	b.Link = address
}

// replace gives the instances that used a connection that was revoked the one that was made
// by its link.
func (s *Service) replace(ctx context.Context, l *store.Link, made id.Connection) error {
	if l.Replaces.IsZero() {
		return nil
	}
	users, err := s.db.System(ctx).Users(store.Owned{Customer: l.Customer, Connection: l.Replaces})
	if err != nil {
		return err
	}
	for _, u := range users {
		i, err := s.db.Customer(ctx, u.Customer).Instance(u.Instance)
		if err != nil {
			return err
		}
		for n := range i.Slots {
			if i.Slots[n].Connection == l.Replaces {
				i.Slots[n].Connection = made
			}
		}
		if _, err := s.engine.Change(ctx, &engine.Change{Customer: u.Customer, Instance: u.Instance, Slots: i.Slots, Reconnect: true}); err != nil {
			s.log.ErrorContext(ctx, "instance keeps a connection that was revoked", "instance", u.Instance.String(), "err", err)
		}
	}
	return nil
}
