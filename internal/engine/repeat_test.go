package engine

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func TestARepeatedAppendIsAnsweredAndWritesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(1)
	x := b.accept(n, "main", `{}`)
	u := r.dispatch()[0]
	r.want(0)
	first := &wire.Append{
		Execution: x, Fence: u.Fence,
		Entries: []wire.Entry{
			{Seq: 1, Kind: wire.EntryClock, Path: "a", Body: []byte("sealed")}, {Seq: 2, Kind: wire.EntryResult, Path: "a"},
		},
		Waits:    []wire.Wait{{Path: "w", Kind: wire.WaitTimer, At: time.Now().Add(time.Hour)}},
		Children: []wire.Child{{Execution: id.NewExecution(time.Now()), Flow: "child", Path: "c"}},
	}
	if got := r.append(first); got.Stale || got.Seq != 2 {
		t.Fatalf("first append: %+v", got)
	}
	want := b.journal(n, x)
	if got := r.append(first); got.Stale || got.Seq != 2 {
		t.Errorf("the same append again: %+v, want it committed up to 2", got)
	}
	later := &wire.Append{Execution: x, Fence: u.Fence, Entries: []wire.Entry{{Seq: 3, Kind: wire.EntryResult, Path: "b"}}}
	if got := r.append(later); got.Stale || got.Seq != 3 {
		t.Errorf("the next append: %+v", got)
	}
	if got := r.append(first); got.Stale || got.Seq != 2 {
		t.Errorf("a late repetition: %+v, want the number of its own last entry", got)
	}
	want = append(want, wire.Entry{Seq: 3, Kind: wire.EntryResult, Path: "b"})
	if diff := cmp.Diff(want, b.journal(n, x), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the journal:\n%s", diff)
	}
	for name, change := range map[string]func(e *wire.Entry){
		"path":  func(e *wire.Entry) { e.Path = "other" },
		"kind":  func(e *wire.Entry) { e.Kind = wire.EntryFault },
		"epoch": func(e *wire.Entry) { e.Epoch = 1 },
		"hash":  func(e *wire.Entry) { e.Hash[0] = 1 },
		"body":  func(e *wire.Entry) { e.Body = []byte("other") },
		"gap":   func(e *wire.Entry) { e.Seq = 9 },
	} {
		forged := *later
		forged.Entries = []wire.Entry{later.Entries[0]}
		change(&forged.Entries[0])
		if got := r.append(&forged); !got.Stale {
			t.Errorf("an append with another %s under the number of a committed entry: %+v, want stale", name, got)
		}
	}
	end := &wire.Append{
		Execution: x, Fence: u.Fence, Entries: []wire.Entry{{Seq: 4, Kind: wire.EntryResult, Path: "c"}},
		Finish: &wire.Finish{Status: wire.StatusCompleted},
	}
	if got := r.append(end); got.Stale || got.Seq != 4 {
		t.Errorf("the end: %+v", got)
	}
	if got := r.append(end); !got.Stale || len(b.journal(n, x)) != 4 || b.row(n, x).Status != store.Completed {
		t.Errorf("the end again: %+v, %d entries, %v", got, len(b.journal(n, x)), b.row(n, x).Status)
	}
}
