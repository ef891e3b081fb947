package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// ErrInUse means that a customer has instances or connections, or is the organization itself.
var ErrInUse = errors.New("it has instances or connections, or is the organization itself")

// Describe is what expressions see as customer, as JSON.
//
// Errors: ErrNotFound, or one of the store.
func (e *Engine) Describe(ctx context.Context, c id.Customer) (json.RawMessage, error) {
	p, err := e.catalog.profile(ctx, c)
	if err != nil {
		return nil, err
	}
	return AppendCustomer(nil, p), nil
}

// AppendCustomer appends what expressions see as customer to JSON, wherever an event, a call
// or the times of a schedule say who it is. Attributes that are no JSON are none.
func AppendCustomer(b []byte, c *store.CustomerRow) []byte {
	b = append(b, '{')
	if !c.ID.IsZero() {
		b = append(append(append(b, `"id":"`...), c.ID.String()...), `",`...)
	}
	for _, f := range [...]struct{ name, text string }{
		{`"external_id":`, c.ExternalID}, {`"name":`, c.Title}, {`"timezone":`, c.Timezone}, {`"locale":`, c.Locale},
	} {
		b = append(appendText(append(b, f.name...), f.text), ',')
	}
	b = append(b, `"attributes":`...)
	if json.Valid(c.Attributes) {
		return append(append(b, c.Attributes...), '}')
	}
	return append(b, "{}}"...)
}

// appendText appends a text as JSON. Most need nothing escaped, and are appended as they are.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			text, err := json.Marshal(s)
			if err != nil { // a text always encodes
				return append(b, `""`...)
			}
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

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
