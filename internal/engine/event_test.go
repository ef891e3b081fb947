package engine

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// largeEvent is an event over the limit of a row, in two parts.
func largeEvent(n tenant, size int) *Event {
	return &Event{
		Customer: n.customer, Instance: n.instance, Flow: "main", Body: []byte(`{"body":"`),
		Rest: [][]byte{bytes.Repeat([]byte("0123456789"), size/10), nil, []byte(`"}`)},
	}
}

func TestALargeEventIsABlob(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(2)
	ev := largeEvent(n, MaxBody)
	got, err := b.e.Accept(context.Background(), ev)
	if err != nil {
		t.Fatal(err)
	}
	x := r.dispatch()[0]
	if x.Execution != got.Execution || len(x.Event) > 1024 {
		t.Errorf("the dispatch holds %d bytes of the event, want a reference", len(x.Event))
	}
	if row := b.row(n, got.Execution); row.Size != int64(ev.size()) {
		t.Errorf("the size is %d, want %d", row.Size, ev.size())
	}
	plain := b.open(n.customer, x.Day, lease.EventPlace(n.customer, x.EventID, lease.Day(x.Day)), x.Event)
	ref, err := wire.ParseEventRef([]byte(plain))
	if err != nil || ref == nil || ref.Size != uint64(ev.size()) || ref.Day != x.Day {
		t.Fatalf("the reference is %+v, %v", ref, err)
	}
	key, err := seal.NewStreamKey(ref.Key)
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for i := range ref.Chunks {
		r.send(&wire.BlobRead{Call: uint64(i), Blob: ref.Blob, Execution: x.Execution, Index: i})
		chunk := next(r, &wire.BlobChunk{})
		if all, err = key.Open(all, lease.BlobPlace(ref.Blob), chunk.Data, i, i == ref.Chunks-1); err != nil {
			t.Fatalf("chunk %d (%s): %v", i, chunk.Error, err)
		}
	}
	if want := bytes.Join(append([][]byte{ev.Body}, ev.Rest...), nil); !bytes.Equal(all, want) {
		t.Errorf("the blob holds %d bytes, want %d", len(all), len(want))
	}
	ev = largeEvent(n, MaxEvent)
	if _, err := b.e.Accept(context.Background(), ev); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an event over the limit: %v", err)
	}
}

// blobFiles are the files of blobs in a directory.
func blobFiles(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "[0-9]*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestBlobsOfEventsThatAreNotStoredGo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	ev := largeEvent(n, 2*MaxInlineEvent)
	ev.Delivery = "d1"
	first, err := b.e.Accept(context.Background(), ev)
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.e.Accept(context.Background(), ev)
	if err != nil || !again.Duplicate || again.Execution != first.Execution {
		t.Errorf("the second delivery: %+v, %v", again, err)
	}
	if files := blobFiles(t, b.dir); len(files) != 1 {
		t.Errorf("the files are %v, want that of the first delivery", files)
	}
	// A crash between the blob and the commit: the file is there, no row names it.
	row := b.row(n, first.Execution)
	lost := *row
	lost.ID, lost.Event = id.NewExecution(time.Now()), id.NewEvent(time.Now())
	if _, _, err := b.e.writeEvent(ev, &lost, time.Now()); err != nil {
		t.Fatal(err)
	}
	if files := blobFiles(t, b.dir); len(files) != 2 {
		t.Fatalf("the files are %v", files)
	}
	if _, err := b.e.SweepBlobs(context.Background(), time.Time{}, time.Now().Add(-orphanAge)); err != nil {
		t.Fatal(err)
	}
	if files := blobFiles(t, b.dir); len(files) != 2 {
		t.Error("a blob whose row may still be committed was removed")
	}
	if n, err := b.e.SweepBlobs(context.Background(), time.Time{}, time.Now().Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("the sweep removed %d, %v, want 1", n, err)
	}
	if files := blobFiles(t, b.dir); len(files) != 1 {
		t.Errorf("the files are %v, want that of the first delivery", files)
	}
	content, err := os.ReadFile(blobFiles(t, b.dir)[0])
	if err != nil || bytes.Contains(content, []byte("0123456789")) {
		t.Errorf("the blob holds plaintext: %v", err)
	}
}

func TestEventsInMemoryAreBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	const size = 50 << 10
	body := `{"body":"` + strings.Repeat("x", size) + `"}`
	count := 2 * maxKeptBytes / size
	for range count {
		b.accept(n, "main", body)
	}
	b.e.mu.Lock()
	kept, counted := 0, b.e.kept
	for _, j := range b.e.jobs {
		kept += len(j.event)
	}
	b.e.mu.Unlock()
	if kept == 0 || kept > maxKeptBytes || kept != counted {
		t.Errorf("%d bytes of %d events are kept, %d counted, want up to %d", kept, count, counted, maxKeptBytes)
	}
	r := b.runner()
	r.want(maxCapacity)
	seen := map[id.Execution]bool{}
	for len(seen) < count {
		for _, x := range r.dispatch() {
			seen[x.Execution] = len(x.Event) >= size
			if !seen[x.Execution] {
				t.Fatalf("an execution came with %d bytes of its event", len(x.Event))
			}
		}
	}
	b.e.mu.Lock()
	defer b.e.mu.Unlock()
	if b.e.kept != 0 {
		t.Errorf("%d bytes are counted when all is dispatched", b.e.kept)
	}
}

// TestWhatRanOutOfMemoryRunsApart loses two executions with their worker: whichever needed
// too much, it does not take the other with it again.
func TestWhatRanOutOfMemoryRunsApart(t *testing.T) {
	t.Parallel()
	for why, apart := range map[string]bool{interruptMemory: true, interruptCrash: false} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			n := b.tenant("c1")
			r := b.runner()
			r.want(2)
			b.accept(n, "main", `{"body":1}`)
			b.accept(n, "main", `{"body":2}`)
			var units []wire.UnitExecution
			for len(units) < 2 {
				units = append(units, r.dispatch()...)
			}
			var held []wire.Held
			for _, u := range units {
				held = append(held, wire.Held{Execution: u.Execution, Fence: u.Fence})
			}
			r.full(held...) // until both are lost: the first may be given out beside the second before that
			for _, u := range units {
				r.send(&wire.Released{Execution: u.Execution, Fence: u.Fence, Fault: why})
			}
			for range units {
				next(r, &wire.Cancel{})
			}
			r.want(2)
			units = units[:0]
			for held := 0; held < 2; {
				select {
				case f := <-r.frames:
					var d wire.Dispatch
					if f.Type == wire.TypeDispatch {
						if err := f.Parse(&d); err != nil {
							t.Fatal(err)
						}
						units = append(units, d.Unit.Executions...)
					}
				case <-time.After(r.patience):
					t.Fatal("they are not given out again")
				}
				b.e.mu.Lock()
				together := len(b.e.runners[r.node].jobs)
				b.e.mu.Unlock()
				if apart && together > 1 {
					t.Errorf("%d run at once", together)
				}
				if held = len(units); held == 1 && apart {
					r.finish1(units[0])
				}
			}
		})
	}
}
