package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func TestListeners(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		ctx, x := context.Background(), w.execution.ID
		mine, other := w.s.Customer(ctx, w.owner), w.s.Customer(ctx, w.other)
		wait := func(path string, at time.Time) *wire.Wait {
			return &wire.Wait{Path: path, Kind: wire.WaitEvent, At: at}
		}
		one := Listener{Scope: [32]byte{1}, Shape: `["body:a"]`, Key: [32]byte{9}}
		two := Listener{Scope: [32]byte{1}, Shape: `[]`, Key: [32]byte{8}}
		third := Listener{Scope: [32]byte{2}, Shape: `["body:b"]`, Key: [32]byte{7}}
		w.write(t, func(c CustomerTx) error {
			return errors.Join(
				c.PutListener(x, wait("e1", at()), &one), c.PutListener(x, wait("e2", at()), &one),
				c.PutListener(x, wait("e3", at()), &two), c.PutListener(x, wait("e4", at()), &third),
			)
		})
		paths := func(c Customer, key byte) string {
			t.Helper()
			list, err := c.Listening([32]byte{key}, 9)
			if err != nil {
				t.Fatal(err)
			}
			out := ""
			for _, l := range list {
				if l.Execution != x || l.Customer != w.owner || l.Day != 20_000 || l.Kind != wire.WaitEvent {
					t.Errorf("%+v", l)
				}
				out += l.Path + " "
			}
			return out
		}
		shapes := func(c Customer, scope byte) []string {
			t.Helper()
			list, err := c.Shapes([32]byte{scope}, 9)
			if err != nil {
				t.Fatal(err)
			}
			return list
		}
		if diff := cmp.Diff([]string{`["body:a"]`, `[]`}, shapes(mine, 1)); diff != "" {
			t.Error(diff)
		}
		if list, err := mine.Shapes([32]byte{1}, 1); err != nil || len(list) != 1 {
			t.Errorf("one shape: %v, %v", list, err)
		}
		if got := fmt.Sprint(paths(mine, 9), "|", paths(mine, 8), "|", paths(mine, 7), "|", paths(mine, 6)); got != "e1 e2 |e3 |e4 |" {
			t.Errorf("waits %s", got)
		}
		if got := fmt.Sprint(shapes(other, 1), paths(other, 9)); got != "[]" {
			t.Errorf("another customer sees %s", got)
		}
		// The same again changes nothing, answered or not; another takes its place; one of another kind as well.
		w.write(t, func(c CustomerTx) error {
			_, err := c.CloseWaitKey(x, "e1", one.Key)
			return errors.Join(err, c.PutListener(x, wait("e1", at()), &one), c.PutListener(x, wait("e3", at().Add(time.Hour)), &third),
				c.PutWait(x, &wire.Wait{Path: "e4", Kind: wire.WaitTimer, At: at()}))
		})
		if got := fmt.Sprint(paths(mine, 9), "|", paths(mine, 8), "|", paths(mine, 7)); got != "e2 ||e3 " {
			t.Errorf("waits afterwards %s", got)
		}
		if err := w.s.Write(ctx, func(tx *Tx) error { return tx.Customer(w.other).CloseWaits(x) }); err != nil || paths(mine, 9) != "e2 " {
			t.Errorf("another customer ended it: %v", err)
		}
		w.write(t, func(c CustomerTx) error { return c.CloseWaits(x) })
		if got := paths(mine, 9) + paths(mine, 7); got != "" || len(shapes(mine, 1))+len(shapes(mine, 2)) != 0 {
			t.Errorf("ended waits are found: %s", got)
		}
	})
}

func TestUnknownAccounts(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		m, stranger := w.template(t), w.stranger(t)
		first, last := at(), at().Add(time.Minute)
		add := func(o id.Org, n uint64, at time.Time) {
			t.Helper()
			w.writeOrg(t, o, func(o OrgTx) error { return o.AddUnknown(&Unknown{Template: m.ID, Events: n, Since: at, Last: at}) })
		}
		add(w.org, 2, first)
		add(w.org, 3, last)
		add(w.org, 1, first.Add(time.Second)) // it was written late
		add(stranger, 100, last)
		got, err := w.s.Org(t.Context(), w.org).Unknowns()
		if diff := cmp.Diff([]Unknown{{Template: m.ID, Connector: "shopify", Events: 6, Since: first, Last: last}}, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
		if got, err := w.s.Org(t.Context(), stranger).Unknowns(); len(got) != 0 || err != nil {
			t.Errorf("another organization sees %v, %v", got, err)
		}
	})
}
