package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// journaled makes an execution with a journal and gives it out again.
func journaled(t *testing.T, b *bench, r *fakeRunner, n tenant, entries int, body func(i int) []byte) wire.UnitExecution {
	t.Helper()
	r.want(1)
	b.accept(n, "main", `{}`)
	x := r.dispatch()[0]
	if x.Entries != 0 || len(x.Journal) != 0 {
		t.Errorf("a new execution has %d entries", x.Entries)
	}
	for at := 0; at < entries; {
		m := &wire.Append{Execution: x.Execution, Fence: x.Fence}
		for ; at < entries && len(m.Entries) < 500; at++ {
			m.Entries = append(m.Entries, wire.Entry{Kind: wire.EntryResult, Path: fmt.Sprintf("all[%d].put", at), Epoch: uint32(at), Body: body(at)})
		}
		if a := r.append(m); a.Stale || int(a.Seq) != at {
			t.Fatalf("append: %+v, want %d", a, at)
		}
	}
	r.send(&wire.Released{Execution: x.Execution, Fence: x.Fence, Fault: "crash"})
	next(r, &wire.Cancel{})
	return r.dispatch()[0]
}

func TestALongJournalComesInPages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	const entries = 2*maxPageEntries + 10
	large := bytes.Repeat([]byte("x"), maxPageBody+1)
	x := journaled(t, b, r, n, entries, func(i int) []byte {
		if i%100 == 7 {
			return large
		}
		return []byte{byte(i)}
	})
	if len(x.Journal) != 0 || x.Entries != entries {
		t.Fatalf("the dispatch holds %d of %d entries", len(x.Journal), x.Entries)
	}
	after, pages, away := uint32(0), 0, []uint32{}
	for last := false; !last; pages++ {
		r.send(&wire.JournalGet{Call: uint64(pages), Execution: x.Execution, Fence: x.Fence, After: after})
		page := next(r, &wire.JournalPage{})
		if page.Call != uint64(pages) || page.Error != "" {
			t.Fatalf("page %d: call %d, error %q", pages, page.Call, page.Error)
		}
		for _, e := range page.Entries {
			if after++; e.Seq != after || e.Path != fmt.Sprintf("all[%d].put", after-1) || e.Epoch != after-1 {
				t.Fatalf("entry %d came as %d at %s", after, e.Seq, e.Path)
			}
			switch {
			case (after-1)%100 != 7 && !bytes.Equal(e.Body, []byte{byte(after - 1)}):
				t.Fatalf("entry %d has the body %v", after, e.Body)
			case (after-1)%100 == 7 && len(e.Body) != 0:
				t.Fatalf("the large body of entry %d came", after)
			case (after-1)%100 == 7:
				away = append(away, e.Seq)
			}
		}
		last = page.Last
	}
	if after != entries || pages != 3 {
		t.Errorf("%d entries came in %d pages", after, pages)
	}
	r.send(&wire.JournalGet{Execution: x.Execution, Fence: x.Fence, Seqs: append(away, entries+1)})
	page := next(r, &wire.JournalPage{})
	if len(page.Entries) != len(away) {
		t.Fatalf("%d of %d entries came by number", len(page.Entries), len(away))
	}
	for i, e := range page.Entries {
		if e.Seq != away[i] || !bytes.Equal(e.Body, large) {
			t.Errorf("entry %d came as %d with %d bytes", away[i], e.Seq, len(e.Body))
		}
	}
}

func TestAPageIsBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	large := bytes.Repeat([]byte("x"), 128<<10)
	x := journaled(t, b, r, n, 20, func(int) []byte { return large })
	if len(x.Journal) != 0 || x.Entries != 20 {
		t.Fatalf("the dispatch holds %d of %d entries of 128 KiB", len(x.Journal), x.Entries)
	}
	seqs := []uint32{}
	for i := range uint32(20) {
		seqs = append(seqs, i+1)
	}
	r.send(&wire.JournalGet{Execution: x.Execution, Fence: x.Fence, Seqs: seqs})
	if page := next(r, &wire.JournalPage{}); len(page.Entries) == 0 || len(page.Entries)*len(large) > maxPageBytes {
		t.Errorf("%d entries of 128 KiB came in one page", len(page.Entries))
	}
}

func TestAShortJournalComesWithItsUnit(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	x := journaled(t, b, b.runner(), n, 20, func(i int) []byte { return []byte{byte(i)} })
	if len(x.Journal) != 20 || x.Entries != 20 {
		t.Errorf("the dispatch holds %d of %d entries", len(x.Journal), x.Entries)
	}
}

// TestAJournalIsReadByItsHolderOnly asks under an earlier fence and from another runner.
func TestAJournalIsReadByItsHolderOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r, other := b.runner(), b.runner()
	x := journaled(t, b, r, n, 20, func(i int) []byte { return []byte{byte(i)} })
	for name, ask := range map[string]struct {
		from  *fakeRunner
		fence uint64
	}{"an earlier fence": {r, x.Fence - 1}, "a later fence": {r, x.Fence + 1}, "another runner": {other, x.Fence}} {
		ask.from.send(&wire.JournalGet{Execution: x.Execution, Fence: ask.fence})
		if m := next(ask.from, &wire.Cancel{}); m.Execution != x.Execution {
			t.Errorf("%s: the answer is about %v", name, m.Execution)
		}
	}
	// Red twin: the holder is answered.
	r.send(&wire.JournalGet{Execution: x.Execution, Fence: x.Fence})
	if page := next(r, &wire.JournalPage{}); len(page.Entries) != 20 {
		t.Errorf("red twin: the holder gets %d entries", len(page.Entries))
	}
}

func TestLargeWakesAreAskedFor(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(1)
	b.accept(n, "main", `{}`)
	x := r.dispatch()[0]
	const wakes = 3
	token := func(i int) string { return fmt.Sprint("token", i) }
	m := &wire.Append{Execution: x.Execution, Fence: x.Fence}
	for i := range wakes {
		m.Waits = append(m.Waits, wire.Wait{
			Path: fmt.Sprint("ask", i), Kind: wire.WaitCallback, Key: sha256.Sum256([]byte(token(i))), At: time.Now().Add(time.Hour),
		})
	}
	r.append(m)
	payload := bytes.Repeat([]byte("x"), maxInlineJournal/2)
	for i := range wakes {
		if err := b.e.Wake(context.Background(), token(i), payload); err != nil {
			t.Fatal(err)
		}
		next(r, &wire.Wake{})
	}
	r.send(&wire.Released{Execution: x.Execution, Fence: x.Fence, Fault: "crash"})
	next(r, &wire.Cancel{})
	x = r.dispatch()[0]
	if len(x.Wakes) != wakes || !x.WakesAway || len(x.Wakes[0].Body) != 0 {
		t.Fatalf("the dispatch holds %d wakes, away: %v", len(x.Wakes), x.WakesAway)
	}
	for i := range wakes {
		r.send(&wire.JournalGet{Execution: x.Execution, Fence: x.Fence, Seqs: []uint32{x.Wakes[i].Seq}, Wakes: true})
		page := next(r, &wire.JournalPage{})
		if len(page.Entries) != 1 || page.Entries[0].Path != x.Wakes[i].Path {
			t.Fatalf("wake %d came as %+v", i, page)
		}
		w := page.Entries[0]
		if plain := b.open(n.customer, x.Day, lease.EntryPlace(n.customer, x.Execution, &w), w.Body); plain != string(payload) {
			t.Errorf("wake %d opens as %d bytes", i, len(plain))
		}
	}
}
