package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// A schedule is unplanned when it is made, due when its time has come, and changed by who
// has its revision.
func TestSchedules(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		system, mine, other := w.s.System(t.Context()), w.s.Customer(t.Context(), w.owner), w.s.Customer(t.Context(), w.other)
		w.write(t, func(c CustomerTx) error {
			return errors.Join(c.PutSchedule(w.instance, "b", "poll"), c.PutSchedule(w.instance, "a", "schedule"))
		})
		server := holder(t, w.s)
		unplanned, err := system.UnplannedSchedules(server, nil, 9)
		if err != nil || len(unplanned) != 2 {
			t.Fatalf("unplanned: %v, %v", unplanned, err)
		}
		list, err := mine.Schedules(w.instance)
		if err != nil || len(list) != 2 || list[0].Flow != "a" || list[1].Kind != "poll" {
			t.Fatalf("of the instance: %+v, %v", list, err)
		}
		if list, err := other.Schedules(w.instance); len(list) > 0 || err != nil {
			t.Errorf("another customer sees %+v, %v", list, err)
		}
		planned := &Schedule{
			Customer: w.owner, Instance: w.instance, Flow: "a", Kind: "schedule", Cron: "0 3 * * *", Timezone: "Europe/Berlin",
			Every: time.Minute, Jitter: time.Second, Plan: Planned, NextRun: at().Add(time.Hour), LastRun: at(),
			LastExecution: w.execution.ID, Revision: list[0].Revision,
		}
		change := func(c id.Customer, s *Schedule) (changed bool) {
			t.Helper()
			err := w.s.Write(t.Context(), func(tx *Tx) (err error) {
				changed, err = tx.Customer(c).ChangeSchedule(s)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return changed
		}
		if change(w.other, planned) || !change(w.owner, planned) || change(w.owner, planned) {
			t.Error("it was changed by another, twice, or not at all")
		}
		planned.Revision++
		due, err := system.DueSchedules(server, at().Add(time.Hour), nil, 9)
		if diff := cmp.Diff([]*Schedule{planned}, due); diff != "" || err != nil {
			t.Errorf("due: %v\n%s", err, diff)
		}
		if due, err := system.DueSchedules(server, at().Add(time.Hour-time.Microsecond), nil, 9); len(due) > 0 || err != nil {
			t.Errorf("due before its time: %+v, %v", due, err)
		}
		never := *planned
		never.Plan = Unplannable
		if !change(w.owner, &never) {
			t.Error("its state was not stored")
		}
		if list, err = mine.Schedules(w.instance); err != nil || list[0].Plan != Unplannable || !list[0].NextRun.IsZero() {
			t.Errorf("one without times: %+v, %v", list[0], err)
		}
		w.write(t, func(c CustomerTx) error {
			return errors.Join(c.UnplanSchedules(), c.DeleteSchedule(w.instance, "b"))
		})
		if unplanned, err = system.UnplannedSchedules(server, nil, 9); err != nil || len(unplanned) != 1 || unplanned[0].Flow != "a" || unplanned[0].Cron != planned.Cron {
			t.Errorf("unplanned again: %+v, %v", unplanned, err)
		}
	})
}

// An item of a poll is new once, until its time has come.
func TestSeeItem(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		day := 24 * time.Hour
		see := func(c id.Customer, now time.Time) (seen bool) {
			t.Helper()
			err := w.s.Write(t.Context(), func(tx *Tx) (err error) {
				seen, err = tx.Customer(c).SeeItem(w.instance, "poll", [32]byte{1}, w.execution.ID, now, now.Add(7*day))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return seen
		}
		for i, step := range []struct {
			customer id.Customer
			after    time.Duration
			seen     bool
		}{
			{w.owner, 0, false},
			{w.owner, time.Hour, true},
			{w.other, time.Hour, false},
			{w.owner, 6 * day, true}, // which is written down: seven days from here on
			{w.owner, 12 * day, true},
			{w.owner, 20 * day, false},
		} {
			if got := see(step.customer, at().Add(step.after)); got != step.seen {
				t.Errorf("try %d: seen %v, want %v", i, got, step.seen)
			}
		}
	})
}

// Rejections for one reason in a row share a line, and only the newest lines are kept.
func TestRejections(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		put := func(reason string, after time.Duration, size int64, repeats uint64) {
			t.Helper()
			w.write(t, func(c CustomerTx) error {
				return c.PutRejection(w.instance, "main", &Rejection{At: at().Add(after), Reason: reason, Size: size, Repeats: repeats})
			})
		}
		put("signature", 0, 5, 2)
		put("signature", time.Second, -1, 0)
		put("size", time.Minute, 7, 0)
		got, err := w.s.Customer(t.Context(), w.owner).Rejections(w.instance, "main")
		want := []Rejection{{At: at().Add(time.Minute), Reason: "size", Size: 7}, {At: at().Add(time.Second), Reason: "signature", Size: -1, Repeats: 3}}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
		w.write(t, func(c CustomerTx) error {
			return c.PutRejection(w.instance, "other", &Rejection{At: at().Add(2 * time.Second), Reason: "method"})
		})
		all, err := w.s.Customer(t.Context(), w.owner).InstanceRejections(w.instance, 2)
		newest := []FlowRejection{{"main", want[0]}, {"other", Rejection{At: at().Add(2 * time.Second), Reason: "method"}}}
		if err != nil || len(all) != 2 || all[0] != newest[0] || all[1] != newest[1] {
			t.Errorf("of all flows: %+v, %v", all, err)
		}
		if list, err := w.s.Customer(t.Context(), w.other).InstanceRejections(w.instance, 9); len(list) > 0 || err != nil {
			t.Errorf("another customer sees %+v, %v", list, err)
		}
		for i := range MaxRejections {
			put([]string{"method", "size"}[i%2], time.Hour+time.Duration(i)*time.Second, 0, 0)
		}
		got, err = w.s.Customer(t.Context(), w.owner).Rejections(w.instance, "main")
		if err != nil || len(got) != MaxRejections || !got[len(got)-1].At.Equal(at().Add(time.Hour)) {
			t.Errorf("%d are kept, %v", len(got), err)
		}
		if list, err := w.s.Customer(t.Context(), w.other).Rejections(w.instance, "main"); len(list) > 0 || err != nil {
			t.Errorf("another customer sees %+v, %v", list, err)
		}
	})
}

// holder is a server that has every shard.
func holder(t *testing.T, s *Store) id.Node {
	t.Helper()
	server := id.NewNode(at())
	err := s.Write(t.Context(), func(tx *Tx) error {
		if err := tx.System().PrepareShards(); err != nil {
			return err
		}
		_, err := tx.System().ClaimShards(server, at(), at().Add(time.Hour))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return server
}

func TestDeployRuns(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		find := func() *Schedule {
			t.Helper()
			list, err := w.s.Customer(t.Context(), w.owner).Schedules(w.instance)
			if err != nil || len(list) != 1 {
				t.Fatalf("%d schedules, %v", len(list), err)
			}
			return list[0]
		}
		w.write(t, func(c CustomerTx) error { return c.PutDeployRun(w.instance, "f", time.Time{}) })
		if s := find(); s.Kind != KindDeploy || s.Plan != Unplannable {
			t.Errorf("one that rests: %+v", s)
		}
		w.write(t, func(c CustomerTx) error { return errors.Join(c.ArmDeployRuns(w.instance, at()), c.UnplanSchedules()) })
		s := find()
		if s.Plan != Planned || !s.NextRun.Equal(at()) {
			t.Errorf("one that is to run: %+v", s)
		}
		s.Plan, s.LastRun = Unplannable, at()
		w.write(t, func(c CustomerTx) error {
			_, err := c.ChangeSchedule(s)
			return errors.Join(err, c.PutDeployRun(w.instance, "f", at()), c.ArmDeployRuns(w.instance, at()))
		})
		if s := find(); s.Plan != Unplannable || !s.LastRun.Equal(at()) {
			t.Errorf("one that has run: %+v", s)
		}
		w.write(t, func(c CustomerTx) error {
			return errors.Join(c.PutSchedule(w.instance, "f", "poll"), c.PutDeployRun(w.instance, "f", at()))
		})
		if s := find(); s.Plan != Planned || !s.LastRun.IsZero() {
			t.Errorf("one that was something else: %+v", s)
		}
		// One that keeps a subscription runs again: when it is told to, and when the instance is enabled.
		w.write(t, func(c CustomerTx) error {
			return errors.Join(c.DeleteSchedule(w.instance, "f"), c.PutRun(w.instance, "f$subscribe", at()))
		})
		ran := func() {
			s := find()
			if s.Plan != Planned || !s.LastRun.IsZero() {
				t.Errorf("one that is to run again: %+v", s)
			}
			s.Plan, s.LastRun = Unplannable, at()
			w.write(t, func(c CustomerTx) error { _, err := c.ChangeSchedule(s); return err })
		}
		ran()
		w.write(t, func(c CustomerTx) error { return c.PutRun(w.instance, "f$subscribe", at()) })
		ran()
		w.write(t, func(c CustomerTx) error { return c.ArmDeployRuns(w.instance, at()) })
		ran()
	})
}
