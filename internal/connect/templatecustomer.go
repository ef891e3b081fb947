package connect

import (
	"context"
	"fmt"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// maxTemplates is the most templates of one connector among which a link finds the one for
// its customer.
const maxTemplates = 100

// checkCustomers checks for whom a template is. Nothing is taken for granted: all customers
// are named as such.
func (s *Service) checkCustomers(ctx context.Context, o id.Org, customers []string) error {
	const place = "customers"
	switch {
	case len(customers) == 0:
		return invalid(place, "name the customers who may be connected with this client, or * for all of them")
	case len(customers) > MaxShared:
		return invalid(place, "more than %d", MaxShared)
	case slices.Contains(customers, lease.SharedWithAll):
		if len(customers) > 1 {
			return invalid(place, "* stands for all customers: name none beside it")
		}
		return nil
	}
	var wrong InvalidError
	for n, name := range customers {
		var c id.Customer
		if err := c.UnmarshalText([]byte(name)); err != nil || c.IsZero() || s.db.Org(ctx, o).Owns(c) != nil {
			wrong = append(wrong, Wrong{fmt.Sprintf("%s[%d]", place, n), "there is no such customer"})
		}
	}
	if len(wrong) > 0 {
		return wrong
	}
	return nil
}

// isFor reports whether a customer may be connected with the client of a template, as far as
// the database knows: the vault asks the sealed record. The organization itself is named like any other.
func isFor(t *store.Template, c id.Customer) bool {
	return off(templatesShared) || slices.Contains(t.Customers, lease.SharedWithAll) || slices.Contains(t.Customers, c.String())
}

// templatesFor are the templates of a connector that are for a customer.
func (s *Service) templatesFor(ctx context.Context, o id.Org, connector string, c id.Customer) ([]store.Template, error) {
	list, err := s.db.Org(ctx, o).Templates(connector, id.Template{}, maxTemplates)
	return slices.DeleteFunc(list, func(t store.Template) bool { return !isFor(&t, c) }), err
}

// errNotFor refuses a template that is for others. It says no more than that.
func errNotFor() error { return invalid("template", "it is not for this customer") }
