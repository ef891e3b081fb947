package store

import "github.com/bulkheadhq/bulkhead/internal/id"

// Member is a customer with its organization.
type Member struct {
	Organization id.Org
	Customer     id.Customer
}

// CustomersAfter lists customers of all organizations in order of their ids, from one on.
func (s System) CustomersAfter(after id.Customer, limit int) ([]Member, error) {
	var list []Member
	err := s.q.rows(`
		SELECT organization_id, customer_id
		FROM customer
		WHERE customer_id > $1 AND deleted = 0
		ORDER BY customer_id
		LIMIT $2`,
		[]any{after[:], int64(limit)}, func(r scanner) error {
			var x Member
			err := r.Scan(fixed{x.Organization[:]}, fixed{x.Customer[:]})
			list = append(list, x)
			return err
		})
	return list, err
}

// CustomerInUse reports whether a customer has instances or connections, or is the
// organization itself, so that [OrgTx.DeleteCustomer] would not delete it.
func (o Org) CustomerInUse(c id.Customer) (bool, error) {
	x, err := o.Customer(c)
	if err != nil {
		return false, err
	}
	var used int64
	err = o.q.row(`
		SELECT (SELECT COUNT(*) FROM instance WHERE customer_id = $1 AND deleted = 0) + (SELECT COUNT(*) FROM connection WHERE customer_id = $1 AND deleted = 0)`,
		[]any{c[:]}, &used)
	return used > 0 || x.Internal, err
}
