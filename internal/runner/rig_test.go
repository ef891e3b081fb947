package runner

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const definition = `{"name":"x"}`

// sent is a frame that the runner gave to the bus.
type sent struct {
	to   wire.Role
	node id.Node
	wire.Frame
}

// fakeBus is bus, vault and definitions in one.
type fakeBus struct {
	mu       sync.Mutex
	sent     []sent
	requests []*wire.LeaseRequest
	life     time.Duration
	fault    error         // of the vault
	silent   bool          // the vault does not answer
	keep     int           // frames kept; 0: all
	shut     chan struct{} // while not nil, nothing is taken
}

// AwaitRoom waits while the bus is shut.
func (b *fakeBus) AwaitRoom(int) {
	b.mu.Lock()
	shut := b.shut
	b.mu.Unlock()
	if shut != nil {
		<-shut
	}
}

func (b *fakeBus) Send(to wire.Role, node id.Node, topic wire.Topic, m wire.Typed) {
	b.add(to, node, topic, wire.Frame{Type: m.FrameType(), Body: wire.AppendBody(nil, m)})
}

func (b *fakeBus) Relay(to wire.Role, node id.Node, topic wire.Topic, f wire.Frame) {
	b.add(to, node, topic, f)
}

func (b *fakeBus) add(to wire.Role, node id.Node, topic wire.Topic, f wire.Frame) {
	if !wire.Allowed(wire.RoleRunner, to, topic) {
		panic("a subject that the bus forbids")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keep == 0 || len(b.sent) < b.keep {
		b.sent = append(b.sent, sent{to, node, f})
	}
}

func (b *fakeBus) Ask(ctx context.Context, _ wire.Role, _ wire.Topic, m, answer wire.Typed) error {
	switch m := m.(type) {
	case *wire.DefinitionGet:
		answer.(*wire.Definition).JSON = []byte(definition)
		return nil
	case *wire.LeaseRequest:
		b.mu.Lock()
		b.requests = append(b.requests, m)
		silent, fault, life := b.silent, b.fault, b.life
		b.mu.Unlock()
		if silent {
			<-ctx.Done()
			return ctx.Err()
		}
		*answer.(*wire.LeaseGrant) = wire.LeaseGrant{
			Lease: id.NewLease(time.Now()), Expires: time.Now().Add(life), Worker: []byte("worker half"), Egress: []byte("egress half"),
		}
		return fault
	}
	return errors.New("asked for something else")
}

func (b *fakeBus) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// of are the frames of one type that were sent, parsed.
func of[T any, P interface {
	*T
	wire.Typed
}](b *fakeBus) []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []T
	for _, s := range b.sent {
		if m := new(T); s.Type == P(m).FrameType() {
			if err := s.Parse(P(m)); err != nil {
				panic(err)
			}
			out = append(out, *m)
		}
	}
	return out
}

// process is a child that a test plays.
type process struct {
	kind     jail.Kind
	conn     net.Conn
	deaf     bool // does not read
	answered bool // its bind
	done     int  // of its executions, those that were looked at

	mu     sync.Mutex
	got    []wire.Frame
	exited chan jail.Exit
	killed bool
}

func (p *process) exit(reason jail.Reason) { p.ends(jail.Exit{Reason: reason}) }

func (p *process) ends(exit jail.Exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.exited <- exit:
	default:
	}
	_ = p.conn.Close()
}

func (p *process) read() {
	in := wire.NewReader(p.conn)
	for {
		f, err := in.Read()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.got = append(p.got, f)
		p.mu.Unlock()
	}
}

func (p *process) send(m wire.Typed) { p.raw(wire.AppendFrame(nil, m)) }

func (p *process) raw(b []byte) { _, _ = p.conn.Write(b) }

func (p *process) types() []wire.Type {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []wire.Type
	for _, f := range p.got {
		out = append(out, f.Type)
	}
	return out
}

func (p *process) wasKilled() bool {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed
}

// rig is a runner with a played world around it.
type rig struct {
	*Runner
	t      *testing.T
	bus    *fakeBus
	server id.Node
	sign   *seal.SignKey
	egress []id.Node

	mu      sync.Mutex
	started []*process
	refuse  bool // starting fails
	stuck   chan struct{}
	quiet   bool // new workers and sandboxes say nothing
	deaf    bool // and do not read
}

func node() id.Node { return id.NewNode(time.Now()) }

// play runs f with a runner in a bubble of its own time, and checks that the end of
// the runner leaves nothing.
func play(t *testing.T, cfg Config, f func(*rig), change ...func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		x := newRig(t, cfg)
		for _, c := range change {
			c(x)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- x.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			x.clean()
		}()
		synctest.Wait()
		f(x)
	})
}

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	sign, err := seal.GenerateSignKey()
	if err != nil {
		t.Fatal(err)
	}
	x := &rig{t: t, bus: &fakeBus{life: lease.MaxLife}, server: node(), sign: sign, egress: []id.Node{node(), node()}}
	if cfg.Spare == 0 {
		cfg.Spare = -1
	}
	cfg.Node, cfg.Sign, cfg.Bus, cfg.Log = node(), sign, x.bus, slog.New(slog.DiscardHandler)
	cfg.Egress = map[string][]id.Node{"default": x.egress}
	x.Runner = New(cfg)
	x.Runner.start = x.startProcess
	return x
}

var errNoStart = errors.New("no processes left")

func (x *rig) startProcess(ctx context.Context, k jail.Kind) (*child, error) {
	x.mu.Lock()
	stuck, refuse, quiet, deaf := x.stuck, x.refuse, x.quiet, x.deaf
	x.mu.Unlock()
	if stuck != nil {
		select {
		case <-stuck:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if refuse {
		return nil, errNoStart
	}
	ours, theirs := net.Pipe()
	p := &process{kind: k, conn: theirs, deaf: deaf, exited: make(chan jail.Exit, 1)}
	x.mu.Lock()
	x.started = append(x.started, p)
	x.mu.Unlock()
	if !deaf {
		go p.read()
	}
	if !quiet {
		go p.hello()
	}
	end := sync.OnceValue(func() jail.Exit { return <-p.exited })
	return &child{
		conn: ours,
		kill: func() error {
			p.mu.Lock()
			p.killed = true
			p.mu.Unlock()
			p.exit(jail.ReasonKilled)
			return nil
		},
		wait: end,
	}, nil
}

func (p *process) hello() {
	if p.kind == jail.KindWorker {
		p.send(&wire.WorkerHello{Key: seal.PublicKey{1}})
		return
	}
	p.send(&wire.SandboxHello{Key: seal.PublicKey{2}})
}

// clean checks what is left at the end.
func (x *rig) clean() {
	x.t.Helper()
	x.Runner.mu.Lock()
	defer x.Runner.mu.Unlock()
	left := []int{len(x.workers), len(x.byNumber), len(x.bound), len(x.spare), len(x.boxes), len(x.sandboxes), len(x.spareBoxes), len(x.wanting), len(x.held)}
	if slices.Max(left) != 0 {
		x.t.Errorf("left at the end: %v", left)
	}
}

// children are the started processes of a kind, in order.
func (x *rig) children(k jail.Kind) []*process {
	synctest.Wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(x.started), func(p *process) bool { return p.kind != k })
}

// worker is the newest worker.
func (x *rig) worker() *process {
	x.t.Helper()
	all := x.children(jail.KindWorker)
	if len(all) == 0 {
		x.t.Fatal("no worker was started")
	}
	return all[len(all)-1]
}

func (x *rig) sandbox() *process {
	x.t.Helper()
	all := x.children(jail.KindSandbox)
	if len(all) == 0 {
		x.t.Fatal("no sandbox was started")
	}
	return all[len(all)-1]
}

// work is an instance with what is dispatched of it.
type work struct {
	customer   id.Customer
	instance   id.Instance
	definition [32]byte
	config     uint64
	days       []lease.Day
	viewers    []lease.Viewer
	pool       string
	change     func(*wire.Dispatch, *lease.Dispatch)
}

func newWork() *work {
	now := time.Now()
	return &work{
		customer: id.NewCustomer(now), instance: id.NewInstance(now), definition: sha256.Sum256([]byte(definition)),
		config: 1, days: []lease.Day{20_000}, pool: "default",
	}
}

// dispatch gives the runner a unit.
func (x *rig) dispatch(k *work, executions ...wire.UnitExecution) {
	x.dispatchBy(x.server, k, executions...)
}

func (x *rig) dispatchBy(server id.Node, k *work, executions ...wire.UnitExecution) {
	signed := &lease.Dispatch{
		Server: server, Runner: x.cfg.Node, Customer: k.customer, Instance: k.instance, Definition: k.definition,
		ConfigVersion: k.config, Days: k.days, Viewers: k.viewers, EgressPool: k.pool, Issued: time.Now(),
	}
	for _, e := range executions {
		signed.Executions = append(signed.Executions, e.Execution)
	}
	m := &wire.Dispatch{
		Customer: k.customer, Instance: k.instance, Definition: k.definition, ConfigVersion: k.config,
		Unit: wire.Unit{Executions: executions},
	}
	if k.change != nil {
		k.change(m, signed)
	}
	m.Signed = lease.SignDispatch(x.sign, signed)
	x.say(server, m)
	synctest.Wait()
}

// say is a frame of a server.
func (x *rig) say(server id.Node, m wire.Typed) {
	x.Handle(server, wire.TopicUnit, wire.Frame{Type: m.FrameType(), Body: wire.AppendBody(nil, m)}, nil)
}

func run(fence uint64) wire.UnitExecution {
	return wire.UnitExecution{Execution: id.NewExecution(time.Now()), Fence: fence}
}

// bind has the worker that waits for it answer its bind.
func (x *rig) bind() *process {
	x.t.Helper()
	for _, p := range x.children(jail.KindWorker) {
		if p.count(wire.TypeBind) == 1 && !p.answered {
			p.answered = true
			p.send(&wire.Bound{})
			synctest.Wait()
			return p
		}
	}
	x.t.Fatal("no worker was bound")
	return nil
}

// running is a worker that has just been bound for executions of an instance, or the newest one.
func (x *rig) running(k *work, executions ...wire.UnitExecution) *process {
	x.t.Helper()
	x.dispatch(k, executions...)
	for _, p := range x.children(jail.KindWorker) {
		if p.count(wire.TypeBind) == 1 && !p.answered {
			return x.bind()
		}
	}
	return x.worker()
}

// released are the reasons with which executions were given back.
func (x *rig) released() map[id.Execution]string {
	synctest.Wait()
	out := map[id.Execution]string{}
	for _, m := range of[wire.Released](x.bus) {
		out[m.Execution] = m.Fault
	}
	return out
}

// units are the executions that a process was given.
func (p *process) units() []wire.UnitExecution {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []wire.UnitExecution
	for _, f := range p.got {
		var m wire.Unit
		if f.Type == wire.TypeUnit && f.Parse(&m) == nil {
			out = append(out, m.Executions...)
		}
	}
	return out
}

func (p *process) count(t wire.Type) int {
	n := 0
	for _, got := range p.types() {
		if got == t {
			n++
		}
	}
	return n
}

// after lets time pass.
func (x *rig) after(d time.Duration) {
	<-time.After(d) // of the bubble: it takes no time
	synctest.Wait()
}

func (x *rig) frames(to wire.Role, t wire.Type) []sent {
	synctest.Wait()
	x.bus.mu.Lock()
	defer x.bus.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(x.bus.sent), func(s sent) bool { return s.to != to || s.Type != t })
}
