package engine

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// acceptMany accepts events from many clients at once.
func (b *bench) acceptMany(n tenant, count int) {
	b.t.Helper()
	var all sync.WaitGroup
	for c := range 64 {
		all.Go(func() {
			for i := c; i < count; i += 64 {
				ev := &Event{Customer: n.customer, Instance: n.instance, Flow: "main", Body: []byte(`{}`)}
				if _, err := b.e.Accept(context.Background(), ev); err != nil {
					b.t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func TestUnitsAreOfOneInstanceAndBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	tenants := []tenant{b.tenant("c1"), b.tenant("c2"), b.tenant("c3")}
	const each = 100
	for _, n := range tenants {
		b.acceptMany(n, each)
	}
	r := b.runner()
	r.want(10_000)
	seen := map[id.Execution]bool{}
	units := 0
	for len(seen) < each*len(tenants) {
		d := next(r, &wire.Dispatch{})
		units++
		if got := len(d.Unit.Executions); got == 0 || got > MaxUnit {
			t.Errorf("a unit of %d executions", got)
		}
		for _, u := range d.Unit.Executions {
			if seen[u.Execution] {
				t.Errorf("%v was given out twice", u.Execution)
			}
			seen[u.Execution] = true
			if row, err := b.opt.Store.Customer(context.Background(), d.Customer).Execution(u.Execution); err != nil || row.Instance != d.Instance {
				t.Errorf("%v is not of the unit's customer and instance: %v", u.Execution, err)
			}
		}
	}
	if units > len(tenants)*(each/quantum+1) {
		t.Errorf("%d units for %d executions", units, len(seen))
	}
	if !r.silent() {
		t.Error("more was given out than accepted")
	}
}

func TestARunnerGetsNoMoreThanItWants(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	b.acceptMany(n, 50)
	r := b.runner()
	var held []wire.UnitExecution
	for _, free := range []int{1, 3, 16} {
		var names []wire.Held
		for _, u := range held {
			names = append(names, wire.Held{Execution: u.Execution, Fence: u.Fence})
		}
		r.want(free, names...)
		got := 0
		for got < free {
			units := r.dispatch()
			got += len(units)
			held = append(held, units...)
		}
		if got != free || !r.silent() {
			t.Errorf("%d were given out, %d were wanted", got, free)
		}
	}
	r.send(&wire.Want{Free: 10, Draining: true})
	r.finish(held[0])
	b.settle()
	if !r.silent() {
		t.Error("a draining runner got more")
	}
}

// A customer with 10,000 events in the queue does not delay the first event of another:
// it is among the next that are given out.
func TestFairness(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	busy, quiet := b.tenant("busy"), b.tenant("quiet")
	b.acceptMany(busy, 10_000)
	r := b.runner()
	const slots = 32
	r.want(slots)
	held := r.dispatch()
	for len(held) < slots {
		held = append(held, r.dispatch()...)
	}
	x := b.accept(quiet, "main", `{}`)
	before := 0
	for {
		u := held[0]
		held = held[1:]
		r.finish1(u)
		for len(held) < slots {
			m := r.frame()
			if d, ok := m.(*wire.Dispatch); ok {
				for _, u := range d.Unit.Executions {
					if u.Execution == x {
						if before > quantum {
							t.Errorf("%d executions of the busy customer came first", before)
						}
						return
					}
					before++
					held = append(held, u)
				}
			}
			if before > 10*quantum {
				t.Fatalf("%d executions of the busy customer came first", before)
			}
		}
	}
}

// finish1 finishes an execution without waiting for the answer.
func (r *fakeRunner) finish1(u wire.UnitExecution) {
	r.send(&wire.Append{
		Execution: u.Execution, Fence: u.Fence, Finish: &wire.Finish{Status: wire.StatusCompleted, Output: []byte("sealed output")},
	})
}

// frame waits for the next frame and reads a Dispatch or an Appended.
func (r *fakeRunner) frame() wire.Typed {
	r.b.t.Helper()
	late := time.NewTimer(r.patience)
	defer late.Stop()
	select {
	case f := <-r.frames:
		var m wire.Typed = &wire.Appended{}
		if f.Type == wire.TypeDispatch {
			m = &wire.Dispatch{}
		}
		if err := f.Parse(m); err != nil {
			r.b.t.Fatal(err)
		}
		return m
	case <-late.C:
		r.b.t.Fatal("no frame came")
	}
	return nil
}

func newTestJob(c id.Customer, i id.Instance) *job {
	return &job{customer: c, instance: i, execution: id.NewExecution(time.Now())}
}

// A worker may have ended an execution before its server notes that the unit is sent. Nothing is
// taken back from it then.
func TestAWorkerThatIsFasterThanItsServerLosesNothing(t *testing.T) {
	t.Parallel()
	for _, status := range []wire.Status{wire.StatusCompleted, wire.StatusFaulted, wire.StatusWaiting} {
		b := newBench(t)
		n := b.tenant("c1")
		r := b.runner()
		r.want(1)
		b.link.lose(func(m wire.Typed) bool {
			d, ok := m.(*wire.Dispatch)
			if !ok {
				return false
			}
			u := d.Unit.Executions[0]
			r.send(&wire.Append{Execution: u.Execution, Fence: u.Fence, Finish: &wire.Finish{Status: status}})
			if err := b.opt.Store.Write(context.Background(), func(*store.Tx) error { return nil }); err != nil {
				t.Error(err)
			}
			return false
		})
		for range 3 {
			b.accept(n, "main", `{}`)
			r.untilUnits(t) // and answers, but no cancel
		}
	}
}

func TestTurnsFollowWeights(t *testing.T) {
	t.Parallel()
	q := newFairQueue(1000)
	heavy, light := id.NewCustomer(time.Now()), id.NewCustomer(time.Now())
	q.weights = map[id.Customer]uint32{heavy: 3}
	instances := map[id.Customer][]id.Instance{}
	for _, c := range []id.Customer{heavy, light} {
		for range 2 {
			i := id.NewInstance(time.Now())
			instances[c] = append(instances[c], i)
			for range 500 {
				q.push(newTestJob(c, i), back)
			}
		}
	}
	got := map[id.Customer]int{}
	perInstance := map[id.Instance]int{}
	for range 8 * 4 {
		batch := q.next(MaxUnit, anywhere)
		if len(batch) != quantum {
			t.Fatalf("a batch of %d", len(batch))
		}
		got[batch[0].customer] += len(batch)
		perInstance[batch[0].instance] += len(batch)
	}
	if got[heavy] != 3*got[light] {
		t.Errorf("heavy got %d, light %d, want three times as much", got[heavy], got[light])
	}
	for _, list := range instances {
		if perInstance[list[0]] != perInstance[list[1]] {
			t.Errorf("two instances of one customer got %d and %d", perInstance[list[0]], perInstance[list[1]])
		}
	}
}

func TestCapsAndHolds(t *testing.T) {
	t.Parallel()
	q := newFairQueue(20)
	c, other := id.NewCustomer(time.Now()), id.NewCustomer(time.Now())
	i, k := id.NewInstance(time.Now()), id.NewInstance(time.Now())
	for range 50 {
		q.push(newTestJob(c, i), back)
		q.push(newTestJob(other, k), back)
	}
	q.hold(k, true)
	var order []string
	for {
		batch := q.next(100, anywhere)
		if len(batch) == 0 {
			break
		}
		for _, j := range batch {
			q.ran(j, 1)
		}
		order = append(order, fmt.Sprint(batch[0].customer == c, len(batch)))
	}
	if got := fmt.Sprint(order); got != "[true 16 true 4]" {
		t.Errorf("given out: %s", got)
	}
	if q.passes(newTestJob(c, i)) || !q.passes(newTestJob(id.NewCustomer(time.Now()), id.NewInstance(time.Now()))) {
		t.Error("a capped customer passes, or another does not")
	}
	q.hold(k, false)
	if batch := q.next(100, anywhere); len(batch) != quantum || batch[0].customer != other {
		t.Errorf("after the hold %d were given out", len(batch))
	}
	q.ran(newTestJob(c, i), -1)
	if batch := q.next(100, anywhere); len(batch) == 0 {
		t.Error("a customer under its cap gets nothing")
	}
}

func TestPausedInstancesAreHeldAlsoAfterARestart(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n, other := b.tenant("c1"), b.tenant("c2")
	ctx := context.Background()
	if err := b.e.SetInstanceState(ctx, n.customer, n.instance, store.InstancePaused); err != nil {
		t.Fatal(err)
	}
	held := b.accept(n, "main", `{}`)
	b.restart()
	r := b.runner()
	r.want(5)
	x := b.accept(other, "main", `{}`)
	if u := r.dispatch()[0]; u.Execution != x {
		t.Errorf("%v was given out, want %v", u.Execution, x)
	}
	if err := b.e.SetInstanceState(ctx, n.customer, n.instance, store.InstanceEnabled); err != nil {
		t.Fatal(err)
	}
	if u := r.dispatch()[0]; u.Execution != held {
		t.Errorf("%v was given out, want %v", u.Execution, held)
	}
}

// anywhere has room for every job.
func anywhere(*job) bool { return true }
