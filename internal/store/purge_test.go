package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// What is sealed of an execution goes after its day, and only through its customer's handle.
func TestEmptyAndForget(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		ctx, x := context.Background(), w.execution
		row := func() *Row {
			t.Helper()
			list, err := w.s.System(ctx).Rows(id.Execution{}, 10)
			if err != nil || len(list) != 1 {
				t.Fatalf("%d rows, %v", len(list), err)
			}
			return &list[0]
		}
		empty := func(c id.Customer, today uint32) (done bool, err error) {
			r := row()
			err = w.s.Write(ctx, func(tx *Tx) (err error) {
				done, err = tx.Customer(c).Empty(r, today, 10)
				return err
			})
			return done, err
		}
		if _, err := empty(w.owner, x.Day+1); !errors.Is(err, ErrNotFound) {
			t.Errorf("one that has not ended: %v", err)
		}
		w.write(t, func(c CustomerTx) error {
			_, err := c.End(x.ID, &wire.Finish{Status: wire.StatusCompleted, Output: []byte("sealed")}, at())
			return err
		})
		if _, err := empty(w.owner, x.Day); !errors.Is(err, ErrNotFound) {
			t.Errorf("on its day: %v", err)
		}
		if _, err := empty(w.other, x.Day+1); err != nil {
			t.Error(err)
		}
		c := w.s.Customer(ctx, w.owner)
		if l, err := c.Journal(x.ID); len(l) == 0 || err != nil || row().Emptied {
			t.Errorf("another customer emptied it: %d entries, %v", len(l), err)
		}
		if done, err := empty(w.owner, x.Day+1); !done || err != nil || !row().Emptied {
			t.Errorf("emptied: %v, %v", done, err)
		}
		journal, err1 := c.Journal(x.ID)
		wakes, err2 := c.Wakes(x.ID)
		labels, err3 := c.Labelled([32]byte{2}, 9)
		_, err4 := c.Event(x.Event)
		if len(journal)+len(wakes)+len(labels) > 0 || errors.Join(err1, err2, err3) != nil || !errors.Is(err4, ErrNotFound) {
			t.Errorf("left: %d, %d, %d, %v", len(journal), len(wakes), len(labels), err4)
		}
		forget := func(c id.Customer, before time.Time) bool {
			t.Helper()
			if err := w.s.Write(ctx, func(tx *Tx) error { return tx.Customer(c).Forget(x.ID, before) }); err != nil {
				t.Fatal(err)
			}
			_, err := w.s.Customer(ctx, w.owner).Execution(x.ID)
			return errors.Is(err, ErrNotFound)
		}
		if forget(w.owner, at()) || forget(w.other, at().Add(time.Hour)) || !forget(w.owner, at().Add(time.Hour)) {
			t.Error("it was forgotten too early, by another, or not at all")
		}
	})
}
