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
	// flowWrite is the most records of one write.
	flowWrite = 256
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
	// out are to be stored: for each flowWrite of them a write is queued that takes them.
	out   []*wire.FlowRecord
	again []*wire.FlowRecord // could not be stored together
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
		e.used.note(m)
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
	e.flows.mu.Lock()
	again := e.flows.again
	e.flows.again = nil
	e.flows.mu.Unlock()
	for _, m := range again {
		e.db.Submit(func(tx *store.Tx) error { return tx.Customer(m.Customer).PutFlowRecord(m) }, func(err error) {
			if err != nil {
				e.log.Error("flow record could not be stored", "execution", m.Execution, "error", err)
			}
		})
	}
}

// put adds a record to those that are to be stored. It reports whether a write is to be
// queued for them.
func (f *flows) put(m *wire.FlowRecord) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.out = append(f.out, m)
	return len(f.out)%flowWrite == 1
}

// take takes the records of one write.
func (f *flows) take() []*wire.FlowRecord {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(len(f.out), flowWrite)
	list := f.out[:n:n]
	if f.out = f.out[n:]; len(f.out) == 0 {
		f.out = nil
	}
	return list
}

// putFlowRecord stores a record, with what comes before its turn.
func (e *Engine) putFlowRecord(m *wire.FlowRecord) {
	if !e.flows.put(m) {
		return
	}
	var list []*wire.FlowRecord
	e.db.Submit(func(tx *store.Tx) error {
		if list == nil { // it may run twice
			list = e.flows.take()
		}
		for _, m := range list {
			if err := tx.Customer(m.Customer).PutFlowRecord(m); err != nil {
				return err
			}
		}
		return nil
	}, func(err error) { e.putFlows(list, err) })
}

// putFlows follows the commit of records. Where it failed each is stored for itself, so that
// one costs no other.
func (e *Engine) putFlows(list []*wire.FlowRecord, err error) {
	if err == nil {
		return
	}
	if len(list) == 0 { // nothing ran: the store is closed
		list = e.flows.take()
	}
	e.log.Error("flow records could not be stored", "count", len(list), "error", err)
	if len(list) > 1 {
		e.flows.mu.Lock()
		defer e.flows.mu.Unlock()
		e.flows.again = append(e.flows.again, list...)
	}
}
