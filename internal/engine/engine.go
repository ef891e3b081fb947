package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/blob"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Limits and times of the engine.
const (
	// MaxUnit is the most executions of one dispatch.
	MaxUnit = 32
	// MaxUnitBytes bounds the events, journals and wakes of one dispatch, below wire.MaxFrame.
	MaxUnitBytes = 3 << 20
	// MaxInterruptions is how many times in a row a lease may be lost before the execution faults.
	MaxInterruptions = 3
	// MaxKills is the same where the worker was killed from outside the last time: that tells
	// less about the execution.
	MaxKills = 8
	// DefaultLeaseTTL is how long a lease lasts without a heartbeat.
	DefaultLeaseTTL = 10 * time.Second
	// DefaultCustomerCap is how many executions of one customer run at once.
	DefaultCustomerCap = 4096
	// DefaultRunnerBytes bounds the events and journals of what one runner runs at once.
	DefaultRunnerBytes = 48 << 20
	// vaultTimeout bounds one call to the vault.
	vaultTimeout = 10 * time.Second
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotFound: there is no such customer, instance, flow, execution or wait.
	ErrNotFound = errors.New("not found")
	// ErrNotEnabled: the instance takes no events in its state.
	ErrNotEnabled = errors.New("instance is not enabled")
	// ErrTooLarge: the event is over MaxEvent.
	ErrTooLarge = errors.New("event is too large")
	// ErrInvalid: the request makes no sense; the wrapped text says why.
	ErrInvalid = errors.New("invalid")
)

// Link carries frames to other roles. Send queues the frames and does not wait; frames
// to one node arrive in the order of the calls or not at all. It must not call the engine.
type Link interface {
	Send(role wire.Role, to id.Node, frames ...wire.Typed)
}

// Vault asks the vault for one of the operations of package lease.
type Vault interface {
	Call(ctx context.Context, op string, body []byte) ([]byte, error)
}

// Options are what an engine needs. Zero values of the last group are defaults.
type Options struct {
	Node  id.Node          // this server
	Sign  *seal.SignKey    // its identity, signs dispatches
	Key   *seal.PrivateKey // its sealing key: label values and the blind-index key are sealed to it
	Store *store.Store
	Blobs *blob.Store
	Link  Link
	Vault Vault

	Refresher Refresher        // orders refreshes; nil: none is ordered
	Replacer  Replacer         // tells egress nodes of credentials that were replaced; nil: nobody is told
	Live      lease.Identities // finds egress nodes, whose word about connections is taken; nil: it is not

	VaultKey     seal.PublicKey // what users enter is sealed to it, until SetVaultKey
	CallbackBase string         // URL prefix of callbacks
	HookBase     string         // URL prefix of webhooks
	Log          *slog.Logger   // default: none
	LeaseTTL     time.Duration  // default: DefaultLeaseTTL
	ShardLife    time.Duration  // of a claim of a shard; default: DefaultShardLife
	CustomerCap  int            // default: DefaultCustomerCap
	Metadata     time.Duration  // how long executions are listed after their end; default: DefaultMetadata
	RunnerBytes  int64          // of events and journals that one runner holds; default: DefaultRunnerBytes
	RemoveGrace  time.Duration  // see Remove; default: DefaultRemoveGrace
	RefreshEvery time.Duration  // between two looks at refreshes that are due; default: DefaultRefreshEvery; negative: nothing is ordered
	Pending      Pending        // bounds of what has not begun; each zero is its default
}

// Pending bounds the events that were accepted and have not begun.
type Pending struct {
	Events, AllEvents int   // of one customer, of all; default: DefaultPending, DefaultAllPending
	Bytes, AllBytes   int64 // of their events; default: DefaultPendingBytes, DefaultAllPendingBytes
}

// Engine schedules and journals. Make one with [New], run its loops with [Engine.Run].
type Engine struct {
	o     Options
	log   *slog.Logger
	db    *store.Store
	blobs *blob.Store
	keys  *keys

	catalog *catalog

	vaultKey atomic.Pointer[seal.PublicKey] // of the vault that runs

	kick       chan struct{} // wakes the scheduler's loop; never closed
	removeKick chan struct{} // wakes the loop that removes instances; never closed
	endKick    chan struct{} // wakes the loop that faults executions; never closed
	doubt      chan struct{} // has database and keystore compared; never closed

	turns    [instanceTurns]sync.Mutex // of deployments
	counters counters

	// sure says until when no other server can have claimed a shard, in microseconds since 1970.
	sure [store.Shards]atomic.Int64

	mu        sync.Mutex
	jobs      map[id.Execution]*job // all that are pending or running
	runners   map[id.Node]*runner
	queue     fairQueue
	backlog   backlog
	elsewhere elsewhere
	gates     gates
	large     *job                // waits for a runner that is kept free for its size, or nil
	outbox    []*job              // leased, to be sent
	paced     []*paced            // wait at the door, the next first
	kept      int                 // bytes of events of jobs that were not dispatched yet
	faults    map[id.Instance]int // in a row
	verdicts  []verdict
	lapsed    []loss // to be taken from their runners
	ending    []ending
	nextCheck time.Time // of leases
	timers    timerHeap
	horizon   time.Time // timers up to it are in memory
	claims    [store.Shards]claim
	nextClaim time.Time
	// claimingNow says that a renewal is on its way; gone and liveServers are for the next.
	claimingNow bool
	gone        []id.Node
	liveServers map[id.Node]bool
	strays      []key // changed, and perhaps another server's
	views       map[id.View]*Watch
	unwatched   bool // see EndWatches
	watched     map[id.Execution]*Watch

	flows flows // calls out that have begun
	used  used

	lanes [blobLanes]lane // blob work

	readings readings

	tokens *tokens
}

// New makes an engine over what the store holds: what was pending or running continues,
// and every wait is as it was. The store and the blobs stay the caller's to close, after
// Run has ended.
func New(ctx context.Context, o Options) (*Engine, error) {
	if o.Store == nil || o.Blobs == nil || o.Link == nil || o.Vault == nil || o.Sign == nil || o.Key == nil || o.Node.IsZero() {
		return nil, fmt.Errorf("make engine: %w: options are incomplete", ErrInvalid)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.LeaseTTL, o.CustomerCap = cmp.Or(o.LeaseTTL, DefaultLeaseTTL), cmp.Or(o.CustomerCap, DefaultCustomerCap)
	o.RunnerBytes, o.Metadata = cmp.Or(o.RunnerBytes, DefaultRunnerBytes), cmp.Or(o.Metadata, DefaultMetadata)
	o.ShardLife = cmp.Or(o.ShardLife, DefaultShardLife)
	o.RefreshEvery = cmp.Or(o.RefreshEvery, DefaultRefreshEvery)
	o.RemoveGrace = cmp.Or(o.RemoveGrace, DefaultRemoveGrace)
	e := &Engine{
		o: o, log: o.Log, db: o.Store, blobs: o.Blobs, kick: make(chan struct{}, 1), endKick: make(chan struct{}, 1),
		removeKick: make(chan struct{}, 1), faults: map[id.Instance]int{}, doubt: make(chan struct{}, 1),
		keys: newKeys(&o), catalog: newCatalog(o.Store), tokens: newTokens(),
		jobs: map[id.Execution]*job{}, runners: map[id.Node]*runner{}, views: map[id.View]*Watch{}, watched: map[id.Execution]*Watch{},
		elsewhere: elsewhere{customers: map[id.Customer]*tally{}},
	}
	for i := range e.lanes {
		e.lanes[i].ready = make(chan struct{}, 1)
	}
	e.SetVaultKey(o.VaultKey)
	e.queue, e.gates = newFairQueue(o.CustomerCap), newGates()
	p := &e.o.Pending
	e.backlog = backlog{
		each:      load{cmp.Or(p.Events, DefaultPending), cmp.Or(p.Bytes, DefaultPendingBytes)},
		all:       load{cmp.Or(p.AllEvents, DefaultAllPending), cmp.Or(p.AllBytes, DefaultAllPendingBytes)},
		customers: map[id.Customer]load{},
	}
	if err := e.restore(ctx); err != nil {
		return nil, fmt.Errorf("make engine: %w", err)
	}
	return e, nil
}

// SetVaultKey says that another vault has come: what users enter is sealed to its key from
// now on.
func (e *Engine) SetVaultKey(k seal.PublicKey) { e.vaultKey.Store(&k) }

// VaultKey is the key to which what users enter is sealed.
func (e *Engine) VaultKey() seal.PublicKey { return *e.vaultKey.Load() }

// Run schedules until the context ends. It is called once.
func (e *Engine) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	loops.Go(func() { e.endLoop(ctx) })
	loops.Go(func() { e.removeLoop(ctx) })
	loops.Go(func() { e.keys.prefetch(ctx) })
	loops.Go(func() { e.sweepLoop(ctx) })
	loops.Go(func() { e.retainLoop(ctx) })
	loops.Go(func() { e.reconcileLoop(ctx) })
	loops.Go(func() { e.pollLoop(ctx) })
	loops.Go(func() { e.statusLoop(ctx) })
	loops.Go(func() { e.refreshLoop(ctx) })
	for i := range e.lanes {
		loops.Go(func() { e.lanes[i].run(ctx) })
	}
	defer loops.Wait()
	defer func() { e.storeFlows(time.Now()) }()
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.kick:
		case <-tick.C:
		}
		tick.Reset(e.turn(ctx, time.Now()))
	}
}

// turn does everything that is due and returns how long nothing else will be.
func (e *Engine) turn(ctx context.Context, now time.Time) time.Duration {
	e.claimShards(now, nil)
	e.sendStrays()
	e.sweep(ctx, now)
	e.checkLeases(now)
	e.interruptLapsed()
	next := e.fireTimers(now)
	e.assign(now)
	e.letIn(now)
	e.sendUnits(ctx, now)
	e.renew(ctx, now)
	e.storeFlows(now.Add(-flowHold))
	e.storeUsed(now)
	return max(min(next, e.o.LeaseTTL/4, e.o.ShardLife/4), time.Millisecond)
}

// wakeLoop makes the scheduler look again.
func (e *Engine) wakeLoop() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// restore rebuilds the memory of the engine from SQL.
func (e *Engine) restore(ctx context.Context) error {
	system := e.db.System(ctx)
	weights, err := system.Weights()
	if err != nil {
		return fmt.Errorf("read weights: %w", err)
	}
	e.queue.weights = weights
	paused, err := system.HeldInstances()
	if err != nil {
		return fmt.Errorf("read paused instances: %w", err)
	}
	if e.queue.caps, err = system.InFlightCaps(); err != nil {
		return fmt.Errorf("read caps: %w", err)
	}
	for _, i := range paused {
		e.queue.held[i] = true
	}
	if err := e.failing(ctx); err != nil {
		return fmt.Errorf("read failing instances: %w", err)
	}
	if err := e.db.Write(ctx, func(tx *store.Tx) error { return tx.System().PrepareShards() }); err != nil {
		return fmt.Errorf("prepare shards: %w", err)
	}
	claimed := make(chan error, 1)
	e.claimShards(time.Now(), func(err error) { claimed <- err })
	select {
	case err := <-claimed:
		if err != nil {
			return fmt.Errorf("claim shards: %w", err)
		}
	case <-ctx.Done():
		return fmt.Errorf("claim shards: %w", ctx.Err())
	}
	return nil
}
