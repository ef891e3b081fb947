package store

import (
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// A faulted execution is pending again once, with a mark in its journal; nobody else's.
func TestRetryOnBothEngines(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		x := w.execution.ID
		expires := at().Add(time.Hour)
		var got *Retried
		retry := func(c func(*Tx) CustomerTx) error {
			return w.s.Write(t.Context(), func(tx *Tx) (err error) {
				got, err = c(tx).Retry(x, "bad", 7, expires, at())
				return err
			})
		}
		owner := func(tx *Tx) CustomerTx { return tx.Customer(w.owner) }
		if err := retry(owner); !errors.Is(err, ErrNotFound) {
			t.Errorf("before it faulted: %v", err)
		}
		err := w.s.Write(t.Context(), func(tx *Tx) error {
			if _, _, err := owner(tx).Advance(x, w.execution.Fence, make([]wire.Entry, 5)); err != nil {
				return err
			}
			_, err := owner(tx).End(x, &wire.Finish{Status: wire.StatusFaulted, ErrorType: "code", ErrorStep: "bad", Output: []byte("o")}, at())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		before, err := w.s.Customer(t.Context(), w.owner).EventSize(x)
		if err != nil {
			t.Fatal(err)
		}
		if err := retry(func(tx *Tx) CustomerTx { return tx.Customer(w.other) }); !errors.Is(err, ErrNotFound) {
			t.Errorf("by another: %v", err)
		}
		if err := retry(owner); err != nil {
			t.Fatal(err)
		}
		if err := retry(owner); !errors.Is(err, ErrNotFound) {
			t.Errorf("a second time: %v", err)
		}
		row, err := w.s.Customer(t.Context(), w.owner).Execution(x)
		if err != nil {
			t.Fatal(err)
		}
		if row.Status != Pending || row.Retries != 1 || row.Fence != w.execution.Fence+2 || row.ErrorType+row.ErrorStep != "" || row.Output != nil || !row.Expires.Equal(expires) || !row.Finished.IsZero() {
			t.Errorf("row = %+v, retried %+v", row, got)
		}
		list, err := w.s.Customer(t.Context(), w.owner).Journal(x)
		if err != nil || len(list) == 0 || list[len(list)-1].Kind != wire.EntryRetry || list[len(list)-1].Path != "bad" {
			t.Errorf("journal = %+v, %v", list, err)
		}
		if after, err := w.s.Customer(t.Context(), w.owner).EventSize(x); err != nil || after != before {
			t.Errorf("the event has %d bytes after it, %d before, %v", after, before, err)
		}
		if children, err := w.s.Customer(t.Context(), w.owner).UnheardChildren(x); err != nil || len(children) > 0 {
			t.Errorf("children = %+v, %v", children, err)
		}
	})
}
