package engine

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// telling is the sample with a flow that is told of the faults of every one.
func telling() *flow.Integration {
	d := definition()
	for i := range d.Flows {
		d.Flows[i].OnFault = "told"
	}
	d.Flows = append(d.Flows, flow.Flow{Name: "told", OnFault: "told", Trigger: flow.Trigger{Call: &flow.Input{}}, Steps: d.Flows[0].Steps})
	return d
}

func TestOnFaultIsToldOfWhatTheEngineFaults(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenantOf("c1", telling())
	r := b.runner()
	r.want(10)
	x := b.accept(n, "main", `{"body":{"secret":"x"}}`)
	u := r.dispatch()[0]
	for u.Execution == x { // its worker ends every time
		r.send(&wire.Released{Execution: x, Fence: u.Fence, Fault: "crash"})
		b.settle()
		u = r.untilUnit(t)
	}
	row := b.row(n, x)
	if row.Status != store.Faulted || row.ErrorType != "interrupted" {
		t.Fatalf("execution = %+v, want one that faulted", row)
	}
	child := b.row(n, u.Execution)
	if child.Flow != "told" || child.Cause != store.CauseOnFault || child.Parent != x || child.Awaited || child.Day != row.Day {
		t.Errorf("told = %+v", child)
	}
	plain := b.open(n.customer, u.Day, lease.EventPlace(n.customer, u.EventID, lease.Day(u.Day)), u.Event)
	about := map[string]any{
		"type": "interrupted", "message": "the worker ended unexpectedly each time it ran this", "status": 0., "step": "", "attempts": float64(MaxInterruptions),
	}
	want := map[string]any{
		"type": "call", "source": x.String(), "depth": 1., "error": about,
		"body": map[string]any{"flow": "main", "execution": x.String(), "error": about},
		"customer": map[string]any{
			"id": n.customer.String(), "external_id": "c1", "name": "", "timezone": "UTC", "locale": "en", "attributes": map[string]any{},
		},
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(plain), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	// What is told of a fault starts nobody when it faults itself.
	if err := b.e.faultNow(context.Background(), ending{n.customer, u.Execution, "limit", "too much", 0}); err != nil {
		t.Fatal(err)
	}
	if list := b.unfinished(n); len(list) != 0 {
		t.Errorf("what was told has begun %v", list)
	}
}

// unfinished lists the executions of a tenant's shard that are pending or running.
func (b *bench) unfinished(n tenant) (list []id.Execution) {
	b.t.Helper()
	err := b.opt.Store.System(context.Background()).OpenExecutions(store.ShardOf(n.customer), func(x *store.Unfinished) error {
		list = append(list, x.Execution)
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return list
}

// The flow is begun with the end or not at all, and not by an end that came too late.
func TestOnFaultIsToldOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenantOf("c1", telling())
	x := b.accept(n, "main", `{}`)
	ctx := context.Background()
	e := ending{n.customer, x, "timeout", "the execution has expired", 0}
	row, now := b.row(n, x), time.Now()
	f, first, err := b.e.faultFinish(ctx, row, &e, now)
	if err != nil || first == nil {
		t.Fatalf("finish = %v, %v", first, err)
	}
	_, second, err := b.e.faultFinish(ctx, row, &e, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.e.endNow(ctx, n.customer, x, f, first, now); err != nil {
		t.Fatal(err)
	}
	if err := b.e.endNow(ctx, n.customer, x, f, second, now); err == nil {
		t.Error("it ends twice")
	}
	if list := b.unfinished(n); len(list) != 1 || list[0] != first.row.ID {
		t.Errorf("told = %v, want %v", list, first.row.ID)
	}
}
