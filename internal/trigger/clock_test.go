package trigger

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// scheduled is an integration whose flow hook starts at times.
func scheduled(s flow.Schedule) *flow.Integration {
	return &flow.Integration{Flows: []flow.Flow{{Name: "hook", Trigger: flow.Trigger{Schedule: &s}}}}
}

// clockAt is a clock whose time a test sets.
type clockAt struct {
	*Clock
	mu sync.Mutex
	at time.Time
}

func (r *rig) clock(at time.Time) *clockAt {
	c := &clockAt{Clock: NewClock(r.e, r.store, nil), at: at}
	c.now = func() time.Time {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.at
	}
	return c
}

// until lets the time come and does what is due.
func (c *clockAt) until(t *testing.T, at time.Time) {
	t.Helper()
	c.mu.Lock()
	c.at = at
	c.mu.Unlock()
	if err := c.plan(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := c.turn(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// runs are the times of the runs of an instance, in order. The ids of two that are accepted
// within a millisecond tell no order.
func (r *rig) runs(n instance) (list []string) {
	r.t.Helper()
	err := r.store.System(context.Background()).OpenExecutions(store.ShardOf(n.customer), func(x *store.Unfinished) error {
		if x.Instance == n.id {
			list = append(list, r.event(n, x.Execution)["time"].(string))
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func (r *rig) schedule(n instance) *store.Schedule {
	r.t.Helper()
	list, err := r.store.Customer(context.Background(), n.customer).Schedules(n.id)
	if err != nil || len(list) != 1 {
		r.t.Fatalf("%d schedules, %v", len(list), err)
	}
	return list[0]
}

func at(s string) time.Time { return must(time.Parse(time.RFC3339, s)) }

func equalTexts(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestAFlowStartsAtItsTimes(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o store.Options) {
		r := newRig(t, o)
		n := r.deploy(scheduled(flow.Schedule{Cron: value("30 2 * * *"), Timezone: value("${{ customer.timezone }}")}), "{}")
		c := r.clock(time.Time{})
		c.until(t, at("2026-03-28T00:00:00Z"))
		equalTexts(t, "before", r.runs(n))
		c.until(t, at("2026-03-28T01:30:00Z"))
		c.until(t, at("2026-03-28T01:30:01Z"))
		equalTexts(t, "at its time", r.runs(n), "2026-03-28T01:30:00Z")
		// Clocks go forward at 02:00: 02:30 does not exist, and the run is at the shift.
		c.until(t, at("2026-03-29T00:59:59Z"))
		c.until(t, at("2026-03-29T01:00:00Z"))
		equalTexts(t, "at the shift", r.runs(n), "2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z")
		s := r.schedule(n)
		if !s.NextRun.Equal(at("2026-03-30T00:30:00Z")) || !s.LastRun.Equal(at("2026-03-29T01:00:00Z")) || s.LastExecution.IsZero() || s.Timezone != "Europe/Berlin" {
			t.Errorf("schedule %+v", s)
		}
	})
}

func TestMissedRunsAreMadeUpForByOne(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	n := r.deploy(scheduled(flow.Schedule{Every: value("PT10M")}), "{}")
	c := r.clock(time.Time{})
	c.until(t, at("2026-01-01T00:00:00Z"))
	c.until(t, at("2026-01-01T00:10:00Z"))
	c.until(t, at("2026-01-01T05:03:00Z"))
	c.until(t, at("2026-01-01T05:09:59Z"))
	equalTexts(t, "runs", r.runs(n), "2026-01-01T00:10:00Z", "2026-01-01T00:20:00Z")
	c.until(t, at("2026-01-01T05:10:00Z"))
	equalTexts(t, "in its rhythm again", r.runs(n)[2:], "2026-01-01T05:10:00Z")
	// The same plan deployed again keeps the rhythm; another one begins its own.
	r.redeploy(n, scheduled(flow.Schedule{Every: value("PT10M")}), "{}")
	c.until(t, at("2026-01-01T05:15:00Z"))
	if s := r.schedule(n); !s.NextRun.Equal(at("2026-01-01T05:20:00Z")) {
		t.Errorf("next run %v", s.NextRun)
	}
	r.redeploy(n, scheduled(flow.Schedule{Every: value("PT1H")}), "{}")
	c.until(t, at("2026-01-01T05:16:00Z"))
	if s := r.schedule(n); !s.NextRun.Equal(at("2026-01-01T06:16:00Z")) {
		t.Errorf("next run %v", s.NextRun)
	}
}

func TestAPausedInstanceKeepsItsPlan(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	n := r.deploy(scheduled(flow.Schedule{Cron: value("0 * * * *")}), "{}")
	c := r.clock(time.Time{})
	c.until(t, at("2026-01-01T00:30:00Z"))
	state := func(s store.InstanceState) {
		if err := r.e.SetInstanceState(context.Background(), n.customer, n.id, s); err != nil {
			t.Fatal(err)
		}
	}
	state(store.InstancePaused)
	for hour := range 5 {
		c.until(t, at("2026-01-01T01:00:00Z").Add(time.Duration(hour)*time.Hour))
	}
	state(store.InstanceEnabled)
	c.until(t, at("2026-01-01T05:30:00Z"))
	equalTexts(t, "while it was paused", r.runs(n))
	c.until(t, at("2026-01-01T06:00:00Z"))
	equalTexts(t, "after", r.runs(n), "2026-01-01T06:00:00Z")
	state(store.InstanceRemoving)
	if list, err := r.store.Customer(context.Background(), n.customer).Schedules(n.id); err != nil || len(list) != 0 {
		t.Errorf("%d schedules of an instance that goes, %v", len(list), err)
	}
}

func TestJitterDelaysTheRunAndNotItsTime(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	n := r.deploy(scheduled(flow.Schedule{Cron: value("0 * * * *"), Jitter: flow.Duration(10 * time.Minute)}), "{}")
	c := r.clock(time.Time{})
	c.until(t, at("2026-01-01T00:30:00Z"))
	delays := map[time.Duration]bool{}
	for hour := range 8 {
		s, want := r.schedule(n), at("2026-01-01T01:00:00Z").Add(time.Duration(hour)*time.Hour)
		d := s.NextRun.Sub(want)
		if delays[d] = true; d < 0 || d >= 10*time.Minute || !planned(s).Equal(want) {
			t.Fatalf("next run %v, planned %v, want %v", s.NextRun, planned(s), want)
		}
		c.until(t, s.NextRun.Add(-time.Millisecond))
		c.until(t, s.NextRun)
	}
	if got := r.runs(n); len(got) != 8 || got[7] != "2026-01-01T08:00:00Z" {
		t.Errorf("runs %v", got)
	}
	if len(delays) < 5 {
		t.Errorf("%d different delays of 8 runs", len(delays))
	}
}

// Many clocks over one database start each run once.
func TestARunHappensOnce(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o store.Options) {
		r := newRig(t, o)
		var all []instance
		for range 10 {
			all = append(all, r.deploy(scheduled(flow.Schedule{Cron: value("*/5 * * * *")}), "{}"))
		}
		start := at("2026-01-01T00:00:00Z")
		clocks := make([]*clockAt, 4)
		for i := range clocks {
			clocks[i] = r.clock(start)
		}
		clocks[0].until(t, start)
		for run := 1; run <= 5; run++ {
			var wait sync.WaitGroup
			for _, c := range clocks {
				wait.Go(func() { c.until(t, start.Add(time.Duration(run)*5*time.Minute)) })
			}
			wait.Wait()
		}
		for _, n := range all {
			if got := r.runs(n); len(got) != 5 {
				t.Errorf("%d runs, want 5: %v", len(got), got)
			}
		}
	})
}

// A server that ends at any moment loses no run and repeats none: the run and the plan of the
// next are one commit.
func TestARunSurvivesTheEndOfItsServer(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o store.Options) {
		r := newRig(t, o)
		n := r.deploy(scheduled(flow.Schedule{Cron: value("*/5 * * * *")}), "{}")
		start := at("2026-01-01T00:00:00Z")
		c := r.clock(start)
		c.until(t, start)
		for run := 1; run <= 12; run++ {
			now := start.Add(time.Duration(run) * 5 * time.Minute)
			c.mu.Lock()
			c.at = now
			c.mu.Unlock()
			ctx, cancel := context.WithCancel(context.Background())
			turned := make(chan struct{})
			go func() { defer close(turned); _ = c.turn(ctx) }()
			if run%3 == 0 {
				<-turned
			}
			if run%3 == 1 {
				cancel() // before, in or after the commit
			}
			r.stop()
			<-turned
			cancel()
			r.start()
			c = r.clock(now)
			c.until(t, now)
			if got := r.runs(n); len(got) != run || got[run-1] != now.Format(time.RFC3339) {
				t.Fatalf("%d runs after %d times: %v", len(got), run, got)
			}
		}
	})
}

// What is no plan stops nothing else, and says so.
func TestTimesThatAreNone(t *testing.T) {
	t.Parallel()
	for what, r := range map[string]wire.ResolvedSchedule{
		"nothing":        {},
		"a problem":      {Problem: "config.x is empty"},
		"no cron line":   {Cron: "61 * * * *"},
		"no such zone":   {Cron: "0 0 * * *", Timezone: "Mars/Olympus"},
		"the local zone": {Cron: "0 0 * * *", Timezone: "Local"},
		"too often":      {Every: time.Second},
		"hardly ever":    {Every: 400 * 24 * time.Hour},
		"backwards":      {Every: -time.Hour},
	} {
		if err := plan(&store.Schedule{}, &r, time.Now()); err == nil {
			t.Errorf("%s is a plan", what)
		}
	}
	rig := newRig(t, store.Options{})
	n := rig.deploy(scheduled(flow.Schedule{Cron: value("0 0 * * *"), Timezone: value("${{ customer.attributes.plan }}")}), "{}")
	rig.clock(time.Time{}).until(t, time.Now())
	if s := rig.schedule(n); s.Plan != store.Unplannable {
		t.Errorf("%+v", s)
	}
	// When the organization says another time of its customer, the plan follows.
	row := *must(rig.store.Customer(context.Background(), n.customer).Profile())
	row.Attributes = []byte(`{"plan":"Europe/Berlin"}`)
	must(rig.e.PutCustomer(context.Background(), &row))
	rig.clock(time.Time{}).until(t, time.Now())
	if s := rig.schedule(n); s.Plan != store.Planned || s.Timezone != "Europe/Berlin" {
		t.Errorf("%+v", s)
	}
}

// A customer with more schedules than a clock takes at a time, all of which are refused
// because too much is pending, holds up nobody else.
func TestRefusedSchedulesHoldUpNobodyElse(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o store.Options) {
		r := newRig(t, o)
		r.stop()
		r.opt.Pending = engine.Pending{Events: 1, AllEvents: 1 << 30, Bytes: 1 << 40, AllBytes: 1 << 50}
		r.start()
		every := func(n int) *flow.Integration {
			i := &flow.Integration{}
			for k := range n {
				i.Flows = append(i.Flows, flow.Flow{Name: fmt.Sprintf("f%02d", k), Trigger: flow.Trigger{Schedule: &flow.Schedule{Every: value("PT10M")}}})
			}
			return i
		}
		greedy := r.deploy(every(90), "{}")
		for range 3 {
			r.redeploy(instance{customer: greedy.customer}, every(90), "{}")
		}
		c := r.clock(time.Time{})
		c.until(t, at("2026-03-28T00:00:00Z"))
		modest := r.deploy(scheduled(flow.Schedule{Every: value("PT10M")}), "{}")
		c.until(t, at("2026-03-28T00:00:01Z"))
		c.until(t, at("2026-03-28T00:20:00Z"))
		equalTexts(t, "the other customer's", r.runs(modest), "2026-03-28T00:10:01Z")
		c.until(t, at("2026-03-28T00:30:00Z"))
		if due, err := r.store.System(context.Background()).DueSchedules(r.e.Node(), at("2026-03-28T00:30:00Z"), nil, 1000); err != nil || len(due) < clockBatch {
			t.Errorf("%d schedules are refused, %v: too few to hold up anybody", len(due), err)
		}
	})
}

// Instances whose times only a worker can tell, and none does, hold up neither the first
// times of others nor the questions about them for long.
func TestUnansweredQuestionsHoldUpNobodyElse(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	c := r.clock(at("2026-03-28T00:00:00Z"))
	ctx, cancel := context.WithCancel(context.Background())
	defer c.questions.Wait()
	defer cancel()
	asking := scheduled(flow.Schedule{Every: value("${{ config.every }}")})
	for range clockTasks + 4 {
		r.deploy(asking, `{"every":"PT10M"}`)
	}
	plain := r.deploy(scheduled(flow.Schedule{Every: value("PT10M")}), "{}")
	if err := c.plan(ctx); err != nil {
		t.Fatal(err)
	}
	c.Clock.mu.Lock()
	open := 0
	for _, u := range c.unanswered {
		if u.open {
			open++
		}
	}
	c.Clock.mu.Unlock()
	if open != clockTasks {
		t.Errorf("%d questions are under way, want %d", open, clockTasks)
	}
	due, err := r.store.System(ctx).DueSchedules(r.e.Node(), at("2026-03-29T00:00:00Z"), nil, 99)
	if err != nil || len(due) != 1 || due[0].Instance != plain.id {
		t.Errorf("planned: %+v, %v, want that of the other instance", due, err)
	}
}

func TestWhoDoesNotAnswerIsAskedEverMoreRarely(t *testing.T) {
	t.Parallel()
	now := at("2026-03-28T00:00:00Z")
	c := NewClock(nil, nil, nil)
	c.now = func() time.Time { return now }
	i := id.NewInstance(now)
	var pauses []time.Duration
	for range 9 {
		c.asks(i)
		if c.mayAsk(i, now.Add(time.Hour)) {
			t.Fatal("it is asked twice at a time")
		}
		c.answered(i, context.DeadlineExceeded)
		pauses = append(pauses, c.unanswered[i].again.Sub(now))
	}
	if pauses[0] != replanAfter || pauses[1] != 2*replanAfter || pauses[8] != replanMost || c.mayAsk(i, now) || !c.mayAsk(i, now.Add(replanMost)) {
		t.Errorf("pauses %v", pauses)
	}
	if c.answered(i, nil); !c.mayAsk(i, now) {
		t.Error("an answer does not end the pause")
	}
}
