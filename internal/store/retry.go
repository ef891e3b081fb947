package store

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Retried is an execution after it was made pending again by hand.
type Retried struct {
	Fence   uint64
	LastSeq uint32
	Wakes   uint32
	Size    int64
}

// Retry makes a faulted execution pending again until a time, with a higher fence and its
// journal, to which it adds that the step that faulted is to run again. Nobody waits for
// its end any more. [ErrNotFound] means that it is not faulted.
func (c CustomerTx) Retry(e id.Execution, step string, day uint32, expires, now time.Time) (*Retried, error) {
	x := &Retried{}
	err := c.tx.returning(`
		UPDATE execution
		SET status = 'pending', fence = fence + 1, finished = 0, error_type = '', error_step = '', output = NULL,
			retries = retries + 1, interruptions = 0, interruption = '', lease_until = 0, expires = $3, awaited = FALSE,
			last_seq = last_seq + 1, size = size + $4
		WHERE customer_id = $1 AND execution_id = $2 AND status = 'faulted' AND deleted = 0 AND emptied = FALSE
		RETURNING fence, last_seq, wakes, size`,
		[]any{c.id[:], e[:], micros(expires), int64(len(step))}, &x.Fence, &x.LastSeq, &x.Wakes, &x.Size)
	if err != nil {
		return nil, err
	}
	mark := wire.Entry{Kind: wire.EntryRetry, Path: step, Epoch: x.Wakes}
	return x, c.InsertEntries(e, []wire.Entry{mark}, x.LastSeq, day, now)
}

// UnheardChildren lists the children of an execution that it awaits and that ended when it
// had ended itself, so that it was not woken.
func (c Customer) UnheardChildren(parent id.Execution) ([]Execution, error) {
	var list []Execution
	err := c.q.rows(`
		SELECT execution_id, parent_path, status, output
		FROM execution AS x
		WHERE customer_id = $1 AND parent_id = $2 AND parent_path <> '' AND awaited = TRUE AND finished > 0
			AND NOT EXISTS (SELECT 1 FROM wake AS w WHERE w.customer_id = $1 AND w.execution_id = $2 AND w.hash = x.execution_id)
		ORDER BY execution_id`,
		[]any{c.id[:], parent[:]}, func(r scanner) error {
			var x Execution
			err := r.Scan(fixed{x.ID[:]}, &x.ParentPath, &x.Status, &x.Output)
			list = append(list, x)
			return err
		})
	return list, err
}

// EventSize is the size of an execution's event: its size without its journal and wakes.
func (c Customer) EventSize(e id.Execution) (int64, error) {
	var n int64
	err := c.q.row(`
		SELECT x.size
			- (SELECT COALESCE(SUM(LENGTH(body) + LENGTH(path)), 0) FROM entry WHERE customer_id = $1 AND execution_id = $2)
			- (SELECT COALESCE(SUM(LENGTH(body) + LENGTH(path)), 0) FROM wake WHERE customer_id = $1 AND execution_id = $2)
		FROM execution AS x
		WHERE x.customer_id = $1 AND x.execution_id = $2 AND x.deleted = 0`,
		[]any{c.id[:], e[:]}, &n)
	return max(n, 0), err
}
