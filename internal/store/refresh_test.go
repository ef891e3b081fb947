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
		if diff := cmp.Diff(&RefreshBacklog{Due: 2, Overdue: 1, Customers: 1, Oldest: at().Add(-time.Hour)}, backlog()); diff != "" {
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

// However much of one customer or connector is due, a page holds what is due longest of everybody
// else, and the pages together hold all that may be taken, once.
func TestRefreshesDueAreOfEverybody(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		put := func(c id.Customer, connector string, due time.Time) id.Connection {
			t.Helper()
			n := Connection{Customer: c, ID: id.NewConnection(at()), Name: "x", Connector: connector, Kind: "oauth2", RecordVersion: 1}
			err := w.s.Write(t.Context(), func(tx *Tx) error {
				if err := tx.Customer(c).PutConnection(&n, at()); err != nil {
					return err
				}
				return tx.Customer(c).TokenSaved(n.ID, &TokenSaved{RecordVersion: 1, Expires: at().Add(time.Hour), RefreshDue: due}, at())
			})
			if err != nil {
				t.Fatal(err)
			}
			return n.ID
		}
		var many []id.Connection
		for i := range 7 {
			many = append(many, put(w.owner, "down", at().Add(time.Duration(i-100)*time.Second)))
		}
		second, first := put(w.other, "down", at()), put(w.other, "down", at().Add(-time.Second))
		mine, others := put(w.owner, "up", at().Add(-time.Minute)), put(w.other, "up", at().Add(-time.Hour))
		put(w.other, "up", at().Add(time.Second))
		want := []id.Connection{others, many[0], mine, first, many[1], second, many[2]}
		for limit := 1; limit <= len(want)+1; limit++ {
			var got []id.Connection
			for after, last := (RefreshDue{}), false; !last; {
				page, err := w.s.System(t.Context()).RefreshesDue(at(), after, 5, limit)
				if err != nil {
					t.Fatal(err)
				}
				for _, x := range page {
					after = x
					got = append(got, x.Connection)
					if up := x.Connection == mine || x.Connection == others; up != (x.Connector == "up") {
						t.Errorf("%+v", x)
					}
				}
				last = len(page) < limit
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("in pages of %d: %s", limit, diff)
			}
		}
	})
}
