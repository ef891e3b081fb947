package connect

import (
	"context"
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
		if err := s.engine.SetInstanceState(ctx, u.Customer, u.Instance, store.InstanceNeedsConnection); err != nil {
			return err
		}
	}
	return nil
}
