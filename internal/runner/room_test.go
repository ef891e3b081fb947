package runner

import (
	"slices"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// small is a budget for three busy workers, and no idle one beside them.
func small() Config {
	return Config{Memory: 400 * mib, WorkerMemory: 100 * mib, IdleMemory: 4 * mib, SandboxMemory: 50 * mib, Idle: time.Hour}
}

// wide is a budget for 40 busy workers, of which twenty may be busy before others wait.
func wide() Config {
	return Config{Memory: 5400 * mib, WorkerMemory: 100 * mib, IdleMemory: 10 * mib, SandboxMemory: 50 * mib, Idle: time.Hour}
}

// toil lets every worker do at once what it has: it answers binds, and gives back the executions
// that pick wants. It reports whether anything was done.
func (x *rig) toil(pick func(id.Execution) bool) (did bool) {
	x.t.Helper()
	for _, p := range x.children(jail.KindWorker) {
		if p.wasKilled() {
			continue
		}
		if !p.answered && p.count(wire.TypeBind) == 1 {
			p.answered, did = true, true
			p.send(&wire.Bound{})
		}
		units := p.units()
		for _, e := range units[p.done:] {
			if p.done++; pick(e.Execution) {
				did = true
				p.send(&wire.Released{Execution: e.Execution, Fence: e.Fence})
			}
		}
	}
	return did
}

func every(id.Execution) bool { return true }

// within checks that what is counted is what there is, and no more than the budget.
func (x *rig) within() {
	x.t.Helper()
	x.Runner.mu.Lock()
	defer x.Runner.mu.Unlock()
	weight, busy, resting := int64(0), int64(0), 0
	for w := range x.workers {
		weight += w.counts()
		if w.admitted {
			busy += w.counts()
		}
		if w.state == bound && w.idle() {
			resting++
		}
		if w.started && w.state != dead && !w.idle() && !w.admitted && w.since.IsZero() {
			x.t.Error("a worker has something to do, and neither room nor a place in line")
		}
	}
	if weight != x.weight || busy != x.busy || resting != x.resting.Len() {
		x.t.Errorf("counted %d, %d and %d, there is %d, %d and %d", x.weight, x.busy, x.resting.Len(), weight, busy, resting)
	}
	if x.used() > x.cfg.Memory {
		x.t.Errorf("%d bytes are taken of %d", x.used(), x.cfg.Memory)
	}
}

// TestManyMoreCustomersThanRoom runs units of many more instances than the budget holds, several
// times each: all are done, none is given back or waits for a clock, and the budget holds.
func TestManyMoreCustomersThanRoom(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{"small": small(), "wide": wide()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, c, func(x *rig) {
				began := time.Now()
				customers := make([]*work, 100)
				for i := range customers {
					customers[i] = newWork()
				}
				given := 0
				for range 3 {
					for _, k := range customers {
						x.dispatch(k, run(1), run(1))
						x.within()
						given += 2
						if given%32 == 0 {
							x.toil(every)
							x.within()
						}
					}
				}
				for x.toil(every) {
					x.within()
				}
				released := x.released()
				same(t, "executions that ended", len(released), given)
				for _, fault := range released {
					same(t, "fault", fault, "")
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("something waited for a clock: %v", took)
				}
				same(t, "in line", len(x.line), 0)
			})
		})
	}
}

// TestIdleStayWhereManyAreBusy lets a unit wait for a busy worker where many are busy, so that
// workers which rest need not be started again; they leave when no room comes back.
func TestIdleStayWhereManyAreBusy(t *testing.T) {
	t.Parallel()
	play(t, wide(), func(x *rig) {
		hold := map[id.Execution]bool{}
		free := func(e id.Execution) bool { return !hold[e] }
		for range 200 {
			x.dispatch(newWork(), run(1))
			x.toil(free)
		}
		same(t, "workers that rest", x.alive(jail.KindWorker), 200)
		var busy id.Execution
		for range 20 { // of 40 that fit
			e := run(1)
			busy = e.Execution
			hold[e.Execution] = true
			x.dispatch(newWork(), e)
			x.toil(free)
		}
		same(t, "workers that rest beside 20 busy ones", x.alive(jail.KindWorker), 200+20)
		late, last := run(1), run(1)
		hold[late.Execution] = true
		x.dispatch(newWork(), late)
		x.dispatch(newWork(), last)
		same(t, "workers while two wait", x.alive(jail.KindWorker), 200+20)
		x.finish(busy)
		x.toil(free)
		same(t, "workers after one place came back", x.alive(jail.KindWorker), 200+21)
		x.within()
		x.after(lineShort + heartbeat)
		x.toil(free)
		if _, ok := x.released()[last.Execution]; !ok {
			t.Error("workers that rest keep their room while no other comes back")
		}
		same(t, "what waits", len(x.line), 0)
		x.within()
	})
}

// finish ends an execution wherever it is.
func (x *rig) finish(e id.Execution) {
	x.t.Helper()
	for _, p := range x.children(jail.KindWorker) {
		for _, u := range p.units() {
			if u.Execution == e && !p.wasKilled() {
				p.send(&wire.Released{Execution: e, Fence: u.Fence})
				return
			}
		}
	}
	x.t.Fatal("nobody has the execution")
}

// crowd fills the budget with executions that do not end.
func (x *rig) crowd(n int) (of []*work, list []wire.UnitExecution) {
	x.t.Helper()
	for range n {
		k, e := newWork(), run(1)
		x.running(k, e)
		of, list = append(of, k), append(list, e)
	}
	return of, list
}

// TestLineIsInOrder gives each place that comes back to the one that waits for longest, and offers
// nothing while one waits.
func TestLineIsInOrder(t *testing.T) {
	t.Parallel()
	play(t, small(), func(x *rig) {
		_, held := x.crowd(3)
		same(t, "offered", offered(x), uint32(DefaultCapacity-3))
		var waiting []wire.UnitExecution
		for range 4 {
			e := run(1)
			x.dispatch(newWork(), e)
			waiting = append(waiting, e)
		}
		x.after(heartbeat)
		wants := of[wire.Want](x.bus)
		last := wants[len(wants)-1]
		same(t, "offered while some wait", last.Free, uint32(0))
		same(t, "held, so that their leases go on", len(last.Held), 7)
		for i, e := range append(held, waiting[0]) {
			x.finish(e.Execution)
			p := x.bind()
			same(t, "the next", p.units()[0].Execution, waiting[i].Execution)
		}
		x.after(wantGap)
		wants = of[wire.Want](x.bus)
		same(t, "offered again", wants[len(wants)-1].Free, uint32(DefaultCapacity-3))
		x.within()
	})
}

// TestBusyWorkerMakesWay lets nobody starve whose unit waits for instances that are busy without
// end: what comes for the one that was busy for longest stands in line too.
func TestBusyWorkerMakesWay(t *testing.T) {
	t.Parallel()
	play(t, small(), func(x *rig) {
		customers, held := x.crowd(3)
		waits := run(1)
		x.dispatch(newWork(), waits)
		started := 0
		for range 2 * int(lineLong/time.Second) { // each has another before its last ends
			for i, k := range customers {
				next := run(1)
				x.dispatch(k, next)
				before := held[i]
				held[i] = next
				if _, ok := x.released()[before.Execution]; !ok && x.has(before.Execution) {
					x.finish(before.Execution)
				}
			}
			x.after(time.Second)
			x.toil(func(e id.Execution) bool { return e == waits.Execution })
			if _, ok := x.released()[waits.Execution]; ok {
				started++
			}
		}
		if started == 0 {
			t.Error("it starves")
		}
		same(t, "fault", x.released()[waits.Execution], "")
		x.within()
	})
}

// has reports whether a living worker was given an execution.
func (x *rig) has(e id.Execution) bool {
	return slices.ContainsFunc(x.children(jail.KindWorker), func(p *process) bool {
		return !p.wasKilled() && slices.ContainsFunc(p.units(), func(u wire.UnitExecution) bool { return u.Execution == e })
	})
}

// TestLineGivesBack gives back what waited for long, because another runner may have room, but not
// the first in line.
func TestLineGivesBack(t *testing.T) {
	t.Parallel()
	play(t, small(), func(x *rig) {
		_, held := x.crowd(3)
		first, second, third := run(1), run(1), run(1)
		x.dispatch(newWork(), first)
		x.dispatch(newWork(), second)
		x.dispatch(newWork(), third)
		x.after(lineMost - heartbeat)
		same(t, "given back too soon", len(x.released()), 0)
		x.after(3 * heartbeat)
		same(t, "given back", x.released(), map[id.Execution]string{second.Execution: "unavailable", third.Execution: "unavailable"})
		x.finish(held[0].Execution)
		same(t, "the first", x.bind().units()[0].Execution, first.Execution)
		x.within()
	})
}

// TestLeavingTheLine takes what is cancelled, given out again or ended out of the line.
func TestLeavingTheLine(t *testing.T) {
	t.Parallel()
	play(t, small(), func(x *rig) {
		x.crowd(3)
		k, cancelled, again, kept := newWork(), run(1), run(1), run(1)
		x.dispatch(k, cancelled)
		x.dispatch(newWork(), again)
		x.dispatch(newWork(), kept)
		x.say(x.server, &wire.Cancel{Execution: cancelled.Execution, Fence: 1})
		same(t, "given back", x.released(), map[id.Execution]string{cancelled.Execution: ""})
		same(t, "in line", len(x.line), 2)
		again.Fence = 2
		x.dispatch(newWork(), again)
		same(t, "in line", len(x.line), 2)
		same(t, "the first", x.line[0].executions, map[id.Execution]struct{}{kept.Execution: {}})
		x.dispatch(k, cancelled) // another try stands at the end
		same(t, "in line", len(x.line), 3)
		same(t, "processes", len(x.children(jail.KindWorker)), 3)
		x.within()
	})
}

// TestShutdownGivesBackTheLine gives back what waits, with the reason that is not its own.
func TestShutdownGivesBackTheLine(t *testing.T) {
	t.Parallel()
	var x *rig
	var waits wire.UnitExecution
	play(t, small(), func(y *rig) {
		x = y
		x.crowd(3)
		waits = run(1)
		x.dispatch(newWork(), waits)
	})
	for _, m := range of[wire.Released](x.bus) {
		same(t, "fault", m.Fault, "shutdown")
		if m.Execution == waits.Execution {
			return
		}
	}
	t.Error("it was not given back")
}
