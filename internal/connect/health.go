package connect

import (
	"context"
	"errors"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// SetHealth notes how a connection does. One that must be connected again, or is revoked,
// makes a notice, and the instances that use it wait for it.
func (s *Service) SetHealth(ctx context.Context, c id.Customer, n id.Connection, h store.Health, problem string) (changed bool, err error) {
	now := time.Now()
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		changed, err = tx.Customer(c).SetHealth(n, h, problem, now)
		return err
	})
	if err != nil || !changed {
		return changed, err
	}
	switch h {
	case store.HealthNeedsReconnect:
		s.notify(ctx, c, n, store.NoticeNeedsReconnect, problem)
		err = s.hold(ctx, c, n)
	case store.HealthFailing:
		s.notify(ctx, c, n, store.NoticeFailing, problem)
	case store.HealthExpiring:
		s.notify(ctx, c, n, store.NoticeExpiring, problem)
	}
	return changed, err
}

// hold lets the instances that use a connection wait for it.
func (s *Service) hold(ctx context.Context, c id.Customer, n id.Connection) error {
	users, err := s.db.System(ctx).Users(store.Owned{Customer: c, Connection: n})
	if err != nil {
		return err
	}
	for _, u := range users {
		err = errors.Join(err, s.engine.AwaitConnection(ctx, u.Customer, u.Instance, n))
	}
	return err
}

// How connections are watched.
const (
	watchEvery = time.Hour
	// ExpiresSoon is how long before its end a credential that nothing renews is said to
	// expire.
	ExpiresSoon = 7 * 24 * time.Hour
	// UnusedAfter is how long nothing has used a connection that is said to be unused.
	UnusedAfter = 90 * 24 * time.Hour
	// problemCertificate is why a connection needs another client certificate.
	problemCertificate = "certificate_expired"
)

// Run watches connections until the context ends. Any number of servers may.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	soon := time.NewTimer(claimLife) // what a crash has interrupted is given up by then
	defer soon.Stop()
	for now := time.Now(); ; {
		if err := s.Watch(ctx, now); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "connections are not watched", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case now = <-tick.C:
		case now = <-soon.C:
		}
	}
}

// Watch makes notices of the connections that expire soon, that need another client certificate, and that nothing has used
// for long, ends what a crash has interrupted, and forgets visits that nobody came back from.
func (s *Service) Watch(ctx context.Context, now time.Time) error {
	rows := s.db.System(ctx)
	err := eachOwned(func(after id.Connection) ([]store.Owned, error) {
		return rows.EndedBy(now, after, pageSize)
	}, func(n store.Owned) error {
		_, err := s.SetHealth(ctx, n.Customer, n.Connection, store.HealthNeedsReconnect, problemCertificate)
		return err
	})
	if err != nil {
		return err
	}
	err = eachOwned(func(after id.Connection) ([]store.Owned, error) {
		return rows.ExpiringBy(now.Add(ExpiresSoon), after, pageSize)
	}, func(n store.Owned) error {
		_, err := s.SetHealth(ctx, n.Customer, n.Connection, store.HealthExpiring, "")
		return err
	})
	if err != nil {
		return err
	}
	err = eachOwned(func(after id.Connection) ([]store.Owned, error) {
		return rows.UnusedSince(now.Add(-UnusedAfter), after, pageSize)
	}, func(n store.Owned) error {
		s.notify(ctx, n.Customer, n.Connection, store.NoticeUnused, "")
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.settleAll(ctx, now); err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *store.Tx) error { return tx.System().PurgeVisits(now.Add(-24 * time.Hour)) })
}

// eachOwned reads a list page by page.
func eachOwned(page func(after id.Connection) ([]store.Owned, error), each func(store.Owned) error) error {
	var after id.Connection
	for {
		list, err := page(after)
		if err != nil {
			return err
		}
		for _, n := range list {
			if err := each(n); err != nil {
				return err
			}
			after = n.Connection
		}
		if len(list) < pageSize {
			return nil
		}
	}
}
