package store

import (
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// An instance is removed when it is being removed and nothing of it is open; nobody else's.
func TestRemovalOnBothEngines(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		rows := w.s.Customer(t.Context(), w.owner)
		remove := func(c func(*Tx) CustomerTx) error {
			return w.s.Write(t.Context(), func(tx *Tx) error { return c(tx).RemoveInstance(w.instance, at()) })
		}
		owner := func(tx *Tx) CustomerTx { return tx.Customer(w.owner) }
		other := func(tx *Tx) CustomerTx { return tx.Customer(w.other) }
		open, err := rows.OpenOf(w.instance, 10)
		if err != nil || len(open) == 0 {
			t.Fatalf("open = %+v, %v", open, err)
		}
		judge := func(c func(*Tx) CustomerTx, from InstanceState) (changed bool) {
			err := w.s.Write(t.Context(), func(tx *Tx) (err error) {
				changed, err = c(tx).JudgeInstance(w.instance, from, InstanceRemoving, at())
				return err
			})
			if err != nil {
				t.Error(err)
			}
			return changed
		}
		if judge(other, InstanceEnabled) || judge(owner, InstancePaused) || !judge(owner, InstanceEnabled) {
			t.Error("the state was changed by another, or from another one, or not at all")
		}
		if list, err := w.s.System(t.Context()).Removals(); err != nil || len(list) != 1 || list[0].Instance != w.instance {
			t.Errorf("removals = %+v, %v", list, err)
		}
		if list, err := w.s.System(t.Context()).InstancesIn(InstanceRemoving); err != nil || len(list) != 1 {
			t.Errorf("removing = %+v, %v", list, err)
		}
		if err := remove(owner); !errors.Is(err, ErrNotFound) {
			t.Errorf("with an open execution: %v", err)
		}
		for _, x := range open {
			err := w.s.Write(t.Context(), func(tx *Tx) error {
				_, err := owner(tx).End(x.ID, &wire.Finish{Status: wire.StatusCancelled}, at())
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		kind := w.execution.Trigger
		if got, err := rows.Started(w.instance, "main", kind, w.execution.Accepted.Add(-time.Second)); err != nil || !got {
			t.Errorf("started = %v, %v", got, err)
		}
		if got, err := rows.Started(w.instance, "main", "remove", w.execution.Accepted); err != nil || got {
			t.Errorf("started by another trigger = %v, %v", got, err)
		}
		if err := remove(other); !errors.Is(err, ErrNotFound) {
			t.Errorf("by another: %v", err)
		}
		if err := remove(owner); err != nil {
			t.Fatal(err)
		}
		if _, err := rows.Instance(w.instance); !errors.Is(err, ErrNotFound) {
			t.Errorf("after it: %v", err)
		}
		if err := remove(owner); !errors.Is(err, ErrNotFound) {
			t.Errorf("a second time: %v", err)
		}
	})
}
