package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// otherVault is the vault as another server sees it.
type otherVault struct {
	*fakeVault
	node   id.Node
	server seal.PublicKey
}

// Call implements Vault.
func (v *otherVault) Call(ctx context.Context, op string, body []byte) ([]byte, error) {
	if op == lease.OpBlindKey {
		sealed, err := seal.Seal(v.server, lease.PurposeServer, lease.BlindKeyPlace(v.node), v.blind)
		return wire.AppendBody(nil, &lease.SealedAnswer{Sealed: sealed}), err
	}
	return v.fakeVault.Call(ctx, op, body)
}

// beside is another server over the same database, on PostgreSQL with connections of its own.
func (b *bench) beside() *bench {
	b.t.Helper()
	o := *b
	o.opt.Key, o.opt.Node = mustKey(b.t), id.NewNode(time.Now())
	sign, err := seal.GenerateSignKey()
	if err != nil {
		b.t.Fatal(err)
	}
	o.opt.Sign, o.opt.Vault = sign, &otherVault{b.vault, o.opt.Node, o.opt.Key.Public()}
	if b.db.URL != "" {
		if o.opt.Store, err = store.Open(context.Background(), b.db); err != nil {
			b.t.Fatal(err)
		}
	}
	if o.e, err = New(context.Background(), o.opt); err != nil {
		b.t.Fatal(err)
	}
	o.stop = o.run(func() error {
		if b.db.URL != "" {
			return o.opt.Store.Close()
		}
		return nil
	})
	b.t.Cleanup(o.stop)
	return &o
}

// run runs the loops of a server until the result is called.
func (b *bench) run(after func() error) func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	e := b.e
	go func() { defer close(done); _ = e.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		<-done
		if err := after(); err != nil {
			b.t.Error(err)
		}
	})
}

// eventually waits for what a loop brings about.
func (b *bench) eventually(what string, is func() bool) {
	b.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-late.C:
			b.t.Fatalf("it does not happen that %s", what)
		}
	}
}

func TestASecondServerAcceptsForTheFirst(t *testing.T) {
	t.Parallel()
	one := newBench(t)
	n := one.tenant("c1")
	two := one.beside()
	if a, b := one.e.Shards(), two.e.Shards(); a != store.Shards || b != 0 {
		t.Fatalf("they have %d and %d shards, want all and none", a, b)
	}
	r := one.runner()
	r.want(10)
	x := two.accept(n, "main", `{}`)
	u := r.untilUnit(t)
	if u.Execution != x || u.Fence != 1 {
		t.Fatalf("given out: %v with fence %d, want %v", u.Execution, u.Fence, x)
	}
	key := sha256.Sum256([]byte("token"))
	m := waiting(u, 0)
	m.Waits = []wire.Wait{{Path: "a", Kind: wire.WaitCallback, Key: key}}
	r.append(m)
	if err := two.e.Wake(context.Background(), "token", []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	if u = r.untilUnit(t); u.Execution != x || len(u.Wakes) != 1 {
		t.Fatalf("given out: %+v, want %v with its wake", u, x)
	}
	if err := two.e.Cancel(context.Background(), n.customer, x); err != nil {
		t.Fatal(err)
	}
	next(r, &wire.Cancel{})
	if err := two.e.SetInstanceState(context.Background(), n.customer, n.instance, store.InstancePaused); err != nil {
		t.Fatal(err)
	}
	one.eventually("the first server knows of a pause", func() bool {
		one.e.mu.Lock()
		defer one.e.mu.Unlock()
		return one.e.queue.held[n.instance]
	})
	x = two.accept(n, "main", `{}`)
	if err := two.e.SetInstanceState(context.Background(), n.customer, n.instance, store.InstanceEnabled); err != nil {
		t.Fatal(err)
	}
	if u = r.untilUnit(t); u.Execution != x {
		t.Errorf("given out: %v, want %v", u.Execution, x)
	}
	r.finish(u)
	two.e.mu.Lock()
	defer two.e.mu.Unlock()
	if len(two.e.jobs) != 0 || two.e.queue.size != 0 || two.e.backlog.total.events != 0 {
		t.Errorf("the second server keeps %d jobs, %d queued, %+v pending", len(two.e.jobs), two.e.queue.size, two.e.backlog.total)
	}
}

// fences are those that servers have given out.
type fences struct {
	mu   sync.Mutex
	seen map[string]bool
	done map[id.Execution]bool
}

// work lets a runner end everything that a server gives it, until the context ends. Some of
// what it gets it never ends.
func (f *fences) work(ctx context.Context, r *fakeRunner, ends func(wire.UnitExecution) bool) {
	beat := time.NewTicker(50 * time.Millisecond)
	defer beat.Stop()
	held := map[id.Execution]wire.Held{}
	for {
		list := make([]wire.Held, 0, len(held))
		for _, h := range held {
			list = append(list, h)
		}
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			r.want(8, list...)
		case frame := <-r.frames:
			switch frame.Type {
			case wire.TypeDispatch:
				var d wire.Dispatch
				if err := frame.Parse(&d); err != nil {
					r.b.t.Error(err)
				}
				for _, u := range d.Unit.Executions {
					f.given(r.b.t, u)
					held[u.Execution] = wire.Held{Execution: u.Execution, Fence: u.Fence}
					if ends(u) {
						r.send(&wire.Append{Execution: u.Execution, Fence: u.Fence, Finish: &wire.Finish{Status: wire.StatusCompleted}})
					}
				}
			case wire.TypeAppended:
				var m wire.Appended
				if err := frame.Parse(&m); err != nil {
					r.b.t.Error(err)
				}
				delete(held, m.Execution)
				if !m.Stale {
					f.ended(r.b.t, m.Execution)
				}
			case wire.TypeCancel:
				var m wire.Cancel
				if err := frame.Parse(&m); err != nil {
					r.b.t.Error(err)
				}
				delete(held, m.Execution)
			}
		}
	}
}

func (f *fences) given(t testing.TB, u wire.UnitExecution) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := fmt.Sprint(u.Execution, u.Fence)
	if f.seen[k] {
		t.Errorf("%v was given out twice with fence %d", u.Execution, u.Fence)
	}
	f.seen[k] = true
}

func (f *fences) ended(t testing.TB, x id.Execution) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done[x] {
		t.Errorf("%v ended twice", x)
	}
	f.done[x] = true
}

func (f *fences) all(list []id.Execution) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range list {
		if !f.done[x] {
			return false
		}
	}
	return true
}

func TestServersTakeOver(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(one, two *bench){
		"one that was killed": func(one, _ *bench) { one.stopEngine() },
		"one that was stopped": func(one, two *bench) {
			one.stopEngine()
			if err := one.e.Leave(context.Background()); err != nil {
				one.t.Error(err)
			}
		},
		"one that is known to have ended": func(one, two *bench) {
			one.stopEngine()
			two.e.KeepServers(map[id.Node]bool{two.opt.Node: true})
		},
		"one that goes on": func(one, two *bench) { two.e.ServersGone(one.opt.Node) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			life := time.Second
			if name == "one that goes on" {
				life *= 5 // it takes over what the other one is too slow to renew
			}
			takeOver(t, life, end)
		})
	}
}

func takeOver(t *testing.T, life time.Duration, end func(one, two *bench)) {
	one := newBench(t, func(o *Options) { o.ShardLife, o.LeaseTTL = life, time.Second })
	tenants := make([]tenant, 5)
	for i := range tenants {
		tenants[i] = one.tenantOf(fmt.Sprint("c", i), gated())
	}
	two := one.beside()
	f := &fences{seen: map[string]bool{}, done: map[id.Execution]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	var runners sync.WaitGroup
	defer runners.Wait()
	defer cancel()
	// What the first server's runner gets it often keeps for ever.
	runners.Go(func() { f.work(ctx, one.runner(), func(u wire.UnitExecution) bool { return u.Execution[15]%3 == 0 }) })
	runners.Go(func() { f.work(ctx, two.runner(), func(wire.UnitExecution) bool { return true }) })
	var all []id.Execution
	for i := range 60 {
		b := []*bench{one, two}[i%2]
		if i >= 40 {
			b = two
		}
		if i == 40 {
			end(one, two)
		}
		n := tenants[i%len(tenants)]
		got, err := b.e.Accept(ctx, &Event{Customer: n.customer, Instance: n.instance, Flow: "fifo", OrderKey: "k", Body: []byte(`{}`)})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, got.Execution)
	}
	one.eventually("everything ends", func() bool { return f.all(all) })
	if n := two.e.Shards(); n != store.Shards {
		t.Errorf("the second server has %d shards, want all", n)
	}
	list, err := two.opt.Store.System(ctx).Notices(two.opt.Node, 100)
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	t.Logf("%d notices are left", len(list))
}
