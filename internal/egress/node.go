package egress

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Limits of a node.
const (
	// MaxLeases is how many leases a node holds; more are refused.
	MaxLeases = 10_000
	// maxDropped is how many leases that were dropped a node remembers until they end.
	maxDropped = 16 * MaxLeases
	// MaxInFlight is how many calls of a node run at a time.
	MaxInFlight = 1024
	// MaxInFlightOfLease is how many calls of one lease run at a time; more wait.
	MaxInFlightOfLease = 128
	// maxWaitingOfLease is how many wait; more are answered with the error limit.
	maxWaitingOfLease = 4096
	// idleCaller is how long a goroutine that makes calls waits for the next one.
	idleCaller = 10 * time.Second
)

// Bus is what a node needs of its connection; *bus.Conn is it.
type Bus interface {
	Send(to wire.Role, node id.Node, topic wire.Topic, m wire.Typed)
}

// NodeConfig are the parts of a Node.
type NodeConfig struct {
	Node id.Node
	Seal *seal.PrivateKey // egress leases are sealed to it
	// Authority has signed every lease: the vault's key that certifies identities.
	Authority seal.VerifyKey
	Client    *Client
	Bus       Bus
	Log       *slog.Logger
}

// Node serves the calls of workers: it opens the leases that the vault has sealed
// to it, and under each lease the calls that only its worker can have sealed.
type Node struct {
	cfg   NodeConfig
	blobs *blobLink
	tasks chan *task // taken by goroutines that wait for a call

	mu      sync.Mutex
	leases  map[id.Lease]*granted
	dropped map[id.Lease]time.Time // never to be given again; with the end of each
	running int                    // goroutines that make calls
	queue   []*task
}

// granted is one lease that this node holds.
type granted struct {
	*lease.Egress
	channel *seal.Channel
	slots   map[string]*Lease
	refused map[string]string // why a slot cannot be used
	flying  int               // guarded by the node
	waiting []*task
}

// task is one call of a worker.
type task struct {
	lease   *granted
	from    id.Node
	call    wire.Call
	request wire.Request
}

// NewNode makes a Node. Call Handle for what comes from the bus, and Run.
func NewNode(cfg NodeConfig) *Node {
	return &Node{cfg: cfg, blobs: newBlobLink(cfg.Bus), tasks: make(chan *task), leases: map[id.Lease]*granted{}, dropped: map[id.Lease]time.Time{}}
}

// Run forgets leases when they have ended, until the context ends.
func (n *Node) Run(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			n.mu.Lock()
			maps.DeleteFunc(n.leases, func(_ id.Lease, g *granted) bool { return !now.Before(g.Expires) && g.flying == 0 })
			maps.DeleteFunc(n.dropped, func(_ id.Lease, end time.Time) bool { return !now.Before(end) })
			n.mu.Unlock()
		}
	}
}

// Handle takes a frame from the bus. It does not block.
func (n *Node) Handle(from id.Node, topic wire.Topic, f wire.Frame, _ func(wire.Typed)) {
	var err error
	switch {
	case topic == wire.TopicCall && f.Type == wire.TypeCall:
		err = n.call(from, f)
	case topic == wire.TopicCall && f.Type == wire.TypeLeaseGive:
		err = n.give(from, f)
	case topic == wire.TopicCall && f.Type == wire.TypeLeaseDrop:
		err = n.drop(from, f)
	case topic == wire.TopicBlob && f.Type == wire.TypeBlobChunk:
		err = n.blobs.chunk(f)
	default:
		err = wire.ErrMalformed
	}
	if err != nil {
		n.cfg.Log.Error("frame dropped", "from", from.String(), "type", f.Type.String(), "err", err)
	}
}

// give opens a lease. It is for the runner named in it, whoever carried it, and it is
// given once: a lease that came again would have a fresh budget, and a fresh channel
// that takes the calls of the first one once more.
func (n *Node) give(from id.Node, f wire.Frame) error {
	var m wire.LeaseGive
	if err := f.Parse(&m); err != nil {
		return err
	}
	g, err := openLease(n.cfg.Seal, n.cfg.Authority, &m)
	if err != nil {
		return err
	}
	if g.Runner != from || !time.Now().Before(g.Expires) {
		return fmt.Errorf("%w: a lease of another runner or time", lease.ErrRefused)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.leases) >= MaxLeases || len(n.dropped) >= maxDropped {
		return fmt.Errorf("%w: too many leases", lease.ErrRefused)
	}
	_, held := n.leases[g.Lease]
	if _, dropped := n.dropped[g.Lease]; held || dropped {
		return fmt.Errorf("%w: a lease that was given before", lease.ErrRefused)
	}
	n.leases[g.Lease] = g
	return nil
}

func openLease(k *seal.PrivateKey, authority seal.VerifyKey, m *wire.LeaseGive) (*granted, error) {
	l, err := lease.OpenEgress(k, authority, m.Sealed)
	if err != nil {
		return nil, err
	}
	if l.Lease != m.Lease {
		return nil, fmt.Errorf("%w: a lease under another id", lease.ErrRefused)
	}
	channel, err := seal.NewChannel(l.Channel, seal.Callee)
	if err != nil {
		return nil, err
	}
	g := &granted{Egress: l, channel: channel, slots: map[string]*Lease{}, refused: map[string]string{}}
	for i := range l.Slots {
		s := &l.Slots[i]
		spec, err := specOf(l, &s.Record)
		if err == nil {
			g.slots[s.Slot], err = NewLease(spec)
		}
		if err != nil {
			g.refused[s.Slot] = err.Error()
		}
		s.Record.Fields = nil // they live on in the Lease only
	}
	return g, nil
}

// drop forgets a lease whose worker has ended.
func (n *Node) drop(from id.Node, f wire.Frame) error {
	var m wire.LeaseDrop
	if err := f.Parse(&m); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if g := n.leases[m.Lease]; g != nil && g.Runner == from {
		delete(n.leases, m.Lease)
		n.dropped[m.Lease] = g.Expires
	}
	return nil
}

// call opens a worker's call and starts it, or lets it wait for others of its lease.
func (n *Node) call(from id.Node, f wire.Frame) error {
	t := &task{from: from}
	if err := f.Parse(&t.call); err != nil {
		return err
	}
	n.mu.Lock()
	t.lease = n.leases[t.call.Lease]
	n.mu.Unlock()
	if t.lease == nil || t.lease.Runner != from || !time.Now().Before(t.lease.Expires) {
		n.answer(t, &wire.Answer{Error: "lease"})
		return nil
	}
	plain, err := t.lease.channel.Open(nil, t.call.Place(), t.call.Sealed)
	if err != nil {
		return err // not by the lease's worker, or not for the first time
	}
	if err := wire.ParseBody(plain, &t.request); err != nil {
		return err
	}
	t.call.Sealed = nil
	n.mu.Lock()
	defer n.mu.Unlock()
	g := t.lease
	switch {
	case g.flying < MaxInFlightOfLease:
		g.flying++
		n.start(t)
	case len(g.waiting) < maxWaitingOfLease:
		g.waiting = append(g.waiting, t)
	default:
		go n.respond(t, &wire.Response{ErrorType: string(Limit), Message: "too many calls of this instance wait for others to finish"})
	}
	return nil
}

// start hands a task to a goroutine that waits for one, or starts one: they keep
// their grown stacks, which net/http needs. The caller holds mu.
func (n *Node) start(t *task) {
	select {
	case n.tasks <- t:
		return
	default:
	}
	if n.running >= MaxInFlight {
		n.queue = append(n.queue, t)
		return
	}
	n.running++
	go n.caller(t)
}

// caller makes calls until there has been none for a while.
func (n *Node) caller(t *task) {
	idle := time.NewTimer(idleCaller)
	defer idle.Stop()
	for {
		for t != nil {
			n.serve(t)
			t = n.next(t)
		}
		idle.Reset(idleCaller)
		select {
		case t = <-n.tasks:
		case <-idle.C:
			n.mu.Lock()
			n.running--
			n.mu.Unlock()
			return
		}
	}
}

// serve makes one call, unless its lease ended while it waited for others: nothing was
// sent then, and the worker asks again under a newer lease.
func (n *Node) serve(t *task) {
	n.mu.Lock()
	_, dropped := n.dropped[t.call.Lease]
	n.mu.Unlock()
	if dropped || !time.Now().Before(t.lease.Expires) {
		n.answer(t, &wire.Answer{Error: "lease"})
		return
	}
	n.respond(t, n.do(t))
}

// next ends a task and gives one that waited: of its own lease first.
func (n *Node) next(done *task) *task {
	n.mu.Lock()
	defer n.mu.Unlock()
	g := done.lease
	if len(g.waiting) > 0 {
		t := g.waiting[0]
		g.waiting = g.waiting[1:]
		n.queue = append(n.queue, t)
	} else {
		g.flying--
	}
	if len(n.queue) == 0 {
		return nil
	}
	t := n.queue[0]
	n.queue = n.queue[1:]
	return t
}

// respond seals a response for the worker.
func (n *Node) respond(t *task, r *wire.Response) {
	a := &wire.Answer{Lease: t.call.Lease, Call: t.call.Call}
	a.Sealed = t.lease.channel.Seal(nil, a.Place(), wire.AppendBody(nil, r))
	n.answer(t, a)
}

func (n *Node) answer(t *task, a *wire.Answer) {
	a.Lease, a.Worker, a.Call = t.call.Lease, t.call.Worker, t.call.Call
	n.cfg.Bus.Send(wire.RoleRunner, t.from, wire.TopicAnswer, a)
}
