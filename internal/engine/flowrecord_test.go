package engine

import (
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// TestFlowsWait keeps beginnings until their end or their time comes, and no more than fit.
func TestFlowsWait(t *testing.T) {
	t.Parallel()
	now := time.Now()
	node, other := id.NewNode(now), id.NewNode(now)
	var f flows
	keys := make([]callKey, 4)
	for i := range keys {
		keys[i] = callKey{node, id.NewEvent(now)}
		if !f.begin(keys[i], &wire.FlowRecord{Request: keys[i].request}, now.Add(time.Duration(i)*time.Second)) {
			t.Fatal("there is no room")
		}
	}
	f.end(keys[0])
	f.end(callKey{other, keys[1].request}) // it is not another node's to end
	if got := f.due(now.Add(-time.Second)); len(got) != 0 {
		t.Errorf("%d are due too early", len(got))
	}
	if got := f.due(now.Add(time.Second)); len(got) != 1 || got[0].Request != keys[1].request {
		t.Errorf("due are %v", got)
	}
	if got := f.due(now.Add(time.Hour)); len(got) != 2 || len(f.began) != 0 || len(f.order) != 0 {
		t.Errorf("due are %v, %d are left", got, len(f.began))
	}
	for range maxFlows {
		f.begin(callKey{node, id.NewEvent(now)}, &wire.FlowRecord{}, now)
	}
	if f.begin(keys[0], &wire.FlowRecord{}, now) {
		t.Error("more than fit were kept")
	}
}

// Every record that is to be stored is taken by a write that was queued for it.
func TestFlowsAreTakenInWrites(t *testing.T) {
	t.Parallel()
	var f flows
	count, writes := 3*flowWrite+2, 0
	for range count {
		if f.put(&wire.FlowRecord{}) {
			writes++
		}
	}
	taken := 0
	for range writes {
		n := len(f.take())
		if taken += n; n == 0 || n > flowWrite {
			t.Errorf("a write takes %d", n)
		}
	}
	if taken != count {
		t.Errorf("%d of %d were taken by %d writes", taken, count, writes)
	}
	if !f.put(&wire.FlowRecord{}) {
		t.Error("no write is queued for the next one")
	}
}

// A record that cannot be stored costs none of those beside it.
func TestABadFlowRecordCostsNoOther(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	bad := &wire.FlowRecord{Customer: n.customer, Request: id.NewEvent(time.Now()), Method: "GET", Time: time.Now(), Host: "\xff\x00", Done: true}
	good := *bad
	good.Host, good.Request = "shop.example", id.NewEvent(time.Now())
	b.e.putFlows([]*wire.FlowRecord{&good, bad}, store.ErrClosed) // as if they had failed together
	b.e.storeFlows(time.Now())
	b.settle()
	list, err := b.e.db.Customer(t.Context(), n.customer).FlowRecords(time.Now().Add(-time.Hour), time.Now().Add(time.Hour), 9)
	if err != nil || len(list) == 0 || list[0].Host != "shop.example" && list[len(list)-1].Host != "shop.example" {
		t.Errorf("records are %+v, %v", list, err)
	}
}

// A connection is used by executions, and not by renewing its tokens.
func TestRenewingIsNoUse(t *testing.T) {
	t.Parallel()
	now := time.Now()
	renewed, connection := id.NewConnection(now), id.NewConnection(now)
	var u used
	u.note(&wire.FlowRecord{Connection: renewed, Time: now, Method: "POST", Done: true})
	u.note(&wire.FlowRecord{Connection: connection, Execution: id.NewExecution(now), Time: now, Method: "GET", Done: true})
	if last := u.due(now); len(last) != 1 || !last[connection].Equal(now) {
		t.Errorf("used are %v, want %s alone", last, connection)
	}
}
