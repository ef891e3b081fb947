package connect

import (
	"context"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// Account is what the account of a connection is called at its provider, such as an e-mail
// address; empty when that is not known. The keystore has it, and each reading is in the
// vault's log.
//
// Errors: store.ErrNotFound for what is not the organization's, or one of the store or the
// vault.
func (s *Service) Account(ctx context.Context, o id.Org, n id.Connection) (string, error) {
	x, err := s.db.Org(ctx, o).Connection(n)
	if err != nil {
		return "", err
	}
	if kind := lease.Kind(x.Kind); s.o.Providers == nil || x.RecordVersion == 0 || !kind.Changes() {
		return "", nil
	}
	return s.o.Providers.Account(ctx, x.Customer, n)
}

// accountsOf says from which account to which a person has come back, as far as both are
// known.
func (s *Service) accountsOf(ctx context.Context, a *arrival) []string {
	var lines []string
	was, err := s.o.Providers.Account(ctx, a.link.Customer, a.link.Connection)
	if err != nil {
		s.log.ErrorContext(ctx, "account of a connection cannot be read", "connection", a.link.Connection.String(), "err", err)
	}
	if was != "" {
		lines = append(lines, "It was connected as "+was+".")
	}
	if a.account != nil && a.account.Label != "" {
		lines = append(lines, "You have signed in as "+a.account.Label+".")
	}
	return lines
}
