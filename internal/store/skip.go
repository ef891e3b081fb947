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
