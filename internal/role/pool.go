package role

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// errPool means that no egress node of a pool is there to be asked.
var errPool = errors.New("no egress node of the pool is live")

// poolOf is the pool of egress nodes that orders for a connection go to: the connection's
// own, and the default one where none is set or the connection has no row yet.
func poolOf(ctx context.Context, db *store.Store, c id.Customer, n id.Connection) (string, error) {
	pool, err := db.Customer(ctx, c).EgressPool(n)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", fmt.Errorf("read egress pool: %w", err)
	}
	return cmp.Or(pool, api.DefaultPool), nil
}

// inPool are the nodes of a pool. There is no way from one pool to another: a pool says from
// where a credential may be used, and its nodes see client secrets and refresh tokens.
func inPool(nodes []*lease.Identity, pool string) ([]*lease.Identity, error) {
	of := slices.DeleteFunc(slices.Clone(nodes), func(n *lease.Identity) bool { return n.Pool != pool })
	if len(of) == 0 {
		return nil, fmt.Errorf("%w: %s", errPool, pool)
	}
	return of, nil
}
