package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// dedupeFor is how long a delivery id is remembered.
const dedupeFor = 7 * 24 * time.Hour

// Event is something that starts a flow.
type Event struct {
	Customer id.Customer
	Instance id.Instance
	Flow     string
	// Body is the trigger as JSON, in clear; sealed before it is stored. Rest continues it:
	// a door need not copy a large body between what is said about it. Both are only read,
	// and are the caller's again when Accept returns.
	Body []byte
	Rest [][]byte

	ID       id.Event     // default: made
	Source   string       // CloudEvents source, given by the platform
	Type     string       // CloudEvents type, given by the platform
	Delivery string       // delivery id for dropping duplicates; empty: none
	OrderKey string       // value of the flow's concurrency key, when it writes one
	Cause    store.Cause  // default: trigger
	CauseID  id.Execution // the execution replayed, when Cause says so
	Test     bool
	Viewer   lease.Viewer // who watches, see [Engine.Watch]; zero: nobody
	// Claim, when set, runs in the transaction that stores the event, with its execution,
	// and may run again. Nothing is stored when it returns false: another server was first.
	Claim func(rows store.CustomerTx, x id.Execution) (bool, error)
}

// Accepted is the answer to an event that is stored.
type Accepted struct {
	Execution id.Execution
	Duplicate bool // the execution is that of an earlier delivery; zero when Claim refused
}

// Accept stores an event and its execution. When it returns without an error both are
// durable; when the context ends before that they may be.
//
// Errors: ErrNotFound, ErrNotEnabled, ErrTooLarge, ErrBusy (a [*BusyError]), or one of the
// vault or the store.
func (e *Engine) Accept(ctx context.Context, ev *Event) (Accepted, error) {
	if ev.size() > MaxEvent {
		return Accepted{}, fmt.Errorf("accept event: %w", ErrTooLarge)
	}
	now := time.Now()
	j, delivery, err := e.newJob(ctx, ev, now)
	if err != nil {
		return Accepted{}, fmt.Errorf("accept event: %w", err)
	}
	if err := e.reserve(ctx, j); err != nil {
		e.counters.refused.Add(1)
		return Accepted{}, fmt.Errorf("accept event: %w", err)
	}
	row := j.row
	event, err := e.sealJob(ctx, ev, j, now)
	if err != nil {
		e.placed(j, false)
		return Accepted{}, fmt.Errorf("accept event: %w", err)
	}
	e.mu.Lock()
	e.place(j, now)
	e.mu.Unlock()
	result := make(chan error, 1)
	got, noted := Accepted{}, false
	e.db.Submit(func(tx *store.Tx) error {
		got, noted = Accepted{Execution: j.execution}, false
		c := tx.Customer(j.customer)
		if delivery != [32]byte{} {
			first, seen, err := c.Deduplicate(j.instance, ev.Flow, delivery, j.execution, now, now.Add(dedupeFor))
			if err != nil || seen {
				got = Accepted{first, seen}
				return err
			}
		}
		if ev.Claim != nil {
			if ok, err := ev.Claim(c, row.ID); err != nil || !ok {
				got = Accepted{Duplicate: true}
				return err
			}
		}
		if err := event.insert(c, row); err != nil {
			return err
		}
		var err error
		noted, err = e.note(c, row.ID)
		return err
	}, func(err error) {
		j.noted = noted
		if err == nil && got.Duplicate {
			e.dropEvent(&event)
		}
		e.placed(j, err == nil && !got.Duplicate)
		e.counters.accepting.observe(time.Since(now))
		result <- err
	})
	select {
	case err := <-result:
		if err != nil {
			return Accepted{}, fmt.Errorf("accept event: %w", err)
		}
		return got, nil
	case <-ctx.Done():
		return Accepted{}, fmt.Errorf("accept event: %w", ctx.Err())
	}
}

// newJob makes the execution of an event, and the index of its delivery id.
func (e *Engine) newJob(ctx context.Context, ev *Event, now time.Time) (j *job, delivery [32]byte, err error) {
	i, err := e.catalog.instance(ctx, ev.Customer, ev.Instance)
	if err != nil {
		return nil, delivery, err
	}
	f, digest, err := e.flowOf(ctx, i, ev.Flow)
	if err != nil {
		return nil, delivery, err
	}
	if !takes(i, f) {
		return nil, delivery, ErrNotEnabled
	}
	x := &store.Execution{
		Customer: ev.Customer, ID: id.NewExecution(now), Instance: i.ID, Digest: digest, Flow: f.Name,
		Trigger: string(f.Trigger.Kind()), Event: ev.ID, EventSource: ev.Source, EventType: ev.Type,
		Status: store.Pending, Test: ev.Test, Accepted: now, Cause: ev.Cause, CauseID: ev.CauseID,
		EgressPool: i.EgressPool, RunnerPool: i.RunnerPool, Size: int64(ev.size()),
	}
	x.Root = x.ID
	if x.Event.IsZero() {
		x.Event = id.NewEvent(now)
	}
	if x.Cause == "" {
		x.Cause = store.CauseTrigger
	}
	newSeed(x)
	setLife(x, f)
	if ev.Delivery != "" {
		if delivery, err = e.keys.dedupeIndex(ctx, ev.Customer, i.ID, f.Name, ev.Delivery); err != nil {
			return nil, delivery, err
		}
	}
	if x.OrderKey, err = e.orderKey(ctx, x, f, ev.OrderKey); err != nil {
		return nil, delivery, err
	}
	j = &job{
		customer: ev.Customer, execution: x.ID, instance: i.ID, digest: digest, day: lease.Day(x.Day),
		viewer: ev.Viewer, row: x, size: x.Size, order: x.OrderKey, concurrency: f.Concurrency,
	}
	return j, delivery, nil
}

// takes reports whether an event may start a flow of an instance now. One that is being
// removed takes the end of itself.
func takes(i *store.Instance, f *flow.Flow) bool {
	switch i.State {
	case store.InstanceEnabled, store.InstancePaused, store.InstanceFailing:
		return true
	case store.InstanceRemoving:
		return f.Trigger.Remove != nil
	default:
		return false
	}
}

// newSeed fixes what an execution's random values and idempotency keys are made of.
func newSeed(x *store.Execution) {
	_, _ = rand.Read(x.Seed[:]) // never fails since Go 1.24
}

// setLife fixes how long an execution lives and when its payloads expire.
func setLife(x *store.Execution, f *flow.Flow) {
	x.Expires = x.Accepted.Add(f.Life())
	x.Retention = f.Retention.Or(flow.DefaultRetention)
	x.Day = uint32(lease.DayOf(x.Expires.Add(x.Retention)))
}

// reserve counts a new job among the pending and gives it its turn.
func (e *Engine) reserve(ctx context.Context, j *job) error {
	if err := e.countElsewhere(ctx, j.customer); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.admit(j); err != nil {
		return err
	}
	if j.concurrency != nil {
		j.execution = e.gates.ordered(j.execution)
		j.row.ID, j.row.Root = j.execution, j.execution
	}
	return nil
}

// sealJob seals the event of a new job.
func (e *Engine) sealJob(ctx context.Context, ev *Event, j *job, now time.Time) (sealedEvent, error) {
	sealer, err := e.keys.sealer(ctx, ev.Customer, j.day)
	if err != nil {
		return sealedEvent{}, err
	}
	event, err := e.sealEvent(sealer, ev, j.row, now)
	j.event = event.row
	return event, err
}

// place decides whether a new job is leased in the transaction that accepts it: when
// nobody is before it and a runner has room. Callers hold the mutex.
func (e *Engine) place(j *job, now time.Time) {
	j.state = delayed
	if !e.queue.passes(j) || !e.holds(j.customer) || !e.ours(j.customer) {
		return
	}
	r := e.choose(j, now)
	if r == nil || !e.passesGate(j) {
		return
	}
	e.take(r, j)
	j.state, j.fence, j.until = leasing, 1, now.Add(e.o.LeaseTTL)
	x := j.row
	x.Status, x.Fence, x.Runner, x.LeaseUntil, x.Started = store.Running, 1, r.node, j.until, now
}

// passesGate gives a new job a place in its gate, if it needs one and one is free. Callers
// hold the mutex.
func (e *Engine) passesGate(j *job) bool {
	if j.concurrency == nil {
		return true
	}
	if e.gates.join(j, j.order, j.concurrency); e.gates.enters(j) {
		return true
	}
	j.gate = nil // it stands before it once it is stored
	return false
}

// unplace forgets a new job that was not stored. Callers hold the mutex.
func (e *Engine) unplace(j *job) {
	e.drop(j)
	e.begun(j)
	e.admitted(e.gates.leave(j))
}

// placed follows the commit of a new job.
func (e *Engine) placed(j *job, stored bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	expires := j.row.Expires
	if stored {
		e.keep(j)
	}
	switch {
	case !stored:
		e.unplace(j)
	case j.state == leasing && !e.holds(j.customer):
		e.unplace(j)
		e.stray(j.customer, j.execution)
	case j.state == leasing:
		e.jobs[j.execution] = j
		e.watchStarted(j)
		e.post(j)
	default:
		e.watchStarted(j)
		e.enqueue(j, back)
	}
	if stored {
		e.counters.accepted.Add(1)
		e.addTimer(timer{at: expires, kind: expiry, customer: j.customer, execution: j.execution})
	}
	e.wakeLoop()
}

// Executions and journals, for those who show them.

// Execution reads the row of an execution.
func (e *Engine) Execution(ctx context.Context, c id.Customer, x id.Execution) (*store.Execution, error) {
	row, err := e.db.Customer(ctx, c).Execution(x)
	if err != nil {
		return nil, notFound(fmt.Errorf("read execution: %w", err))
	}
	return row, nil
}

// isStale reports whether a write changed nothing because the row was not as expected.
func isStale(err error) bool { return errors.Is(err, store.ErrNotFound) }

// Journal reads the committed entries of an execution in order; their bodies are sealed.
func (e *Engine) Journal(ctx context.Context, c id.Customer, x id.Execution) ([]wire.Entry, error) {
	list, err := e.db.Customer(ctx, c).Journal(x)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	return list, nil
}
