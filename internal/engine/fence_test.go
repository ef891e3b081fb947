package engine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/testkit"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// after waits for a time to pass, which costs nothing in a synctest bubble.
func after(d time.Duration) { <-time.After(d) }

func TestAStaleAppendWritesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	first, second := b.runner(), b.runner()
	first.want(1)
	x := b.accept(n, "main", `{}`)
	old := first.dispatch()[0]
	first.append(&wire.Append{Execution: x, Fence: old.Fence, Entries: []wire.Entry{{Kind: wire.EntryClock, Path: "a"}}})
	first.want(0)
	second.want(1)
	first.send(&wire.Released{Execution: x, Fence: old.Fence, Fault: "crash"})
	next(first, &wire.Cancel{})
	again := second.dispatch()[0]
	if again.Fence <= old.Fence || len(again.Journal) != 1 {
		t.Fatalf("given out again with fence %d after %d and %d entries", again.Fence, old.Fence, len(again.Journal))
	}
	before := b.journal(n, x)
	whole := &wire.Append{
		Execution: x, Fence: old.Fence, Entries: []wire.Entry{{Kind: wire.EntryResult, Path: "a"}},
		Waits:    []wire.Wait{{Path: "w", Kind: wire.WaitTimer, At: time.Now()}},
		Children: []wire.Child{{Execution: id.NewExecution(time.Now()), Flow: "child", Path: "c"}},
		Finish:   &wire.Finish{Status: wire.StatusCompleted},
	}
	forged := *whole
	forged.Fence = again.Fence // the right fence from the wrong runner
	ahead := *whole
	ahead.Fence = again.Fence + 1
	for name, m := range map[string]*wire.Append{"old": whole, "forged": &forged, "ahead": &ahead} {
		if got := first.append(m); !got.Stale {
			t.Errorf("%s append: %+v, want stale", name, got)
		}
	}
	// The transaction itself refuses it too, whatever the memory says.
	c := &commit{m: whole, customer: n.customer, now: time.Now()}
	if err := b.opt.Store.Write(context.Background(), c.write); err != nil || !c.stale {
		t.Errorf("stale transaction: %v, stale %v", err, c.stale)
	}
	if diff := cmp.Diff(before, b.journal(n, x)); diff != "" {
		t.Errorf("the journal changed:\n%s", diff)
	}
	if _, err := b.e.Execution(context.Background(), n.customer, whole.Children[0].Execution); !errors.Is(err, ErrNotFound) {
		t.Errorf("a child of a stale append: %v", err)
	}
	if got := second.finish(again); got.Stale {
		t.Errorf("the new holder is refused: %+v", got)
	}
}

// heartbeats makes a runner tell what it holds until the test ends.
func (r *fakeRunner) heartbeats(ctx context.Context, free int, held func() []wire.Held) {
	go func() {
		for ctx.Err() == nil {
			r.want(free, held()...)
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Second):
			}
		}
	}()
}

func none() []wire.Held { return nil }

func TestALapsedLeaseIsGivenOutAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(o *Options) { o.LeaseTTL = DefaultLeaseTTL })
		defer b.stop()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		n := b.tenant("c1")
		dead, alive := b.runner(), b.runner()
		dead.want(5)
		kept, lost := b.accept(n, "main", `{}`), b.accept(n, "main", `{}`)
		var held []wire.Held
		for len(held) < 2 {
			for _, u := range dead.dispatch() {
				held = append(held, wire.Held{Execution: u.Execution, Fence: u.Fence})
			}
		}
		// The heartbeat names one of the two.
		beat, end := context.WithCancel(ctx)
		dead.heartbeats(beat, 0, func() []wire.Held { return held[:1] })
		alive.heartbeats(ctx, 5, none)
		begun := time.Now()
		u := alive.dispatch()[0]
		if u.Execution != held[1].Execution || u.Fence != 2 {
			t.Errorf("given out again: %v with fence %d, want %v with 2 (of %v, %v)", u.Execution, u.Fence, held[1].Execution, kept, lost)
		}
		if d := time.Since(begun); d < DefaultLeaseTTL/4 || d > DefaultLeaseTTL*3/4 {
			t.Errorf("taken from a runner that does not name it after %v, want a little more than %v", d, DefaultLeaseTTL/4)
		}
		alive.finish(u)
		after(time.Minute)
		if !alive.silent() {
			t.Error("a lease that is renewed was given out again")
		}
		end()
		if u := alive.dispatch()[0]; u.Execution != held[0].Execution {
			t.Errorf("given out again: %v, want %v", u.Execution, held[0].Execution)
		}
		cancel()
		synctest.Wait()
	})
}

func TestAnExecutionThatKillsItsWorkersFaults(t *testing.T) {
	t.Parallel()
	for why, want := range map[string]string{"memory": "limit", "crash": "interrupted", "something else": "interrupted"} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.stop()
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				n := b.tenant("c1")
				r := b.runner()
				r.heartbeats(ctx, 5, none)
				synctest.Wait()
				x := b.accept(n, "main", `{}`)
				for i := range MaxInterruptions {
					u := r.dispatch()[0]
					if int(u.Fence) != i+1 {
						t.Errorf("fence %d, want %d", u.Fence, i+1)
					}
					r.send(&wire.Released{Execution: x, Fence: u.Fence, Fault: why})
					next(r, &wire.Cancel{})
				}
				after(time.Minute)
				row := b.row(n, x)
				if row.Status != store.Faulted || row.ErrorType != want {
					t.Errorf("row is %v with %q, want faulted with %q", row.Status, row.ErrorType, want)
				}
				got := b.open(n.customer, row.Day, lease.OutputPlace(n.customer, x, wire.StatusFaulted), row.Output)
				if want := `{"type":"` + want + `"`; len(got) < len(want) || got[:len(want)] != want {
					t.Errorf("fault is %s", got)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

// A lease that the vault did not grant is not held against the execution, and an append
// in between proves that it can go on.
func TestOtherInterruptionsDoNotCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.stop()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		n := b.tenant("c1")
		r := b.runner()
		r.heartbeats(ctx, 5, none)
		synctest.Wait()
		x := b.accept(n, "main", `{}`)
		var u wire.UnitExecution
		for i := range 4 * MaxInterruptions {
			u = r.dispatch()[0]
			why := "lease"
			if i%2 == 0 {
				r.append(&wire.Append{Execution: x, Fence: u.Fence, Entries: []wire.Entry{{Kind: wire.EntryClock, Path: "a"}}})
				why = "crash"
			}
			r.send(&wire.Released{Execution: x, Fence: u.Fence, Fault: why})
			next(r, &wire.Cancel{})
		}
		if r.finish(r.dispatch()[0]).Stale || b.row(n, x).Status != store.Completed {
			t.Errorf("row is %+v", b.row(n, x))
		}
		cancel()
		synctest.Wait()
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n, other := b.tenant("c1"), b.tenant("c2")
	ctx := context.Background()
	waiting := b.accept(n, "main", `{}`) // nobody wants it yet
	if err := b.e.Cancel(ctx, other.customer, waiting); !errors.Is(err, ErrNotFound) {
		t.Errorf("cancel of another customer's execution: %v", err)
	}
	if err := b.e.Cancel(ctx, n.customer, waiting); err != nil {
		t.Fatal(err)
	}
	r := b.runner()
	r.want(5)
	x := b.accept(n, "main", `{}`)
	u := r.dispatch()[0]
	if u.Execution != x {
		t.Fatalf("a cancelled execution was given out")
	}
	child := id.NewExecution(time.Now())
	r.want(0)
	r.append(&wire.Append{Execution: x, Fence: u.Fence, Children: []wire.Child{{Execution: child, Flow: "child", Path: "c", Await: true}}})
	if err := b.e.Cancel(ctx, n.customer, x); err != nil {
		t.Fatal(err)
	}
	if m := next(r, &wire.Cancel{}); m.Execution != x || m.Fence != u.Fence {
		t.Errorf("cancel = %+v", m)
	}
	if got := r.finish(u); !got.Stale {
		t.Errorf("append after a cancel: %+v", got)
	}
	for name, e := range map[string]id.Execution{"pending": waiting, "running": x, "child": child} {
		if row := b.row(n, e); row.Status != store.Cancelled {
			t.Errorf("%s execution is %v", name, row.Status)
		}
	}
	if err := b.e.Cancel(ctx, n.customer, x); !errors.Is(err, ErrNotFound) {
		t.Errorf("second cancel: %v", err)
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.stop()
		n := b.tenant("c1")
		r := b.runner()
		r.want(1)
		running := b.accept(n, "short", `{}`)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		u := r.dispatch()[0]
		r.heartbeats(ctx, 0, func() []wire.Held { return []wire.Held{{Execution: running, Fence: u.Fence}} })
		pending := b.accept(n, "short", `{}`)
		after(time.Hour - time.Second)
		if got := b.row(n, running).Status; got != store.Running {
			t.Errorf("before its time it is %v", got)
		}
		after(2 * time.Second)
		if m := next(r, &wire.Cancel{}); m.Execution != running {
			t.Errorf("cancel = %+v", m)
		}
		for name, x := range map[string]id.Execution{"running": running, "pending": pending} {
			if row := b.row(n, x); row.Status != store.Faulted || row.ErrorType != "timeout" || len(row.Output) == 0 {
				t.Errorf("%s execution is %v, %q", name, row.Status, row.ErrorType)
			}
		}
		cancel()
		synctest.Wait()
	})
}

func TestARunnerThatIsGoneLosesItsLeasesAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	gone, r := b.runner(), b.runner()
	gone.want(1)
	x := b.accept(n, "main", `{}`)
	gone.dispatch()
	r.want(1)
	b.e.RunnerGone(gone.node)
	if u := r.dispatch()[0]; u.Execution != x || u.Fence != 2 {
		t.Errorf("given out again: %+v", u)
	}
}

// TestTwoHoldersOfAnExecution lets a runner go on with an execution that was taken from it, in the
// step that its new holder does too: by what the storm judges, only one of them has written.
func TestTwoHoldersOfAnExecution(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	first, second := b.runner(), b.runner()
	first.want(1)
	x := b.accept(n, "main", `{}`)
	old := first.dispatch()[0]
	first.want(0)
	second.want(1)
	first.send(&wire.Released{Execution: x, Fence: old.Fence, Fault: "crash"})
	next(first, &wire.Cancel{})
	again := second.dispatch()[0]
	result := []wire.Entry{{Kind: wire.EntryResult, Path: "a"}}
	if got := second.append(&wire.Append{Execution: x, Fence: again.Fence, Entries: result}); got.Stale {
		t.Errorf("the holder is refused: %+v", got)
	}
	first.append(&wire.Append{Execution: x, Fence: old.Fence, Entries: result})
	first.append(&wire.Append{Execution: x, Fence: old.Fence, Finish: &wire.Finish{Status: wire.StatusCompleted}})
	if row := b.row(n, x); row.Status.Ended() {
		t.Errorf("it was ended by who does not hold it any more: %v", row.Status)
	}
	for _, wrong := range testkit.JudgeJournal(b.journal(n, x), b.row(n, x).LastSeq) {
		t.Error(wrong)
	}
}
