package store

import (
	"context"
	"errors"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Shards is the number of shards that customers are divided into.
const Shards = 64

// ShardOf is the shard of a customer. It never changes.
func ShardOf(c id.Customer) uint8 { return c[15] % Shards }

// Customer reads the rows of one customer.
type Customer struct {
	q  querier
	id id.Customer
}

// CustomerTx reads and writes the rows of one customer in a transaction.
type CustomerTx struct {
	Customer
	tx *Tx
}

// System reads across customers, for the scheduler.
type System struct{ q querier }

// SystemTx reads and writes across customers in a transaction, for the scheduler.
type SystemTx struct {
	System
	tx *Tx
}

// Customer is the handle on a customer's committed rows. Reads end with the context.
func (s *Store) Customer(ctx context.Context, c id.Customer) Customer {
	return Customer{querier{ctx, s.read}, c}
}

// System is the handle on all committed rows. Reads end with the context.
func (s *Store) System(ctx context.Context) System { return System{querier{ctx, s.read}} }

// Customer is the handle on a customer's rows in the transaction.
func (tx *Tx) Customer(c id.Customer) CustomerTx {
	return CustomerTx{Customer{tx.querier(), c}, tx}
}

// System is the handle on all rows in the transaction.
func (tx *Tx) System() SystemTx { return SystemTx{System{tx.querier()}, tx} }

// ID is the customer of the handle.
func (c Customer) ID() id.Customer { return c.id }

func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }
