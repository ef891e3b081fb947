package keystore

import (
	"database/sql"
	"errors"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Belongings are what a customer has in the keystore beside its own keys.
type Belongings struct {
	Instances   []id.Instance
	Connections []id.Connection
}

// Belongings lists what a customer has, to be destroyed with it.
func (t *Tx) Belongings(c id.Customer) (*Belongings, error) {
	b := &Belongings{}
	err := t.each(t.ctx, "instances", `SELECT instance_id FROM instance_key WHERE customer_id = $1`, []any{c[:]}, func(r *sql.Rows) error {
		var raw []byte
		err := r.Scan(&raw)
		b.Instances = append(b.Instances, id.Instance(fixed(raw)))
		return err
	})
	if err != nil {
		return nil, err
	}
	err = t.each(t.ctx, "connections", `SELECT connection_id FROM credential WHERE customer_id = $1 UNION SELECT connection_id FROM intent WHERE customer_id = $1`, []any{c[:]}, func(r *sql.Rows) error {
		var raw []byte
		err := r.Scan(&raw)
		b.Connections = append(b.Connections, id.Connection(fixed(raw)))
		return err
	})
	return b, err
}

// fixed is an id of the right length, or zero.
func fixed(raw []byte) (out [16]byte) {
	if len(raw) == len(out) {
		copy(out[:], raw)
	}
	return out
}

// DestroyCustomer destroys every version of a customer's key and everything that they seal.
// The ledger is the caller's to change, but for authorizations that have begun.
func (t *Tx) DestroyCustomer(c id.Customer) error {
	t.own.shreds = true
	_, err := t.forget(`SELECT state, length(sealed) > 0 FROM pending WHERE customer_id = $1`, c[:])
	return errors.Join(
		err,
		t.put("intents", `DELETE FROM intent WHERE customer_id = $1`, c[:]),
		t.put("credentials", `DELETE FROM credential WHERE customer_id = $1`, c[:]),
		t.put("instance keys", `DELETE FROM instance_key WHERE customer_id = $1`, c[:]),
		t.put("payload pairs", `DELETE FROM payload_pair WHERE customer_id = $1`, c[:]),
		t.put("customer keys", `DELETE FROM customer_key WHERE customer_id = $1`, c[:]),
	)
}
