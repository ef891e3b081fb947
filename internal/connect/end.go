package connect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// revokeTime bounds how long a provider is asked to end a grant. The credential is destroyed
// here whatever it answers.
const revokeTime = 30 * time.Second

// Revoked says what a provider made of the wish to end a grant.
type Revoked string

// The values of [Revoked].
const (
	RevokedYes        Revoked = "yes"         // the provider said so
	RevokedFailed     Revoked = "failed"      // it could not be reached, or said no
	RevokedNotOffered Revoked = "not_offered" // it has no way to end one
	RevokedNothing    Revoked = "nothing"     // there was no grant: a key, or nothing at all
)

// Ended says what a connection that ended leaves behind.
type Ended struct {
	Revoked   Revoked
	Instances []store.InstanceKey // wait for another connection now
}

// End ends a connection: its grant is revoked at the provider, as far as that goes, its
// credential is destroyed, with a leaf in the vault's log, and the instances that use it wait
// for another. What is left is a tombstone with the reason. After an error nothing has ended
// that asking again would not find; when glass is broken, an instance that cannot be told does
// not keep the credential from being destroyed.
//
// Errors: store.ErrNotFound, or one of the vault or the store.
func (s *Service) End(ctx context.Context, o id.Org, n id.Connection, reason string) (*Ended, error) {
	x, err := s.db.Org(ctx, o).Connection(n)
	if err != nil {
		return nil, err
	}
	used, err := s.db.Org(ctx, o).Using(n)
	if err != nil {
		return nil, err
	}
	untold := s.unprobeAll(ctx, x.Customer, n)
	for _, k := range used {
		if err := s.engine.AwaitConnection(ctx, k.Customer, k.Instance, n); err != nil {
			untold = errors.Join(untold, fmt.Errorf("instance %s: %w", k.Instance, err))
		}
	}
	switch {
	case untold != nil && reason != ReasonRevoked:
		return nil, untold
	case untold != nil:
		s.log.ErrorContext(ctx, "instances do not wait for a connection that is revoked", "connection", n.String(), "err", untold)
	}
	ended := &Ended{Revoked: s.revoke(ctx, o, x), Instances: used}
	if err := s.engine.DeleteConnection(ctx, x.Customer, n, reason); err != nil {
		return nil, err
	}
	if err := s.unprobeAll(ctx, x.Customer, n); err != nil { // it can do nothing without the credential
		s.log.ErrorContext(ctx, "instance for questions is left behind", "connection", n.String(), "err", err)
	}
	return ended, nil
}

// revoke asks the provider to end the grant of a connection.
func (s *Service) revoke(ctx context.Context, o id.Org, x *store.ConnectionInfo) Revoked {
	kind := lease.Kind(x.Kind)
	if s.o.Providers == nil || x.RecordVersion == 0 || kind != lease.KindOAuth2 && kind != lease.KindSession {
		return RevokedNothing
	}
	if known, err := s.offer(ctx, o, x.Connector, x.ConnectorVersion); err == nil {
		if m, err := known.method(x.Method); err == nil && m.Recipe != nil && m.Recipe.Revoke == nil {
			return RevokedNotOffered
		}
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTime)
	defer cancel()
	result, _, err := s.o.Providers.Order(ctx, lease.OrderRevoke, x.Customer, x.ID, nil)
	if err == nil && result.Code != lease.OrderOK {
		err = fmt.Errorf("provider: %s", result.Code)
	}
	if err != nil {
		s.log.ErrorContext(ctx, "grant is not revoked at the provider", "connection", x.ID.String(), "connector", x.Connector, "err", err)
		return RevokedFailed
	}
	return RevokedYes
}
