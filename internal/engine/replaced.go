package engine

import (
	"context"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Replacer tells egress nodes that a credential was replaced or destroyed. It must be safe for concurrent use.
type Replacer interface {
	// Replaced returns when every live node uses no lease of a connection that was granted for a record older than a version. A
	// node that does not answer is waited for a few seconds at most, told later, and logged: its leases end by themselves.
	Replaced(ctx context.Context, c id.Customer, n id.Connection, oldest uint64)
}

// replaced keeps workers from what a connection was before: the next call needs another lease, for which the vault opens the
// record anew.
func (e *Engine) replaced(ctx context.Context, c id.Customer, n id.Connection, oldest uint64) {
	if e.o.Replacer != nil {
		e.o.Replacer.Replaced(ctx, c, n, oldest)
	}
}
