package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// What was done through a connection is told by execution and host, each request once.
func TestUses(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		record := func(request id.Event, done bool, host string, at time.Time) func(CustomerTx) error {
			return func(c CustomerTx) error {
				return c.PutFlowRecord(&wire.FlowRecord{
					Customer: w.owner, Request: request, Done: done, Instance: w.instance, Execution: w.execution.ID, Connection: w.connection,
					Time: at, Method: "GET", Host: host, Sent: 10, Received: 20, Verdict: "allowed",
				})
			}
		}
		one, two := id.Event{1}, id.Event{2}
		for _, write := range []func(CustomerTx) error{
			record(one, false, "a.example", at()), record(one, true, "a.example", at().Add(time.Second)), record(two, true, "b.example", at().Add(time.Minute)),
		} {
			w.write(t, write)
		}
		uses := func(o id.Org, c id.Customer, since time.Time) (list []Use) {
			t.Helper()
			if err := w.s.Org(t.Context(), o).Uses(c, since, func(u *Use) error { list = append(list, *u); return nil }); err != nil {
				t.Fatal(err)
			}
			return list
		}
		use := Use{
			Connection: w.connection, Customer: w.owner, Instance: w.instance, Execution: w.execution.ID, Host: "a.example", Requests: 1, Sent: 20, Received: 40,
			First: at(), Last: at().Add(time.Second),
		}
		other := use
		other.Host, other.Sent, other.Received, other.First, other.Last = "b.example", 10, 20, at().Add(time.Minute), at().Add(time.Minute)
		if d := cmp.Diff([]Use{use, other}, uses(w.org, id.Customer{}, time.Time{})); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]Use{other}, uses(w.org, w.owner, at().Add(2*time.Second))); d != "" {
			t.Error(d)
		}
		if list := append(uses(w.org, w.other, time.Time{}), uses(w.stranger(t), id.Customer{}, time.Time{})...); len(list) != 0 {
			t.Errorf("of others: %+v", list)
		}
		stop := errors.New("stop")
		if err := w.s.Org(t.Context(), w.org).Uses(id.Customer{}, time.Time{}, func(*Use) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("stopped: %v", err)
		}
	})
}

// A connection is unused when neither its use nor its entry nor a notice is recent; one
// expires when nothing refreshes it.
func TestUnusedAndExpiring(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		later := at().Add(100 * 24 * time.Hour)
		unused := func(since time.Time) int {
			t.Helper()
			list, err := w.s.System(t.Context()).UnusedSince(since, id.Connection{}, 9)
			if err != nil {
				t.Fatal(err)
			}
			return len(list)
		}
		if n := unused(at()); n != 0 {
			t.Errorf("one that was just entered: %d", n)
		}
		if n := unused(later); n != 1 {
			t.Errorf("unused: %d", n)
		}
		w.write(t, func(c CustomerTx) error {
			_, err := c.Notify(&ConnectionNotice{ID: id.NewNotice(later), Connection: w.connection, Kind: NoticeUnused, At: later})
			return err
		})
		if n := unused(later); n != 0 {
			t.Errorf("one with a notice: %d", n)
		}
		if n := unused(later.Add(time.Hour)); n != 1 {
			t.Errorf("with an old notice: %d", n)
		}
		if err := w.s.Write(t.Context(), func(tx *Tx) error { return tx.System().ConnectionUsed(w.connection, later.Add(2*time.Hour)) }); err != nil {
			t.Fatal(err)
		}
		if n := unused(later.Add(time.Hour)); n != 0 {
			t.Errorf("one that was used: %d", n)
		}
		expiring := func() int {
			t.Helper()
			list, err := w.s.System(t.Context()).ExpiringBy(later, id.Connection{}, 9)
			if err != nil {
				t.Fatal(err)
			}
			return len(list)
		}
		if n := expiring(); n != 0 {
			t.Errorf("one that does not end: %d", n)
		}
		save := func(due time.Time) {
			w.write(t, func(c CustomerTx) error {
				return c.TokenSaved(w.connection, &TokenSaved{RecordVersion: 9, Expires: at().Add(time.Hour), RefreshDue: due}, at())
			})
		}
		if save(time.Time{}); expiring() != 1 {
			t.Error("one that nothing refreshes does not expire")
		}
		if save(at().Add(time.Minute)); expiring() != 0 {
			t.Error("one that is refreshed expires")
		}
	})
}

// A client certificate ends once, until another one is entered.
func TestEndedBy(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		end := at().Add(time.Hour)
		n := Connection{ID: w.connection, Name: "bank", Connector: "acme", Host: "h", RecordVersion: 2, TokenExpires: end}
		ended := func(kind string, now time.Time) int {
			t.Helper()
			n.Kind = kind
			w.write(t, func(c CustomerTx) error { return c.PutConnection(&n, at()) })
			list, err := w.s.System(t.Context()).EndedBy(now, id.Connection{}, 9)
			if err != nil {
				t.Fatal(err)
			}
			return len(list)
		}
		for kind, want := range map[string]int{"mtls": 1, "oauth2": 0} { // tokens are renewed
			if got := ended(kind, end); got != want {
				t.Errorf("%s at its end: %d", kind, got)
			}
		}
		if got := ended("mtls", end.Add(-time.Second)); got != 0 {
			t.Errorf("before its end: %d", got)
		}
		w.write(t, func(c CustomerTx) error {
			_, err := c.SetHealth(w.connection, HealthNeedsReconnect, "certificate_expired", at())
			return err
		})
		if list, err := w.s.System(t.Context()).EndedBy(end, id.Connection{}, 9); err != nil || len(list) != 0 {
			t.Errorf("one that is known: %v, %v", list, err)
		}
	})
}
