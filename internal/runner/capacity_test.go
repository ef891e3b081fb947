package runner

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// alive are the processes of a kind that have not been killed.
func (x *rig) alive(k jail.Kind) int {
	return len(slices.DeleteFunc(x.children(k), func(p *process) bool { return p.wasKilled() }))
}

// TestSpares keeps unbound processes ready and replaces those that were taken or died.
func TestSpares(t *testing.T) {
	t.Parallel()
	play(t, Config{Spare: 2}, func(x *rig) {
		same(t, "spares", []int{x.alive(jail.KindWorker), x.alive(jail.KindSandbox)}, []int{2, 2})
		k, e := newWork(), run(1)
		p := x.running(k, e)
		same(t, "workers after one was taken", x.alive(jail.KindWorker), 3)
		p.send(&wire.SandboxWant{Execution: e.Execution, Fence: 1})
		same(t, "sandboxes after one was taken", x.alive(jail.KindSandbox), 3)
		same(t, "ready at once", p.count(wire.TypeSandboxReady), 1)

		started := len(x.children(jail.KindWorker))
		for _, w := range x.children(jail.KindWorker) {
			if w != p {
				w.exit(jail.ReasonCrash)
			}
		}
		same(t, "no new ones at once, lest they crash in a loop", len(x.children(jail.KindWorker)), started)
		x.after(2 * heartbeat)
		same(t, "new ones after a while", len(x.children(jail.KindWorker)), started+2)
	})
}

// TestSilentSpare replaces a spare that never says hello.
func TestSilentSpare(t *testing.T) {
	t.Parallel()
	play(t, Config{Spare: 1}, func(x *rig) {
		first := x.worker()
		x.after(bindTimeout + 2*heartbeat)
		if !first.wasKilled() || x.worker() == first {
			t.Error("a silent spare was kept")
		}
	}, func(x *rig) { x.quiet = true })
}

// TestIdle ends workers without work, and no others.
func TestIdle(t *testing.T) {
	t.Parallel()
	play(t, Config{Idle: time.Minute}, func(x *rig) {
		k, busy := newWork(), newWork()
		e := run(1)
		p := x.running(k, e)
		q := x.running(busy, run(1))
		x.after(2 * time.Minute)
		p.send(&wire.Released{Execution: e.Execution, Fence: 1})
		x.after(time.Minute - 2*heartbeat)
		if p.wasKilled() {
			t.Error("idle for less than the time")
		}
		x.after(4 * heartbeat)
		if !p.wasKilled() || q.wasKilled() {
			t.Errorf("killed: idle %v, busy %v", p.wasKilled(), q.wasKilled())
		}
		next := run(1)
		again := x.running(k, next)
		if again == p || len(again.units()) != 1 {
			t.Error("the instance has no new worker")
		}
		same(t, "given back", x.released(), map[id.Execution]string{e.Execution: ""})
	})
}

// mib is a megabyte in bytes.
const mib = 1 << 20

// TestBudget bounds residents by memory: a worker that rests leaves for another instance,
// without one the unit waits, and sandboxes have their part.
func TestBudget(t *testing.T) {
	t.Parallel()
	play(t, Config{Memory: 400 * mib, WorkerMemory: 100 * mib, SandboxMemory: 50 * mib}, func(x *rig) {
		var first, second, third wire.UnitExecution = run(1), run(1), run(1)
		a := x.running(newWork(), first)
		b := x.running(newWork(), second)
		c := x.running(newWork(), third)
		fourth := run(1)
		x.dispatch(newWork(), fourth)
		same(t, "workers", x.alive(jail.KindWorker), 3)
		a.send(&wire.SandboxWant{Execution: first.Execution, Fence: 1})
		b.send(&wire.SandboxWant{Execution: second.Execution, Fence: 1})
		c.send(&wire.SandboxWant{Execution: third.Execution, Fence: 1})
		same(t, "sandboxes", x.alive(jail.KindSandbox), 2)
		same(t, "one waits", c.count(wire.TypeSandboxReady), 0)

		b.send(&wire.Released{Execution: second.Execution, Fence: 1}) // b rests, its sandbox is free
		same(t, "the wait for a sandbox is over", c.count(wire.TypeSandboxReady), 1)
		d := x.bind()
		if !b.wasKilled() || a.wasKilled() || c.wasKilled() || len(d.units()) != 1 {
			t.Errorf("killed: %v %v %v", a.wasKilled(), b.wasKilled(), c.wasKilled())
		}
		same(t, "given back", x.released(), map[id.Execution]string{second.Execution: ""})
		same(t, "memory in use", x.used(), int64(400*mib))
	})
}

// TestEvictTheOldest chooses the worker that has been idle for longest, never one twice.
func TestEvictTheOldest(t *testing.T) {
	t.Parallel()
	play(t, Config{Memory: 500 * mib, WorkerMemory: 100 * mib, IdleMemory: 100 * mib, SandboxMemory: 10 * mib, Idle: time.Hour}, func(x *rig) {
		var all []*process
		for range 3 {
			e := run(1)
			p := x.running(newWork(), e)
			p.send(&wire.Released{Execution: e.Execution, Fence: 1})
			x.after(time.Second)
			all = append(all, p)
		}
		x.running(newWork(), run(1))
		x.running(newWork(), run(1))
		same(t, "killed", []bool{all[0].wasKilled(), all[1].wasKilled(), all[2].wasKilled()}, []bool{true, true, false})
		for _, f := range x.released() {
			same(t, "fault", f, "")
		}
	})
}

// offered is how many more executions the last heartbeat asks for.
func offered(x *rig) uint32 {
	x.after(2 * heartbeat)
	all := of[wire.Want](x.bus)
	return all[len(all)-1].Free
}

// TestIdleWorkersCountLittle keeps many more idle workers than busy ones; a busy one counts in
// full, and so does one that got something large.
func TestIdleWorkersCountLittle(t *testing.T) {
	t.Parallel()
	c := Config{Memory: 400 * mib, WorkerMemory: 100 * mib, IdleMemory: 10 * mib, SandboxMemory: 10 * mib, Idle: time.Hour}
	play(t, c, func(x *rig) {
		var all []*process
		var work []*work
		for n := range 20 {
			k, e := newWork(), run(1)
			p := x.running(k, e)
			p.send(&wire.Released{Execution: e.Execution, Fence: 1})
			x.after(time.Second)
			all, work = append(all, p), append(work, k)
			if n == 15 {
				same(t, "memory of idle ones", x.used(), int64(160*mib))
			}
		}
		same(t, "workers that stayed", x.alive(jail.KindWorker), 20)
		x.running(work[19], run(1))
		same(t, "one for a busy one left", x.used(), int64(290*mib))
		x.running(work[18], run(1))
		same(t, "memory of two busy and ten idle ones", x.used(), int64(300*mib))
		same(t, "workers that stayed", x.alive(jail.KindWorker), 12)
		if all[19].wasKilled() || all[18].wasKilled() {
			t.Error("a busy worker was killed")
		}
		x.running(newWork(), run(1))
		same(t, "without idle ones", x.alive(jail.KindWorker), 3)
	})
	play(t, c, func(x *rig) {
		k, e := newWork(), run(1)
		e.Event = make([]byte, heavyFrom)
		p := x.running(k, e)
		p.send(&wire.Released{Execution: e.Execution, Fence: 1})
		x.after(time.Second)
		same(t, "memory after a large event", x.used(), int64(100*mib))
	})
}

// TestDyingWorkerGetsNothing starts another worker for what comes while one ends.
func TestDyingWorkerGetsNothing(t *testing.T) {
	t.Parallel()
	play(t, Config{}, func(x *rig) {
		k, e, next := newWork(), run(1), run(1)
		p := x.running(k, e)
		p.send(&wire.Released{Execution: e.Execution, Fence: 1})
		synctest.Wait()
		x.Runner.mu.Lock()
		for w := range x.workers {
			w.kill("idle")
		}
		x.Runner.mu.Unlock()
		x.running(k, next)
		same(t, "given back", x.released(), map[id.Execution]string{e.Execution: ""})
	})
}

// TestWants names to each server what it gave, and to anyone that there is room.
func TestWants(t *testing.T) {
	t.Parallel()
	play(t, Config{Capacity: 10}, func(x *rig) {
		same(t, "for anyone", of[wire.Want](x.bus)[0], wire.Want{Free: 10})
		mine, theirs := run(4), run(5)
		k := newWork()
		x.running(k, mine)
		other := node()
		x.dispatchBy(other, k, theirs)
		x.bus.set(func() { x.bus.sent = nil })
		x.after(2 * openBeat * heartbeat)
		wants, open := map[id.Node]wire.Want{}, 0
		for _, s := range x.frames(wire.RoleServer, wire.TypeWant) {
			var m wire.Want
			if err := s.Parse(&m); err != nil {
				t.Fatal(err)
			}
			if s.node.IsZero() {
				open++
				same(t, "held, for anyone", len(m.Held), 0)
				continue
			}
			wants[s.node] = m
		}
		bound := []wire.BoundInstance{{Instance: k.instance, Definition: k.definition}}
		same(t, "wants", wants, map[id.Node]wire.Want{
			x.server: {Free: 8, Held: []wire.Held{{Execution: mine.Execution, Fence: 4}}, Bound: bound},
			other:    {Free: 8, Held: []wire.Held{{Execution: theirs.Execution, Fence: 5}}, Bound: bound},
		})
		same(t, "wants for anyone", open, 2)
		x.worker().send(&wire.Append{Execution: theirs.Execution, Fence: 5})
		same(t, "its appends go there", x.frames(wire.RoleServer, wire.TypeAppend)[0].node, other)
	})
}

// TestServerIsForgotten stops telling a server that has given nothing for long.
func TestServerIsForgotten(t *testing.T) {
	t.Parallel()
	play(t, Config{}, func(x *rig) {
		k, e := newWork(), run(1)
		x.running(k, e).send(&wire.Released{Execution: e.Execution, Fence: 1})
		x.after(3 * time.Minute)
		x.bus.set(func() { x.bus.sent = nil })
		x.after(2 * heartbeat)
		for _, s := range x.frames(wire.RoleServer, wire.TypeWant) {
			if !s.node.IsZero() {
				t.Errorf("a want for %v", s.node)
			}
		}
	})
}

// TestOverload gives back what is far more than the runner said it takes.
func TestOverload(t *testing.T) {
	t.Parallel()
	play(t, Config{Capacity: 4}, func(x *rig) {
		k := newWork()
		for range overload * 4 {
			x.running(k, run(1))
		}
		e := run(1)
		x.dispatch(k, e)
		same(t, "given back", x.released(), map[id.Execution]string{e.Execution: "unavailable"})
		x.after(wantGap)
		wants := of[wire.Want](x.bus)
		same(t, "free", wants[len(wants)-1].Free, uint32(0))
	})
}

// TestFirstBeats looks for servers often while none has been heard.
func TestFirstBeats(t *testing.T) {
	t.Parallel()
	play(t, Config{}, func(x *rig) {
		x.after(time.Second)
		if n := len(of[wire.Want](x.bus)); n < 15 || n > 25 {
			t.Errorf("%d wants in the first second", n)
		}
		x.running(newWork(), run(1))
		x.bus.set(func() { x.bus.sent = nil })
		x.after(10 * time.Second)
		own := len(slices.DeleteFunc(x.frames(wire.RoleServer, wire.TypeWant), func(s sent) bool { return s.node.IsZero() }))
		if own < 9 || own > 12 {
			t.Errorf("%d wants in ten seconds", own)
		}
	})
}

// TestSandbox follows one from its assignment, before or after its hello, to its end.
func TestSandbox(t *testing.T) {
	t.Parallel()
	for _, early := range []bool{true, false} {
		play(t, Config{}, func(x *rig) {
			e := run(2)
			p := x.running(newWork(), e)
			x.quiet = !early
			p.send(&wire.SandboxWant{Execution: e.Execution, Fence: 2})
			box := x.sandbox()
			if !early {
				same(t, "ready before its hello", p.count(wire.TypeSandboxReady), 0)
				box.hello()
			}
			synctest.Wait()
			same(t, "ready", p.count(wire.TypeSandboxReady), 1)
			p.send(&wire.SandboxOpen{Execution: e.Execution, Fence: 2})
			p.send(&wire.SandboxRun{Execution: e.Execution, Fence: 2, Call: 9})
			synctest.Wait()
			same(t, "frames", box.types(), []wire.Type{wire.TypeSandboxOpen, wire.TypeSandboxRun})
			box.send(&wire.SandboxResult{Execution: e.Execution, Fence: 2, Call: 9})
			synctest.Wait()
			same(t, "results", p.count(wire.TypeSandboxResult), 1)
			p.send(&wire.SandboxClose{Execution: e.Execution, Fence: 2})
			synctest.Wait()
			same(t, "killed", box.wasKilled(), true)
			same(t, "no news of what the worker did itself", p.count(wire.TypeSandboxGone), 0)
			p.send(&wire.SandboxWant{Execution: e.Execution, Fence: 2})
			x.sandbox().hello()
			synctest.Wait()
			same(t, "another", p.count(wire.TypeSandboxReady), 2)
			p.send(&wire.Released{Execution: e.Execution, Fence: 2})
			synctest.Wait()
			same(t, "ends with its execution", x.alive(jail.KindSandbox), 0)
		})
	}
}

// TestSandboxGone are the reasons that a worker is told.
func TestSandboxGone(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		end  func(*rig, *process)
		want string
	}{
		"memory":        {func(_ *rig, b *process) { b.exit(jail.ReasonMemory) }, "memory"},
		"cpu":           {func(_ *rig, b *process) { b.exit(jail.ReasonCPU) }, "time"},
		"violation":     {func(_ *rig, b *process) { b.exit(jail.ReasonViolation) }, "violation"},
		"crash":         {func(_ *rig, b *process) { b.exit(jail.ReasonCrash) }, "crash"},
		"clean":         {func(_ *rig, b *process) { b.exit(jail.ReasonClean) }, "crash"},
		"protocol":      {func(_ *rig, b *process) { b.hello() }, "violation"},
		"malformed":     {func(_ *rig, b *process) { b.raw(make([]byte, 64)) }, "violation"},
		"its life":      {func(x *rig, _ *process) { x.after(sandboxLife) }, "time"},
		"closed stream": {func(x *rig, b *process) { _ = b.conn.Close(); x.after(endGrace) }, "crash"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, Config{}, func(x *rig) {
				x.bus.life = time.Hour
				e := run(1)
				p := x.running(newWork(), e)
				p.send(&wire.SandboxWant{Execution: e.Execution, Fence: 1})
				c.end(x, x.sandbox())
				synctest.Wait()
				var m wire.SandboxGone
				p.mu.Lock()
				last := p.got[len(p.got)-1]
				p.mu.Unlock()
				if err := last.Parse(&m); err != nil || m.Exit != c.want || m.Execution != e.Execution || m.Fence != 1 {
					t.Errorf("told %+v (%v), want %s", m, err, c.want)
				}
				p.send(&wire.SandboxRun{Execution: e.Execution, Fence: 1}) // it has not heard yet
				p.send(&wire.SandboxWant{Execution: e.Execution, Fence: 1})
				synctest.Wait()
				same(t, "another", p.count(wire.TypeSandboxReady), 2)
			})
		})
	}
}

// TestNoSandbox says so when none can be started.
func TestNoSandbox(t *testing.T) {
	t.Parallel()
	play(t, Config{}, func(x *rig) {
		e := run(1)
		p := x.running(newWork(), e)
		x.refuse = true
		p.send(&wire.SandboxWant{Execution: e.Execution, Fence: 1})
		synctest.Wait()
		same(t, "frames", p.types(), []wire.Type{wire.TypeBind, wire.TypeUnit, wire.TypeSandboxGone})
	})
}

// TestSandboxesAreShared lets executions wait their turn, and gives no instance more than half.
func TestSandboxesAreShared(t *testing.T) {
	t.Parallel()
	play(t, Config{Sandboxes: 4}, func(x *rig) {
		var greedy []wire.UnitExecution
		for range 6 {
			greedy = append(greedy, run(1))
		}
		g := x.running(newWork(), greedy...)
		for _, e := range greedy {
			g.send(&wire.SandboxWant{Execution: e.Execution, Fence: 1})
		}
		synctest.Wait()
		same(t, "of the greedy instance", g.count(wire.TypeSandboxReady), 2)
		modest := run(1)
		m := x.running(newWork(), modest)
		m.send(&wire.SandboxWant{Execution: modest.Execution, Fence: 1})
		synctest.Wait()
		same(t, "of the modest one", m.count(wire.TypeSandboxReady), 1)
		g.send(&wire.SandboxClose{Execution: greedy[5].Execution, Fence: 1}) // has not got one yet
		for i, e := range greedy[:5] {
			g.send(&wire.SandboxClose{Execution: e.Execution, Fence: 1})
			synctest.Wait()
			same(t, "all get their turn", g.count(wire.TypeSandboxReady), min(3+i, 5))
		}
		same(t, "alive", x.alive(jail.KindSandbox), 1)
	})
}

// TestStartDoesNotBlock serves others while a process is slow to start, and kills it
// when it is not wanted any more once it has.
func TestStartDoesNotBlock(t *testing.T) {
	t.Parallel()
	play(t, Config{}, func(x *rig) {
		e := run(1)
		p := x.running(newWork(), e)
		x.mu.Lock()
		x.stuck = make(chan struct{})
		x.mu.Unlock()
		late := run(1)
		x.dispatch(newWork(), late)
		p.send(&wire.SandboxWant{Execution: e.Execution, Fence: 1})
		p.send(&wire.Append{Execution: e.Execution, Fence: 1})
		same(t, "appends meanwhile", len(x.frames(wire.RoleServer, wire.TypeAppend)), 1)
		p.send(&wire.SandboxClose{Execution: e.Execution, Fence: 1})
		synctest.Wait()
		x.mu.Lock()
		close(x.stuck)
		x.stuck = nil
		x.mu.Unlock()
		synctest.Wait()
		same(t, "the sandbox is not wanted any more", x.sandbox().wasKilled(), true)
		x.bind()
		same(t, "released", len(x.released()), 0)
	})
}

// TestSealKeyIsTheWorkers asks for a lease for the key that the worker said.
func TestSealKeyIsTheWorkers(t *testing.T) {
	t.Parallel()
	play(t, Config{}, func(x *rig) {
		x.quiet = true
		x.dispatch(newWork(), run(1))
		same(t, "asked before its hello", len(x.bus.requests), 0)
		x.worker().send(&wire.WorkerHello{Key: seal.PublicKey{42}})
		synctest.Wait()
		same(t, "key", x.bus.requests[0].Worker, seal.PublicKey{42})
	})
}
