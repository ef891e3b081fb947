package runner

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Defaults of [Config].
const (
	DefaultCapacity = 256 // executions in flight: fewer leaves a slow disk idle
	DefaultMemory   = 2 << 30
	// DefaultIdleMemory is more than a worker holds that has run small executions (3 MiB).
	DefaultIdleMemory = 4 << 20
	DefaultSandboxes  = 64
	DefaultSpare      = 2
	DefaultIdle       = 30 * time.Second
)

const (
	// maxCapacity keeps what one worker can be given below what it takes.
	maxCapacity = 2048
	// overload is how much more than its capacity a runner takes: servers give out
	// again what has ended before they learn that it has left here.
	overload = 2
	// heartbeat is how often servers are told what is held; much less than their leases last.
	heartbeat = time.Second
	// firstBeat is the same until a server has been heard, for the first firstBeats times.
	firstBeat  = 50 * time.Millisecond
	firstBeats = 100
	// wantGap is the least time between two words to servers.
	wantGap = 20 * time.Millisecond
	// openBeat is how many heartbeats there are between two that any server may take.
	openBeat = 8
	// bindTimeout bounds the start of a process, and one binding.
	bindTimeout = 10 * time.Second
	// sandboxLife is the hard end of one sandbox.
	sandboxLife = 15 * time.Minute
	// cancelGrace is how long a worker may hold on to an execution that was cancelled.
	cancelGrace = time.Minute
)

// Bus is what a runner needs of its connection; *bus.Conn is it. Send and Relay
// must not block, and frames to one place arrive in the order of the calls.
type Bus interface {
	Send(to wire.Role, node id.Node, topic wire.Topic, m wire.Typed)
	Relay(to wire.Role, node id.Node, topic wire.Topic, f wire.Frame)
	Ask(ctx context.Context, to wire.Role, topic wire.Topic, m, answer wire.Typed) error
}

// Roomy is the optional ability of a Bus to let a sender wait until less than limit
// bytes are queued. With it, children write no faster than the bus takes.
type Roomy interface{ AwaitRoom(limit int) }

// Starter starts jailed processes; *jail.Spawner is it.
type Starter interface {
	Start(ctx context.Context, k jail.Kind) (*jail.Process, error)
}

// Config is how a runner works. Zero fields take the defaults above.
type Config struct {
	Node   id.Node
	Sign   *seal.SignKey
	Bus    Bus
	Jail   Starter
	Egress map[string][]id.Node // live egress nodes of each pool at the start, see SetEgress
	// Capacity is how many executions servers may have here at once, at most 2048.
	Capacity int
	// Memory is the budget in bytes of all workers and sandboxes together. Each counts
	// with the limit that its jail enforces, so the budget holds whatever they do; only a
	// worker that has nothing to do, and got nothing large, counts with IdleMemory. It is
	// never less than what two workers and two sandboxes need; a quarter of it is kept
	// for sandboxes.
	Memory     int64
	IdleMemory int64 // default: DefaultIdleMemory
	// WorkerMemory and SandboxMemory are those limits in bytes; 0 is the jail's default.
	WorkerMemory  int64
	SandboxMemory int64
	// Sandboxes is how many there are at once, within the budget. One instance gets at
	// most half of them.
	Sandboxes int
	// Spare is how many unbound workers, and as many sandboxes, are kept ready; -1: none.
	Spare int
	// Idle is how long a worker without executions stays.
	Idle time.Duration
	Log  *slog.Logger
}

func (c Config) withDefaults() Config {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	bytes := func(p *int64, v int64) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&c.Capacity, DefaultCapacity)
	def(&c.Sandboxes, DefaultSandboxes)
	def(&c.Spare, DefaultSpare)
	bytes(&c.Memory, DefaultMemory)
	bytes(&c.WorkerMemory, jail.DefaultWorkerMemory)
	bytes(&c.IdleMemory, DefaultIdleMemory)
	c.IdleMemory = min(c.IdleMemory, c.WorkerMemory)
	bytes(&c.SandboxMemory, jail.DefaultSandboxMemory)
	c.Capacity = min(c.Capacity, maxCapacity)
	c.Memory = max(c.Memory, 2*(c.WorkerMemory+c.SandboxMemory))
	if c.Idle == 0 {
		c.Idle = DefaultIdle
	}
	return c
}

// Runner is a running runner.
type Runner struct {
	cfg   Config
	start func(context.Context, jail.Kind) (*child, error)
	defs  *definitions
	room  func()        // waits until the bus takes more
	ready chan struct{} // holds one token when Run has something to do

	mu       sync.Mutex
	closing  bool
	draining bool          // nothing new is wanted
	heldLess chan struct{} // closed, and made anew, when something held has left
	egress   map[string][]id.Node
	// egressChanged is closed, and made anew, when egress changes.
	egressChanged chan struct{}

	refilling  bool // a spare was taken
	workers    map[*worker]struct{}
	weight     int64     // of all workers
	busy       int64     // the same of those that have something to do, and room for it
	spareable  int64     // the same of those that may leave
	resting    list.List // of *worker that may leave, the one that did nothing for longest first
	line       []*worker // have something to do and wait for room, first come first served
	returned   time.Time // when room came back last
	byNumber   map[uint64]*worker
	bound      map[boundKey]*worker // the one that takes new units
	spare      []*worker
	boxes      map[*sandbox]struct{} // alive
	sandboxes  map[id.Execution]*sandbox
	spareBoxes []*sandbox
	wanting    []*held // wait for a sandbox, first come first served
	held       map[id.Execution]*held
	readings   map[id.View]*reading
	servers    map[id.Node]time.Time // that gave work, and when last
	lastNumber uint64
	processes  errgroup.Group
}

// boundKey is what a worker runs: one definition of one instance.
type boundKey struct {
	instance   id.Instance
	definition [32]byte
}

// held is one execution and where it is.
type held struct {
	execution id.Execution
	fence     uint64
	server    id.Node
	worker    *worker
	queued    bool      // its unit has not been given to the worker
	cancelled time.Time // when its worker was told to give it up
}

// New makes a runner. Call Handle for what comes from the bus, and Run.
func New(cfg Config) *Runner {
	r := &Runner{
		cfg:       cfg.withDefaults(),
		defs:      newDefinitions(cfg.Bus),
		room:      func() {},
		ready:     make(chan struct{}, 1),
		workers:   map[*worker]struct{}{},
		byNumber:  map[uint64]*worker{},
		bound:     map[boundKey]*worker{},
		boxes:     map[*sandbox]struct{}{},
		sandboxes: map[id.Execution]*sandbox{},
		held:      map[id.Execution]*held{},
		readings:  map[id.View]*reading{},
		servers:   map[id.Node]time.Time{},
		egress:    cfg.Egress,

		heldLess: make(chan struct{}), egressChanged: make(chan struct{}),
	}
	r.start = func(ctx context.Context, k jail.Kind) (*child, error) {
		p, err := cfg.Jail.Start(ctx, k)
		if err != nil {
			return nil, err
		}
		return &child{conn: p.Conn, kill: p.Kill, wait: p.Wait}, nil
	}
	if b, ok := cfg.Bus.(Roomy); ok {
		r.room = func() { b.AwaitRoom(maxQueued) }
	}
	return r
}

// Run keeps spare processes ready and tells servers what is held, until the
// context ends; then it kills every process, gives back what they held and waits
// for their end.
func (r *Runner) Run(ctx context.Context) error {
	defer r.close()
	beats := 0
	said := time.Time{}
	beat := time.NewTimer(0)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			if err := ctx.Err(); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		case now := <-beat.C:
			beat.Reset(r.next(beats))
			r.reap(now)
			r.refill()
			r.sendWants(now, beats%openBeat == 0)
			beats++
			said = now
		case <-r.ready:
			r.refillTaken()
			now := time.Now()
			if soon := wantGap - now.Sub(said); soon > 0 {
				beat.Reset(soon)
				continue
			}
			r.sendWants(now, r.serverless())
			said = now
		}
	}
}

// next is how long after a number of heartbeats the next one comes.
func (r *Runner) next(beats int) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.servers) == 0 && beats < firstBeats {
		return firstBeat
	}
	return heartbeat
}

// serverless reports whether no server is known.
func (r *Runner) serverless() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.servers) == 0
}

// due makes Run look at what has changed.
func (r *Runner) due() {
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

// sendWants tells each server what is held for it and what is free: a server
// that is not told may give what it has here to somebody else. A server that has
// nothing here learns of this runner by what any server may take.
func (r *Runner) sendWants(now time.Time, open bool) {
	r.mu.Lock()
	wants := r.wants(now)
	r.mu.Unlock()
	if _, ok := wants[id.Node{}]; !ok && open {
		for _, m := range wants {
			r.cfg.Bus.Send(wire.RoleServer, id.Node{}, wire.TopicWork, &wire.Want{Free: m.Free, Bound: m.Bound, Draining: m.Draining})
			break
		}
	}
	for server, m := range wants {
		r.cfg.Bus.Send(wire.RoleServer, server, wire.TopicWork, m)
	}
}

// wants are the heartbeats of each server, with a zero node when none is known.
// The caller holds mu.
func (r *Runner) wants(now time.Time) map[id.Node]*wire.Want {
	common := wire.Want{Free: uint32(max(r.cfg.Capacity-len(r.held), 0)), Draining: r.closing || r.draining}
	if common.Draining || len(r.line) > 0 {
		common.Free = 0
	}
	soon := now.Add(renewBefore)
	for w := range r.workers {
		if w.state != binding && w.state != bound || !w.started {
			continue
		}
		renew := w.state == bound && len(w.executions) > 0 && w.expires.Before(soon)
		if r.bound[w.key()] == w || renew {
			common.Bound = append(common.Bound, wire.BoundInstance{Instance: w.instance, Definition: w.definition, Renew: renew})
		}
	}
	out := map[id.Node]*wire.Want{}
	of := func(server id.Node) *wire.Want {
		m := out[server]
		if m == nil {
			m = &wire.Want{Free: common.Free, Bound: common.Bound, Draining: common.Draining}
			out[server] = m
		}
		return m
	}
	for _, h := range r.held {
		m := of(h.server)
		m.Held = append(m.Held, wire.Held{Execution: h.execution, Fence: h.fence})
		r.servers[h.server] = now
	}
	for server, seen := range r.servers {
		if now.Sub(seen) > time.Minute {
			delete(r.servers, server)
			continue
		}
		of(server)
	}
	if len(out) == 0 {
		of(id.Node{})
	}
	return out
}

// close kills everything that runs and waits until it is gone.
func (r *Runner) close() {
	r.mu.Lock()
	r.closing = true
	r.mu.Unlock()
	r.sendWants(time.Now(), true) // draining: what is given back must not come here again
	r.mu.Lock()
	for w := range r.workers {
		w.kill("shutdown")
	}
	for s := range r.boxes {
		s.kill("shutdown")
	}
	r.wanting = nil
	r.mu.Unlock()
	_ = r.processes.Wait()
}

// reap ends workers that have been idle for long, that never said hello, or that
// hold on to what was cancelled.
func (r *Runner) reap(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.workers {
		switch {
		case w.state == bound && w.idle() && now.Sub(w.idleSince) > r.cfg.Idle:
			w.kill("idle")
		case w.state == fresh && !w.greeted && now.Sub(w.idleSince) > bindTimeout:
			w.kill("unavailable")
		}
	}
	r.reapLine(now)
	for _, h := range r.held {
		if !h.cancelled.IsZero() && now.Sub(h.cancelled) > cancelGrace {
			h.worker.kill("cancel")
		}
	}
	r.reapReadings(now)
	r.serveWanting()
}

// Handle takes a frame from the bus. It does not block, and is safe for
// concurrent use; frames of one sender are to come in order.
func (r *Runner) Handle(from id.Node, topic wire.Topic, f wire.Frame, _ func(wire.Typed)) {
	var err error
	switch {
	case topic == wire.TopicUnit && f.Type == wire.TypeDispatch:
		err = r.dispatch(from, f)
	case topic == wire.TopicUnit && f.Type == wire.TypeRead:
		err = r.read(from, f)
	case f.Type == wire.TypeLost && (topic == wire.TopicUnit || topic == wire.TopicAnswer):
		r.lostWith(from, topic)
	case topic == wire.TopicUnit:
		err = r.toWorker(from, f)
	case topic == wire.TopicAnswer && f.Type == wire.TypeAnswer:
		err = r.answer(from, f)
	default:
		err = wire.ErrMalformed
	}
	if err != nil {
		r.cfg.Log.Error("frame dropped", "from", from.String(), "type", f.Type.String(), "err", err)
	}
}

// toWorker passes a server's frame about an execution on to its worker, behind its
// unit. A cancelled one that still waits for its worker leaves at once.
func (r *Runner) toWorker(from id.Node, f wire.Frame) error {
	switch f.Type {
	case wire.TypeAppended, wire.TypeCancel, wire.TypeWake, wire.TypeStateResult, wire.TypeJournalPage, wire.TypeBlobChunk:
	default:
		return wire.ErrMalformed
	}
	e, fence, ok := wire.Scope(f)
	if !ok {
		return wire.ErrMalformed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if wire.ForRead(f) {
		r.readChunk(from, e, f)
		return nil
	}
	h := r.held[e]
	if h == nil || h.server != from || fence != 0 && fence != h.fence {
		return nil // it has left meanwhile
	}
	switch {
	case h.queued && f.Type == wire.TypeCancel:
		h.worker.unqueue(h)
		r.release(h, "")
	case h.queued:
		h.worker.jobs = append(h.worker.jobs, &job{of: h, frame: f})
	default:
		if f.Type == wire.TypeCancel && h.cancelled.IsZero() {
			h.cancelled = time.Now()
		}
		h.worker.relay(f)
	}
	return nil
}

// answer passes an answer of egress on to the worker that asked.
func (r *Runner) answer(from id.Node, f wire.Frame) error {
	var m wire.Answer
	if err := f.Parse(&m); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.byNumber[m.Worker]
	if w == nil || w.leases[m.Lease].node != from || w.leases[m.Lease].gone {
		return nil
	}
	w.relay(f)
	switch {
	case m.Error == "" || m.Lease != w.newest || w.state != bound:
	case m.Error == wire.ErrorReplaced: // it needs another; what is under way under this one is still answered
		w.expires = time.Time{}
		r.due()
	default:
		w.drop(m.Lease) // egress does not have it: it never came there
	}
	return nil
}
