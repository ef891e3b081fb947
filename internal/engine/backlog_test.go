package engine

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// offer accepts an event, or says why it was refused.
func (b *bench) offer(n tenant, body []byte) error {
	_, err := b.e.Accept(context.Background(), &Event{Customer: n.customer, Instance: n.instance, Flow: "main", Body: body})
	return err
}

// retryAfter is the time that a refused sender is told, or 0.
func retryAfter(err error) time.Duration {
	var busy *BusyError
	if errors.As(err, &busy) && errors.Is(err, ErrBusy) {
		return busy.RetryAfter
	}
	return 0
}

func TestPendingEventsAreBounded(t *testing.T) {
	t.Parallel()
	const size = 1000
	body := []byte(`"` + string(bytes.Repeat([]byte("x"), size-2)) + `"`)
	for name, limit := range map[string]Pending{
		"by count of a customer": {Events: 5},
		"by bytes of a customer": {Bytes: 6*size - 1},
		"by count in all":        {AllEvents: 5},
		"by bytes in all":        {AllBytes: 6*size - 1},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, func(o *Options) { o.Pending = limit })
				n, other := b.tenant("c1"), b.tenant("c2")
				for range 5 {
					if err := b.offer(n, body); err != nil {
						t.Fatal(err)
					}
				}
				if restart {
					b.restart()
				}
				if err := b.offer(n, body); retryAfter(err) != busyFor {
					t.Errorf("one too many: %v", err)
				}
				all := limit.AllBytes > 0 || limit.AllEvents > 0
				if err := b.offer(other, body); (retryAfter(err) > 0) != all {
					t.Errorf("another customer: %v", err)
				}
				b.makeRoom(n)
				if err := b.offer(n, body); err != nil {
					t.Errorf("after one has begun: %v", err)
				}
			})
		}
	}
}

// makeRoom runs one pending execution, and lets it call another flow meanwhile.
func (b *bench) makeRoom(n tenant) {
	b.t.Helper()
	r := b.runner()
	r.want(1)
	u := r.dispatch()[0]
	r.send(&wire.Want{Draining: true})
	if got := r.append(&wire.Append{
		Execution: u.Execution, Fence: u.Fence,
		Children: []wire.Child{{Execution: id.NewExecution(time.Now()), Flow: "child", Event: []byte("sealed"), Path: "sub", Await: true}},
	}); got.Stale {
		b.t.Errorf("a called flow was refused: %+v", got)
	}
	b.settle()
	if got := b.row(n, u.Execution).Status; got != store.Running {
		b.t.Errorf("it is %v", got)
	}
}

func TestAPausedInstanceFillsUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.Pending = Pending{Events: 2} })
	n := b.tenant("c1")
	r := b.runner()
	r.want(100)
	if err := b.e.SetInstanceState(context.Background(), n.customer, n.instance, store.InstancePaused); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.offer(n, []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.offer(n, []byte(`{}`)); retryAfter(err) != pausedFor {
		t.Errorf("one too many: %v", err)
	}
	if err := b.e.SetInstanceState(context.Background(), n.customer, n.instance, store.InstanceEnabled); err != nil {
		t.Fatal(err)
	}
	for got := 0; got < 2; {
		got += len(r.dispatch())
	}
	if err := b.offer(n, []byte(`{}`)); err != nil {
		t.Errorf("when it goes on: %v", err)
	}
}

// What is refused or a duplicate leaves no trace in the count, cancelling gives room.
func TestTheCountOfPendingEventsIsExact(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.Pending = Pending{Events: 2} })
	n := b.tenant("c1")
	ctx := context.Background()
	ev := &Event{Customer: n.customer, Instance: n.instance, Flow: "main", Body: []byte(`{}`), Delivery: "d"}
	first, err := b.e.Accept(ctx, ev)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if again, err := b.e.Accept(ctx, ev); err != nil || !again.Duplicate || again.Execution != first.Execution {
			t.Fatalf("duplicate = %+v, %v", again, err)
		}
	}
	if err := b.e.Cancel(ctx, n.customer, first.Execution); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.offer(n, []byte(`{}`)); err != nil {
			t.Errorf("there is room: %v", err)
		}
	}
	if err := b.offer(n, []byte(`{}`)); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	b.e.mu.Lock()
	defer b.e.mu.Unlock()
	if got := b.e.backlog; got.total.events != 2 || got.customers[n.customer] != got.total {
		t.Errorf("backlog = %+v", got)
	}
}

// A runner never holds more bytes than allowed, a job larger than that runs alone, and
// nothing waits for ever, also while small ones come and go.
func TestARunnerHoldsNoMoreBytesThanAllowed(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	b := newBench(t, func(o *Options) { o.RunnerBytes = limit })
	n, other := b.tenant("c1"), b.tenant("c2")
	var left int
	for _, size := range []int{limit / 3, limit / 3, limit / 3, limit / 3, limit / 2, 3 * limit / 2, limit / 3, limit / 4, limit / 4} {
		if err := b.offer(n, append(bytes.Repeat([]byte(" "), size), "{}"...)); err != nil {
			t.Fatal(err)
		}
		left++
	}
	for range 50 {
		if err := b.offer(other, []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
		left++
	}
	r := b.runner()
	r.want(40)
	held := map[id.Execution]wire.UnitExecution{}
	sizes := map[id.Execution]int64{}
	sum, alone := int64(0), false
	for flying := false; left > 0; {
		switch m := r.frame().(type) {
		case *wire.Dispatch:
			for _, u := range m.Unit.Executions {
				row, err := b.opt.Store.Customer(t.Context(), m.Customer).Execution(u.Execution)
				if err != nil {
					t.Fatal(err)
				}
				held[u.Execution], sizes[u.Execution] = u, row.Size
				sum += row.Size
			}
			if alone = alone || sum > limit; sum > limit && len(held) > 1 {
				t.Fatalf("a runner holds %d bytes in %d executions", sum, len(held))
			}
		case *wire.Appended:
			sum -= sizes[m.Execution]
			delete(held, m.Execution)
			left--
			flying = false
		}
		for _, u := range held { // whichever comes first, one at a time
			if !flying {
				r.send(&wire.Append{Execution: u.Execution, Fence: u.Fence, Finish: &wire.Finish{Status: wire.StatusCompleted}})
			}
			flying = true
		}
	}
	if !alone {
		t.Error("the largest never ran")
	}
}

// A job that resumes counts its journal and its wakes too.
func TestTheSizeOfAnExecutionIsKnown(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		b := newBench(t)
		n := b.tenant("c1")
		r := b.runner()
		r.want(1)
		b.accept(n, "main", `{}`)
		u := r.dispatch()[0]
		want := int64(len(u.Event))
		entries := []wire.Entry{{Kind: wire.EntryResult, Path: "a", Body: make([]byte, 1000)}, {Kind: wire.EntryResult, Path: "b", Body: make([]byte, 500)}}
		want += int64(store.SizeOf(entries))
		r.append(&wire.Append{Execution: u.Execution, Fence: u.Fence, Entries: entries})
		r.callback(u, "ask", "token", time.Now().Add(time.Hour))
		r.append(waiting(u, 0))
		if restart {
			b.restart()
		}
		if err := b.e.Wake(t.Context(), "token", make([]byte, 2000)); err != nil {
			t.Fatal(err)
		}
		want += 2000
		b.settle()
		b.e.mu.Lock()
		j := b.e.jobs[u.Execution]
		if j == nil || j.size < want || j.size > want+200 {
			t.Errorf("restart=%v: job = %+v, want a size of about %d", restart, j, want)
		}
		b.e.mu.Unlock()
		if got := b.row(n, u.Execution).Size; got < want || got > want+200 {
			t.Errorf("restart=%v: the row says %d, want about %d", restart, got, want)
		}
	}
}
