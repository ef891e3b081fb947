package role

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// nodesOfATest are egress nodes that answer as a test says.
type nodesOfATest struct {
	mu    sync.Mutex
	list  []*lease.Identity
	hangs map[id.Node]bool // does not answer at all
	busy  map[id.Node]int  // answers so many times that it is busy
	asked map[id.Node]int
	told  map[id.Node]int
}

func newNodesOfATest(n int) (*nodesOfATest, *replacer) {
	x := &nodesOfATest{hangs: map[id.Node]bool{}, busy: map[id.Node]int{}, asked: map[id.Node]int{}, told: map[id.Node]int{}}
	for range n {
		x.list = append(x.list, &lease.Identity{Node: id.NewNode(time.Now())})
	}
	return x, &replacer{nodes: x.nodes, ask: x.ask, log: slog.New(slog.DiscardHandler)}
}

func (x *nodesOfATest) nodes() []*lease.Identity {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.list
}

func (x *nodesOfATest) ask(ctx context.Context, to *lease.Identity, _ lease.Order) error {
	x.mu.Lock()
	x.asked[to.Node]++
	hangs, busy := x.hangs[to.Node], x.busy[to.Node] > 0
	x.busy[to.Node]--
	if !hangs && !busy {
		x.told[to.Node]++
	}
	x.mu.Unlock()
	switch {
	case hangs:
		<-ctx.Done()
		return ctx.Err()
	case busy:
		return errors.New("busy")
	}
	return nil
}

// tell tells the nodes of a replaced credential, and returns how long that took. Who asked may have gone.
func (r *replacer) tellOne() time.Duration {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	began := time.Now()
	r.tell(ctx, lease.Order{Op: lease.OrderReplaced, Connection: id.NewConnection(began), Version: 2})
	return time.Since(began)
}

func TestEveryEgressNodeIsToldBeforeAReplacementIsDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x, r := newNodesOfATest(3)
		x.busy[x.list[1].Node] = 2
		if took := r.tellOne(); took != 3*replacedPause {
			t.Errorf("it took %v, want the two rests of the node that was busy", took)
		}
		for n, i := range x.list {
			if x.told[i.Node] != 1 {
				t.Errorf("node %d was told %d times", n, x.told[i.Node])
			}
		}
	})
}

// A node that hangs holds up one replacement for a few seconds, and the next ones not at all; it is told of all in the end.
func TestASilentEgressNodeHoldsUpLittle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x, r := newNodesOfATest(2)
		silent, other := x.list[0].Node, x.list[1].Node
		x.hangs[silent] = true
		if took := r.tellOne(); took > replacedTime || took == 0 {
			t.Errorf("the first took %v", took)
		}
		for range 10 {
			if took := r.tellOne(); took != 0 {
				t.Errorf("another took %v", took)
			}
		}
		x.mu.Lock()
		x.hangs[silent] = false
		x.mu.Unlock()
		<-time.After(replacedAsk + replacedMaxPause)
		synctest.Wait()
		if x.told[silent] != 11 || x.told[other] != 11 || r.isLate(silent) {
			t.Errorf("told %d and %d times of 11, late %v", x.told[silent], x.told[other], r.late)
		}
		if took := r.tellOne(); took != 0 || x.told[silent] != 12 {
			t.Errorf("afterwards it took %v, told %d times", took, x.told[silent])
		}
	})
}

// A node that has left holds no leases, and one that never answers is given up when they have ended.
func TestEgressNodesThatAreGoneAreNotAwaited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x, r := newNodesOfATest(2)
		gone, silent := x.list[0].Node, x.list[1].Node
		x.hangs[gone], x.hangs[silent] = true, true
		go func() {
			<-time.After(time.Second)
			x.mu.Lock()
			defer x.mu.Unlock()
			x.list = x.list[1:]
		}()
		r.tellOne()
		if asked := x.asked[gone]; asked != 1 {
			t.Errorf("a node that has left was asked %d times", asked)
		}
		<-time.After(lease.MaxLife)
		synctest.Wait()
		asked := x.asked[silent]
		<-time.After(lease.MaxLife)
		if x.asked[silent] != asked || len(r.late) != 0 {
			t.Error("a node is asked for ever")
		}
	})
}
