package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// The backlog counts what is due, what is late, and how long the oldest waits; what has no
// time or is gone is not in it.
func TestRefreshBacklog(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		backlog := func() *RefreshBacklog {
			t.Helper()
			b, err := w.s.System(t.Context()).RefreshBacklog(at(), at().Add(-time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		if diff := cmp.Diff(&RefreshBacklog{}, backlog()); diff != "" {
			t.Error(diff)
		}
		put := func(due time.Time) id.Connection {
			t.Helper()
			n := Connection{Customer: w.owner, ID: id.NewConnection(at()), Name: "x", Connector: "c", Kind: "oauth2", EgressPool: "eu", RecordVersion: 1}
			w.write(t, func(c CustomerTx) error {
				if err := c.PutConnection(&n, at()); err != nil {
					return err
				}
				return c.TokenSaved(n.ID, &TokenSaved{RecordVersion: 1, Expires: at().Add(time.Hour), RefreshDue: due}, at())
			})
			return n.ID
		}
		put(time.Time{})
		put(at().Add(time.Second))
		put(at())
		late := put(at().Add(-time.Hour))
		if diff := cmp.Diff(&RefreshBacklog{Due: 2, Overdue: 1, Oldest: at().Add(-time.Hour)}, backlog()); diff != "" {
			t.Error(diff)
		}
		w.write(t, func(c CustomerTx) error { return c.DeleteConnection(late, "deleted", at()) })
		if diff := cmp.Diff(&RefreshBacklog{Due: 1, Oldest: at()}, backlog()); diff != "" {
			t.Error(diff)
		}
		mine := w.s.Customer(t.Context(), w.owner)
		if pool, err := mine.EgressPool(late); err != nil || pool != "eu" {
			t.Errorf("pool of a connection that is gone: %q, %v", pool, err)
		}
		if _, err := mine.EgressPool(id.NewConnection(at())); !errors.Is(err, ErrNotFound) {
			t.Errorf("pool of no connection: %v", err)
		}
	})
}
