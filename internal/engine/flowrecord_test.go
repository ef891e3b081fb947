package engine

import (
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
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
