package store

import (
	"errors"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// What is known of an execution saves reading its row; where it is wrong the row decides.
func TestAppendsGoByTheRowWhateverIsKnown(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		x, fence := w.execution.ID, w.execution.Fence
		parent := id.Execution{5}
		type result struct {
			last, day uint32
			ended     *Ended
			err       error
		}
		// All share a transaction, so that one that is not as expected shows late.
		run := func(writes ...func(CustomerTx) result) []result {
			hold := make(chan struct{})
			w.s.Submit(func(*Tx) error { <-hold; return nil }, func(error) {})
			list, results := make([]result, len(writes)), make([]chan error, len(writes))
			for i, write := range writes {
				results[i] = make(chan error, 1)
				w.s.Submit(func(tx *Tx) error {
					c := tx.Customer(w.owner)
					if list[i] = write(c); list[i].err != nil {
						return nil // nothing was written
					}
					return c.InsertEntries(x, make([]wire.Entry, 2), list[i].last, list[i].day, at())
				}, func(err error) { results[i] <- err })
			}
			close(hold)
			for i, r := range results {
				if err := <-r; err != nil {
					t.Errorf("write %d: %v", i, err)
				}
			}
			return list
		}
		advance := func(fence uint64, k *Known) func(CustomerTx) result {
			return func(c CustomerTx) (r result) {
				r.last, r.day, r.err = c.AdvanceKnown(x, fence, k, make([]wire.Entry, 2))
				return r
			}
		}
		finish := func(fence uint64, k *Known) func(CustomerTx) result {
			return func(c CustomerTx) (r result) {
				f := &wire.Finish{Status: wire.StatusCompleted, Output: []byte("out")}
				if r.ended, r.err = c.FinishKnown(x, fence, k, make([]wire.Entry, 2), f, at()); r.err == nil {
					r.last, r.day = r.ended.LastSeq, r.ended.Day
				}
				return r
			}
		}
		// The world's one entry was not counted yet.
		first, day := uint32(1), w.execution.Day
		if err := w.s.Write(t.Context(), func(tx *Tx) error {
			_, _, err := tx.Customer(w.owner).Advance(x, fence, make([]wire.Entry, first))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		known := func(after uint32) *Known {
			return &Known{LastSeq: first + after, Day: day, Parent: parent, ParentPath: "p", Awaited: true}
		}
		got := run(
			advance(fence, known(0)), advance(fence, known(2)), advance(fence, known(900)), advance(fence-1, known(6)),
			advance(fence, nil), finish(fence-1, known(8)),
		)
		for i, want := range []uint32{2, 4, 6, 0, 8, 0} {
			switch r := got[i]; {
			case want == 0 && !errors.Is(r.err, ErrNotFound):
				t.Errorf("append %d with a stale fence: %+v", i, r)
			case want > 0 && (r.err != nil || r.last != first+want || r.day != day):
				t.Errorf("append %d: %+v, want the sequence %d", i, r, first+want)
			}
		}
		numbered := func(c CustomerTx) (r result) {
			r.last, r.day, r.err = c.AdvanceKnown(x, fence, known(8), []wire.Entry{{Seq: first + 8}, {Seq: first + 9}})
			return r
		}
		if r := run(numbered)[0]; !errors.Is(r.err, ErrNotFound) {
			t.Errorf("entries that do not follow: %+v", r)
		}
		ended := run(finish(fence, known(8)), finish(fence, known(10)), advance(fence, known(10)))
		if r := ended[0]; r.err != nil || r.last != first+10 || r.ended.Status != Completed || r.ended.Fence != fence || r.ended.ParentPath != "p" && r.ended.ParentPath != "" {
			t.Errorf("end: %+v", r)
		}
		for i, r := range ended[1:] {
			if !errors.Is(r.err, ErrNotFound) {
				t.Errorf("append %d after the end: %+v", i, r)
			}
		}
		list, err := w.s.Customer(t.Context(), w.owner).Journal(x)
		if err != nil || len(list) != int(first)+10 {
			t.Errorf("%d entries, %v, want %d", len(list), err, first+10)
		}
		row, err := w.s.Customer(t.Context(), w.owner).Execution(x)
		if err != nil || row.LastSeq != first+10 || row.Status != Completed || string(row.Output) != "out" || !row.Finished.Equal(at()) {
			t.Errorf("row: %+v, %v", row, err)
		}
	})
}
