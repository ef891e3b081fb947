package engine

import (
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Faults in a row count also when the server ends between them.
func TestFaultsInARowOutliveAServer(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	fault := func(times int) {
		t.Helper()
		r := b.runner()
		for range times {
			r.want(1)
			b.accept(n, "main", `{}`)
			r.faulted(r.untilUnit(t))
		}
		r.want(0)
	}
	fault(failingAfter - 1)
	b.restart()
	fault(1)
	b.stateBecomes(n, store.InstanceFailing)
	r := b.runner()
	r.want(1)
	b.accept(n, "main", `{}`)
	r.finish(r.untilUnit(t))
	r.want(0)
	b.stateBecomes(n, store.InstanceEnabled)
	b.restart()
	fault(failingAfter - 1) // after one that completed, these are too few
	b.restart()
	b.settle()
	if got := b.instance(n).State; got != store.InstanceEnabled {
		t.Errorf("after %d faults it is %v", failingAfter-1, got)
	}
}
