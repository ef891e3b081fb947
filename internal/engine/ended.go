package engine

import (
	"context"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// reconcileEnded destroys credentials again whose connections are deleted here and which the keystore still has. A credential is
// destroyed before its row says so, and an id never gets a second life: so the keystore is older than the database. It was
// restored, or somebody put an old copy in its place. Only credentials are destroyed so, which can be entered again: what the
// database says never destroys a key of data.
func (e *Engine) reconcileEnded(ctx context.Context) error {
	for after := (id.Connection{}); ; {
		page, err := e.db.System(ctx).EndedAfter(after, lease.MaxVersions)
		if err != nil {
			return fmt.Errorf("list deleted connections: %w", err)
		}
		if err := e.endAgain(ctx, page); err != nil {
			return err
		}
		if len(page) < lease.MaxVersions {
			return nil
		}
		after = page[len(page)-1].Connection
	}
}

// endAgain destroys those of a page that the keystore has.
func (e *Engine) endAgain(ctx context.Context, page []store.Owned) error {
	if len(page) == 0 {
		return nil
	}
	ask := &lease.VersionsCall{}
	for i := range page {
		ask.Connections = append(ask.Connections, page[i].Connection)
	}
	a, err := e.versions(ctx, ask)
	if err != nil {
		return err
	}
	for i, v := range a.Connections {
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
