package engine

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// A worker whose lease ends soon gets a permission without executions, which covers all
// that it holds; other instances of the runner do not matter.
func TestRenew(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n, other := b.tenant("c1"), b.tenant("c2")
	r := b.runner()
	r.want(10)
	b.accept(n, "main", `{}`)
	first := next(r, &wire.Dispatch{})
	b.accept(n, "short", `{}`)
	second := next(r, &wire.Dispatch{})
	b.accept(other, "main", `{}`)
	next(r, &wire.Dispatch{})
	held := []wire.Held{
		{Execution: first.Unit.Executions[0].Execution, Fence: 1}, {Execution: second.Unit.Executions[0].Execution, Fence: 1},
	}
	bound := wire.BoundInstance{Instance: n.instance, Definition: n.digest, Renew: true}
	r.send(&wire.Want{Free: 7, Held: held, Bound: []wire.BoundInstance{bound}})
	d := next(r, &wire.Dispatch{})
	signed, err := lease.PeekDispatch(d.Signed)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Unit.Executions) != 0 || d.Instance != n.instance || signed.Customer != n.customer || len(signed.Executions) != 1 {
		t.Errorf("renewal = %+v", d)
	}
	want := []lease.Day{lease.Day(first.Unit.Executions[0].Day), lease.Day(second.Unit.Executions[0].Day)}
	slices.Sort(want)
	slices.Sort(signed.Days)
	if !slices.Equal(signed.Days, want) {
		t.Errorf("days = %v, want %v", signed.Days, want)
	}
	// Nothing is renewed of what the runner does not hold.
	bound.Definition = [32]byte{1}
	r.send(&wire.Want{Free: 7, Held: held, Bound: []wire.BoundInstance{bound}})
	b.settle()
	if !r.silent() {
		t.Error("a lease for nothing was renewed")
	}
}

func TestWhatWasLostInAnAnswerIsTakenBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(5)
	x := b.accept(n, "main", `{}`)
	u := r.dispatch()[0]
	r.finish1(u)
	next(r, &wire.Appended{}) // and is lost
	r.want(4, wire.Held{Execution: x, Fence: u.Fence})
	if m := next(r, &wire.Cancel{}); m.Execution != x || m.Fence != u.Fence {
		t.Errorf("cancel = %+v", m)
	}
	if row := b.row(n, x); row.Status != store.Completed {
		t.Errorf("it is %v", row.Status)
	}
}

func TestInstanceCapsHoldAlsoAfterARestart(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	_, err := b.e.Deploy(context.Background(), &Deployment{Customer: n.customer, Instance: n.instance, Digest: n.digest, InFlightCap: 2})
	if err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.acceptMany(n, 10)
	r := b.runner()
	r.want(100)
	seen := map[id.Execution]bool{}
	for len(seen) < 10 {
		units := r.untilUnits(t)
		if len(units) > 2 {
			t.Fatalf("%d run at once, the cap is 2", len(units))
		}
		for _, u := range units {
			seen[u.Execution] = true
			r.finish1(u)
		}
	}
}

// untilUnits skips everything but units.
func (r *fakeRunner) untilUnits(t *testing.T) []wire.UnitExecution {
	t.Helper()
	for {
		if d, ok := r.frame().(*wire.Dispatch); ok {
			return d.Unit.Executions
		}
	}
}

func TestAServerWithoutItsBlindKeyLosesNoLabel(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	if _, err := b.e.keys.blindKey(context.Background()); err != nil {
		t.Fatal(err)
	}
	b.e.keys.known.Store(false) // as before the vault has answered
	r := b.runner()
	r.want(5)
	x := b.accept(n, "main", `{}`)
	u := r.dispatch()[0]
	r.send(&wire.Append{Execution: x, Fence: u.Fence, Labels: []wire.Label{{Name: "order"}}})
	next(r, &wire.Cancel{})
	b.e.keys.known.Store(true)
	if again := r.untilUnit(t); again.Execution != x || again.Fence <= u.Fence {
		t.Errorf("given out again: %+v", again)
	}
	if row := b.row(n, x); row.Interruptions != 0 || time.Since(row.Accepted) < 0 {
		t.Errorf("it counts against the execution: %+v", row)
	}
}
