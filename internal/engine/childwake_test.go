package engine

import (
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// A call that is tried again pauses at the path where it waits for its children. That
// the pause is over must not be taken for an answer to the next child.
func TestAChildAfterAPauseWakesItsParent(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(5)
	x := b.accept(n, "main", `{}`)
	u := r.dispatch()[0]
	call := func(u wire.UnitExecution, seen int) wire.UnitExecution {
		t.Helper()
		child := id.NewExecution(time.Now())
		r.append(&wire.Append{
			Execution: x, Fence: u.Fence,
			Children: []wire.Child{{Execution: child, Flow: "child", Event: []byte("sealed trigger"), Path: "sub", Await: true}},
		})
		c := r.dispatch()[0]
		r.append(waiting(u, seen))
		r.send(&wire.Append{Execution: child, Fence: c.Fence, Finish: &wire.Finish{Status: wire.StatusFaulted, Output: []byte("fault")}})
		b.settle()
		u = r.untilUnit(t)
		if last := len(u.Wakes) - 1; u.Execution != x || last != seen || u.Wakes[last].Child() != child {
			t.Fatalf("parent = %+v, want a wake of %s after %d others", u, child, seen)
		}
		return u
	}
	u = call(u, 0)
	pause := waiting(u, 1)
	pause.Waits = []wire.Wait{{Path: "sub", Kind: wire.WaitTimer, At: time.Now().Add(time.Millisecond)}}
	r.append(pause)
	b.settle()
	u = r.untilUnit(t)
	if len(u.Wakes) != 2 || wire.WakeReason(u.Wakes[1].Epoch) != wire.WakeTimer {
		t.Fatalf("parent = %+v, want the end of its pause", u)
	}
	call(u, 2)
}
