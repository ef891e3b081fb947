package store

import (
	"context"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Org reads the rows of one organization, across its customers. What belongs to another
// organization is [ErrNotFound], as if it did not exist.
type Org struct {
	q  querier
	id id.Org
}

// OrgTx reads and writes the rows of one organization in a transaction.
type OrgTx struct {
	Org
	tx *Tx
}

// Org is the handle on an organization's committed rows. Reads end with the context.
func (s *Store) Org(ctx context.Context, o id.Org) Org { return Org{querier{ctx, s.read}, o} }

// Org is the handle on an organization's rows in the transaction.
func (tx *Tx) Org(o id.Org) OrgTx { return OrgTx{Org{tx.querier(), o}, tx} }

// ID is the organization of the handle.
func (o Org) ID() id.Org { return o.id }

// CustomerByExternalID finds the customer that the organization knows by that id.
func (o Org) CustomerByExternalID(external string) (id.Customer, error) {
	var c id.Customer
	err := o.q.row(`
		SELECT customer_id
		FROM customer
		WHERE organization_id = $1 AND external_id = $2 AND deleted = 0`,
		[]any{o.id[:], external}, fixed{c[:]})
	return c, err
}

// Owns reports with ErrNotFound whether a customer is another organization's.
func (o Org) Owns(c id.Customer) error {
	var found id.Customer
	return o.q.row(`
		SELECT customer_id
		FROM customer
		WHERE organization_id = $1 AND customer_id = $2 AND deleted = 0`,
		[]any{o.id[:], c[:]}, fixed{found[:]})
}

// CustomerOfInstance finds whose an instance is.
func (o Org) CustomerOfInstance(i id.Instance) (id.Customer, error) {
	var c id.Customer
	err := o.q.row(`
		SELECT c.customer_id
		FROM instance i
		JOIN customer c ON c.customer_id = i.customer_id
		WHERE c.organization_id = $1 AND i.instance_id = $2 AND i.deleted = 0 AND c.deleted = 0`,
		[]any{o.id[:], i[:]}, fixed{c[:]})
	return c, err
}

// CustomerOfConnection finds whose a connection is. The client of a template is none.
func (o Org) CustomerOfConnection(n id.Connection) (id.Customer, error) {
	var c id.Customer
	err := o.q.row(`
		SELECT c.customer_id
		FROM connection n
		JOIN customer c ON c.customer_id = n.customer_id
		WHERE c.organization_id = $1 AND n.connection_id = $2 AND n.deleted = 0 AND c.deleted = 0 AND n.kind <> $3`,
		[]any{o.id[:], n[:], KindClient}, fixed{c[:]})
	return c, err
}

// CustomerOfExecution finds whose an execution is.
func (o Org) CustomerOfExecution(x id.Execution) (id.Customer, error) {
	var c id.Customer
	err := o.q.row(`
		SELECT c.customer_id
		FROM execution x
		JOIN customer c ON c.customer_id = x.customer_id
		WHERE c.organization_id = $1 AND x.execution_id = $2 AND x.deleted = 0 AND c.deleted = 0`,
		[]any{o.id[:], x[:]}, fixed{c[:]})
	return c, err
}

// Taken reports whether an id of an instance or a connection is used by anybody, so that
// nobody makes another with it.
func (o Org) Taken(raw [16]byte) (bool, error) {
	var n int64
	err := o.q.row(`
		SELECT (SELECT COUNT(*) FROM instance WHERE instance_id = $1) + (SELECT COUNT(*) FROM connection WHERE connection_id = $1)`,
		[]any{raw[:]}, &n)
	return n > 0, err
}
