package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func TestAcceptDispatchAppendFinish(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(10)
	x := b.accept(n, "main", `{"body":"hello"}`)
	d := next(r, &wire.Dispatch{})
	if len(d.Unit.Executions) != 1 || d.Unit.Executions[0].Execution != x {
		t.Fatalf("dispatch of %+v, want %v", d.Unit.Executions, x)
	}
	u := d.Unit.Executions[0]
	if got := b.open(n.customer, u.Day, lease.EventPlace(n.customer, u.EventID, lease.Day(u.Day)), u.Event); got != `{"body":"hello"}` {
		t.Errorf("event opens to %q", got)
	}
	if u.Fence != 1 || u.Flow != "main" || d.Instance != n.instance || d.Definition != n.digest {
		t.Errorf("dispatch = %+v", d)
	}
	if row := b.row(n, x); row.Status != store.Running || row.Runner != r.node {
		t.Errorf("row = %+v", row)
	}
	got := r.append(&wire.Append{Execution: x, Fence: u.Fence, Entries: []wire.Entry{
		{Kind: wire.EntryClock, Path: "a", Body: []byte("one")}, {Kind: wire.EntryResult, Path: "a", Epoch: 3, Hash: [16]byte{7}, Body: []byte("two")},
	}})
	if got.Stale || got.Seq != 2 {
		t.Errorf("appended = %+v", got)
	}
	if got := r.finish(u); got.Stale || got.Seq != 3 {
		t.Errorf("finish = %+v", got)
	}
	row := b.row(n, x)
	if row.Status != store.Completed || row.LastSeq != 3 || string(row.Output) != "sealed output" || row.Finished.IsZero() {
		t.Errorf("row = %+v", row)
	}
	j := b.journal(n, x)
	if len(j) != 3 || j[1].Seq != 2 || j[1].Epoch != 3 || j[1].Hash != [16]byte{7} || string(j[1].Body) != "two" {
		t.Errorf("journal = %+v", j)
	}
	if got := r.finish(u); !got.Stale {
		t.Errorf("second finish = %+v, want stale", got)
	}
}

func TestTheDispatchConvincesTheVault(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(10)
	x := b.accept(n, "main", `{}`)
	d := next(r, &wire.Dispatch{})
	runnerKey := b.opt.Sign // any key will do for the runner
	egress := id.NewNode(time.Now())
	live := func(node id.Node) (*lease.Identity, bool) {
		role := map[id.Node]wire.Role{b.opt.Node: wire.RoleServer, r.node: wire.RoleRunner, egress: wire.RoleEgress}[node]
		return &lease.Identity{Node: node, Role: role, Sign: b.opt.Sign.Public()}, role != ""
	}
	m := lease.SignRequest(runnerKey, r.node, d.Signed, mustKey(t).Public(), egress)
	got, _, err := lease.CheckRequest(m, live, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if got.Customer != n.customer || got.Instance != n.instance || got.Definition != n.digest || got.Runner != r.node ||
		len(got.Executions) != 1 || got.Executions[0] != x || len(got.Days) != 1 || got.Days[0] != lease.Day(d.Unit.Executions[0].Day) {
		t.Errorf("dispatch = %+v", got)
	}
}

func TestExpiryDay(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	row := b.row(n, b.accept(n, "short", `{}`))
	if want := row.Accepted.Add(time.Hour); !row.Expires.Equal(want) {
		t.Errorf("expires %v, want %v", row.Expires, want)
	}
	if want := lease.DayOf(row.Accepted.Add(25 * time.Hour)); lease.Day(row.Day) != want {
		t.Errorf("day %v, want %v", row.Day, want)
	}
}

func TestAcceptRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n, other := b.tenant("c1"), b.tenant("c2")
	for name, tt := range map[string]struct {
		ev   Event
		want error
	}{
		"an unknown instance":             {Event{Customer: n.customer, Instance: id.NewInstance(time.Now()), Flow: "main"}, ErrNotFound},
		"the instance of another":         {Event{Customer: n.customer, Instance: other.instance, Flow: "main"}, ErrNotFound},
		"an unknown flow":                 {Event{Customer: n.customer, Instance: n.instance, Flow: "nope"}, ErrNotFound},
		"a body over the limit":           {Event{Customer: n.customer, Instance: n.instance, Flow: "main", Body: make([]byte, MaxEvent+1)}, ErrTooLarge},
		"an instance that is not enabled": {Event{Customer: other.customer, Instance: other.instance, Flow: "main"}, ErrNotEnabled},
	} {
		if errors.Is(tt.want, ErrNotEnabled) {
			if err := b.e.SetInstanceState(context.Background(), other.customer, other.instance, store.InstanceNeedsConfig); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.e.Accept(context.Background(), &tt.ev); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}
