package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHooks(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		ctx := context.Background()
		first, second := [32]byte{1}, [32]byte{2}
		later := at().Add(time.Hour)
		w.write(t, func(c CustomerTx) error {
			return errors.Join(
				c.PutHook(first, &Hook{Instance: w.instance, Flow: "a", Generation: 1}, at()),
				c.PutHook(second, &Hook{Instance: w.instance, Flow: "a", Generation: 2}, at()),
				c.CloseHooks(w.instance, "a", 1, later),
				c.CloseHooks(w.instance, "a", 1, later.Add(time.Hour)), // it ends before
			)
		})
		got, err := w.s.System(ctx).HookByHash(first)
		if err != nil {
			t.Fatal(err)
		}
		want := &Hook{Customer: w.owner, Instance: w.instance, Flow: "a", Generation: 1, Created: at(), Closes: later}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		list, err := w.s.Customer(ctx, w.owner).Hooks(w.instance)
		if err != nil || len(list) != 2 || list[0].Generation != 2 || !list[0].Closes.IsZero() {
			t.Errorf("hooks %+v, %v", list, err)
		}
		if list, err := w.s.Customer(ctx, w.other).Hooks(w.instance); err != nil || len(list) != 0 {
			t.Errorf("another customer sees %+v, %v", list, err)
		}
		if _, err := w.s.System(ctx).HookByHash([32]byte{3}); !errors.Is(err, ErrNotFound) {
			t.Errorf("an unknown hash: %v", err)
		}
		err = w.s.Write(ctx, func(tx *Tx) error { return tx.Customer(w.other).CloseHooks(w.instance, "a", 2, at()) })
		if got, err2 := w.s.System(ctx).HookByHash(second); err != nil || err2 != nil || !got.Closes.IsZero() {
			t.Errorf("another customer closed it: %+v, %v, %v", got, err, err2)
		}
	})
}

func TestProfile(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		got, err := w.s.Customer(context.Background(), w.owner).Profile()
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != w.owner || got.ExternalID != "0" || got.Timezone != "UTC" || got.Locale != "en" || string(got.Attributes) != "{}" || got.Weight != 1 {
			t.Errorf("profile %+v", got)
		}
	})
}
