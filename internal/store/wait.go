package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Wait is an open wait with what it belongs to.
type Wait struct {
	Customer  id.Customer
	Execution id.Execution
	Path      string
	Kind      wire.WaitKind
	At        time.Time
	Day       uint32   // of the execution; only from WaitByKey and Listening
	Key       [32]byte // set by who looked for it
}

// PutWait registers a wait. The same wait again changes nothing, answered or not; another
// one at the same path takes its place and is open.
func (c CustomerTx) PutWait(e id.Execution, w *wire.Wait) error {
	err := c.tx.send(`
		INSERT INTO wait (customer_id, execution_id, path, kind, at, key_hash, child_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (customer_id, execution_id, path) DO UPDATE
		SET kind = excluded.kind, at = excluded.at, key_hash = excluded.key_hash, child_id = excluded.child_id, open = TRUE,
			scope_hash = NULL, shape = ''
		WHERE wait.at <> excluded.at OR wait.kind <> excluded.kind
			OR wait.key_hash <> excluded.key_hash OR wait.child_id <> excluded.child_id`,
		c.id[:], e[:], w.Path, int64(w.Kind), micros(w.At), optional(w.Key[:]), optional(w.Child[:]))
	return err
}

// CloseWaitChild answers an open wait for that child. It reports whether it was open: of
// two answers one wins.
func (c CustomerTx) CloseWaitChild(e id.Execution, path string, child id.Execution) (bool, error) {
	n, err := c.tx.exec(`
		UPDATE wait
		SET open = FALSE
		WHERE customer_id = $1 AND execution_id = $2 AND path = $3 AND open = TRUE AND child_id = $4`,
		c.id[:], e[:], path, child[:])
	return n > 0, err
}

// CloseWaitAt answers an open wait whose time is at, which a wait that was opened anew is not.
func (c CustomerTx) CloseWaitAt(e id.Execution, path string, at time.Time) (bool, error) {
	n, err := c.tx.exec(`
		UPDATE wait
		SET open = FALSE
		WHERE customer_id = $1 AND execution_id = $2 AND path = $3 AND open = TRUE AND at = $4`,
		c.id[:], e[:], path, micros(at))
	return n > 0, err
}

// CloseWaitKey answers an open wait for a callback or an event with that key.
func (c CustomerTx) CloseWaitKey(e id.Execution, path string, key [32]byte) (bool, error) {
	n, err := c.tx.exec(`
		UPDATE wait
		SET open = FALSE
		WHERE customer_id = $1 AND execution_id = $2 AND path = $3 AND open = TRUE AND key_hash = $4`,
		c.id[:], e[:], path, key[:])
	return n > 0, err
}

// WaitAnswered reports whether there is a wait at the path for that child which was
// answered. A wait for something else there, such as the pause before a later try, says
// nothing about the child.
func (c Customer) WaitAnswered(e id.Execution, path string, child id.Execution) (bool, error) {
	var open bool
	err := c.q.row(`
		SELECT open
		FROM wait
		WHERE customer_id = $1 AND execution_id = $2 AND path = $3 AND child_id = $4`,
		[]any{c.id[:], e[:], path, child[:]}, &open)
	if isNotFound(err) {
		return false, nil
	}
	return err == nil && !open, err
}

// Woken is an execution after a wake was added to it.
type Woken struct {
	Status   Status // pending when it was waiting
	Fence    uint64
	Number   uint32 // of the wake, from 1
	Instance id.Instance
	Digest   [32]byte
	Day      uint32
	Size     int64 // of the execution, after it
}

// PutWake adds a wake to an execution that has not ended; one that waits is pending
// after it. Seq of the entry is ignored. [ErrNotFound] means that it has ended.
func (c CustomerTx) PutWake(e id.Execution, x *wire.Entry, now time.Time) (*Woken, error) {
	w := &Woken{}
	err := c.tx.returning(`
		UPDATE execution
		SET wakes = wakes + 1, size = size + $3, status = CASE WHEN status = 'waiting' THEN 'pending' ELSE status END
		WHERE customer_id = $1 AND execution_id = $2 AND finished = 0
		RETURNING wakes, status, fence, day, instance_id, digest, size`,
		[]any{c.id[:], e[:], int64(len(x.Body) + len(x.Path))},
		&w.Number, &w.Status, &w.Fence, &w.Day, fixed{w.Instance[:]}, fixed{w.Digest[:]}, &w.Size)
	if err != nil {
		return nil, err
	}
	err = c.tx.send(`
		INSERT INTO wake (customer_id, execution_id, number, path, reason, hash, day, arrived, body)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		c.id[:], e[:], int64(w.Number), x.Path, int64(x.Epoch), x.Hash[:], int64(w.Day), micros(now), blob(x.Body))
	return w, err
}

// WaitByKey finds the open wait for a callback by the SHA-256 of its token.
func (s System) WaitByKey(key [32]byte) (*Wait, error) {
	w := &Wait{}
	err := s.q.row(`
		SELECT w.customer_id, w.execution_id, w.path, w.kind, w.at, x.day
		FROM wait AS w
		JOIN execution AS x ON x.customer_id = w.customer_id AND x.execution_id = w.execution_id
		WHERE w.key_hash = $1 AND w.open = TRUE AND x.finished = 0
		LIMIT 1`,
		[]any{key[:]}, fixed{w.Customer[:]}, fixed{w.Execution[:]}, &w.Path, &w.Kind, moment{&w.At}, &w.Day)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// DueWaits lists open waits whose time is after from and not after until, the earliest
// first. The caller bounds the list by the length of that time.
func (s System) DueWaits(from, until time.Time) ([]Wait, error) {
	var list []Wait
	err := s.q.rows(`
		SELECT customer_id, execution_id, path, kind, at
		FROM wait
		WHERE open = TRUE AND at > 0 AND at > $1 AND at <= $2
		ORDER BY at`,
		[]any{micros(from), micros(until)}, func(r scanner) error {
			var w Wait
			if err := r.Scan(fixed{w.Customer[:]}, fixed{w.Execution[:]}, &w.Path, &w.Kind, moment{&w.At}); err != nil {
				return err
			}
			list = append(list, w)
			return nil
		})
	return list, err
}
