package engine

import (
	"context"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// reconcileEnded destroys credentials again whose connections are deleted here and which the keystore still has. A credential is
// destroyed before its row says so, and an id never gets a second life: so the keystore is older than the database. It was
// restored, or somebody put an old copy in its place. Only credentials are destroyed so, which can be entered again: what the
// database says never destroys a key of data.
func (e *Engine) reconcileEnded(ctx context.Context) error {
	return eachPage("deleted connections", e.db.System(ctx).EndedAfter, ownedConnection, func(page []store.Owned) error {
		return e.endAgain(ctx, page)
	})
}

// endAgain destroys those of a page that the keystore has.
func (e *Engine) endAgain(ctx context.Context, page []store.Owned) error {
	versions, err := e.connectionVersions(ctx, page)
	if err != nil {
		return err
	}
	for i, v := range versions {
		if v.Gone || v.Number == 0 {
			continue
		}
		n := page[i]
		if err := e.keys.call(ctx, lease.OpConnectionDelete, &lease.ConnectionCall{Customer: n.Customer, Connection: n.Connection}, nil); err != nil {
			return fmt.Errorf("destroy deleted credential: %w", err)
		}
		e.log.ErrorContext(ctx, "the keystore is older than the database: it had the credential of a deleted connection, which is destroyed again",
			"connection", n.Connection, "customer", n.Customer)
	}
	return nil
}
