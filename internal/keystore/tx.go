package keystore

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

func (t *Tx) put(what, q string, args ...any) error {
	if err := t.exec(t.ctx, q, args...); err != nil {
		return fmt.Errorf("write %s: %w", what, err)
	}
	return nil
}

// PutRoot sets the check value of the root key.
func (t *Tx) PutRoot(sealed []byte) error {
	return t.put("root check", `INSERT OR REPLACE INTO root (id, sealed) VALUES (1, $1)`, sealed)
}

// PutSeed sets the sealed seed of a name.
func (t *Tx) PutSeed(name string, sealed []byte) error {
	return t.put("seed", `INSERT OR REPLACE INTO seed (name, sealed) VALUES ($1, $2)`, name, sealed)
}

// PutCustomerKey adds a version of a customer's wrapped key.
func (t *Tx) PutCustomerKey(c id.Customer, version uint64, sealed []byte) error {
	return t.put("customer key", `INSERT OR REPLACE INTO customer_key (customer_id, version, sealed) VALUES ($1, $2, $3)`, c[:], version, sealed)
}

// PutPayload adds a payload pair. A pair of that customer and day must not exist.
func (t *Tx) PutPayload(day uint32, s Sealed) error {
	return t.put("payload pair", `INSERT INTO payload_pair (customer_id, day, key_version, sealed) VALUES ($1, $2, $3, $4)`,
		s.Customer[:], day, s.KeyVersion, s.Data)
}

// DestroyPayloads destroys all payload pairs of days before day and returns how many.
func (t *Tx) DestroyPayloads(day uint32) (int, error) {
	n := 0
	if err := t.one(t.ctx, "payload pairs", `SELECT COUNT(*) FROM payload_pair WHERE day < $1`, []any{day}, []any{&n}); err != nil || n == 0 {
		return 0, err
	}
	t.own.shreds = true
	return n, t.put("payload pairs", `DELETE FROM payload_pair WHERE day < $1`, day)
}

// PutInstance adds an instance's key. A key of that instance must not exist.
func (t *Tx) PutInstance(i id.Instance, s Sealed) error {
	return t.put("instance key", `INSERT INTO instance_key (instance_id, customer_id, key_version, sealed) VALUES ($1, $2, $3, $4)`,
		i[:], s.Customer[:], s.KeyVersion, s.Data)
}

// DestroyInstance destroys an instance's key.
func (t *Tx) DestroyInstance(i id.Instance) error {
	t.own.shreds = true
	return t.put("instance key", `DELETE FROM instance_key WHERE instance_id = $1`, i[:])
}

// PutConnection sets a connection's credential record.
func (t *Tx) PutConnection(n id.Connection, s Sealed) error {
	t.own.shreds = true // of the record before
	return t.put("credential", `INSERT OR REPLACE INTO credential (connection_id, customer_id, version, key_version, sealed) VALUES ($1, $2, $3, $4, $5)`,
		n[:], s.Customer[:], s.Version, s.KeyVersion, s.Data)
}

// DestroyConnection destroys a connection's credential record.
func (t *Tx) DestroyConnection(n id.Connection) error {
	t.own.shreds = true
	return t.put("credential", `DELETE FROM credential WHERE connection_id = $1`, n[:])
}

// PutIdentity sets the certificate of a node.
func (t *Tx) PutIdentity(i Identity) error {
	return t.put("identity", `INSERT OR REPLACE INTO identity (node_id, certificate) VALUES ($1, $2)`, i.Node[:], i.Certificate)
}

// DeleteIdentity forgets a node.
func (t *Tx) DeleteIdentity(n id.Node) error {
	return t.put("identity", `DELETE FROM identity WHERE node_id = $1`, n[:])
}

// Version is what the ledger says, with the changes of this transaction.
func (t *Tx) Version(kind Kind, subject Subject) Version {
	e := entry{kind, subject}
	if v, ok := t.own.changes[e]; ok {
		return v
	}
	if v, ok := t.batch.changes[e]; ok {
		return v
	}
	return t.store.ledger.get(e) // the writer alone changes it
}

// SetVersion changes the ledger. A zero version forgets the subject, which is for
// subjects whose rows are no longer accepted for another reason.
func (t *Tx) SetVersion(kind Kind, subject Subject, v Version) error {
	if t.own.changes == nil {
		t.own.changes = map[entry]Version{}
	}
	t.own.changes[entry{kind, subject}] = v
	if v.Number == 0 {
		return t.put("ledger", `DELETE FROM ledger WHERE kind = $1 AND subject = $2`, int(kind), subject[:])
	}
	return t.put("ledger", `INSERT OR REPLACE INTO ledger (kind, subject, version, gone) VALUES ($1, $2, $3, $4)`,
		int(kind), subject[:], v.Number, v.Gone)
}

// Append adds a leaf to the log and sets its number and hash.
func (t *Tx) Append(l *Leaf) error {
	l.Seq = t.own.seq + 1
	l.Time = l.Time.UTC().Truncate(time.Microsecond)
	l.Hash = l.digest(t.own.hash)
	body := l.Body
	if body == nil {
		body = []byte{}
	}
	if err := t.put("leaf", `INSERT INTO leaf (seq, time, kind, customer_id, requester_id, body, hash) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		l.Seq, l.Time.UnixMicro(), int(l.Kind), l.Customer[:], l.Requester[:], body, l.Hash[:]); err != nil {
		return err
	}
	t.own.seq, t.own.hash = l.Seq, l.Hash
	return nil
}

// Rewrap replaces everything that is sealed under the root key with what again makes
// of it, and the head's signer with next.
func (t *Tx) Rewrap(next Signer, seed func(name string, sealed []byte) ([]byte, error), customer func(c id.Customer, version uint64, sealed []byte) ([]byte, error)) error {
	t.own.shreds = true
	t.own.sign = next
	seeds := map[string][]byte{}
	if err := t.each(t.ctx, "seeds", `SELECT name, sealed FROM seed`, nil, func(r *sql.Rows) error {
		var name string
		var sealed []byte
		err := r.Scan(&name, &sealed)
		seeds[name] = sealed
		return err
	}); err != nil {
		return err
	}
	for name, sealed := range seeds {
		again, err := seed(name, sealed)
		if err != nil {
			return err
		}
		if err := t.PutSeed(name, again); err != nil {
			return err
		}
	}
	return t.rewrapCustomers(customer)
}

func (t *Tx) rewrapCustomers(customer func(c id.Customer, version uint64, sealed []byte) ([]byte, error)) error {
	type key struct {
		customer id.Customer
		version  uint64
		sealed   []byte
	}
	var keys []key
	if err := t.each(t.ctx, "customer keys", `SELECT customer_id, version, sealed FROM customer_key`, nil, func(r *sql.Rows) error {
		var k key
		var c []byte
		err := r.Scan(&c, &k.version, &k.sealed)
		copy(k.customer[:], c)
		keys = append(keys, k)
		return err
	}); err != nil {
		return err
	}
	for _, k := range keys {
		again, err := customer(k.customer, k.version, k.sealed)
		if err != nil {
			return err
		}
		if err := t.PutCustomerKey(k.customer, k.version, again); err != nil {
			return err
		}
	}
	return nil
}
