package engine

import (
	"context"
	"crypto/sha256"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// gates enforce the concurrency of flows. A flow with concurrency has a gate for each of
// its order keys (for all of its executions when it writes none); an execution comes into
// the queue only with a place in its gate. The others stand before the gate in the order
// of their ids, which is that of acceptance. It is guarded by the engine's mutex.
//
// With order fifo a gate has one place, which an execution keeps until it ends, also while
// it waits. Otherwise one that waits gives up its place and stands before the gate again
// when it wakes.
type gates struct {
	byKey   map[[32]byte]*gate
	waiting map[id.Execution]*gate // of executions that wait
	parked  int                    // jobs before all gates
	last    id.Execution           // the last that was ordered
}

// gate bounds the executions of one order key.
type gate struct {
	shard   uint8 // of its customer
	key     [32]byte
	limit   int
	fifo    bool
	places  map[id.Execution]struct{} // who has one
	before  []*job                    // by id
	waiting int                       // of gates.waiting
}

func newGates() gates {
	return gates{byKey: map[[32]byte]*gate{}, waiting: map[id.Execution]*gate{}}
}

// join finds or makes the gate of a job whose flow has concurrency. The newest definition
// says how wide it is.
func (g *gates) join(j *job, key [32]byte, c *flow.Concurrency) {
	x := g.byKey[key]
	if x == nil {
		x = &gate{shard: store.ShardOf(j.customer), key: key, places: map[id.Execution]struct{}{}}
		g.byKey[key] = x
	}
	if x.fifo = c.Order == flow.OrderFIFO; x.fifo {
		x.limit = 1
	} else {
		x.limit = max(c.Limit, 1)
	}
	j.gate = x
}

// enters gives a job a place if one is free and nobody stands before it, or if it has one.
func (g *gates) enters(j *job) bool {
	x := j.gate
	if x == nil {
		return true
	}
	if _, ok := x.places[j.execution]; ok {
		return true
	}
	if len(x.places) >= x.limit || len(x.before) > 0 {
		return false
	}
	x.places[j.execution] = struct{}{}
	return true
}

// park puts a job before its gate, at its turn.
func (g *gates) park(j *job) {
	x := j.gate
	i, found := slices.BinarySearchFunc(x.before, j, func(a, b *job) int { return a.execution.Compare(b.execution) })
	if !found {
		x.before = slices.Insert(x.before, i, j)
		g.parked++
	}
}

// leave takes a job out of its gate and returns those that may come into the queue.
func (g *gates) leave(j *job) []*job {
	x := j.gate
	if x == nil {
		return nil
	}
	j.gate = nil
	i, found := slices.BinarySearchFunc(x.before, j, func(a, b *job) int { return a.execution.Compare(b.execution) })
	if found {
		x.before = slices.Delete(x.before, i, i+1)
		g.parked--
	}
	delete(x.places, j.execution)
	return g.open(x)
}

// suspend notes that an execution waits. In a gate with order fifo it keeps its place.
func (g *gates) suspend(j *job) []*job {
	x := j.gate
	if x == nil {
		return nil
	}
	g.waits(x, j.execution)
	j.gate = nil
	if !x.fifo {
		delete(x.places, j.execution)
	}
	return g.open(x)
}

func (g *gates) waits(x *gate, e id.Execution) {
	if g.waiting[e] == nil {
		g.waiting[e] = x
		x.waiting++
	}
}

// resume joins a job that has woken to the gate that it waited in.
func (g *gates) resume(j *job) {
	if x := g.waiting[j.execution]; x != nil {
		delete(g.waiting, j.execution)
		x.waiting--
		j.gate = x
	}
}

// ended takes an execution that waited out of its gate.
func (g *gates) ended(e id.Execution) []*job {
	x := g.waiting[e]
	if x == nil {
		return nil
	}
	delete(g.waiting, e)
	x.waiting--
	delete(x.places, e)
	return g.open(x)
}

// drop forgets the gates of a shard, and who stands before them.
func (g *gates) drop(shard uint8) {
	for key, x := range g.byKey {
		if x.shard == shard {
			g.parked -= len(x.before)
			delete(g.byKey, key)
		}
	}
	for e, x := range g.waiting {
		if x.shard == shard {
			delete(g.waiting, e)
		}
	}
}

// open gives free places to those before the gate, and forgets a gate that nobody needs.
func (g *gates) open(x *gate) []*job {
	var in []*job
	for len(x.before) > 0 && len(x.places) < x.limit {
		j := x.before[0]
		x.before[0] = nil
		x.before = x.before[1:]
		g.parked--
		x.places[j.execution] = struct{}{}
		in = append(in, j)
	}
	if len(x.places) == 0 && x.waiting == 0 {
		delete(g.byKey, x.key)
	}
	return in
}

// ordered makes the id of an execution with a gate later than that of the one before it:
// the order of ids is that of acceptance, also within a millisecond.
func (g *gates) ordered(x id.Execution) id.Execution {
	if x.Compare(g.last) <= 0 {
		x = g.last
		for i := len(x) - 1; i > 8; i-- { // the last 56 bits are random
			if x[i]++; x[i] != 0 {
				break
			}
		}
	}
	g.last = x
	return x
}

// admitted puts jobs that were given a place into the queue. Callers hold the mutex.
func (e *Engine) admitted(list []*job) {
	for _, j := range list {
		e.queue.push(j, back)
	}
	if len(list) > 0 {
		e.wakeLoop()
	}
}

// orderKey is the order key of an execution of a flow: that of its key, or where the flow
// writes none the flow's own, which hides nothing.
func (e *Engine) orderKey(ctx context.Context, x *store.Execution, f *flow.Flow, key string) ([32]byte, error) {
	switch {
	case f.Concurrency == nil:
		return [32]byte{}, nil
	case f.Concurrency.Key.IsZero():
		return flowKey(x), nil
	}
	return e.keys.orderIndex(ctx, x.Customer, x.Instance, x.Flow, key)
}

// flowKey is the order key of all executions of a flow, and of those that it takes turns with.
func flowKey(x *store.Execution) [32]byte {
	return sha256.Sum256(seal.Tuple(nil, []byte("order/1"), x.Customer[:], x.Instance[:], []byte(flow.Turn(x.Flow))))
}
