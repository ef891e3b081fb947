package store

import (
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// SkipWait answers an open wait that has a time, as if that had come. It returns the
// wait's kind. [ErrNotFound] means that no such wait is open.
func (c CustomerTx) SkipWait(e id.Execution, path string) (wire.WaitKind, error) {
	var kind wire.WaitKind
	err := c.tx.returning(`
		UPDATE wait
		SET open = FALSE
		WHERE customer_id = $1 AND execution_id = $2 AND path = $3 AND open = TRUE AND at > 0
		RETURNING kind`,
		[]any{c.id[:], e[:], path}, &kind)
	return kind, err
}

// maxCalledWaits bounds what CalledWaits lists.
const maxCalledWaits = 1000

// CalledWaits lists open timers of the executions that a root has called, directly or not.
func (c Customer) CalledWaits(root id.Execution) ([]Wait, error) {
	var list []Wait
	err := c.q.rows(`
		SELECT w.execution_id, w.path
		FROM wait AS w
		JOIN execution AS x ON x.customer_id = w.customer_id AND x.execution_id = w.execution_id
		WHERE x.customer_id = $1 AND x.root_id = $2 AND x.execution_id <> $2 AND x.finished = 0
			AND w.open = TRUE AND w.at > 0 AND w.kind = $3
		LIMIT $4`,
		[]any{c.id[:], root[:], int64(wire.WaitTimer), int64(maxCalledWaits)}, func(r scanner) error {
			w := Wait{Customer: c.id, Kind: wire.WaitTimer}
			err := r.Scan(fixed{w.Execution[:]}, &w.Path)
			list = append(list, w)
			return err
		})
	return list, err
}
