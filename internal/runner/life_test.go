package runner

import (
	"errors"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s differs (-want +got):\n%s", what, d)
	}
}

// TestBinding walks the road of a first unit: hello, lease, egress' half, bind, unit.
func TestBinding(t *testing.T) {
	t.Parallel()
	play(t, Config{}, func(x *rig) {
		k, a, b := newWork(), run(1), run(1)
		x.dispatch(k, a)
		p := x.worker()
		x.dispatch(k, b) // waits behind the first
		same(t, "frames before the worker is bound", p.types(), []wire.Type{wire.TypeBind})
		request := x.bus.requests[0]
		if request.Worker != (seal.PublicKey{1}) || request.Runner != x.cfg.Node || !slices.Contains(x.egress, request.Egress) {
			t.Errorf("lease request %+v", request)
		}
		gives := x.frames(wire.RoleEgress, wire.TypeLeaseGive)
		if len(gives) != 1 || gives[0].node != request.Egress {
			t.Errorf("egress got %v, the lease names %v", gives, request.Egress)
		}
		x.bind()
		same(t, "frames", p.types(), []wire.Type{wire.TypeBind, wire.TypeUnit, wire.TypeUnit})
		same(t, "executions in order", []id.Execution{p.units()[0].Execution, p.units()[1].Execution}, []id.Execution{a.Execution, b.Execution})
		x.dispatch(k, run(1)) // at once
		same(t, "units", p.count(wire.TypeUnit), 3)
		same(t, "leases", len(x.bus.requests), 1)
		same(t, "workers", len(x.children(jail.KindWorker)), 1)
	})
}

// TestGivenBack are the reasons why a unit cannot be run here.
func TestGivenBack(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		play func(*rig, *work, wire.UnitExecution)
		want string
	}{
		"no lease": {func(x *rig, k *work, e wire.UnitExecution) {
			x.bus.set(func() { x.bus.fault = errors.New("refused") })
			x.dispatch(k, e)
		}, "lease"},
		"no vault": {func(x *rig, k *work, e wire.UnitExecution) {
			x.bus.set(func() { x.bus.silent = true })
			x.dispatch(k, e)
			x.after(bindTimeout)
		}, "lease"},
		"no egress": {func(x *rig, k *work, e wire.UnitExecution) {
			k.pool = "elsewhere"
			x.dispatch(k, e)
			x.after(bindTimeout)
		}, "lease"},
		"another definition": {func(x *rig, k *work, e wire.UnitExecution) {
			k.definition[0]++
			x.dispatch(k, e)
		}, "lease"},
		"no process": {func(x *rig, k *work, e wire.UnitExecution) {
			x.refuse = true
			x.dispatch(k, e)
		}, "unavailable"},
		"a worker that says nothing": {func(x *rig, k *work, e wire.UnitExecution) {
			x.quiet = true
			x.dispatch(k, e)
			x.after(bindTimeout)
		}, "lease"},
		"a worker that does not answer": {func(x *rig, k *work, e wire.UnitExecution) {
			x.dispatch(k, e)
			x.after(bindTimeout)
		}, "lease"},
		"a worker that refuses": {func(x *rig, k *work, e wire.UnitExecution) {
			x.dispatch(k, e)
			x.worker().send(&wire.Bound{Error: "no"})
		}, "bind"},
		"out of memory": {func(x *rig, k *work, e wire.UnitExecution) { x.running(k, e).exit(jail.ReasonMemory) }, "memory"},
		"out of time":   {func(x *rig, k *work, e wire.UnitExecution) { x.running(k, e).exit(jail.ReasonCPU) }, "cpu"},
		"a violation":   {func(x *rig, k *work, e wire.UnitExecution) { x.running(k, e).exit(jail.ReasonViolation) }, "violation"},
		"a crash":       {func(x *rig, k *work, e wire.UnitExecution) { x.running(k, e).exit(jail.ReasonCrash) }, "crash"},
		"the protocol":  {func(x *rig, k *work, e wire.UnitExecution) { x.running(k, e).send(&wire.Want{}) }, "protocol"},
		"a closed stream": {func(x *rig, k *work, e wire.UnitExecution) {
			_ = x.running(k, e).conn.Close()
			x.after(endGrace)
		}, "killed"},
		"killed by somebody else": {func(x *rig, k *work, e wire.UnitExecution) {
			x.running(k, e).ends(jail.Exit{Reason: jail.ReasonCrash, Signal: syscall.SIGKILL})
		}, "killed"},
		// However it ends then, it was the runner that wanted its end.
		"a shutdown that is slow": {func(x *rig, k *work, e wire.UnitExecution) {
			p := x.running(k, e)
			x.Runner.mu.Lock()
			x.Runner.held[e.Execution].worker.retire("shutdown")
			x.Runner.mu.Unlock()
			p.ends(jail.Exit{Reason: jail.ReasonCrash, Signal: syscall.SIGKILL})
		}, "shutdown"},
		"a crash before it was given": {func(x *rig, k *work, e wire.UnitExecution) {
			x.dispatch(k, e)
			x.worker().exit(jail.ReasonCrash)
		}, "unavailable"},
		"the protocol before it was given": {func(x *rig, k *work, e wire.UnitExecution) {
			x.dispatch(k, e)
			x.worker().send(&wire.Want{})
		}, "unavailable"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, Config{}, func(x *rig) {
				k, e := newWork(), run(3)
				c.play(x, k, e)
				same(t, "given back", x.released(), map[id.Execution]string{e.Execution: c.want})
				for _, m := range of[wire.Released](x.bus) {
					same(t, "fence", m.Fence, uint64(3))
				}
				gives, drops := x.frames(wire.RoleEgress, wire.TypeLeaseGive), x.frames(wire.RoleEgress, wire.TypeLeaseDrop)
				same(t, "leases dropped", len(drops), len(gives))
				x.Runner.mu.Lock()
				defer x.Runner.mu.Unlock()
				same(t, "left", []int{len(x.held), len(x.workers)}, []int{0, 0})
			})
		})
	}
}

// TestGrantAfterTheEnd drops a grant that comes when its worker has ended: egress would keep it.
func TestGrantAfterTheEnd(t *testing.T) {
	t.Parallel()
	play(t, Config{}, func(x *rig) {
		x.bus.set(func() { x.bus.silent = true })
		x.dispatch(newWork(), run(1))
		x.worker().exit(jail.ReasonCrash)
		x.after(bindTimeout)
		same(t, "leases given to egress", len(x.frames(wire.RoleEgress, wire.TypeLeaseGive)), 0)
	})
}

// TestRenewal follows a long execution: the heartbeat asks, the server permits, the worker gets a newer lease.
func TestRenewal(t *testing.T) {
	t.Parallel()
	play(t, Config{}, func(x *rig) {
		k, e := newWork(), run(1)
		p := x.running(k, e)
		asked := func() bool {
			all := of[wire.Want](x.bus)
			last := all[len(all)-1]
			return len(last.Bound) == 1 && last.Bound[0].Renew && last.Bound[0].Instance == k.instance
		}
		x.after(renewBefore - 2*time.Second)
		if asked() {
			t.Error("a fresh lease is to be renewed")
		}
		x.dispatch(k) // too early
		same(t, "leases", len(x.bus.requests), 1)
		x.after(4 * time.Second)
		if !asked() {
			t.Error("the heartbeat does not ask for a renewal")
		}
		x.dispatch(k)
		same(t, "frames", p.types(), []wire.Type{wire.TypeBind, wire.TypeUnit, wire.TypeRenew})
		same(t, "leases at egress", len(x.frames(wire.RoleEgress, wire.TypeLeaseGive)), 2)
		x.after(2 * heartbeat)
		if asked() {
			t.Error("it still asks after the renewal")
		}
		other := newWork()
		x.dispatch(other) // a permission for nobody
		same(t, "workers", len(x.children(jail.KindWorker)), 1)
	})
}

// TestRenewalFails keeps a worker going under its lease while the vault does not
// answer, and gives back only what that lease does not cover.
func TestRenewalFails(t *testing.T) {
	t.Parallel()
	play(t, Config{}, func(x *rig) {
		k := newWork()
		p := x.running(k, run(1))
		x.bus.set(func() { x.bus.fault = errors.New("sealed") })
		x.after(renewBefore + time.Second)
		x.dispatch(k, run(1))
		same(t, "units", len(p.units()), 2)
		same(t, "questions", len(x.bus.requests), 2)
		x.dispatch(k, run(1)) // the vault is not asked again at once
		same(t, "units", len(p.units()), 3)
		same(t, "questions", len(x.bus.requests), 2)
		uncovered := run(1)
		k.days = []lease.Day{20_001}
		x.dispatch(k, uncovered)
		same(t, "given back", x.released(), map[id.Execution]string{uncovered.Execution: "lease"})
		if p.wasKilled() {
			t.Error("the worker was killed")
		}
		x.bus.set(func() { x.bus.fault = nil })
		x.after(renewPause)
		x.dispatch(k, run(1))
		same(t, "units", len(p.units()), 4)
		same(t, "renewals", p.count(wire.TypeRenew), 1)
	})
}

// TestCover gets a newer lease for new days and viewers, and none for those that it has.
func TestCover(t *testing.T) {
	t.Parallel()
	play(t, Config{}, func(x *rig) {
		k := newWork()
		p := x.running(k, run(1))
		leases := func(want int, what string) {
			t.Helper()
			x.dispatch(k, run(1))
			same(t, what, len(x.bus.requests), want)
		}
		leases(1, "the same day")
		k.days = []lease.Day{20_001}
		leases(2, "another day")
		k.days = []lease.Day{20_000}
		leases(2, "the first day again")
		k.viewers = []lease.Viewer{{View: id.NewView(time.Now())}}
		leases(3, "a viewer")
		leases(3, "the viewer again")
		same(t, "renewals before their units", p.types(), []wire.Type{
			wire.TypeBind, wire.TypeUnit, wire.TypeUnit, wire.TypeRenew, wire.TypeUnit, wire.TypeUnit, wire.TypeRenew, wire.TypeUnit, wire.TypeUnit,
		})
		x.after(lease.MaxLife + 2*leaseSlack)
		leases(4, "after its end")
		x.Runner.mu.Lock()
		defer x.Runner.mu.Unlock()
		for w := range x.workers {
			same(t, "leases remembered", len(w.leases), 1)
		}
	})
}

// TestVersions gives a new config a new worker while the old one finishes, and keeps
// two definitions of an instance beside each other.
func TestVersions(t *testing.T) {
	t.Parallel()
	play(t, Config{}, func(x *rig) {
		k, old := newWork(), run(1)
		first := x.running(k, old)
		newer := *k
		newer.config = 2
		second := x.running(&newer, run(1))
		x.dispatch(&newer, run(1))
		same(t, "units", []int{len(first.units()), len(second.units())}, []int{1, 2})
		first.send(&wire.Append{Execution: old.Execution, Fence: 1})
		same(t, "appends", len(x.frames(wire.RoleServer, wire.TypeAppend)), 1)
		x.after(renewBefore + 2*time.Second)
		x.dispatch(&newer) // renews both: the old one has work left
		same(t, "renewals", []int{first.count(wire.TypeRenew), second.count(wire.TypeRenew)}, []int{1, 1})
		first.send(&wire.Released{Execution: old.Execution, Fence: 1})
		x.after(DefaultIdle + 2*heartbeat)
		if !first.wasKilled() || second.wasKilled() {
			t.Errorf("killed: old %v, new %v", first.wasKilled(), second.wasKilled())
		}
		same(t, "given back", x.released(), map[id.Execution]string{old.Execution: ""})
	})
}

// TestRedispatch gives an execution out again while it is held: nothing of the old stay goes on.
func TestRedispatch(t *testing.T) {
	t.Parallel()
	play(t, Config{}, func(x *rig) {
		k, e := newWork(), run(1)
		first := x.running(k, e)
		first.send(&wire.SandboxWant{Execution: e.Execution, Fence: 1})
		box := x.sandbox()
		x.dispatch(k, e) // the same again
		same(t, "units", len(first.units()), 1)
		newer := *k
		newer.config = 2
		e.Fence = 2
		second := x.running(&newer, e)
		if !box.wasKilled() {
			t.Error("the sandbox of the old stay lives")
		}
		same(t, "frames of the first worker", first.types(), []wire.Type{wire.TypeBind, wire.TypeUnit, wire.TypeSandboxReady, wire.TypeCancel})
		first.send(&wire.Append{Execution: e.Execution, Fence: 1})
		first.send(&wire.Released{Execution: e.Execution, Fence: 1})
		same(t, "frames of the old stay", len(x.frames(wire.RoleServer, wire.TypeAppend))+len(x.frames(wire.RoleServer, wire.TypeReleased)), 0)
		second.send(&wire.SandboxWant{Execution: e.Execution, Fence: 2})
		x.sandbox()
		same(t, "sandboxes", len(x.children(jail.KindSandbox)), 2)

		e.Fence = 3 // and again, on the same worker
		x.dispatch(&newer, e)
		second.send(&wire.SandboxClose{Execution: e.Execution, Fence: 2}) // of the old stay
		second.send(&wire.SandboxWant{Execution: e.Execution, Fence: 3})
		second.send(&wire.SandboxClose{Execution: e.Execution, Fence: 2})
		second.send(&wire.Released{Execution: e.Execution, Fence: 2})
		if last := x.sandbox(); last.wasKilled() || second.wasKilled() {
			t.Error("the new stay was hurt by the old one")
		}
		second.send(&wire.Append{Execution: e.Execution, Fence: 3})
		same(t, "appends", len(x.frames(wire.RoleServer, wire.TypeAppend)), 1)
		e.Fence = 1
		x.dispatch(&newer, e) // an old word
		second.send(&wire.Released{Execution: e.Execution, Fence: 3})
		same(t, "released", x.released(), map[id.Execution]string{e.Execution: ""})
	})
}

// TestQueued cancels, wakes and gives out again what still waits for its worker.
func TestQueued(t *testing.T) {
	t.Parallel()
	play(t, Config{}, func(x *rig) {
		k := newWork()
		cancelled, woken, again, moved := run(1), run(1), run(1), run(1)
		x.dispatch(k, cancelled, woken)
		x.dispatch(k, again, moved)
		x.say(x.server, &wire.Wake{Execution: woken.Execution, Fence: 1})
		x.say(x.server, &wire.Cancel{Execution: cancelled.Execution, Fence: 1})
		x.say(x.server, &wire.Cancel{Execution: woken.Execution, Fence: 7}) // another fence
		x.say(node(), &wire.Cancel{Execution: woken.Execution, Fence: 1})   // another server
		again.Fence = 2
		x.dispatch(k, again)
		newer := *k
		newer.config, moved.Fence = 2, 2
		x.dispatch(&newer, moved)
		same(t, "released", x.released(), map[id.Execution]string{cancelled.Execution: ""})
		all := x.children(jail.KindWorker)
		for _, p := range all {
			p.send(&wire.Bound{})
		}
		synctest.Wait()
		var got []id.Execution
		for _, e := range all[0].units() {
			got = append(got, e.Execution)
		}
		same(t, "executions", got, []id.Execution{woken.Execution, again.Execution})
		same(t, "frames", all[0].types(), []wire.Type{wire.TypeBind, wire.TypeUnit, wire.TypeWake, wire.TypeUnit})
		same(t, "moved", len(all[1].units()), 1)
		same(t, "new fence", all[0].units()[1].Fence, uint64(2))
	})
}

// TestCancel passes a cancellation on, and ends a worker that does not mind it.
func TestCancel(t *testing.T) {
	t.Parallel()
	play(t, Config{}, func(x *rig) {
		k, e, other := newWork(), run(1), run(1)
		p := x.running(k, e, other)
		x.say(x.server, &wire.Cancel{Execution: e.Execution, Fence: 1})
		synctest.Wait()
		same(t, "cancels", p.count(wire.TypeCancel), 1)
		x.after(cancelGrace / 2)
		x.say(x.server, &wire.Cancel{Execution: e.Execution, Fence: 1}) // the grace does not begin anew
		x.after(cancelGrace/2 + 2*heartbeat)
		if !p.wasKilled() {
			t.Error("a worker that does not let go lives")
		}
		same(t, "given back", x.released(), map[id.Execution]string{e.Execution: "cancel", other.Execution: "cancel"})
	})
}

// TestShutdown gives everything back when the runner ends, and says first that it drains.
func TestShutdown(t *testing.T) {
	t.Parallel()
	k, e, waiting := newWork(), run(1), run(1)
	var b *fakeBus
	play(t, Config{Spare: 1}, func(x *rig) {
		b = x.bus
		p := x.running(k, e)
		p.send(&wire.SandboxWant{Execution: e.Execution, Fence: 1})
		x.dispatch(newWork(), waiting) // its worker does not answer
	})
	got := map[id.Execution]string{}
	for _, m := range of[wire.Released](b) {
		got[m.Execution] = m.Fault
	}
	same(t, "given back", got, map[id.Execution]string{e.Execution: "shutdown", waiting.Execution: "shutdown"})
	drained := slices.IndexFunc(b.sent, func(s sent) bool {
		var m wire.Want
		return s.Type == wire.TypeWant && s.Parse(&m) == nil && m.Draining
	})
	released := slices.IndexFunc(b.sent, func(s sent) bool { return s.Type == wire.TypeReleased })
	if drained < 0 || drained > released {
		t.Errorf("draining was said at %d, the first was given back at %d", drained, released)
	}
}

// TestDispatchWhileClosing gives back what comes too late.
func TestDispatchWhileClosing(t *testing.T) {
	t.Parallel()
	play(t, Config{}, func(x *rig) {
		x.Runner.mu.Lock()
		x.closing = true
		x.Runner.mu.Unlock()
		e := run(1)
		x.dispatch(newWork(), e)
		same(t, "given back", x.released(), map[id.Execution]string{e.Execution: "shutdown"})
	})
}
