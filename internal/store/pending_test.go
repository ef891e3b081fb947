package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Only what has not begun and was not called by another execution counts.
func TestBacklog(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		events, bytes, err1 := w.s.Customer(t.Context(), w.owner).Backlog()
		list, err2 := w.s.System(t.Context()).Backlogs()
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		var want []Backlog
		if events > 0 {
			want = []Backlog{{ShardOf(w.owner), events, bytes}}
		}
		if diff := cmp.Diff(want, list); diff != "" {
			t.Errorf("all shards:\n%s", diff)
		}
		x := *w.execution
		x.ID[15]++
		x.Status, x.Size, x.Fence, x.Started = Pending, 77, 0, time.Time{}
		w.write(t, func(c CustomerTx) error { return c.InsertExecution(&x) })
		more, moreBytes, err1 := w.s.Customer(t.Context(), w.owner).Backlog()
		others, _, err2 := w.s.Customer(t.Context(), w.other).Backlog()
		if err := errors.Join(err1, err2); err != nil || more != events+1 || moreBytes != bytes+77 || others != 0 {
			t.Errorf("after one more: %d events of %d bytes after %d of %d, another customer has %d, %v", more, moreBytes, events, bytes, others, err)
		}
	})
}

func TestLastEnds(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o Options) {
		w := newWorld(t, o)
		for i, status := range []Status{Faulted, Completed, Cancelled, Faulted, Pending} {
			x := *w.execution
			x.ID[0] = 0xff // newer than all
			x.ID[15] = byte(i)
			x.Status, x.Started, x.Fence = status, time.Time{}, 0
			w.write(t, func(c CustomerTx) error { return c.InsertExecution(&x) })
		}
		got, err := w.s.Customer(t.Context(), w.owner).LastEnds(w.instance, 2)
		if diff := cmp.Diff([]Status{Faulted, Completed}, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
		if got, err := w.s.Customer(t.Context(), w.other).LastEnds(w.instance, 2); len(got) > 0 || err != nil {
			t.Errorf("of another customer: %v, %v", got, err)
		}
	})
}
