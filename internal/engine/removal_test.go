package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// What waits in a paused instance does not begin when the instance is removed: it is cancelled, and the farewell runs.
func TestARemovalBeginsNothingThatWasHeld(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenantOf("c1", removable())
	if err := b.e.SetInstanceState(t.Context(), n.customer, n.instance, store.InstancePaused); err != nil {
		t.Fatal(err)
	}
	x := b.accept(n, "main", `{}`)
	r := b.runner()
	r.want(1)
	if err := b.e.Remove(t.Context(), n.customer, n.instance, 0); err != nil {
		t.Fatal(err)
	}
	u := r.untilUnit(t)
	if u.Flow != "goodbye" || b.row(n, x).Status != store.Cancelled {
		t.Fatalf("%s begins, and what was held is %v", u.Flow, b.row(n, x).Status)
	}
	r.send(&wire.Append{Execution: u.Execution, Fence: u.Fence, Finish: &wire.Finish{Status: wire.StatusCompleted}})
	b.gone(n)
}

// Nor does it when the server crashes and starts again between the two.
func TestARemovalBeginsNothingThatWasHeldBehindARestart(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenantOf("c1", removable())
	if err := b.e.SetInstanceState(t.Context(), n.customer, n.instance, store.InstancePaused); err != nil {
		t.Fatal(err)
	}
	x := b.accept(n, "main", `{}`)
	b.stopEngine() // the state is written, and nothing else of the removal
	err := b.opt.Store.Write(t.Context(), func(tx *store.Tx) error {
		return tx.Customer(n.customer).SetInstanceState(n.instance, store.InstanceRemoving, time.Now())
	})
	if err != nil {
		t.Fatal(err)
	}
	held, err := b.opt.Store.System(t.Context()).HeldInstances()
	if err != nil || !slices.Contains(held, n.instance) {
		t.Fatalf("a start would not hold it: %v, %v", held, err)
	}
	b.restart()
	r := b.runner()
	r.want(1)
	u := r.untilUnit(t)
	if u.Flow != "goodbye" || b.row(n, x).Status != store.Cancelled {
		t.Fatalf("%s begins, and what was held is %v", u.Flow, b.row(n, x).Status)
	}
	r.send(&wire.Append{Execution: u.Execution, Fence: u.Fence, Finish: &wire.Finish{Status: wire.StatusCompleted}})
	b.gone(n)
}
