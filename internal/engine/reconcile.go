package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

const (
	// reconcileEvery is the least time between two looks; a start looks at once.
	reconcileEvery = time.Minute
	// reconcileRetry is the first pause after a vault that did not answer; each is twice as
	// long, up to reconcileEvery.
	reconcileRetry = time.Second
)

// reconcileLoop compares the database with what the keystore remembers, at the start and
// after a lease that the vault did not give. They disagree after either was restored: then an
// instance would only be refused leases for ever, without anybody being told what to do.
func (e *Engine) reconcileLoop(ctx context.Context) {
	retry := reconcileRetry
	for {
		err := e.reconcile(ctx)
		pause := reconcileEvery
		if err != nil {
			if ctx.Err() == nil {
				e.log.WarnContext(ctx, "database and keystore cannot be compared", "error", err)
			}
			pause, retry = retry, min(2*retry, reconcileEvery)
		} else {
			retry = reconcileRetry
		}
		rest := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			rest.Stop()
			return
		case <-rest.C:
		}
		if err != nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-e.doubt:
		}
	}
}

// suspect has database and keystore compared.
func (e *Engine) suspect() {
	select {
	case e.doubt <- struct{}{}:
	default:
	}
}

func (e *Engine) reconcile(ctx context.Context) error {
	if err := e.reconcileEnded(ctx); err != nil {
		return err
	}
	rows := e.db.System(ctx)
	err := eachPage("connections", rows.ConnectionsAfter, ownedConnection, func(page []store.Owned) error {
		return e.reconcileConnections(ctx, page)
	})
	if err != nil {
		return err
	}
	err = eachPage("instances", rows.ConfiguredAfter, func(x store.Configured) id.Instance { return x.Instance }, func(page []store.Configured) error {
		return e.reconcileInstances(ctx, page)
	})
	if err != nil {
		return err
	}
	return eachPage("customers", rows.CustomersAfter, func(x store.Member) id.Customer { return x.Customer }, func(page []store.Member) error {
		return e.reconcileCustomers(ctx, page)
	})
}

// eachPage lists everything in order, as much at a time as the vault can be asked about. No page is empty. The errors of a
// list say what is listed.
func eachPage[T, K any](what string, list func(after K, limit int) ([]T, error), key func(T) K, do func(page []T) error) error {
	var after K
	for {
		page, err := list(after, lease.MaxVersions)
		if err != nil {
			return fmt.Errorf("list %s: %w", what, err)
		}
		if len(page) > 0 {
			if err := do(page); err != nil {
				return err
			}
		}
		if len(page) < lease.MaxVersions {
			return nil
		}
		after = key(page[len(page)-1])
	}
}

func ownedConnection(n store.Owned) id.Connection { return n.Connection }

// versions asks the vault what it remembers.
func (e *Engine) versions(ctx context.Context, ask *lease.VersionsCall) (*lease.VersionsAnswer, error) {
	a := &lease.VersionsAnswer{}
	if err := e.keys.call(ctx, lease.OpVersions, ask, a); err != nil {
		return nil, err
	}
	if len(a.Instances) != len(ask.Instances) || len(a.Connections) != len(ask.Connections) || len(a.Customers) != len(ask.Customers) {
		return nil, errors.New("the vault answers for others than it was asked about")
	}
	return a, nil
}

// connectionVersions asks the vault what it remembers of the connections of a page, in their order.
func (e *Engine) connectionVersions(ctx context.Context, page []store.Owned) ([]lease.Version, error) {
	ask := &lease.VersionsCall{}
	for i := range page {
		ask.Connections = append(ask.Connections, page[i].Connection)
	}
	a, err := e.versions(ctx, ask)
	if err != nil {
		return nil, err
	}
	return a.Connections, nil
}

// reconcileInstances puts instances whose config the vault does not take for the newest
// into the state needs_config, and those whose key is destroyed into removing.
func (e *Engine) reconcileInstances(ctx context.Context, page []store.Configured) error {
	ask := &lease.VersionsCall{}
	for i := range page {
		ask.Instances = append(ask.Instances, page[i].Instance)
	}
	a, err := e.versions(ctx, ask)
	if err != nil {
		return err
	}
	for i, v := range a.Instances {
		if x := &page[i]; v.Gone || v.Number != x.ConfigVersion {
			if err := e.demote(ctx, x.Customer, x.Instance); err != nil {
				return err
			}
		}
	}
	return nil
}

// reconcileConnections deletes connections whose credential is destroyed, and has those
// that the keystore does not know connected again.
func (e *Engine) reconcileConnections(ctx context.Context, page []store.Owned) error {
	versions, err := e.connectionVersions(ctx, page)
	if err != nil {
		return err
	}
	for i, v := range versions {
		if v.Gone || v.Number == 0 {
			if err := e.disconnect(ctx, page[i], v.Gone); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *Engine) disconnect(ctx context.Context, n store.Owned, gone bool) error {
	if err := e.awaitUsers(ctx, n); err != nil {
		return err
	}
	now := time.Now()
	err := e.db.Write(ctx, func(tx *store.Tx) error {
		if gone {
			return tx.Customer(n.Customer).DeleteConnection(n.Connection, "deleted before the restore", now)
		}
		return tx.Customer(n.Customer).Reconnect(n.Connection, now)
	})
	if err != nil && !isStale(err) {
		return fmt.Errorf("note lost connection: %w", err)
	}
	e.log.WarnContext(ctx, "the keystore has no credential of a connection: it must be connected again", "connection", n.Connection, "customer", n.Customer)
	return nil
}

// demote changes the state of an instance of which the vault seems to remember something else
// than the database. It looks at both again in the instance's turn, because a deployment has the
// vault count first and writes the row behind that.
func (e *Engine) demote(ctx context.Context, c id.Customer, n id.Instance) error {
	turn := e.turnOf(n)
	turn.Lock()
	defer turn.Unlock()
	for {
		x, err := e.db.Customer(ctx, c).Instance(n)
		if isStale(err) {
			return nil // it was removed meanwhile
		}
		if err != nil {
			return fmt.Errorf("read instance: %w", err)
		}
		a, err := e.versions(ctx, &lease.VersionsCall{Instances: []id.Instance{n}})
		if err != nil {
			return err
		}
		state := store.InstanceNeedsConfig
		if v := a.Instances[0]; v.Gone {
			state = store.InstanceRemoving
		} else if v.Number == x.ConfigVersion {
			return nil
		}
		if x.State == state || x.State == store.InstanceRemoving {
			return nil
		}
		err = e.ChangeInstanceState(ctx, c, n, state, x.Revision)
		switch {
		case errors.Is(err, ErrRevision):
			continue // it was paused, say, or deployed by another server
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrConflict):
			return nil // it is gone, or being removed
		case err != nil:
			return err
		}
		if state == store.InstanceRemoving {
			e.kickRemovals()
		}
		e.log.WarnContext(ctx, "database and keystore disagree about an instance", "instance", n, "customer", c, "state", state)
		return nil
	}
}

// isHeld reports whether nothing of an instance in a state is given out.
func isHeld(s store.InstanceState) bool {
	return s == store.InstancePaused || s == store.InstanceNeedsConfig || s == store.InstanceNeedsConnection
}
