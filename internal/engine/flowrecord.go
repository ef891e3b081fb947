package engine

import (
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Records of calls out come in two parts: that a call begins, and how it ended. The end says
// everything that the beginning does, so the beginning of a call that ends soon is not
// stored: it waits in memory for flowHold. What is lost with a server that dies is the
// beginnings of calls whose end does not come to it either. Up to maxFlows wait.
const (
	flowHold = time.Second
	maxFlows = 8192
)

// callKey is one request of one egress node: no node can end the record of another's.
type callKey struct {
	node    id.Node
	request id.Event
}

// flows are the beginnings of calls that have not ended.
type flows struct {
	mu    sync.Mutex
	began map[callKey]*wire.FlowRecord
	order []heldFlow // by time; those that have ended leave when the ones before them have
}

type heldFlow struct {
	key callKey
	at  time.Time
}

// begin keeps a beginning, unless too many are kept.
func (f *flows) begin(k callKey, m *wire.FlowRecord, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.order) >= maxFlows {
		return false
	}
	if f.began == nil {
		f.began = map[callKey]*wire.FlowRecord{}
	}
	f.began[k] = m
	f.order = append(f.order, heldFlow{k, now})
	return true
}

// end forgets the beginning of a call that has ended.
func (f *flows) end(k callKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.began, k)
}

// due takes the beginnings that have been kept since a time or longer.
func (f *flows) due(since time.Time) (out []*wire.FlowRecord) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for ; n < len(f.order); n++ {
		k := f.order[n].key
		m := f.began[k]
		if m != nil && f.order[n].at.After(since) {
			break
		}
		if m != nil {
			out = append(out, m)
			delete(f.began, k)
		}
	}
	if n > 0 {
		f.order = append(f.order[:0], f.order[n:]...)
	}
	return out
}

// flowRecord stores what egress did. The record is of the egress node that sends it.
func (e *Engine) flowRecord(from id.Node, m *wire.FlowRecord) {
	m.Node = from
	k := callKey{from, m.Request}
	if m.Done {
		e.flows.end(k)
	} else if e.flows.begin(k, m, time.Now()) {
		return
	}
	e.putFlowRecord(m)
}

// storeFlows stores the beginnings that have been kept since a time or longer.
func (e *Engine) storeFlows(since time.Time) {
	for _, m := range e.flows.due(since) {
		e.putFlowRecord(m)
	}
}

func (e *Engine) putFlowRecord(m *wire.FlowRecord) {
	e.db.Submit(func(tx *store.Tx) error { return tx.Customer(m.Customer).PutFlowRecord(m) }, func(err error) {
		if err != nil {
			e.log.Error("flow record could not be stored", "execution", m.Execution, "error", err)
		}
	})
}
