package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// listens is a wait for an event as a worker registers it.
func (b *bench) listens(n tenant, x id.Execution, path string, at time.Time, m wire.Listen) wire.Wait {
	b.t.Helper()
	sealed, err := seal.NewSealer(b.opt.Key.Public(), lease.PurposeServer).Seal(nil, time.Now(), lease.ListenPlace(n.customer, x, path), wire.AppendBody(nil, &m))
	if err != nil {
		b.t.Fatal(err)
	}
	return wire.Wait{Path: path, Kind: wire.WaitEvent, At: at, Listen: sealed}
}

// pressed is what a wait for a button of a chat message listens for.
func pressed(action string) wire.Listen {
	return wire.Listen{Slot: "chat", Trigger: "interaction", Terms: []wire.Term{{Place: "body:action", Text: action}}}
}

// button is the event of a button for an instance.
func button(n tenant, delivery, action string) *Arrived {
	return &Arrived{
		Customer: n.customer, Instance: n.instance, Slot: "chat", Trigger: "interaction", Delivery: delivery,
		Text:    func(place string) (string, bool) { return action, place == "body:action" },
		Payload: func() ([]byte, error) { return []byte(`{"body":{"action":"` + action + `"}}`), nil },
	}
}

func (b *bench) resume(a *Arrived) int {
	b.t.Helper()
	n, err := b.e.Resume(context.Background(), a)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// waits begins an execution of a tenant that waits for what is given, by path.
func (r *fakeRunner) waits(t *testing.T, n tenant, m map[string]wire.Listen) wire.UnitExecution {
	t.Helper()
	if _, err := r.b.e.keys.blindKey(t.Context()); err != nil { // it is got ahead, and appends do not wait for it
		t.Fatal(err)
	}
	r.b.accept(n, "main", `{}`)
	u := r.untilUnit(t)
	a := waiting(u, 0)
	for path, l := range m {
		a.Waits = append(a.Waits, r.b.listens(n, u.Execution, path, time.Now().Add(time.Hour), l))
	}
	slices.SortFunc(a.Waits, func(a, b wire.Wait) int { return strings.Compare(a.Path, b.Path) })
	r.appended(a)
	return u
}

// appended sends an append and waits until it is committed; nothing else is told meanwhile.
func (r *fakeRunner) appended(a *wire.Append) {
	r.b.t.Helper()
	if got := r.append(a); got.Stale || got.Execution != a.Execution {
		r.b.t.Fatalf("the append is answered %+v", got)
	}
}

// An event resumes what waits for it, once, with what it said sealed to the customer, and nothing else: not
// what waits for another value, through another slot, in another instance or of another customer.
func TestAnEventResumesWhatWaitsForIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n, other := b.tenant("c1"), b.tenant("c2")
	r := b.runner()
	r.want(20)
	mine := r.waits(t, n, map[string]wire.Listen{"a": pressed("yes"), "b": pressed("yes"), "c": pressed("no")})
	elsewhere := pressed("yes")
	elsewhere.Slot = "other"
	whatever := wire.Listen{Slot: "chat", Trigger: "message"}
	third := r.waits(t, n, map[string]wire.Listen{"a": elsewhere, "m": whatever})
	theirs := r.waits(t, other, map[string]wire.Listen{"a": pressed("yes")})
	status := func() string {
		return fmt.Sprint(b.row(n, mine.Execution).Status, " ", b.row(n, third.Execution).Status, " ", b.row(other, theirs.Execution).Status)
	}
	for _, a := range []*Arrived{button(n, "1", "maybe"), button(n, "2", "")} {
		if got := b.resume(a); got != 0 || status() != "waiting waiting waiting" {
			t.Errorf("an event that nobody waits for resumes %d: %s", got, status())
		}
	}
	b.restart()
	r.want(20)
	if got := b.resume(button(n, "3", "yes")); got != 2 {
		t.Errorf("it answers %d waits, want 2", got)
	}
	again := r.untilUnit(t)
	if again.Execution != mine.Execution || len(again.Wakes) != 2 || again.Wakes[0].Path != "a" || again.Wakes[1].Path != "b" {
		t.Fatalf("given out: %v with %+v", again.Execution, again.Wakes)
	}
	for i := range again.Wakes {
		w := again.Wakes[i]
		place := wire.Entry{Kind: wire.EntryWake, Path: w.Path, Epoch: w.Epoch}
		if got := b.open(n.customer, again.Day, lease.EntryPlace(n.customer, again.Execution, &place), w.Body); got != `{"body":{"action":"yes"}}` || wire.WakeReason(w.Epoch) != wire.WakeAnswer {
			t.Errorf("the answer is %s", got)
		}
	}
	if status() != "running waiting waiting" {
		t.Errorf("they are %s", status())
	}
	if got := b.resume(button(n, "4", "yes")); got != 0 {
		t.Errorf("a second event answers %d waits", got)
	}
	if got := b.resume(&Arrived{Customer: n.customer, Instance: n.instance, Slot: "chat", Trigger: "message", Payload: button(n, "", "").Payload}); got != 1 {
		t.Errorf("an event without conditions answers %d waits", got)
	}
}

// An event that is delivered again does not answer what the execution waits for by then.
func TestARepeatedEventResumesOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(5)
	x := r.waits(t, n, map[string]wire.Listen{"a": pressed("yes")})
	if got := b.resume(button(n, "1", "yes")); got != 1 {
		t.Fatalf("it answers %d", got)
	}
	u := r.untilUnit(t)
	next := waiting(u, 1)
	next.Waits = []wire.Wait{b.listens(n, x.Execution, "b", time.Now().Add(time.Hour), pressed("yes"))}
	r.appended(next)
	b.restart()
	for _, c := range []struct {
		delivery string
		want     int
	}{{"1", 0}, {"2", 1}, {"2", 0}} {
		if got := b.resume(button(n, c.delivery, "yes")); got != c.want {
			t.Errorf("the event %s answers %d, want %d", c.delivery, got, c.want)
		}
	}
}

// What has ended, timed out or was cancelled is not resumed, and one that faulted and is retried is.
func TestWaitsForEventsEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	ctx := context.Background()
	r := b.runner()
	r.want(5)
	cancelled := r.waits(t, n, map[string]wire.Listen{"a": pressed("c")})
	late := r.waits(t, n, map[string]wire.Listen{"a": pressed("l")})
	if err := b.e.Cancel(ctx, n.customer, cancelled.Execution); err != nil {
		t.Fatal(err)
	}
	w, err := b.opt.Store.Customer(ctx, n.customer).OpenWaits(late.Execution, 9)
	if err != nil || len(w) != 1 || w[0].Kind != wire.WaitEvent {
		t.Fatalf("open waits %+v, %v", w, err)
	}
	if w, err := b.opt.Store.Customer(ctx, n.customer).OpenWaits(cancelled.Execution, 9); err != nil || len(w) != 0 {
		t.Errorf("a cancelled execution waits: %+v, %v", w, err)
	}
	b.e.fireWait(timer{at: w[0].At, customer: n.customer, execution: late.Execution, path: "a", wait: wire.WaitEvent}, time.Now())
	again := r.untilUnit(t)
	if len(again.Wakes) != 1 || wire.WakeReason(again.Wakes[0].Epoch) != wire.WakeTimeout {
		t.Errorf("wakes %+v", again.Wakes)
	}
	if got := b.resume(button(n, "", "c")) + b.resume(button(n, "", "l")); got != 0 {
		t.Errorf("%d waits that are over are answered", got)
	}
}

// What a worker claims about a wait is checked: who sealed it where, and that it is in order.
func TestWaitsForEventsAreChecked(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(20)
	if _, err := b.e.Resume(context.Background(), button(n, "", strings.Repeat("x", MaxCallback))); err != nil {
		t.Errorf("a large event that nobody waits for: %v", err)
	}
	r.waits(t, n, map[string]wire.Listen{"a": {Slot: "chat", Trigger: "interaction"}})
	if _, err := b.e.Resume(context.Background(), button(n, "", strings.Repeat("x", MaxCallback))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a large event: %v", err)
	}
	terms := func(places ...string) wire.Listen {
		m := pressed("")
		m.Terms = nil
		for _, p := range places {
			m.Terms = append(m.Terms, wire.Term{Place: p})
		}
		return m
	}
	for what, m := range map[string]wire.Listen{
		"no slot": {Trigger: "t"}, "no trigger": {Slot: "s"}, "out of order": terms("body:b", "body:a"), "twice": terms("body:a", "body:a"),
		"too long": pressed(strings.Repeat("x", wire.MaxTermText+1)), "too many": terms(strings.Split("abcdefghijklmnopq", "")...), "elsewhere": pressed("x"),
	} {
		b.accept(n, "main", `{}`)
		u := r.untilUnit(t)
		a := waiting(u, 0)
		path := "a"
		if what == "elsewhere" {
			path = "another"
		}
		wait := b.listens(n, u.Execution, path, time.Now().Add(time.Hour), m)
		wait.Path = "a"
		a.Waits = []wire.Wait{wait}
		r.send(a)
		b.eventually(what+" is refused", func() bool { return b.row(n, u.Execution).Status == store.Faulted })
	}
}
