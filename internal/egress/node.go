package egress

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Limits of a node.
const (
	// MaxLeases is how many live leases a node holds; more are refused.
	MaxLeases = 10_000
	// maxDropped is how many leases are remembered that were dropped before their end.
	maxDropped = 16 * MaxLeases
	// MaxInFlight is how many calls of a node run at a time.
	MaxInFlight = 1024
	// MaxInFlightOfCustomer is how many calls of one customer run at a time; more wait for
	// others of the same customer. No customer can keep a node from the others, and none of
	// its connections its other ones: see leaveFree.
	MaxInFlightOfCustomer = 128
	// maxWaitingOfCustomer is how many wait; more are answered with the error limit.
	maxWaitingOfCustomer = 4096
	// maxBytesOfCustomer and maxBytes bound the requests that are held, running or
	// waiting, in bytes; what is over one is answered with the error limit.
	maxBytesOfCustomer = 64 << 20
	maxBytes           = 256 << 20
	// idleCaller is how long a goroutine that makes calls waits for the next one.
	idleCaller = 10 * time.Second
)

// Bus is what a node needs of its connection; *bus.Conn is it. Send must not block.
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
	// Renewer serves the orders of servers, and brings newer tokens for leases. Nil: orders are
	// refused, and tokens are used as they are leased.
	Renewer *Renewer
	Log     *slog.Logger
}

// Node serves the calls of workers: it opens the leases that the vault has sealed
// to it, and under each lease the calls that only its worker can have sealed, once.
type Node struct {
	cfg   NodeConfig
	blobs *blobLink
	tasks chan *task // to callers that were counted as idle
	pace  *pacer
	// replaced are the credentials that were replaced lately.
	replaced replacements

	mu      sync.Mutex
	leases  map[id.Lease]*granted
	dropped map[id.Lease]time.Time // ended before their time, which is remembered
	shares  map[id.Customer]*share
	lines   map[lineKey]*line
	queue   []*task
	bytes   int
	running int       // callers
	peers   []id.Node // other nodes that share the limits of providers
	idle    int       // callers that wait for a task
}

// granted is one lease that this node holds.
type granted struct {
	*lease.Egress
	channel *seal.Channel
	slots   map[string]*Lease
	tokens  map[string]*tokenSlot             // those whose credential is renewed
	sharing map[string]map[string][]permitted // the only actions that may use a slot, where that is limited, and what they look like
	refused map[string]string                 // why a slot cannot be used
	lines   map[string]*line                  // by slot
	ctx     context.Context                   // ends when the lease is dropped
	cancel  context.CancelFunc

	// Guarded by the node.
	open int  // calls that run or wait
	left bool // a credential of it was replaced: its worker gets another, and it ends with its last call
}

// task is one call of a worker.
type task struct {
	lease   *granted
	share   *share
	line    *line
	size    int
	from    id.Node
	call    wire.Call
	request wire.Request
	left    bool // it was not made, because the credential was replaced
}

// NewNode makes a Node. Call Handle for what comes from the bus, and Run.
func NewNode(cfg NodeConfig) *Node {
	n := &Node{
		cfg: cfg, blobs: newBlobLink(cfg.Bus), tasks: make(chan *task, MaxInFlight),
		leases: map[id.Lease]*granted{}, dropped: map[id.Lease]time.Time{}, shares: map[id.Customer]*share{}, lines: map[lineKey]*line{},
	}
	n.pace = newPacer(n.tellOthers)
	if cfg.Renewer != nil {
		cfg.Renewer.replaced = n.replaced.note
	}
	return n
}

// SetPeers says which other egress nodes live that make calls of the same connections: those of the same pool. They share
// the limits of providers.
func (n *Node) SetPeers(others []id.Node) {
	n.mu.Lock()
	n.peers = slices.Clone(others)
	n.mu.Unlock()
	n.pace.share(len(others) + 1)
}

// tellOthers says that a provider wants no calls of a connection for a time. It is called with the pacer's lock held, and
// the bus does not block.
func (n *Node) tellOthers(m *wire.Pause) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, other := range n.peers {
		n.cfg.Bus.Send(wire.RoleEgress, other, wire.TopicPause, m)
	}
}

// Run forgets leases when they have ended, until the context ends. Then it gives up
// the calls that run.
func (n *Node) Run(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			n.mu.Lock()
			defer n.mu.Unlock()
			for _, g := range n.leases {
				g.cancel()
			}
			return nil
		case now := <-t.C:
			n.mu.Lock()
			for _, g := range n.leases {
				if !now.Before(g.Expires) {
					n.forget(g)
				}
			}
			maps.DeleteFunc(n.dropped, func(_ id.Lease, end time.Time) bool { return !now.Before(end) })
			n.mu.Unlock()
			n.replaced.forget(now)
		}
	}
}

// Handle takes a frame from the bus. It does not block.
func (n *Node) Handle(from id.Node, topic wire.Topic, f wire.Frame, answer func(wire.Typed)) {
	var err error
	switch {
	case topic == wire.TopicCall && f.Type == wire.TypeCall:
		err = n.call(from, f)
	case topic == wire.TopicCall && f.Type == wire.TypeLeaseGive:
		err = n.give(from, f)
	case topic == wire.TopicCall && f.Type == wire.TypeLeaseDrop:
		err = n.drop(from, f)
	case topic == wire.TopicPause && f.Type == wire.TypePause:
		var m wire.Pause
		if err = f.Parse(&m); err == nil {
			n.pace.pause(&m)
		}
	case topic == wire.TopicBlob && f.Type == wire.TypeBlobChunk:
		err = n.blobs.chunk(from, f)
	case topic == wire.TopicOrder && f.Type == wire.TypeOrder && answer != nil && n.cfg.Renewer != nil:
		err = n.order(from, f, answer)
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
	now := time.Now()
	if g.Runner != from || !now.Before(g.Expires) || g.Expires.Sub(now) > 2*lease.MaxLife {
		return fmt.Errorf("%w: a lease of another runner or time", lease.ErrRefused)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.leases) >= MaxLeases || len(n.dropped) >= maxDropped {
		return fmt.Errorf("%w: too many leases", lease.ErrRefused)
	}
	_, live := n.leases[g.Lease]
	if _, dropped := n.dropped[g.Lease]; live || dropped {
		return fmt.Errorf("%w: a lease that was given before", lease.ErrRefused)
	}
	n.lend(g)
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
	g := &granted{Egress: l, channel: channel, slots: map[string]*Lease{}, tokens: map[string]*tokenSlot{}, sharing: map[string]map[string][]permitted{}, refused: map[string]string{}}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	common := &spent{}
	for i := range l.Slots {
		s := &l.Slots[i]
		if g.sharing[s.Slot], err = compileShared(s.Record.SharedFor); err != nil {
			g.refused[s.Slot] = err.Error()
			continue
		}
		spec, err := specOf(l, &s.Record)
		var slot *Lease
		if err == nil {
			slot, err = NewLease(spec)
		}
		if err == nil {
			slot.spent = common
			g.slots[s.Slot] = slot
		}
		switch {
		case s.Record.Kind.Changes() && (err == nil || len(s.Record.Field(lease.FieldAccessToken)) == 0):
			record := s.Record
			record.Fields = nil
			g.tokens[s.Slot] = &tokenSlot{granted: g, ticket: s.Ticket, spent: common, lease: slot, record: record}
		case err != nil:
			g.refused[s.Slot] = err.Error()
		}
		s.Record.Fields = nil // they live on in the Lease only
	}
	return g, nil
}

// drop forgets a lease whose worker has ended, and gives up what it was doing.
func (n *Node) drop(from id.Node, f wire.Frame) error {
	var m wire.LeaseDrop
	if err := f.Parse(&m); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if g := n.leases[m.Lease]; g != nil && g.Runner == from {
		n.end(g)
	}
	return nil
}

// end ends a lease before its time. The caller holds mu.
func (n *Node) end(g *granted) {
	n.forget(g)
	n.dropped[g.Lease] = g.Expires
	g.cancel()
}

// RunnerGone forgets the leases of a runner that has ended, and gives up what they were doing.
func (n *Node) RunnerGone(runner id.Node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, g := range n.leases {
		if g.Runner == runner {
			n.end(g)
		}
	}
}

// call opens a worker's call and starts it, or lets it wait for others of its customer.
func (n *Node) call(from id.Node, f wire.Frame) error {
	t := &task{from: from}
	if err := f.Parse(&t.call); err != nil {
		return err
	}
	n.mu.Lock()
	t.lease = n.leases[t.call.Lease]
	n.mu.Unlock()
	if t.lease == nil || t.lease.Runner != from || !time.Now().Before(t.lease.Expires) {
		n.answer(t, &wire.Answer{Error: wire.ErrorLease})
		return nil
	}
	plain, err := t.lease.channel.Open(nil, t.call.Place(), t.call.Sealed)
	if err != nil {
		return err // not by the lease's worker, or not for the first time
	}
	if err := wire.ParseBody(plain, &t.request); err != nil {
		return err
	}
	t.call.Sealed, t.size = nil, len(plain)
	if t.line = t.lease.lines[t.request.Slot]; t.line == nil {
		n.respond(t, n.try(t)) // there is no such slot, which is quickly said
	} else if !n.admit(t) {
		n.respond(t, &wire.Response{ErrorType: string(Limit), Message: "too many calls of this connection, or of its customer, wait for others to finish"})
	}
	return nil
}

// start hands a task to a caller that waits for one, or starts one: they keep
// their grown stacks, which net/http needs. The caller holds mu.
func (n *Node) start(t *task) {
	switch {
	case n.idle > 0:
		n.idle--
		n.tasks <- t // has room for as many as there are callers
	case n.running < MaxInFlight:
		n.running++
		go n.caller(t)
	default:
		n.queue = append(n.queue, t)
	}
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
			if n.idle > 0 {
				n.idle--
				n.running--
				n.mu.Unlock()
				return
			}
			n.mu.Unlock()
			t = <-n.tasks // it was counted on, and has been sent
		}
	}
}

// serve makes a call, unless its lease ended while it waited for others, or the credential was
// replaced: nothing was sent then, and the worker asks again under a newer lease.
func (n *Node) serve(t *task) {
	if t.lease.ctx.Err() != nil || !time.Now().Before(t.lease.Expires) {
		n.answer(t, &wire.Answer{Error: wire.ErrorLease})
		return
	}
	r := n.try(t)
	if r == nil {
		t.left = true
		n.answer(t, &wire.Answer{Error: wire.ErrorReplaced})
		return
	}
	n.respond(t, r)
}

// try makes a call; nil: it was not made, see do. A panic is the end of this call only: the node serves everybody.
func (n *Node) try(t *task) (r *wire.Response) {
	defer func() {
		if p := recover(); p != nil {
			n.cfg.Log.Error("call panicked", "execution", t.request.Execution, "panic", p, "stack", string(debug.Stack()))
			r = &wire.Response{ErrorType: string(Upstream), Message: "the call failed"}
		}
	}()
	return n.do(t)
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
