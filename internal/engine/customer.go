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

// ErrInUse means that a customer has instances or connections, or is the organization itself.
var ErrInUse = errors.New("it has instances or connections, or is the organization itself")

// DeleteCustomer destroys a customer's keys, which makes what was stored of it unreadable
// here and in every backup, and leaves a tombstone. It may be repeated after an error. The keys
// come first, so that no row outlives them as something readable; what is interrupted
// between the two is carried on when database and keystore are compared.
//
// Errors: ErrNotFound, ErrInUse, or one of the store or the vault.
func (e *Engine) DeleteCustomer(ctx context.Context, org id.Org, c id.Customer) error {
	inUse, err := e.db.Org(ctx, org).CustomerInUse(c)
	if err == nil && inUse {
		err = ErrInUse
	}
	if err != nil {
		return notFound(fmt.Errorf("delete customer: %w", err))
	}
	if err := e.keys.call(ctx, lease.OpCustomerDelete, &lease.CustomerCall{Customer: c}, nil); err != nil {
		return fmt.Errorf("delete customer: %w", err)
	}
	return e.buryCustomer(ctx, store.Member{Organization: org, Customer: c})
}

// buryCustomer leaves a tombstone of a customer without keys.
func (e *Engine) buryCustomer(ctx context.Context, m store.Member) error {
	now, inUse := time.Now(), false
	err := e.db.Write(ctx, func(tx *store.Tx) (err error) {
		inUse, err = tx.Org(m.Organization).DeleteCustomer(m.Customer, now)
		return err
	})
	if err == nil && inUse {
		err = ErrInUse
	}
	if err != nil {
		return notFound(fmt.Errorf("delete customer: %w", err))
	}
	e.catalog.forgetProfile(m.Customer)
	return nil
}

// reconcileCustomers deletes customers whose keys are destroyed, as a restored database has
// them. One that still has instances or connections loses these first: it is looked at again.
func (e *Engine) reconcileCustomers(ctx context.Context, page []store.Member) error {
	ask := &lease.VersionsCall{}
	for i := range page {
		ask.Customers = append(ask.Customers, page[i].Customer)
	}
	if len(page) == 0 {
		return nil
	}
	a, err := e.versions(ctx, ask)
	if err != nil {
		return err
	}
	for i, v := range a.Customers {
		if !v.Gone {
			continue
		}
		switch err := e.buryCustomer(ctx, page[i]); {
		case errors.Is(err, ErrInUse):
			e.suspect()
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		default:
			e.log.WarnContext(ctx, "the keys of a customer are destroyed: it is deleted", "customer", page[i].Customer)
		}
	}
	return nil
}
