package engine

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func TestSkip(t *testing.T) {
	t.Parallel()
	for _, test := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			defer func() { b.stop() }()
			n := b.tenant("c1")
			r := b.runner()
			r.want(5)
			got, err := b.e.Accept(t.Context(), &Event{Customer: n.customer, Instance: n.instance, Flow: "main", Body: []byte("{}"), Test: test})
			if err != nil {
				t.Fatal(err)
			}
			u := r.dispatch()[0]
			r.append(&wire.Append{
				Execution: got.Execution, Fence: u.Fence, Finish: &wire.Finish{Status: wire.StatusWaiting},
				Waits: []wire.Wait{
					{Path: "pause", Kind: wire.WaitTimer, At: time.Now().Add(time.Hour)},
					{Path: "answer", Kind: wire.WaitCallback, At: time.Now().Add(time.Hour), Key: [32]byte{1}},
				},
			})
			if !test {
				if err := b.e.Skip(t.Context(), n.customer, got.Execution, "pause"); !errors.Is(err, ErrInvalid) {
					t.Errorf("Skip of an execution that is no test = %v, want ErrInvalid", err)
				}
				return
			}
			if err := b.e.Skip(t.Context(), n.customer, got.Execution, "elsewhere"); !errors.Is(err, ErrNotFound) {
				t.Errorf("Skip where nothing waits = %v, want ErrNotFound", err)
			}
			began := time.Now()
			for _, path := range []string{"pause", "answer"} {
				if err := b.e.Skip(t.Context(), n.customer, got.Execution, path); err != nil {
					t.Fatalf("Skip %s: %v", path, err)
				}
			}
			if err := b.e.Skip(t.Context(), n.customer, got.Execution, "pause"); !errors.Is(err, ErrNotFound) {
				t.Errorf("Skip of what was skipped = %v, want ErrNotFound", err)
			}
			again := r.dispatch()[0]
			if d := time.Since(began); d > time.Second {
				t.Errorf("woken after %v", d)
			}
			want := map[string]wire.WakeReason{"pause": wire.WakeTimer, "answer": wire.WakeTimeout}
			for i := range again.Wakes {
				w := &again.Wakes[i]
				if wire.WakeReason(w.Epoch) != want[w.Path] {
					t.Errorf("wake of %s = %v, want %v", w.Path, w.Epoch, want[w.Path])
				}
			}
			if len(again.Wakes) == 0 {
				t.Error("no wakes")
			}
		})
	}
}

func TestSkipTimersOfCalledFlows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer func() { b.stop() }()
		n := b.tenant("c1")
		r := b.runner()
		r.want(5)
		got, err := b.e.Accept(t.Context(), &Event{Customer: n.customer, Instance: n.instance, Flow: "main", Body: []byte("{}"), Test: true})
		if err != nil {
			t.Fatal(err)
		}
		u := r.dispatch()[0]
		child := id.NewExecution(time.Now())
		r.append(&wire.Append{
			Execution: got.Execution, Fence: u.Fence, Finish: &wire.Finish{Status: wire.StatusWaiting},
			Children: []wire.Child{{Execution: child, Flow: "child", Event: []byte("{}"), Path: "sub", Await: true}},
			Waits: []wire.Wait{
				{Path: "sub", Kind: wire.WaitChild, Child: child},
				{Path: "own", Kind: wire.WaitTimer, At: time.Now().Add(time.Hour)},
			},
		})
		c := r.dispatch()[0]
		r.append(&wire.Append{
			Execution: child, Fence: c.Fence, Finish: &wire.Finish{Status: wire.StatusWaiting},
			Waits: []wire.Wait{
				{Path: "pause", Kind: wire.WaitTimer, At: time.Now().Add(time.Hour)},
				{Path: "answer", Kind: wire.WaitCallback, At: time.Now().Add(time.Hour), Key: [32]byte{2}},
			},
		})
		if err := b.e.Skip(t.Context(), n.customer, got.Execution, ""); err != nil {
			t.Fatal(err)
		}
		again := r.dispatch()[0]
		if again.Execution != child || len(again.Wakes) != 1 || again.Wakes[0].Path != "pause" {
			t.Errorf("woken: %v with %+v, want the child's timer alone", again.Execution, again.Wakes)
		}
	})
}
