package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// What is of no use after a time goes in batches, the oldest first, and nothing else.
func TestDeleteLapsed(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		tables := map[Lapsed]string{Deliveries: "dedupe", RequestAnswers: "idempotency", DeadTokens: "token", OldRejections: "rejection"}
		for i := range 5 {
			key, when := [32]byte{byte(i)}, at().Add(time.Duration(i)*time.Hour)
			w.write(t, func(c CustomerTx) error {
				_, err := c.SeeItem(w.instance, "main", key, w.execution.ID, at(), when)
				return errors.Join(err, c.PutRejection(w.instance, "main", &Rejection{At: when, Reason: []string{"size", "method"}[i%2]}))
			})
			w.writeOrg(t, w.org, func(o OrgTx) error {
				_, err := o.BeginRequest(key, key, at(), when)
				return errors.Join(err, o.PutToken(&Token{ID: id.NewToken(when), Hash: key, Created: at(), Expires: when}))
			})
		}
		for kind, table := range tables {
			run := func(before time.Time) (done bool, left int) {
				t.Helper()
				err := w.s.Write(t.Context(), func(tx *Tx) (err error) {
					done, err = tx.System().DeleteLapsed(kind, before, 2)
					return err
				})
				if err != nil {
					t.Fatalf("%s: %v", table, err)
				}
				if err := w.s.readDB.QueryRow(`SELECT COUNT(*) FROM ` + table).Scan(&left); err != nil {
					t.Fatal(err)
				}
				return done, left
			}
			if done, left := run(at()); !done || left != 5 {
				t.Errorf("%s: before the first: done %v, %d left", table, done, left)
			}
			left, done := 5, false
			for rounds := 0; !done && rounds < 5; rounds++ {
				done, left = run(at().Add(3 * time.Hour))
			}
			if !done || left != 2 {
				t.Errorf("%s: done %v, %d left, want 2", table, done, left)
			}
		}
	})
}

// Blobs go after their day, through their customer's handle.
func TestBlobsExpire(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		system := w.s.System(t.Context())
		expired := func(before uint32) (list []id.Blob) {
			t.Helper()
			err := system.ExpiredBlobs(before, 9, func(c id.Customer, b id.Blob) {
				if c == w.owner {
					list = append(list, b)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			return list
		}
		if list := expired(20_000); len(list) > 0 {
			t.Errorf("on its day: %v", list)
		}
		if diff := cmp.Diff([]id.Blob{w.blob}, expired(20_001)); diff != "" {
			t.Errorf("after its day:\n%s", diff)
		}
		has := func(day uint32) bool {
			t.Helper()
			found, err := system.HasBlob(day, w.blob)
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
		if !has(20_000) || has(20_001) {
			t.Error("it is not of its day, or of another")
		}
		remove := func(c id.Customer, before uint32) {
			t.Helper()
			if err := w.s.Write(t.Context(), func(tx *Tx) error { return tx.Customer(c).DeleteBlob(w.blob, before) }); err != nil {
				t.Fatal(err)
			}
		}
		remove(w.other, 20_001)
		remove(w.owner, 20_000)
		if !has(20_000) {
			t.Error("it was deleted by another, or on its day")
		}
		remove(w.owner, 20_001)
		if has(20_000) {
			t.Error("it is still there")
		}
	})
}

// Records of calls out go in batches, the oldest first, and only their customer's.
func TestFlowRecordsAreDeleted(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		for i := range 3 {
			for _, c := range []id.Customer{w.owner, w.other} {
				m := &wire.FlowRecord{Customer: c, Request: [16]byte{byte(i)}, Time: at().Add(time.Duration(i) * time.Hour), Method: "GET", Verdict: "ok"}
				if err := w.s.Write(t.Context(), func(tx *Tx) error { return tx.Customer(c).PutFlowRecord(m) }); err != nil {
					t.Fatal(err)
				}
			}
		}
		mine := w.s.Customer(t.Context(), w.owner)
		for _, step := range []struct {
			before time.Duration
			limit  int
			until  time.Duration
			left   int
		}{{0, 9, -1, 3}, {2 * time.Hour, 1, 0, 2}, {2 * time.Hour, 9, time.Hour, 1}, {2 * time.Hour, 9, -1, 1}} {
			until, err := mine.OldFlowRecords(at().Add(step.before), step.limit)
			want := at().Add(step.until)
			if step.until < 0 {
				want = time.Time{}
			}
			if err != nil || !until.Equal(want) {
				t.Fatalf("before %v: until %v, %v, want %v", step.before, until, err, want)
			}
			if !until.IsZero() {
				w.write(t, func(c CustomerTx) error { return c.DeleteFlowRecords(until) })
			}
			list, err := mine.FlowRecords(at(), at().Add(24*time.Hour), 9)
			if err != nil || len(list) != step.left {
				t.Errorf("%d left, %v, want %d", len(list), err, step.left)
			}
		}
		if list, err := w.s.Customer(t.Context(), w.other).FlowRecords(at(), at().Add(24*time.Hour), 9); len(list) != 3 || err != nil {
			t.Errorf("%d of another customer are left, %v", len(list), err)
		}
	})
}

// What is compared with the keystore after a restore is listed, but for what is being
// removed, and marks only its own connection.
func TestReconcile(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		system := w.s.System(t.Context())
		want := []Configured{{w.owner, w.instance, 4}}
		owned := Owned{w.owner, w.connection}
		got, err1 := system.ConfiguredAfter(id.Instance{}, 9)
		users, err2 := system.Users(owned)
		connections, err3 := system.ConnectionsAfter(id.Connection{}, 9)
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got) + cmp.Diff(want, users) + cmp.Diff([]Owned{owned}, connections); diff != "" {
			t.Error(diff)
		}
		members, err1 := system.CustomersAfter(id.Customer{}, 9)
		rest, err2 := system.CustomersAfter(w.owner, 9)
		inUse, err3 := w.s.Org(t.Context(), w.org).CustomerInUse(w.owner)
		if err := errors.Join(err1, err2, err3); err != nil || len(members) != 2 || len(rest) > 1 || !inUse {
			t.Errorf("customers: %+v, after the owner %+v, in use %v, %v", members, rest, inUse, err)
		}
		for _, m := range append(members, rest...) {
			if m.Organization != w.org || m.Customer != w.owner && m.Customer != w.other {
				t.Errorf("a customer that is not there: %+v", m)
			}
		}
		got, err1 = system.ConfiguredAfter(w.instance, 9)
		users, err2 = system.Users(Owned{w.other, w.connection})
		connections, err3 = system.ConnectionsAfter(w.connection, 9)
		if err := errors.Join(err1, err2, err3); err != nil || len(got)+len(users)+len(connections) > 0 {
			t.Errorf("after the last: %+v, %+v, %+v, %v", got, users, connections, err)
		}
		ended := func(after id.Connection) []Owned {
			t.Helper()
			list, err := system.EndedAfter(after, 9)
			if err != nil {
				t.Fatal(err)
			}
			return list
		}
		if list := ended(id.Connection{}); len(list) > 0 {
			t.Errorf("ended, while nothing is: %+v", list)
		}
		health := func(by id.Customer) string {
			t.Helper()
			if err := w.s.Write(t.Context(), func(tx *Tx) error { return tx.Customer(by).Reconnect(w.connection, at()) }); err != nil {
				t.Fatal(err)
			}
			n, err := w.s.Org(t.Context(), w.org).Connection(w.connection)
			if err != nil {
				t.Fatal(err)
			}
			return string(n.Health)
		}
		if by, mine := health(w.other), health(w.owner); by != "unknown" || mine != "needs_reconnect" {
			t.Errorf("health %q after another's mark, %q after the owner's", by, mine)
		}
		w.write(t, func(c CustomerTx) error { return c.SetInstanceState(w.instance, InstanceRemoving, at()) })
		got, err1 = system.ConfiguredAfter(id.Instance{}, 9)
		users, err2 = system.Users(owned)
		if err := errors.Join(err1, err2); err != nil || len(got)+len(users) > 0 {
			t.Errorf("while it is removed: %+v, %+v, %v", got, users, err)
		}
		w.write(t, func(c CustomerTx) error { return c.DeleteConnection(w.connection, "test", at()) })
		if diff := cmp.Diff([]Owned{owned}, ended(id.Connection{})); diff != "" || len(ended(w.connection)) > 0 {
			t.Errorf("ended: %s", diff)
		}
	})
}

// CountWaiting counts what waits and nothing else.
func TestCountWaiting(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		count := func() int {
			t.Helper()
			n, err := w.s.System(t.Context()).CountWaiting()
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		before := count()
		w.write(t, func(c CustomerTx) error {
			_, err := c.Finish(w.execution.ID, w.execution.Fence, nil, &wire.Finish{Status: wire.StatusWaiting, Wakes: 1}, at())
			return err
		})
		if after := count(); before != 0 || after != 1 {
			t.Errorf("%d before, %d after, want 0 and 1", before, after)
		}
	})
}
