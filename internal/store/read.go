package store

import (
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// What a read shows: sealed rows, a page at a time.

// EntriesAt reads up to limit entries of one step path after a sequence, in order. Replies are not
// among them.
func (c Customer) EntriesAt(e id.Execution, path string, after uint64, limit int) ([]wire.Entry, error) {
	return c.entries(`
		SELECT seq, kind, path, epoch, hash, body
		FROM entry
		WHERE customer_id = $1 AND execution_id = $2 AND path = $3 AND seq > $4 AND kind < 9
		ORDER BY seq
		LIMIT $5`, e, path, int64(after), int64(limit))
}

// Replies reads what the respond steps of an execution answered, in order.
func (c Customer) Replies(e id.Execution, limit int) ([]wire.Entry, error) {
	return c.entries(`
		SELECT seq, kind, path, epoch, hash, body
		FROM entry
		WHERE customer_id = $1 AND execution_id = $2 AND kind = $3
		ORDER BY seq
		LIMIT $4`, e, int64(wire.EntryReply), int64(limit))
}

// Labels reads the labels of an execution: the names, and the sealed values as bodies.
func (c Customer) Labels(e id.Execution) ([]wire.Entry, error) {
	return c.entries(`
		SELECT 0, 0, name, 0, NULL, body
		FROM label
		WHERE customer_id = $1 AND execution_id = $2
		ORDER BY name`, e)
}
