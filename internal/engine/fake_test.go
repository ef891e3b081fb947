package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/blob"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// fakeVault makes keys and remembers them.
type fakeVault struct {
	key    *seal.PrivateKey // what users enter is sealed to it
	server seal.PublicKey
	node   id.Node
	blind  []byte

	mu       sync.Mutex
	payload  map[payloadDay]*seal.PrivateKey
	versions map[id.Instance]uint64
	configs  map[id.Instance][]byte
	records  map[id.Connection]*lease.Record
	down     bool
	deleted  int // connections
	gone     map[[16]byte]bool
}

func newFakeVault(t testing.TB, server *seal.PrivateKey) *fakeVault {
	t.Helper()
	v := &fakeVault{
		key: mustKey(t), server: server.Public(), blind: make([]byte, 32), payload: map[payloadDay]*seal.PrivateKey{},
		versions: map[id.Instance]uint64{}, configs: map[id.Instance][]byte{}, records: map[id.Connection]*lease.Record{}, gone: map[[16]byte]bool{},
	}
	_, _ = rand.Read(v.blind)
	return v
}

func mustKey(t testing.TB) *seal.PrivateKey {
	t.Helper()
	k, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// private is the private half of a payload key, as a worker is leased it.
func (v *fakeVault) private(c id.Customer, d lease.Day) (*seal.PrivateKey, error) {
	at := payloadDay{c, d}
	if v.payload[at] == nil {
		k, err := seal.GenerateKey()
		if err != nil {
			return nil, err
		}
		v.payload[at] = k
	}
	return v.payload[at], nil
}

// Call implements Vault.
func (v *fakeVault) Call(_ context.Context, op string, body []byte) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.down {
		return nil, errors.New("vault is sealed")
	}
	switch op {
	case lease.OpCustomer:
		return nil, nil
	case lease.OpCustomerDelete:
		var m lease.CustomerCall
		if err := wire.ParseBody(body, &m); err != nil {
			return nil, err
		}
		v.gone[m.Customer] = true
		return nil, nil
	case lease.OpConnectionDelete:
		var m lease.ConnectionCall
		if err := wire.ParseBody(body, &m); err != nil {
			return nil, err
		}
		v.deleted++
		v.gone[m.Connection] = true
		return nil, nil
	case lease.OpInstanceDelete:
		var m lease.InstanceCall
		if err := wire.ParseBody(body, &m); err != nil {
			return nil, err
		}
		delete(v.configs, m.Instance)
		return nil, nil
	case lease.OpPayloadKey:
		var m lease.PayloadKeyCall
		if err := wire.ParseBody(body, &m); err != nil {
			return nil, err
		}
		k, err := v.private(m.Customer, m.Day)
		if err != nil {
			return nil, err
		}
		return wire.AppendBody(nil, &lease.PayloadKeyAnswer{Key: k.Public()}), nil
	case lease.OpBlindKey:
		sealed, err := seal.Seal(v.server, lease.PurposeServer, lease.BlindKeyPlace(v.node), v.blind)
		return wire.AppendBody(nil, &lease.SealedAnswer{Sealed: sealed}), err
	case lease.OpInstance:
		var m lease.InstanceCall
		if err := wire.ParseBody(body, &m); err != nil {
			return nil, err
		}
		config, err := v.key.Open(lease.PurposeVault, lease.ConfigPlace(m.Customer, m.Instance, 0), m.Config)
		if err != nil {
			return nil, err
		}
		v.versions[m.Instance]++
		v.configs[m.Instance] = config
		return wire.AppendBody(nil, &lease.InstanceAnswer{Version: v.versions[m.Instance], Config: []byte("sealed config")}), nil
	case lease.OpConnection:
		var m lease.ConnectionCall
		if err := wire.ParseBody(body, &m); err != nil {
			return nil, err
		}
		plain, err := v.key.Open(lease.PurposeVault, lease.ConnectionPlace(m.Customer, m.Connection), m.Record)
		if err != nil {
			return nil, err
		}
		r := &lease.Record{}
		if err := wire.ParseBody(plain, r); err != nil {
			return nil, err
		}
		r.Version = 1
		if before := v.records[m.Connection]; before != nil {
			r.Version = before.Version + 1
		}
		v.records[m.Connection] = r
		return wire.AppendBody(nil, &lease.ConnectionAnswer{Version: r.Version}), nil
	case lease.OpVersions:
		var m lease.VersionsCall
		if err := wire.ParseBody(body, &m); err != nil {
			return nil, err
		}
		var a lease.VersionsAnswer
		for _, i := range m.Instances {
			a.Instances = append(a.Instances, lease.Version{Number: v.versions[i], Gone: v.gone[i]})
		}
		for _, n := range m.Connections {
			version := lease.Version{Gone: v.gone[n]}
			if v.records[n] != nil {
				version.Number = 1
			}
			a.Connections = append(a.Connections, version)
		}
		for _, c := range m.Customers {
			a.Customers = append(a.Customers, lease.Version{Number: 1, Gone: v.gone[c]})
		}
		return wire.AppendBody(nil, &a), nil
	}
	return nil, errors.New("unknown operation " + op)
}

// fakeLink delivers frames to the nodes that listen, encoded and decoded as on the bus.
type fakeLink struct {
	mu    sync.Mutex
	nodes map[id.Node]chan wire.Frame
	lost  func(wire.Typed) bool
}

// Send implements Link.
func (l *fakeLink) Send(_ wire.Role, to id.Node, frames ...wire.Typed) {
	l.mu.Lock()
	c, lost := l.nodes[to], l.lost
	l.mu.Unlock()
	for _, m := range frames {
		if c == nil || lost != nil && lost(m) {
			continue
		}
		c <- wire.Frame{Type: m.FrameType(), Body: wire.AppendBody(nil, m)}
	}
}

// lose has the frames of which lost is true not arrive, and returns what said so before; nil: all arrive.
func (l *fakeLink) lose(lost func(wire.Typed) bool) (before func(wire.Typed) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, l.lost = l.lost, lost
	return before
}

func (l *fakeLink) listen(n id.Node) chan wire.Frame {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nodes[n] == nil {
		l.nodes[n] = make(chan wire.Frame, 1<<16)
	}
	return l.nodes[n]
}

// unlapsed is the life of leases in most tests, whose runners send no heartbeats: however slow the
// machine is, none is over because of the time.
const unlapsed = time.Hour

// bench is one server with everything around it.
type bench struct {
	t     testing.TB
	dir   string
	db    store.Options
	vault *fakeVault
	link  *fakeLink
	opt   Options
	e     *Engine
	stop  func()
	// stopEngine ends the engine and leaves the store open.
	stopEngine func()

	org id.Org
}

// definition is an integration with flows that the tests use.
func definition() *flow.Integration {
	step := []flow.Step{{ID: "a", Set: &flow.Value{Kind: flow.Number, Text: "1"}}}
	return &flow.Integration{
		Format: flow.FormatVersion, ProfileVersion: 1, Name: "sample",
		Flows: []flow.Flow{
			{Name: "main", Trigger: flow.Trigger{Manual: &flow.Input{}}, Steps: step},
			{Name: "child", Trigger: flow.Trigger{Call: &flow.Input{}}, Steps: step},
			{
				Name: "short", Trigger: flow.Trigger{Manual: &flow.Input{}}, Steps: step,
				Expires: flow.Duration(time.Hour), Retention: flow.Duration(24 * time.Hour),
			},
		},
	}
}

func newBench(t testing.TB, options ...func(*Options)) *bench {
	t.Helper()
	key := mustKey(t)
	sign, err := seal.GenerateSignKey()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, dir: t.TempDir(), db: database(t), vault: newFakeVault(t, key), link: &fakeLink{nodes: map[id.Node]chan wire.Frame{}}, org: id.NewOrg(time.Now())}
	b.opt = Options{
		Node: id.NewNode(time.Now()), Sign: sign, Key: key, Link: b.link, Vault: b.vault, VaultKey: b.vault.key.Public(),
		Log: slog.New(slog.DiscardHandler), LeaseTTL: unlapsed,
	}
	b.vault.node = b.opt.Node
	if _, ok := t.(*testing.B); ok {
		b.opt.Pending = Pending{Events: 1 << 40, AllEvents: 1 << 40, Bytes: 1 << 50, AllBytes: 1 << 50}
	}
	for _, set := range options {
		set(&b.opt)
	}
	b.start()
	t.Cleanup(func() { b.stop() })
	if err := b.e.PutOrganization(context.Background(), &store.Organization{ID: b.org, Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	return b
}

// start opens the store and runs an engine over it.
func (b *bench) start() {
	b.t.Helper()
	if b.db.URL == "" {
		b.db.Dir = b.dir
	}
	db, err := store.Open(context.Background(), b.db)
	if err != nil {
		b.t.Fatal(err)
	}
	blobs, err := blob.Open(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	b.opt.Store, b.opt.Blobs = db, blobs
	if b.e, err = New(context.Background(), b.opt); err != nil {
		b.t.Fatal(err)
	}
	end := b.run(func() error { return nil })
	b.stopEngine = end
	b.stop = sync.OnceFunc(func() {
		end()
		if err := errors.Join(db.Close(), blobs.Close()); err != nil {
			b.t.Error(err)
		}
	})
}

// restart is a crash of the server and its next start.
func (b *bench) restart() {
	b.t.Helper()
	b.stop()
	b.start()
}

// tenant is a customer with an instance.
type tenant struct {
	customer id.Customer
	instance id.Instance
	digest   [32]byte
}

func (b *bench) tenant(name string) tenant {
	b.t.Helper()
	return b.tenantOf(name, definition())
}

// tenantOf is a customer with an instance of an integration.
func (b *bench) tenantOf(name string, i *flow.Integration) tenant {
	b.t.Helper()
	ctx := context.Background()
	c, err := b.e.PutCustomer(ctx, &store.CustomerRow{Organization: b.org, ExternalID: name})
	if err != nil {
		b.t.Fatal(err)
	}
	canonical, err := i.Encode()
	if err != nil {
		b.t.Fatal(err)
	}
	v, err := b.e.Publish(ctx, b.org, canonical)
	if err != nil {
		b.t.Fatal(err)
	}
	x, err := b.e.Deploy(ctx, &Deployment{Customer: c, Digest: v.Digest, Config: []byte(`{"a":1}`)})
	if err != nil {
		b.t.Fatal(err)
	}
	return tenant{c, x.ID, v.Digest}
}

func (b *bench) accept(n tenant, flow, body string) id.Execution {
	b.t.Helper()
	got, err := b.e.Accept(context.Background(), &Event{Customer: n.customer, Instance: n.instance, Flow: flow, Body: []byte(body)})
	if err != nil {
		b.t.Fatal(err)
	}
	return got.Execution
}

func (b *bench) row(n tenant, x id.Execution) *store.Execution {
	b.t.Helper()
	row, err := b.e.Execution(context.Background(), n.customer, x)
	if err != nil {
		b.t.Fatal(err)
	}
	return row
}

func (b *bench) journal(n tenant, x id.Execution) []wire.Entry {
	b.t.Helper()
	list, err := b.opt.Store.Customer(context.Background(), n.customer).Journal(x)
	if err != nil {
		b.t.Fatal(err)
	}
	return list
}

// open opens what was sealed to a customer's payload key.
func (b *bench) open(c id.Customer, day uint32, place, sealed []byte) string {
	b.t.Helper()
	b.vault.mu.Lock()
	k, err := b.vault.private(c, lease.Day(day))
	b.vault.mu.Unlock()
	if err != nil {
		b.t.Fatal(err)
	}
	plain, err := seal.NewOpener(k, lease.PurposePayload).Open(nil, place, sealed)
	if err != nil {
		b.t.Fatalf("open: %v", err)
	}
	return string(plain)
}

// patience is how long a test waits for what must come, also on a machine that has much else to do.
const patience = 2 * time.Minute

// fakeRunner is a runner whose worker does what a test says.
type fakeRunner struct {
	b      *bench
	node   id.Node
	frames chan wire.Frame
	role   wire.Role
	// patience is how long a test waits for a frame that must come.
	patience time.Duration
	// ignores is the type of frames that a test does not look at. The zero type is that of none.
	ignores wire.Type
}

func (b *bench) runner() *fakeRunner {
	r := &fakeRunner{b: b, node: id.NewNode(time.Now()), role: wire.RoleRunner, patience: patience}
	r.frames = b.link.listen(r.node)
	return r
}

func (r *fakeRunner) send(m wire.Typed) {
	r.b.t.Helper()
	f := wire.Frame{Type: m.FrameType(), Body: wire.AppendBody(nil, m)}
	if err := r.b.e.Handle(context.Background(), r.role, r.node, f); err != nil {
		r.b.t.Errorf("handle %v: %v", f.Type, err)
	}
}

func (r *fakeRunner) want(free int, held ...wire.Held) {
	r.b.t.Helper()
	r.send(&wire.Want{Free: uint32(free), Held: held})
}

// full has a runner be given nothing more, also when what it holds has ended: what a want says is
// free comes on top of what it holds. So a test decides that a server which it is about to end gives out nothing
// before: the next one would take that back from a runner that does not name it.
func (r *fakeRunner) full(held ...wire.Held) {
	r.b.t.Helper()
	r.send(&wire.Want{Draining: true, Held: held})
}

// next waits for a frame of the type of m and reads it.
func next[M wire.Typed](r *fakeRunner, m M) M {
	r.b.t.Helper()
	late := time.NewTimer(r.patience)
	defer late.Stop()
	for {
		select {
		case f := <-r.frames:
			if f.Type == r.ignores {
				continue
			}
			if err := f.Parse(m); err != nil {
				r.b.t.Fatalf("next frame: %v", err)
			}
			return m
		case <-late.C:
			r.b.t.Fatalf("no %v frame came", m.FrameType())
		}
	}
}

// dispatch waits for a unit and returns its executions.
func (r *fakeRunner) dispatch() []wire.UnitExecution {
	r.b.t.Helper()
	return next(r, &wire.Dispatch{}).Unit.Executions
}

// append sends an append and waits for its answer.
func (r *fakeRunner) append(m *wire.Append) *wire.Appended {
	r.b.t.Helper()
	r.send(m)
	return next(r, &wire.Appended{})
}

// finish ends an execution in the usual way.
func (r *fakeRunner) finish(x wire.UnitExecution) *wire.Appended {
	r.b.t.Helper()
	return r.append(&wire.Append{
		Execution: x.Execution, Fence: x.Fence, Entries: []wire.Entry{{Kind: wire.EntryResult, Path: "a", Body: []byte("sealed result")}},
		Finish: &wire.Finish{Status: wire.StatusCompleted, Output: []byte("sealed output"), Wakes: uint32(len(x.Wakes))},
	})
}

// silent reports whether nothing is waiting for the runner.
func (r *fakeRunner) silent() bool {
	select {
	case f := <-r.frames:
		r.b.t.Logf("a %v frame came", f.Type)
		return false
	default:
		return true
	}
}
