package engine

import (
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func TestStatsSayWhatHappened(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.Pending = Pending{Events: 2} })
	n := b.tenant("c1")
	r := b.runner()
	r.want(1)
	b.accept(n, "main", `{}`)
	r.faulted(r.dispatch()[0])
	b.accept(n, "main", `{}`)
	r.finish(r.untilUnit(t))
	b.accept(n, "main", `{}`)
	u := r.untilUnit(t)
	r.append(&wire.Append{Execution: u.Execution, Fence: u.Fence, Finish: &wire.Finish{Status: wire.StatusWaiting}})
	r.want(1)
	b.accept(n, "main", `{}`)
	r.untilUnit(t)
	for range 2 {
		b.accept(n, "main", `{}`)
	}
	if b.offer(n, []byte(`{}`)) == nil {
		t.Fatal("nothing was refused")
	}
	b.settle()
	s, err := b.e.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Pending != 2 || s.Running != 1 || s.Waiting != 1 || s.Runners != 1 || s.Accepted != 6 || s.Refused != 1 || s.Completed != 1 || s.Faulted != 1 ||
		s.Faults["upstream"] != 1 || s.Commits != 3 || s.PendingBytes == 0 || s.AcceptTime.Count != 6 || s.BeginTime.Count != 4 || s.LifeTime.Count != 2 {
		t.Errorf("stats = %+v", s)
	}
	if len(s.LifeTime.Counts) != len(s.LifeTime.Bounds)+1 {
		t.Errorf("histogram = %+v", s.LifeTime)
	}
}
