package store

import (
	"errors"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Value is one value of an instance's state.
type Value struct {
	Version uint64 // 0: there is no value
	Sealed  []byte
}

// Holds reports whether an execution runs with that fence.
func (c Customer) Holds(e id.Execution, fence uint64) (bool, error) {
	var one int
	err := c.q.row(`
		SELECT 1
		FROM execution
		WHERE customer_id = $1 AND execution_id = $2 AND fence = $3 AND status = 'running'`,
		[]any{c.id[:], e[:], int64(fence)}, &one)
	if isNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// State reads one value of an instance's state.
func (c Customer) State(i id.Instance, name [32]byte) (Value, error) {
	v, present, err := c.state(i, name)
	if err != nil || !present {
		return Value{}, err
	}
	return v, nil
}

// state reads the row, which stays after a deletion so that versions never repeat.
func (c Customer) state(i id.Instance, name [32]byte) (v Value, present bool, err error) {
	err = c.q.row(`
		SELECT version, present, body
		FROM state
		WHERE customer_id = $1 AND instance_id = $2 AND name_hash = $3`,
		[]any{c.id[:], i[:], name[:]}, &v.Version, &present, &v.Sealed)
	if isNotFound(err) {
		return Value{}, false, nil
	}
	return v, present, err
}

// MaxStateNames is how many names the state of an instance may have, deleted ones included:
// their rows stay.
const MaxStateNames = 10_000

// ErrTooMany means that a row would be one too many.
var ErrTooMany = errors.New("too many rows")

// ChangeState puts or deletes a value if its version is still the one that was read (0:
// there was none). It returns the present value and whether the change was made. [ErrTooMany]
// means that the instance has [MaxStateNames] other names.
func (c CustomerTx) ChangeState(i id.Instance, m *wire.State, now time.Time) (Value, bool, error) {
	old, present, err := c.state(i, m.Name)
	if err != nil {
		return Value{}, false, err
	}
	seen := uint64(0)
	if present {
		seen = old.Version
	}
	if seen != m.Version {
		if !present {
			old = Value{}
		}
		return old, false, nil
	}
	if old.Version == 0 {
		n := 0
		err := c.q.row(`SELECT COUNT(*) FROM state WHERE customer_id = $1 AND instance_id = $2`, []any{c.id[:], i[:]}, &n)
		if err != nil {
			return Value{}, false, err
		}
		if n >= MaxStateNames {
			return Value{}, false, ErrTooMany
		}
	}
	next := Value{Version: old.Version + 1, Sealed: m.Value}
	put := m.Op == wire.StatePut
	if !put {
		next.Sealed = nil
	}
	// The condition is for another server that changes it between the two statements.
	n, err := c.tx.exec(`
		INSERT INTO state (customer_id, instance_id, name_hash, version, present, body, changed)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (customer_id, instance_id, name_hash) DO UPDATE
		SET version = excluded.version, present = excluded.present, body = excluded.body, changed = excluded.changed
		WHERE state.version = excluded.version - 1`,
		c.id[:], i[:], m.Name[:], int64(next.Version), put, blob(next.Sealed), micros(now))
	if err != nil {
		return Value{}, false, err
	}
	if n == 0 {
		now, err := c.State(i, m.Name)
		return now, false, err
	}
	if !put {
		next = Value{}
	}
	return next, true, nil
}
