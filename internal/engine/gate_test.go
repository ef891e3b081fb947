package engine

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// gated is an integration whose flows have concurrency.
func gated() *flow.Integration {
	i := definition()
	i.Name = "gated"
	step := i.Flows[0].Steps
	key := flow.Value{Kind: flow.String, Text: "given by the event"}
	manual := flow.Trigger{Manual: &flow.Input{}}
	i.Flows = append(
		i.Flows,
		flow.Flow{Name: "fifo", Trigger: manual, Steps: step, Concurrency: &flow.Concurrency{Limit: 5, Key: key, Order: flow.OrderFIFO}},
		flow.Flow{Name: "wide", Trigger: manual, Steps: step, Concurrency: &flow.Concurrency{Limit: 2, Key: key}},
		flow.Flow{Name: "single", Trigger: flow.Trigger{Call: &flow.Input{}}, Steps: step, Concurrency: &flow.Concurrency{Limit: 1, Order: flow.OrderFIFO}},
	)
	return i
}

// crowd is what a test does with executions that have gates.
type crowd struct {
	*fakeRunner
	t      *testing.T
	n      tenant
	rng    *rand.Rand
	groups map[string][]id.Execution // by flow and key, in order of acceptance
	group  map[id.Execution]string
	held   map[id.Execution]wire.UnitExecution
	tokens []string // of executions that wait
	begun  int
}

func (c *crowd) accept() {
	flow := []string{"fifo", "fifo", "wide"}[c.rng.IntN(3)]
	key := fmt.Sprint(c.rng.IntN(3))
	got, err := c.b.e.Accept(c.t.Context(), &Event{Customer: c.n.customer, Instance: c.n.instance, Flow: flow, Body: []byte(`{}`), OrderKey: key})
	if err != nil {
		c.t.Fatal(err)
	}
	name := flow + key
	c.groups[name] = append(c.groups[name], got.Execution)
	c.group[got.Execution] = name
}

// check looks at what the database says about the group of an execution that was given out.
func (c *crowd) check(x id.Execution, fence uint64) {
	c.begun++
	if c.b.row(c.n, x).Fence != fence {
		return // it has ended or was lost since, and the next one may have begun
	}
	name := c.group[x]
	running, before := 0, true
	for _, other := range c.groups[name] {
		row := c.b.row(c.n, other)
		switch {
		case other == x:
			before = false
		case name[0] == 'f' && before && !row.Status.Ended():
			c.t.Errorf("%v was given out while the one before it in %s is %v", x, name, row.Status)
		case name[0] == 'f' && !before && !row.Started.IsZero():
			c.t.Errorf("%v was given out again after the next one in %s had begun", x, name)
		}
		if row.Status == store.Running {
			running++
		}
	}
	if name[0] == 'w' && running > 2 {
		c.t.Errorf("%d of %s run at once", running, name)
	}
}

// take reads the frames that have come.
func (c *crowd) take() {
	for {
		select {
		case f := <-c.frames:
			var d wire.Dispatch
			var gone wire.Cancel
			switch f.Type {
			case wire.TypeDispatch:
				if err := f.Parse(&d); err != nil {
					c.t.Fatal(err)
				}
				for _, u := range d.Unit.Executions {
					c.held[u.Execution] = u
					c.check(u.Execution, u.Fence)
				}
			case wire.TypeCancel:
				if err := f.Parse(&gone); err != nil {
					c.t.Fatal(err)
				}
				if c.held[gone.Execution].Fence == gone.Fence {
					delete(c.held, gone.Execution)
				}
			default:
			}
		default:
			return
		}
	}
}

// leave makes an execution that is held leave its worker in some way.
func (c *crowd) leave() {
	for x, u := range c.held { // any
		a := &wire.Append{Execution: x, Fence: u.Fence, Finish: &wire.Finish{Status: wire.StatusCompleted}}
		switch c.rng.IntN(6) {
		case 0:
			a.Finish = &wire.Finish{Status: wire.StatusFaulted, ErrorType: "code"}
		case 1, 2:
			token := fmt.Sprint(x, u.Fence)
			a.Waits = []wire.Wait{{Path: token, Kind: wire.WaitCallback, Key: sha256.Sum256([]byte(token)), At: time.Now().Add(time.Hour)}}
			a.Finish = &wire.Finish{Status: wire.StatusWaiting, Wakes: uint32(len(u.Wakes))}
			c.tokens = append(c.tokens, token)
		case 3:
			delete(c.held, x)
			c.send(&wire.Released{Execution: x, Fence: u.Fence, Fault: interruptCrash})
			return
		}
		c.send(a)
		delete(c.held, x)
		return
	}
}

func (c *crowd) wake() {
	if len(c.tokens) == 0 {
		return
	}
	i := c.rng.IntN(len(c.tokens))
	// One that was cancelled meanwhile is not found.
	if err := c.b.e.Wake(c.t.Context(), c.tokens[i], []byte(`1`)); err != nil && !errors.Is(err, ErrNotFound) {
		c.t.Fatal(err)
	}
	c.tokens = append(c.tokens[:i], c.tokens[i+1:]...)
}

func (c *crowd) cancel() {
	for x := range c.group { // any
		if err := c.b.e.Cancel(c.t.Context(), c.n.customer, x); err != nil && !errors.Is(err, ErrNotFound) {
			c.t.Fatal(err)
		}
		return
	}
}

func (c *crowd) beat() {
	m := &wire.Want{Free: 6}
	for x, u := range c.held {
		m.Held = append(m.Held, wire.Held{Execution: x, Fence: u.Fence})
	}
	c.send(m)
}

func (c *crowd) open() int {
	n := 0
	for x := range c.group {
		if !c.b.row(c.n, x).Status.Ended() {
			n++
		}
	}
	return n
}

// Whatever arrives, ends, waits, is lost or cancelled, and whenever the server is killed:
// with order fifo never two of a key have begun and not ended, their order is that of
// acceptance, without it never more than the limit run, and nothing is left behind.
func TestGatesHoldWhateverHappens(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			c := &crowd{
				fakeRunner: b.runner(), t: t, n: b.tenantOf("c1", gated()), rng: rand.New(rand.NewPCG(seed, 1)),
				groups: map[string][]id.Execution{}, group: map[id.Execution]string{}, held: map[id.Execution]wire.UnitExecution{},
			}
			c.beat()
			for step := range 250 {
				switch c.rng.IntN(12) {
				case 0, 1, 2, 3:
					c.accept()
				case 4, 5, 6, 7:
					c.leave()
				case 8, 9:
					c.wake()
				case 10:
					c.cancel()
				}
				b.settle()
				if step%60 == 59 {
					b.kill()
				}
				c.beat()
				c.take()
			}
			for late := time.Now().Add(c.patience); c.open() > 0; {
				c.take()
				c.wake()
				c.leave()
				b.settle()
				c.beat()
				if time.Now().After(late) {
					t.Fatalf("%d of %d executions never ended", c.open(), len(c.group))
				}
			}
			b.e.mu.Lock()
			defer b.e.mu.Unlock()
			if g := &b.e.gates; len(g.byKey) != 0 || len(g.waiting) != 0 || g.parked != 0 || c.begun == 0 {
				t.Errorf("%d were given out; gates that are left: %+v", c.begun, g)
			}
		})
	}
}

// A flow that calls itself and waits does not wait for its own place.
func TestAFlowInAGateMayCallItself(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenantOf("c1", gated())
	r := b.runner()
	r.want(10)
	b.accept(n, "main", `{}`)
	u := r.dispatch()[0]
	call := func(u wire.UnitExecution, path string, await bool) *wire.Append {
		return &wire.Append{Execution: u.Execution, Fence: u.Fence, Children: []wire.Child{
			{Execution: id.NewExecution(time.Now()), Flow: "single", Event: []byte("sealed"), Path: path, Await: await},
		}}
	}
	r.append(call(u, "a", true))
	first := r.dispatch()[0]
	r.append(call(u, "b", true))      // stands before the gate
	r.append(call(first, "c", false)) // too: nobody waits for it
	r.append(call(first, "d", true))
	inner := r.dispatch()[0]
	if row := b.row(n, inner.Execution); row.Parent != first.Execution || row.ParentPath != "d" {
		t.Errorf("given out: %+v", row)
	}
	b.settle()
	if !r.silent() {
		t.Error("two are behind the gate")
	}
	r.finish(inner)
	r.finish1(first)
	if u := r.untilUnit(t); u.Flow != "single" || b.row(n, u.Execution).OrderKey == [32]byte{} {
		t.Errorf("%+v came through the gate", u)
	}
	b.settle()
	for len(r.frames) > 0 {
		if f := <-r.frames; f.Type == wire.TypeDispatch {
			t.Error("two came through the gate")
		}
	}
}

// The flows that make a subscription and renew it take turns: side by side each could end what the other has made.
func TestARenewalTakesTurnsWithWhatMakesTheSubscription(t *testing.T) {
	t.Parallel()
	i := gated()
	one := &flow.Concurrency{Limit: 1, Order: flow.OrderFIFO}
	for _, name := range []string{"hook" + flow.SubscribeSuffix, "hook" + flow.RenewSuffix, "other" + flow.RenewSuffix} {
		i.Flows = append(i.Flows, flow.Flow{Name: name, Trigger: flow.Trigger{Manual: &flow.Input{}}, Steps: i.Flows[0].Steps, Concurrency: one})
	}
	b := newBench(t)
	n := b.tenantOf("c1", i)
	r := b.runner()
	r.want(10)
	b.accept(n, "hook"+flow.RenewSuffix, `{}`)
	u := r.dispatch()[0]
	b.accept(n, "hook"+flow.SubscribeSuffix, `{}`)
	b.accept(n, "hook"+flow.RenewSuffix, `{}`)
	b.accept(n, "other"+flow.RenewSuffix, `{}`)
	if u := r.untilUnit(t); u.Flow != "other"+flow.RenewSuffix {
		t.Fatalf("%s came through the gate of another", u.Flow)
	}
	b.settle()
	if !r.silent() {
		t.Error("two are behind the gate")
	}
	for _, want := range []string{"hook" + flow.SubscribeSuffix, "hook" + flow.RenewSuffix} {
		r.finish1(u)
		if u = r.untilUnit(t); u.Flow != want {
			t.Errorf("next is %s, want %s", u.Flow, want)
		}
	}
}
