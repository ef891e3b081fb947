package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func TestTimersFireAndSurviveARestart(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		for _, d := range []time.Duration{-time.Second, 0, 90 * time.Second, time.Hour} {
			t.Run(fmt.Sprintf("%v restart=%v", d, restart), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t)
					defer func() { b.stop() }()
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					n := b.tenant("c1")
					r := b.runner()
					r.want(5)
					x := b.accept(n, "main", `{}`)
					u := r.dispatch()[0]
					due := time.Now().Add(d)
					r.append(&wire.Append{
						Execution: x, Fence: u.Fence, Waits: []wire.Wait{{Path: "pause", Kind: wire.WaitTimer, At: due}},
						Finish: &wire.Finish{Status: wire.StatusWaiting},
					})
					if restart {
						b.restart()
					}
					r.heartbeats(ctx, 5, none)
					r.patience = 2 * time.Hour
					again := r.untilUnit(t)
					if late := time.Since(due); d > 0 && (late < 0 || late > time.Second) {
						t.Errorf("woken %v after its time", late)
					}
					if len(again.Wakes) != 1 || again.Wakes[0].Path != "pause" || wire.WakeReason(again.Wakes[0].Epoch) != wire.WakeTimer {
						t.Errorf("wakes = %+v", again.Wakes)
					}
					// A unit that was sent before the restart may have been taken back.
					synctest.Wait()
					for b.row(n, x).Fence != again.Fence {
						again = r.untilUnit(t)
					}
					r.finish1(again)
					b.settle()
					if got := b.row(n, x).Status; got != store.Completed {
						t.Errorf("after its finish it is %v", got)
					}
					cancel()
					synctest.Wait()
				})
			})
		}
	}
}

// callback registers a wait for a callback and leaves the execution running.
func (r *fakeRunner) callback(u wire.UnitExecution, path, token string, at time.Time) {
	r.append(&wire.Append{Execution: u.Execution, Fence: u.Fence, Waits: []wire.Wait{
		{Path: path, Kind: wire.WaitCallback, Key: sha256.Sum256([]byte(token)), At: at},
	}})
}

func waiting(u wire.UnitExecution, seen int) *wire.Append {
	return &wire.Append{Execution: u.Execution, Fence: u.Fence, Finish: &wire.Finish{Status: wire.StatusWaiting, Wakes: uint32(seen)}}
}

// In every order of finishing, answering and timing out exactly one answer arrives, and
// the worker gets it either as a frame or with the next unit.
func TestWakesAreNeverLost(t *testing.T) {
	t.Parallel()
	orders := [][]string{
		{"finish", "answer", "timeout"},
		{"finish", "timeout", "answer"},
		{"answer", "finish", "timeout"},
		{"answer", "timeout", "finish"},
		{"timeout", "finish", "answer"},
		{"timeout", "answer", "finish"},
	}
	for _, order := range orders {
		for _, restart := range []int{-1, 0, 1, 2} {
			t.Run(fmt.Sprintf("%v restart=%d", order, restart), func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				n := b.tenant("c1")
				r := b.runner()
				r.want(5)
				x := b.accept(n, "main", `{}`)
				u := r.dispatch()[0]
				at := time.Now().Add(time.Hour)
				r.callback(u, "ask", "token", at)
				if restart >= 0 { // until then nothing is given out: the restart would take it back
					r.full(wire.Held{Execution: x, Fence: u.Fence})
				}
				answers := 0
				for i, what := range order {
					if i == restart {
						b.restart()
						r.ignores = wire.TypeCancel // of what it holds no more, which may come before or behind the unit
						r.want(5, wire.Held{Execution: x, Fence: u.Fence})
					}
					switch what {
					case "finish":
						r.send(waiting(u, 0))
					case "answer":
						err := b.e.Wake(context.Background(), "token", []byte(`{"body":"yes"}`))
						if err == nil {
							answers++
						} else if !errors.Is(err, ErrNotFound) {
							t.Error(err)
						}
					case "timeout":
						b.e.fireWait(timer{at: at.Truncate(time.Microsecond), customer: n.customer, execution: x, path: "ask", wait: wire.WaitCallback}, time.Now())
						b.settle()
					}
				}
				if want := order[0] == "answer" || order[1] == "answer" && order[0] == "finish"; want != (answers == 1) {
					t.Errorf("%d answers were taken", answers)
				}
				again := r.untilUnit(t)
				if len(again.Wakes) != 1 {
					t.Fatalf("%d wakes, want one", len(again.Wakes))
				}
				w := again.Wakes[0]
				if answers == 0 {
					if wire.WakeReason(w.Epoch) != wire.WakeTimeout || len(w.Body) != 0 {
						t.Errorf("wake = %+v, want a timeout", w)
					}
				} else if got := b.open(n.customer, again.Day, lease.EntryPlace(n.customer, x, &w), w.Body); got != `{"body":"yes"}` {
					t.Errorf("answer opens to %s", got)
				}
				if r.append(waiting(again, 1)).Stale || b.row(n, x).Status != store.Waiting {
					t.Errorf("after a finish that saw every wake it is %v", b.row(n, x).Status)
				}
			})
		}
	}
}

// What was given out before a crash goes on with a runner that names it, and is given out
// again when it never arrived. Its wakes come with it both times, and once each.
func TestWakesThatWereGivenOutSurviveACrash(t *testing.T) {
	t.Parallel()
	for _, arrives := range []bool{true, false} {
		for how, crash := range map[string]func(*bench){"restart": (*bench).restart, "kill": (*bench).kill} {
			t.Run(fmt.Sprintf("%s arrives=%v", how, arrives), func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				n := b.tenant("c1")
				r := b.runner()
				r.want(5)
				x := b.accept(n, "main", `{}`)
				u := r.dispatch()[0]
				r.callback(u, "ask", "token", time.Now().Add(time.Hour))
				r.append(waiting(u, 0))
				b.link.lose(func(m wire.Typed) bool { _, unit := m.(*wire.Dispatch); return unit && !arrives })
				if err := b.e.Wake(context.Background(), "token", []byte(`"yes"`)); err != nil {
					t.Fatal(err)
				}
				b.eventually("it is given out", func() bool {
					b.e.mu.Lock()
					defer b.e.mu.Unlock()
					j := b.e.jobs[x]
					return j != nil && j.sent
				})
				b.link.lose(nil)
				crash(b)
				held, want := wire.Held{Execution: x, Fence: u.Fence}, u.Fence+2
				if arrives {
					u = r.dispatch()[0]
					held.Fence, want = u.Fence, u.Fence
				}
				r.ignores = wire.TypeCancel // of what never arrived, and of what ended
				r.want(5, held)
				if !arrives {
					u = r.dispatch()[0]
				}
				if u.Execution != x || u.Fence != want || len(u.Wakes) != 1 || u.Wakes[0].Path != "ask" {
					t.Errorf("given out: %+v, want fence %d and the wake", u, want)
				}
				if got := r.append(waiting(u, 1)); got.Stale || b.row(n, x).Status != store.Waiting {
					t.Errorf("after a finish that saw the wake it is %v, stale %v", b.row(n, x).Status, got.Stale)
				}
				b.settle()
				for len(r.frames) > 0 {
					if f := <-r.frames; f.Type != wire.TypeCancel {
						t.Errorf("a %v frame came", f.Type)
					}
				}
			})
		}
	}
}

// settle waits for everything that was queued to be committed and acted on.
func (b *bench) settle() {
	b.t.Helper()
	if err := b.opt.Store.Write(context.Background(), func(*store.Tx) error { return nil }); err != nil {
		b.t.Fatal(err)
	}
}

// untilUnit skips acknowledgements and wakes until the execution is given out again.
func (r *fakeRunner) untilUnit(t *testing.T) wire.UnitExecution {
	t.Helper()
	late := time.NewTimer(r.patience)
	defer late.Stop()
	for {
		select {
		case f := <-r.frames:
			var d wire.Dispatch
			if f.Type == wire.TypeDispatch {
				if err := f.Parse(&d); err != nil {
					t.Fatal(err)
				}
				return d.Unit.Executions[0]
			}
		case <-late.C:
			t.Fatal("the execution was not given out again")
		}
	}
}

// Many callbacks of one execution at once, while it finishes: each arrives once.
func TestWakesRaceWithFinish(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.ignores = wire.TypeWake // a wake is told while its execution is given out with it: a worker knows it by its number
	r.want(5)
	const rounds, callbacks = 20, 8
	for range rounds {
		x := b.accept(n, "main", `{}`)
		u := r.untilUnit(t)
		m := &wire.Append{Execution: x, Fence: u.Fence}
		token := func(i int) string { return fmt.Sprintf("%v/%d", x, i) }
		for i := range callbacks {
			m.Waits = append(m.Waits, wire.Wait{Path: fmt.Sprint(i), Kind: wire.WaitCallback, Key: sha256.Sum256([]byte(token(i))), At: time.Now().Add(time.Hour)})
		}
		r.append(m)
		var all sync.WaitGroup
		for i := range callbacks {
			all.Go(func() {
				if err := b.e.Wake(context.Background(), token(i), []byte(`1`)); err != nil {
					t.Error(err)
				}
			})
			if i == callbacks/2 {
				r.send(waiting(u, 0))
			}
		}
		all.Wait()
		// A worker that has seen all of them frees itself; one that has not is given the rest.
		for range callbacks + 1 {
			u = r.untilUnit(t)
			if len(u.Wakes) == callbacks {
				break
			}
			r.send(waiting(u, len(u.Wakes)))
		}
		seen := map[string]bool{}
		for i, w := range u.Wakes {
			if int(w.Seq) != i+1 {
				t.Errorf("wake %d has number %d", i, w.Seq)
			}
			seen[w.Path] = true
		}
		if len(seen) != callbacks {
			t.Fatalf("%d of %d callbacks arrived", len(seen), callbacks)
		}
		r.finish(u)
	}
}

func TestAWakeOfARunningExecutionIsSentToIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(5)
	x := b.accept(n, "main", `{}`)
	u := r.dispatch()[0]
	r.callback(u, "ask", "token", time.Now().Add(time.Hour))
	if err := b.e.Wake(context.Background(), "token", []byte(`"yes"`)); err != nil {
		t.Fatal(err)
	}
	w := next(r, &wire.Wake{})
	if w.Execution != x || w.Fence != u.Fence || w.Entry.Seq != 1 || w.Entry.Path != "ask" {
		t.Errorf("wake = %+v", w)
	}
	if err := b.e.Wake(context.Background(), "token", []byte(`"again"`)); !errors.Is(err, ErrNotFound) {
		t.Errorf("second answer: %v", err)
	}
	if r.append(waiting(u, 1)); b.row(n, x).Status != store.Waiting {
		t.Errorf("it is %v", b.row(n, x).Status)
	}
	if err := b.e.Wake(context.Background(), "other token", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown token: %v", err)
	}
}

func TestChildren(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status wire.Status
		want   wire.WakeReason
		first  bool // the child ends before the parent's stay does
	}{
		"completed":         {wire.StatusCompleted, wire.WakeCompleted, false},
		"completed first":   {wire.StatusCompleted, wire.WakeCompleted, true},
		"faulted":           {wire.StatusFaulted, wire.WakeFaulted, false},
		"cancelled":         {wire.StatusCancelled, wire.WakeCancelled, false},
		"cancelled by user": {0, wire.WakeCancelled, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			n := b.tenant("c1")
			r := b.runner()
			r.want(5)
			x := b.accept(n, "main", `{}`)
			u := r.dispatch()[0]
			child := id.NewExecution(time.Now())
			r.append(&wire.Append{
				Execution: x, Fence: u.Fence,
				Children: []wire.Child{{Execution: child, Flow: "child", Event: []byte("sealed trigger"), Path: "sub", Await: true}},
				Waits:    []wire.Wait{{Path: "sub", Kind: wire.WaitChild, Child: child, At: time.Now().Add(time.Hour)}},
			})
			c := r.dispatch()[0]
			if c.Execution != child || c.EventID != id.Event(child) || c.Day != u.Day || string(c.Event) != "sealed trigger" || c.Flow != "child" {
				t.Errorf("child = %+v", c)
			}
			row := b.row(n, child)
			if row.Root != x || row.Parent != x || row.ParentPath != "sub" || row.Cause != store.CauseCall || row.Expires.After(row.Accepted.AddDate(1, 0, 0)) {
				t.Errorf("lineage = %+v", row)
			}
			if !tt.first {
				r.append(waiting(u, 0))
			}
			if tt.status == 0 {
				if err := b.e.Cancel(context.Background(), n.customer, child); err != nil {
					t.Fatal(err)
				}
			} else {
				r.send(&wire.Append{Execution: child, Fence: c.Fence, Finish: &wire.Finish{Status: tt.status, Output: []byte("child output")}})
			}
			b.settle()
			if tt.first {
				r.send(waiting(u, 0))
			}
			again := r.untilUnit(t)
			if again.Execution != x || len(again.Wakes) != 1 {
				t.Fatalf("parent = %+v", again)
			}
			w := again.Wakes[0]
			if wire.WakeReason(w.Epoch) != tt.want || w.Path != "sub" || w.Child() != child {
				t.Errorf("wake = %+v", w)
			}
			if tt.status != 0 && string(w.Body) != "child output" {
				t.Errorf("output = %q", w.Body)
			}
			if r.finish(again).Stale {
				t.Error("finish is stale")
			}
		})
	}
}

func TestAChildThatNobodyAwaitsOutlivesItsParent(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(5)
	x := b.accept(n, "main", `{}`)
	u := r.dispatch()[0]
	child := id.NewExecution(time.Now())
	r.send(&wire.Append{
		Execution: x, Fence: u.Fence, Children: []wire.Child{{Execution: child, Flow: "child", Path: "on_fault"}},
		Finish: &wire.Finish{Status: wire.StatusFaulted, ErrorType: "upstream", ErrorStep: "a"},
	})
	c := r.untilUnit(t)
	if c.Execution != child || b.row(n, child).Cause != store.CauseOnFault {
		t.Errorf("child = %+v", c)
	}
	r.finish(c)
	if row := b.row(n, x); row.Status != store.Faulted || row.ErrorType != "upstream" || row.ErrorStep != "a" || row.Wakes != 0 {
		t.Errorf("parent = %+v", row)
	}
}

func TestAChildOfAnUnknownFlowFaultsItsParent(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(5)
	for _, m := range []wire.Child{
		{Execution: id.NewExecution(time.Now()), Flow: "nope", Path: "sub"},
		{Execution: id.NewExecution(time.Now()), Flow: "main", Path: "sub"}, // no call trigger
		{Flow: "child", Path: "sub"},
	} {
		x := b.accept(n, "main", `{}`)
		u := r.dispatch()[0]
		r.send(&wire.Append{Execution: x, Fence: u.Fence, Children: []wire.Child{m}})
		next(r, &wire.Cancel{})
		if row := b.row(n, x); row.Status != store.Faulted || row.ErrorType != "limit" {
			t.Errorf("child %+v: parent is %v, %q", m, row.Status, row.ErrorType)
		}
	}
}

func TestAWaitThatWasReplacedIsNotAnsweredByTheOldTime(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(5)
	x := b.accept(n, "main", `{}`)
	u := r.dispatch()[0]
	first := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	fire := func(at time.Time) {
		b.e.fireWait(timer{at: at, customer: n.customer, execution: x, path: "ask", wait: wire.WaitCallback}, time.Now())
		b.settle()
	}
	r.callback(u, "ask", "one", first)
	r.callback(u, "ask", "one", first) // again, as after a crash
	fire(first)
	next(r, &wire.Wake{})
	r.callback(u, "ask", "one", first) // answered: stays so
	fire(first)
	r.callback(u, "ask", "two", first.Add(time.Hour)) // another wait at the same step
	fire(first)
	if got := b.row(n, x).Wakes; got != 1 {
		t.Errorf("%d wakes, want 1", got)
	}
	if err := b.e.Wake(context.Background(), "one", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("the old token: %v", err)
	}
	r.callback(u, "ask", "three", first.Add(2*time.Hour)) // before the second was answered
	fire(first.Add(time.Hour))
	if err := b.e.Wake(context.Background(), "two", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("the token of a wait that was replaced: %v", err)
	}
	if err := b.e.Wake(context.Background(), "three", nil); err != nil {
		t.Errorf("the new token: %v", err)
	}
}
