package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// An instance by which a connection is asked is found by the connection and its customer, and by nothing that lists who uses it.
func TestProbes(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		v := &Version{Integration: id.NewIntegration(at()), Digest: [32]byte{77}, Definition: []byte("{}")}
		asker := &Instance{
			Customer: w.owner, ID: id.NewInstance(at().Add(time.Hour)), Integration: v.Integration, Digest: v.Digest, State: InstanceEnabled,
			Slots: []Slot{{Name: "connection", Owner: w.owner, Connection: w.connection}},
		}
		err := w.s.Write(t.Context(), func(tx *Tx) error { return tx.System().Publish(w.org, ProbePrefix+"acme", v, at()) })
		if err != nil {
			t.Fatal(err)
		}
		w.writeOrg(t, w.org, func(o OrgTx) error { return o.HideIntegration(v.Integration) })
		mine, system := w.s.Org(t.Context(), w.org), w.s.System(t.Context())
		used := func() [3]int {
			a, errA := mine.Using(w.connection)
			b, errB := mine.UsersOf(w.connection, w.connection)
			c, errC := system.Users(Owned{w.owner, w.connection})
			if errA != nil || errB != nil || errC != nil {
				t.Fatal(errA, errB, errC)
			}
			return [3]int{len(a), len(b[w.connection]), len(c)}
		}
		before := used()
		w.write(t, func(c CustomerTx) error { return c.PutInstance(asker, at()) })
		if got := used(); got != before {
			t.Errorf("it is used by %v, before it was asked by %v", got, before)
		}
		if list, err := mine.TestInstances(at().Add(time.Hour), 9); err != nil || len(list) > 0 {
			t.Errorf("it is taken for a test run: %+v, %v", list, err)
		}
		want := []Probe{{asker.ID, w.connection, v.Digest, InstanceEnabled}}
		for n, want := range map[id.Connection][]Probe{w.connection: want, {}: want, id.NewConnection(at()): nil} {
			list, err := w.s.Customer(t.Context(), w.owner).Probes(n, 9)
			if diff := cmp.Diff(want, list); diff != "" || err != nil {
				t.Errorf("probes of %v: %v\n%s", n, err, diff)
			}
		}
		if list, err := w.s.Customer(t.Context(), w.other).Probes(id.Connection{}, 9); err != nil || len(list) > 0 {
			t.Errorf("probes of another customer: %+v, %v", list, err)
		}
		w.write(t, func(c CustomerTx) error { return c.SetInstanceState(asker.ID, InstanceRemoving, at()) })
		if list, err := w.s.Customer(t.Context(), w.owner).Probes(w.connection, 9); err != nil || len(list) > 0 {
			t.Errorf("probes while it is removed: %+v, %v", list, err)
		}
	})
}

// What a test found is noted, unless something better is known.
func TestSetTested(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		began := at().Add(time.Hour)
		now := began.Add(time.Second)
		for _, x := range []struct {
			was, found, want Health
			began            time.Time
		}{
			{HealthUnknown, HealthOK, HealthOK, began},
			{HealthOK, HealthFailing, HealthFailing, began},
			{HealthFailing, HealthOK, HealthOK, began},
			{HealthExpiring, HealthOK, HealthExpiring, began},
			{HealthExpiring, HealthFailing, HealthFailing, began},
			{HealthNeedsReconnect, HealthOK, HealthNeedsReconnect, began},
			{HealthRevoked, HealthFailing, HealthRevoked, began},
			{HealthUnknown, HealthFailing, HealthUnknown, at().Add(-time.Hour)}, // of the credential before
		} {
			w.write(t, func(c CustomerTx) error { _, err := c.SetHealth(w.connection, x.was, "", at()); return err })
			var changed bool
			w.write(t, func(c CustomerTx) (err error) {
				changed, err = c.SetTested(w.connection, x.found, "test_auth", x.began, now)
				return err
			})
			got, err := w.s.Customer(t.Context(), w.owner).Connection(w.connection)
			if err != nil || got.Health != x.want || changed != (x.want != x.was) {
				t.Errorf("%s found %s: %+v, changed %v, %v", x.was, x.found, got, changed, err)
			}
		}
	})
}
