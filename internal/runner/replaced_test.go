package runner

import (
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// TestReplacedCredential answers one of two calls of a worker that a credential of its lease was replaced. The heartbeat asks for
// another lease at once; the other call ends under the one before, which nobody drops.
func TestReplacedCredential(t *testing.T) {
	t.Parallel()
	play(t, Config{}, func(x *rig) {
		k := newWork()
		p := x.running(k, run(1))
		gives := of[wire.LeaseGive](x.bus)
		before, egress := gives[0].Lease, x.frames(wire.RoleEgress, wire.TypeLeaseGive)[0].node
		for n := range uint64(2) {
			p.send(&wire.Call{Lease: before, Egress: egress, Call: n + 1, Sealed: []byte("x")})
		}
		x.after(wantGap)
		calls := of[wire.Call](x.bus)
		same(t, "calls", len(calls), 2)
		answer := func(call uint64, why string) {
			t.Helper()
			m := &wire.Answer{Lease: before, Worker: calls[0].Worker, Call: call, Error: why}
			x.Handle(egress, wire.TopicAnswer, wire.Frame{Type: m.FrameType(), Body: wire.AppendBody(nil, m)}, nil)
		}
		answer(1, wire.ErrorReplaced)
		x.after(wantGap)
		wants := of[wire.Want](x.bus)
		if last := wants[len(wants)-1]; len(last.Bound) != 1 || !last.Bound[0].Renew {
			t.Errorf("the heartbeat %+v asks for no lease", last)
		}
		x.dispatch(k) // the permission
		same(t, "leases", len(x.bus.requests), 2)
		answer(2, "")
		answer(2, wire.ErrorReplaced) // of a lease that is not the newest any more
		x.after(wantGap)
		x.dispatch(k)
		same(t, "leases", len(x.bus.requests), 2)
		same(t, "frames", p.types(), []wire.Type{wire.TypeBind, wire.TypeUnit, wire.TypeAnswer, wire.TypeRenew, wire.TypeAnswer, wire.TypeAnswer})
		same(t, "leases dropped", len(x.frames(wire.RoleEgress, wire.TypeLeaseDrop)), 0)
	})
}
