package runner

import (
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
	DefaultCapacity     = 256 // executions in flight: fewer leaves a slow disk idle
	DefaultWorkers      = 128 // resident at once, bound or not
	DefaultSandboxes    = 64
	DefaultSpareWorkers = 2
	DefaultIdle         = 30 * time.Second
	heartbeat           = time.Second
	bindTimeout         = 10 * time.Second
	sandboxLife         = 15 * time.Minute // hard end of one sandbox
)

// Bus is what a runner needs of its connection; *bus.Conn is it.
type Bus interface {
	Send(to wire.Role, node id.Node, topic wire.Topic, m wire.Typed)
	Relay(to wire.Role, node id.Node, topic wire.Topic, f wire.Frame)
	Ask(ctx context.Context, to wire.Role, topic wire.Topic, m, answer wire.Typed) error
}

// Starter starts jailed processes; *jail.Spawner is it.
type Starter interface {
	Start(ctx context.Context, k jail.Kind) (*jail.Process, error)
}

// Config is how a runner works. Zero fields take the defaults above.
type Config struct {
	Node      id.Node
	Sign      *seal.SignKey
	Bus       Bus
	Jail      Starter
	Egress    map[string][]id.Node // live egress nodes of each pool
	Capacity  int
	Workers   int // the memory budget divided by the memory of one worker
	Sandboxes int
	Spare     int // unbound workers, and as many sandboxes, kept ready; -1: none
	Idle      time.Duration
	Log       *slog.Logger
}

// Runner is a running runner.
type Runner struct {
	cfg   Config
	defs  *definitions
	ready chan struct{} // holds one token when a Want is due

	mu         sync.Mutex
	closing    bool
	workers    map[*worker]struct{}
	byInstance map[id.Instance]*worker // the one that takes new units
	byNumber   map[uint64]*worker
	spare      []*worker
	sandboxes  map[id.Execution]*sandbox
	spareBoxes []*sandbox
	boxes      int // sandboxes alive
	held       map[id.Execution]*held
	lastNumber uint64
	server     id.Node // that last gave work
	processes  errgroup.Group
}

// held is one execution and where it is.
type held struct {
	fence  uint64
	server id.Node
	worker *worker
}

// New makes a runner. Call Handle for what comes from the bus, and Run.
func New(cfg Config) *Runner {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&cfg.Capacity, DefaultCapacity)
	def(&cfg.Workers, DefaultWorkers)
	def(&cfg.Sandboxes, DefaultSandboxes)
	def(&cfg.Spare, DefaultSpareWorkers)
	if cfg.Idle == 0 {
		cfg.Idle = DefaultIdle
	}
	return &Runner{
		cfg:        cfg,
		defs:       newDefinitions(cfg.Bus),
		ready:      make(chan struct{}, 1),
		workers:    map[*worker]struct{}{},
		byInstance: map[id.Instance]*worker{},
		byNumber:   map[uint64]*worker{},
		sandboxes:  map[id.Execution]*sandbox{},
		held:       map[id.Execution]*held{},
	}
}

// Run keeps spare processes ready and tells servers what is free, until the
// context ends; then it kills every process and waits for them.
func (r *Runner) Run(ctx context.Context) error {
	r.refill()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		r.sendWant()
		select {
		case <-ctx.Done():
			r.close()
			if err := ctx.Err(); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		case <-beat.C:
			r.reap(time.Now())
			r.refill()
		case <-r.ready:
		}
	}
}

// due makes Run send a Want soon.
func (r *Runner) due() {
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

// sendWant tells a server what is held and what is free.
func (r *Runner) sendWant() {
	r.mu.Lock()
	m := &wire.Want{Free: uint32(max(r.cfg.Capacity-len(r.held), 0)), Draining: r.closing}
	for e, h := range r.held {
		m.Held = append(m.Held, wire.Held{Execution: e, Fence: h.fence})
	}
	soon := time.Now().Add(renewBefore)
	for instance, w := range r.byInstance {
		m.Bound = append(m.Bound, wire.BoundInstance{
			Instance: instance, Definition: w.dispatch.Definition,
			Renew: len(w.executions) > 0 && w.state == bound && w.expires.Before(soon),
		})
	}
	r.mu.Unlock()
	r.cfg.Bus.Send(wire.RoleServer, id.Node{}, wire.TopicWork, m)
}

// close kills everything that runs and waits until it is gone.
func (r *Runner) close() {
	r.mu.Lock()
	r.closing = true
	for w := range r.workers {
		w.kill("shutdown")
	}
	for _, s := range r.sandboxes {
		s.kill()
	}
	for _, s := range r.spareBoxes {
		s.kill()
	}
	r.mu.Unlock()
	_ = r.processes.Wait()
}

// reap ends workers that have been idle for long.
func (r *Runner) reap(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.workers {
		if w.state == bound && len(w.executions) == 0 && now.Sub(w.idleSince) > r.cfg.Idle {
			w.kill("idle")
		}
	}
}

// Handle takes a frame from the bus. It does not block.
func (r *Runner) Handle(from id.Node, topic wire.Topic, f wire.Frame, _ func(wire.Typed)) {
	var err error
	switch {
	case topic == wire.TopicUnit && f.Type == wire.TypeDispatch:
		err = r.dispatch(from, f)
	case topic == wire.TopicUnit:
		err = r.toWorker(from, f)
	case topic == wire.TopicAnswer && f.Type == wire.TypeAnswer:
		err = r.answer(f)
	default:
		err = wire.ErrMalformed
	}
	if err != nil {
		r.cfg.Log.Error("frame dropped", "from", from.String(), "type", f.Type.String(), "err", err)
	}
}

// toWorker passes a server's frame about an execution on to its worker.
func (r *Runner) toWorker(from id.Node, f wire.Frame) error {
	e, fence, ok := wire.Scope(f)
	if !ok {
		return wire.ErrMalformed
	}
	r.mu.Lock()
	h := r.held[e]
	r.mu.Unlock()
	if h == nil || h.server != from || fence != 0 && fence != h.fence {
		return nil // it has left meanwhile
	}
	return h.worker.relay(f)
}

// answer passes an answer of egress on to the worker that asked.
func (r *Runner) answer(f wire.Frame) error {
	var m wire.Answer
	if err := f.Parse(&m); err != nil {
		return err
	}
	r.mu.Lock()
	w := r.byNumber[m.Worker]
	r.mu.Unlock()
	if w == nil {
		return nil
	}
	return w.relay(f)
}
