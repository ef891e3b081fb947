package engine

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// faulted ends an execution with a fault after one finished step.
func (r *fakeRunner) faulted(u wire.UnitExecution) {
	r.b.t.Helper()
	r.append(&wire.Append{
		Execution: u.Execution, Fence: u.Fence,
		Entries: []wire.Entry{{Kind: wire.EntryResult, Path: "a", Body: []byte("sealed")}, {Kind: wire.EntryFault, Path: "bad", Body: []byte("sealed")}},
		Finish:  &wire.Finish{Status: wire.StatusFaulted, ErrorType: "upstream", ErrorStep: "bad", Output: []byte("sealed fault")},
	})
}

func TestRetryContinuesAFaultedExecution(t *testing.T) {
	t.Parallel()
	for _, crash := range []bool{false, true} {
		b := newBench(t)
		n := b.tenant("c1")
		r := b.runner()
		r.want(1)
		x := b.accept(n, "main", `{"body":1}`)
		if err := b.e.Retry(t.Context(), n.customer, x); !errors.Is(err, ErrConflict) {
			t.Errorf("before it faulted: %v", err)
		}
		first := r.dispatch()[0]
		r.append(&wire.Append{Execution: x, Fence: first.Fence, Waits: []wire.Wait{{Path: "w", Kind: wire.WaitTimer, At: time.Now()}}})
		next(r, &wire.Wake{})
		r.faulted(first)
		if crash {
			r.full() // else it may be given out before the crash, which loses that, and once more behind it
		}
		if err := b.e.Retry(t.Context(), n.customer, x); err != nil {
			t.Fatal(err)
		}
		if err := b.e.Retry(t.Context(), n.customer, x); !errors.Is(err, ErrConflict) {
			t.Errorf("a second time: %v", err)
		}
		if crash {
			b.kill()
			r.want(1)
		}
		again := r.untilUnit(t)
		if again.Execution != x || again.Fence <= first.Fence || len(again.Journal) != 3 || !bytes.Equal(again.Event, first.Event) {
			t.Fatalf("given out again: %+v", again)
		}
		if mark := again.Journal[2]; mark.Kind != wire.EntryRetry || mark.Path != "bad" || mark.Seq != 3 || mark.Epoch != 1 {
			t.Errorf("the journal says %+v", mark)
		}
		row := b.row(n, x)
		if row.Retries != 1 || row.ErrorType != "" || row.ErrorStep != "" || row.Output != nil || !row.Finished.IsZero() {
			t.Errorf("row = %+v", row)
		}
		r.send(&wire.Append{Execution: x, Fence: first.Fence, Finish: &wire.Finish{Status: wire.StatusCompleted}})
		if a, ok := r.frame().(*wire.Appended); !ok || !a.Stale {
			t.Errorf("the old fence got %+v, want stale", a)
		}
		if got := r.finish(again); got.Stale || got.Seq != 4 {
			t.Errorf("finish = %+v", got)
		}
	}
}

// A child that ended while its parent was faulted wakes it after the retry.
func TestARetriedExecutionHearsOfItsChildren(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(2)
	x := b.accept(n, "main", `{}`)
	u := r.dispatch()[0]
	child := id.NewExecution(time.Now())
	r.append(&wire.Append{Execution: x, Fence: u.Fence, Children: []wire.Child{{Execution: child, Flow: "child", Event: []byte("e"), Path: "sub", Await: true}}})
	c := r.dispatch()[0]
	r.faulted(u)
	r.finish(c)
	if err := b.e.Retry(t.Context(), n.customer, x); err != nil {
		t.Fatal(err)
	}
	again := r.untilUnit(t)
	if len(again.Wakes) != 1 || again.Wakes[0].Child() != child || string(again.Wakes[0].Body) != "sealed output" {
		t.Errorf("wakes = %+v", again.Wakes)
	}
}

func TestReplayStartsAnewWithTheSameEvent(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, 300 << 10} {
		b := newBench(t)
		n := b.tenant("c1")
		r := b.runner()
		r.want(1)
		x := b.accept(n, "main", `{"body":"`+string(bytes.Repeat([]byte("x"), size))+`"}`)
		first := r.dispatch()[0]
		r.faulted(first)
		newer := definition()
		newer.Name = "sample"
		newer.Flows[0].Steps[0].ID = "renamed"
		canonical, err := newer.Encode()
		if err != nil {
			t.Fatal(err)
		}
		v, err := b.e.Publish(t.Context(), b.org, canonical)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.e.Deploy(t.Context(), &Deployment{Customer: n.customer, Instance: n.instance, Digest: v.Digest}); err != nil {
			t.Fatal(err)
		}
		for newest, want := range map[bool][32]byte{false: n.digest, true: v.Digest} {
			got, err := b.e.Replay(t.Context(), n.customer, x, ReplayOptions{Newest: newest})
			if err != nil {
				t.Fatal(err)
			}
			again := r.untilUnit(t)
			if again.Execution != got || again.EventID != first.EventID || again.Day != first.Day || !bytes.Equal(again.Event, first.Event) || len(again.Journal) > 0 {
				t.Errorf("given out: %+v", again)
			}
			if size < 1000 {
				b.open(n.customer, again.Day, lease.EventPlace(n.customer, again.EventID, lease.Day(again.Day)), again.Event)
			}
			row := b.row(n, got)
			if row.Cause != store.CauseReplay || row.CauseID != x || row.Digest != want || row.Root != got || row.Size != b.row(n, x).Size-int64(len("sealed")*2+len("a")+len("bad")) {
				t.Errorf("newest=%v: row = %+v", newest, row)
			}
			r.finish(again)
		}
	}
}

// Nothing is retried or replayed whose event does not open any more, or soon.
func TestWhatHasExpiredIsNotRunAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(1)
	x := b.accept(n, "main", `{}`)
	r.faulted(r.dispatch()[0])
	day := b.row(n, x).Day
	f, err := b.e.catalog.flow(t.Context(), n.digest, "main")
	if err != nil {
		t.Fatal(err)
	}
	over := time.Unix(int64(day+1)*86400, 0)
	for at, want := range map[time.Time]error{
		over:                        ErrExpired,
		over.Add(-expiryMargin):     ErrExpired,
		over.Add(-2 * expiryMargin): nil,
		over.Add(-99 * time.Hour):   nil,
	} {
		got, err := lifeWithin(f, day, at)
		if !errors.Is(err, want) || err == nil && (got.After(over.Add(-expiryMargin)) || !got.After(at)) {
			t.Errorf("at %v: until %v, %v; want %v", at, got, err, want)
		}
	}
	old := b.row(n, x)
	x = id.NewExecution(time.Now())
	old.ID, old.Day = x, uint32(lease.DayOf(time.Now()))-1
	err = b.opt.Store.Write(t.Context(), func(tx *store.Tx) error { return tx.Customer(n.customer).InsertExecution(old) })
	if err != nil {
		t.Fatal(err)
	}
	if err := b.e.Retry(t.Context(), n.customer, x); !errors.Is(err, ErrExpired) {
		t.Errorf("retry: %v", err)
	}
	if _, err := b.e.Replay(t.Context(), n.customer, x, ReplayOptions{}); !errors.Is(err, ErrExpired) {
		t.Errorf("replay: %v", err)
	}
}
