package trigger

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Limits and times of a clock.
const (
	// clockTick is how often a clock looks.
	clockTick = time.Second
	// clockBatch is how many schedules it takes at a time.
	clockBatch = 256
	// clockTasks is how many of them at once.
	clockTasks = 16
	// replanAfter is how long it waits after a question about times that nobody answered; twice
	// as long after each further one, up to replanMost.
	replanAfter = 5 * time.Second
	replanMost  = 5 * time.Minute
	// resolveTime bounds such a question.
	resolveTime = 20 * time.Second
	// maxUnanswered bounds the instances whose questions are waited with.
	maxUnanswered = 10_000
)

// Clock starts the flows that start at times. Any number of servers may run one: each run of
// a flow belongs to the server that advances its schedule, which happens in the transaction
// that stores the execution. So a run happens exactly once, whatever ends when.
//
// Runs that were missed while no server ran are made up for by one, whose time is that of the
// first missed. A paused instance goes on without its runs, and does not make up for them.
type Clock struct {
	engine *engine.Engine
	store  *store.Store
	log    *slog.Logger
	now    func() time.Time

	questions sync.WaitGroup
	asking    chan struct{} // holds a token for each question that is under way

	mu         sync.Mutex
	unanswered map[id.Instance]unanswered
}

// unanswered is an instance whose times a worker was asked for.
type unanswered struct {
	open  bool          // the question is under way
	again time.Time     // when to ask again
	pause time.Duration // before that
}

// NewClock makes a clock over what the store of an engine holds.
func NewClock(e *engine.Engine, db *store.Store, log *slog.Logger) *Clock {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Clock{engine: e, store: db, log: log, now: time.Now, unanswered: map[id.Instance]unanswered{}, asking: make(chan struct{}, clockTasks)}
}

// Run starts flows until the context ends.
func (c *Clock) Run(ctx context.Context) error {
	t := time.NewTicker(clockTick)
	defer t.Stop()
	var plans sync.WaitGroup
	defer c.questions.Wait()
	defer plans.Wait()
	plans.Go(func() { c.planLoop(ctx) })
	for {
		if err := c.turn(ctx); err != nil && ctx.Err() == nil {
			c.log.ErrorContext(ctx, "schedules could not be read", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// planLoop finds the times of schedules out, apart from the runs that need not wait for it.
func (c *Clock) planLoop(ctx context.Context) {
	t := time.NewTicker(clockTick)
	defer t.Stop()
	for {
		if err := c.plan(ctx); err != nil && ctx.Err() == nil {
			c.log.ErrorContext(ctx, "schedules could not be planned", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// turn starts everything that is due. What is refused is due in the next turn too, and keeps
// nothing else waiting: it may be all of one customer's, who has too much pending.
func (c *Clock) turn(ctx context.Context) error {
	now, busy := c.now(), 0
	for last := (*store.Schedule)(nil); ; {
		due, err := c.store.System(ctx).DueSchedules(c.engine.Node(), now, last, clockBatch)
		if err != nil {
			return err
		}
		busy += c.each(due, func(s *store.Schedule) error { return c.fire(ctx, s, now) })
		if len(due) < clockBatch || ctx.Err() != nil {
			break
		}
		last = due[len(due)-1]
	}
	if busy > 0 {
		c.log.WarnContext(ctx, "schedules wait, because too much is pending", "schedules", busy)
	}
	return nil
}

// each runs a task for every schedule, some at a time. It returns how many were refused
// because too much is pending, which is no failure of theirs.
func (c *Clock) each(list []*store.Schedule, task func(*store.Schedule) error) (busy int) {
	var wait sync.WaitGroup
	var refused atomic.Int64
	places := make(chan struct{}, clockTasks)
	for _, s := range list {
		places <- struct{}{}
		wait.Go(func() {
			defer func() { <-places }()
			switch err := task(s); {
			case errors.Is(err, engine.ErrBusy):
				refused.Add(1)
			case err != nil:
				c.log.Error("schedule failed", "instance", s.Instance, "flow", s.Flow, "err", err)
			}
		})
	}
	wait.Wait()
	return int(refused.Load())
}

// fire starts one run and plans the next, or only plans the next where the instance rests.
func (c *Clock) fire(ctx context.Context, s *store.Schedule, now time.Time) error {
	t, err := c.engine.Target(ctx, s.Customer, s.Instance, s.Flow)
	if errors.Is(err, engine.ErrNotFound) {
		return c.change(ctx, s, func(next *store.Schedule) { next.Plan = store.Unplannable })
	}
	if err != nil {
		return err
	}
	if s.Kind == store.KindDeploy {
		return c.deployed(ctx, s, t)
	}
	next := *s
	if err := advance(&next, planned(s), now); err != nil {
		return c.change(ctx, s, func(next *store.Schedule) { next.Plan = store.Unplannable })
	}
	if t.Instance.State != store.InstanceEnabled && t.Instance.State != store.InstanceFailing {
		return c.change(ctx, s, func(x *store.Schedule) { x.Plan, x.NextRun = next.Plan, next.NextRun })
	}
	return c.run(ctx, s, &next, t)
}

// deployed starts the flow with a deploy trigger, which then never runs again. One whose
// instance rests is planned again when that is enabled.
func (c *Clock) deployed(ctx context.Context, s *store.Schedule, t *engine.Target) error {
	next := *s
	next.Plan = store.Unplannable
	if t.Instance.State == store.InstanceEnabled || t.Instance.State == store.InstanceFailing {
		return c.run(ctx, s, &next, t)
	}
	return c.store.Write(ctx, func(tx *store.Tx) error {
		rows := tx.Customer(s.Customer)
		x, err := rows.Instance(s.Instance)
		if err != nil || x.State == store.InstanceEnabled { // it has been enabled a moment ago
			return err
		}
		_, err = rows.ChangeSchedule(&next)
		return err
	})
}

// run starts a flow, and makes its schedule the next one in the same transaction.
func (c *Clock) run(ctx context.Context, s, next *store.Schedule, t *engine.Target) error {
	e := &Envelope{Source: source(t), Type: s.Kind, Time: planned(s), Customer: t.Customer, poll: t.Flow.Trigger.Poll != nil}
	body, err := c.engine.SubscriptionEvent(ctx, t)
	if err != nil {
		return err
	}
	_, err = c.engine.Accept(ctx, &engine.Event{
		Customer: s.Customer, Instance: s.Instance, Flow: s.Flow, Source: "clock", Type: s.Kind, Body: e.Event(body),
		Claim: func(rows store.CustomerTx, x id.Execution) (bool, error) {
			row := *next
			row.LastRun, row.LastExecution = planned(s), x
			return rows.ChangeSchedule(&row)
		},
	})
	return err
}

// change stores a change of a schedule, unless another server was first.
func (c *Clock) change(ctx context.Context, s *store.Schedule, change func(*store.Schedule)) error {
	next := *s
	change(&next)
	return c.store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Customer(s.Customer).ChangeSchedule(&next)
		return err
	})
}

// plan finds the times of schedules out that have none.
func (c *Clock) plan(ctx context.Context) error {
	for last := (*store.Schedule)(nil); ; {
		list, err := c.store.System(ctx).UnplannedSchedules(c.engine.Node(), last, clockBatch)
		if err != nil {
			return err
		}
		more := len(list) == clockBatch && ctx.Err() == nil
		if more {
			last = list[len(list)-1]
		}
		now := c.now()
		ask := list[:0]
		for _, s := range list {
			if c.mayAsk(s.Instance, now) {
				ask = append(ask, s)
			}
		}
		c.each(ask, func(s *store.Schedule) error { return c.planOne(ctx, s) })
		if !more {
			return nil
		}
	}
}

func (c *Clock) mayAsk(i id.Instance, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.unanswered[i]
	return !u.open && !now.Before(u.again)
}

// asks notes that a question is under way; answered that it has ended, and how.
func (c *Clock) asks(i id.Instance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.unanswered) >= maxUnanswered {
		clear(c.unanswered)
	}
	u := c.unanswered[i]
	u.open = true
	c.unanswered[i] = u
}

func (c *Clock) answered(i id.Instance, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		delete(c.unanswered, i)
		return
	}
	u := c.unanswered[i]
	u.open, u.pause = false, min(max(2*u.pause, replanAfter), replanMost)
	u.again = c.now().Add(u.pause)
	c.unanswered[i] = u
}

// planOne finds the times of one schedule out: here when it can, else a worker does, which is
// not waited for: it may answer late or never, and others have their first times to come.
func (c *Clock) planOne(ctx context.Context, s *store.Schedule) error {
	t, err := c.engine.Target(ctx, s.Customer, s.Instance, s.Flow)
	if errors.Is(err, engine.ErrNotFound) {
		return c.change(ctx, s, func(next *store.Schedule) { next.Plan = store.Unplannable })
	}
	if err != nil {
		return err
	}
	r, err := timesOf(t.Flow, t.Customer)
	if errors.Is(err, errNeedsConfig) {
		c.question(ctx, s)
		return nil
	}
	if err != nil {
		c.answered(s.Instance, err)
		return err
	}
	return c.keep(ctx, s, &r)
}

// keep stores the first time of a schedule.
func (c *Clock) keep(ctx context.Context, s *store.Schedule, r *wire.ResolvedSchedule) error {
	return c.change(ctx, s, func(next *store.Schedule) {
		if err := plan(next, r, c.now()); err != nil {
			c.log.Warn("schedule has no times", "instance", s.Instance, "flow", s.Flow, "problem", err)
			next.Plan = store.Unplannable
		}
	})
}

// question asks a worker for the times of a schedule, when there is a place: those who find
// none are asked in another turn. Who did not answer is asked ever more rarely, so that a few
// instances that never do leave places to the others.
func (c *Clock) question(ctx context.Context, s *store.Schedule) {
	select {
	case c.asking <- struct{}{}:
	default:
		return
	}
	c.asks(s.Instance)
	c.questions.Go(func() {
		defer func() { <-c.asking }()
		r, err := c.resolve(ctx, s)
		if err == nil {
			err = c.keep(ctx, s, &r)
		}
		c.answered(s.Instance, err)
		if err != nil && ctx.Err() == nil {
			c.log.Error("schedule failed", "instance", s.Instance, "flow", s.Flow, "err", err)
		}
	})
}

// resolve asks a worker for the times of a flow.
func (c *Clock) resolve(ctx context.Context, s *store.Schedule) (wire.ResolvedSchedule, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	all, err := c.engine.Resolve(ctx, s.Customer, s.Instance, [32]byte{})
	if err != nil {
		return wire.ResolvedSchedule{}, err
	}
	for i := range all.Schedules {
		if all.Schedules[i].Flow == s.Flow {
			return all.Schedules[i], nil
		}
	}
	return wire.ResolvedSchedule{Problem: "the flow has no times"}, nil
}

// source is the CloudEvents source of the events of a flow.
func source(t *engine.Target) string {
	return "/instances/" + t.Instance.ID.String() + "/flows/" + t.Flow.Name
}
