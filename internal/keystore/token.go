package keystore

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// State is the name of a pending authorization: the SHA-256 of its state parameter.
type State = [32]byte

// Pending is an authorization that has begun.
type Pending struct {
	State      State
	Connection id.Connection
	Expires    time.Time
	Sealed     Sealed // its Version is 0; without Data it was used
}

// PendingSubject is how the ledger names a pending authorization.
func PendingSubject(s State) Subject { return Subject(s[:16]) }

// Intent is the row of a connection that says who renews its credential.
func (r rows) Intent(ctx context.Context, n id.Connection) (Sealed, error) {
	return r.owned(ctx, "intent", `SELECT customer_id, key_version, version, sealed FROM intent WHERE connection_id = $1`, n[:])
}

// Pending is the authorization of a state.
func (r rows) Pending(ctx context.Context, s State) (*Pending, error) {
	p := &Pending{State: s}
	var customer, connection []byte
	var expires int64
	if err := r.one(ctx, "pending authorization", `SELECT customer_id, connection_id, expires, key_version, sealed FROM pending WHERE state = $1`,
		[]any{s[:]}, []any{&customer, &connection, &expires, &p.Sealed.KeyVersion, &p.Sealed.Data}); err != nil {
		return nil, err
	}
	if len(customer) != len(p.Sealed.Customer) || len(connection) != len(p.Connection) {
		return nil, fmt.Errorf("read pending authorization: %w: owner of %d bytes", ErrDamaged, len(customer))
	}
	copy(p.Sealed.Customer[:], customer)
	copy(p.Connection[:], connection)
	p.Expires = time.UnixMicro(expires).UTC()
	return p, nil
}

// PutIntent sets the intent of a connection.
func (t *Tx) PutIntent(n id.Connection, s Sealed) error {
	t.own.shreds = true // of the answers before
	return t.put("intent", `INSERT OR REPLACE INTO intent (connection_id, customer_id, version, key_version, sealed) VALUES ($1, $2, $3, $4, $5)`,
		n[:], s.Customer[:], s.Version, s.KeyVersion, s.Data)
}

// DestroyIntent destroys the intent of a connection.
func (t *Tx) DestroyIntent(n id.Connection) error {
	t.own.shreds = true
	return t.put("intent", `DELETE FROM intent WHERE connection_id = $1`, n[:])
}

// PutPending adds an authorization. One of that state must not exist.
func (t *Tx) PutPending(p *Pending) error {
	return t.put("pending authorization", `INSERT INTO pending (state, customer_id, connection_id, expires, key_version, sealed) VALUES ($1, $2, $3, $4, $5, $6)`,
		p.State[:], p.Sealed.Customer[:], p.Connection[:], p.Expires.UnixMicro(), p.Sealed.KeyVersion, p.Sealed.Data)
}

// UsePending destroys what an authorization holds, and remembers that there was one.
func (t *Tx) UsePending(s State) error {
	t.own.shreds = true
	return t.put("pending authorization", `UPDATE pending SET sealed = $2 WHERE state = $1`, s[:], []byte{})
}

// OpenPendings counts the authorizations of a customer that have neither been used nor
// expired.
func (t *Tx) OpenPendings(c id.Customer, now time.Time) (int, error) {
	n := 0
	err := t.one(t.ctx, "pending authorizations", `SELECT COUNT(*) FROM pending WHERE customer_id = $1 AND expires > $2 AND length(sealed) > 0`,
		[]any{c[:], now.UnixMicro()}, []any{&n})
	return n, err
}

// DestroyPendings destroys the authorizations of a connection of a customer, and returns how
// many there were that had not been used.
func (t *Tx) DestroyPendings(n id.Connection, c id.Customer) (int, error) {
	return t.forget(`SELECT state, length(sealed) > 0 FROM pending WHERE connection_id = $1 AND customer_id = $2`, n[:], c[:])
}

// SweepPendings destroys the authorizations that have expired, and what the ledger remembers
// of those that are gone.
func (t *Tx) SweepPendings(now time.Time) (int, error) {
	n, err := t.forget(`SELECT state, length(sealed) > 0 FROM pending WHERE expires <= $1`, now.UnixMicro())
	if err != nil {
		return n, err
	}
	var lost []Subject // of a keystore that was restored, whose rows were not in the copy
	if err := t.each(t.ctx, "ledger", `SELECT subject FROM ledger WHERE kind = $1 AND NOT EXISTS (SELECT 1 FROM pending WHERE substr(state, 1, 16) = subject)`,
		[]any{int(KindPending)}, func(r *sql.Rows) error {
			var s []byte
			if err := r.Scan(&s); err != nil {
				return err
			}
			if len(s) != len(Subject{}) {
				return ErrDamaged
			}
			lost = append(lost, Subject(s))
			return nil
		}); err != nil {
		return n, err
	}
	for _, s := range lost {
		if err := t.SetVersion(KindPending, s, Version{}); err != nil {
			return n, err
		}
	}
	return n, nil
}

// forget destroys the rows that q finds and what the ledger remembers of them.
func (t *Tx) forget(q string, args ...any) (open int, err error) {
	var found []State
	if err := t.each(t.ctx, "pending authorizations", q, args, func(r *sql.Rows) error {
		var s []byte
		var unused bool
		if err := r.Scan(&s, &unused); err != nil {
			return err
		}
		if len(s) != len(State{}) {
			return ErrDamaged
		}
		if unused {
			open++
		}
		found = append(found, State(s))
		return nil
	}); err != nil {
		return 0, err
	}
	for _, s := range found {
		t.own.shreds = true
		if err := t.put("pending authorization", `DELETE FROM pending WHERE state = $1`, s[:]); err != nil {
			return open, err
		}
		if err := t.SetVersion(KindPending, PendingSubject(s), Version{}); err != nil {
			return open, err
		}
	}
	return open, nil
}
