package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// want is a runner's heartbeat.
func (e *Engine) want(from id.Node, m *wire.Want, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.runner(from)
	if r.dead {
		return // its last words
	}
	r.seen = now
	r.capacity = int(min(m.Free, maxCapacity)) + len(m.Held)
	if m.Draining {
		r.capacity = 0
	}
	r.bound = make(map[boundKey]struct{}, len(m.Bound))
	r.renew = nil
	for _, b := range m.Bound {
		key := boundKey{b.Instance, b.Definition}
		r.bound[key] = struct{}{}
		if b.Renew {
			r.renew = append(r.renew, key)
			e.wakeLoop()
		}
	}
	for _, h := range m.Held {
		if j := e.held(from, h.Execution, h.Fence); j != nil {
			j.until, j.restored, j.named, j.unnamed = now.Add(e.o.LeaseTTL), false, now, time.Time{}
		} else {
			// It has ended, was taken back, or is another's: what would have said so was lost.
			e.o.Link.Send(wire.RoleRunner, from, &wire.Cancel{Execution: h.Execution, Fence: h.Fence})
		}
	}
	e.checkNamed(r, now)
	if e.queue.size > 0 && r.room() > 0 {
		e.wakeLoop()
	}
}

// checkNamed finds what a runner should hold and does not name. What has just been sent to
// it, or has just ended there, may be under way. Callers hold the mutex.
func (e *Engine) checkNamed(r *runner, now time.Time) {
	for _, j := range r.jobs {
		switch {
		case j.state != running || j.named.Equal(now):
		case j.restored:
			j.restored = false
			e.loseLocked(j, interruptRestart)
		case !j.sent:
		case j.unnamed.IsZero():
			j.unnamed = now
		case now.Sub(j.unnamed) > e.o.LeaseTTL/4:
			j.unnamed = now
			e.loseLocked(j, interruptUnheld)
		}
	}
}

// maxCapacity bounds what a runner may say that it can take.
const maxCapacity = 1 << 14

// choose is the runner for a job: one with a warm worker and room, else the one with the
// most room. Callers hold the mutex.
func (e *Engine) choose(j *job, now time.Time) *runner {
	key := boundKey{j.instance, j.digest}
	spare := e.spare(now)
	var best *runner
	warm := false
	for _, r := range e.runners {
		if r.room() <= 0 || now.Sub(r.seen) > e.o.LeaseTTL || !e.fits(r, j) || r == spare && e.large != j && j.size >= largeJob {
			continue
		}
		_, bound := r.bound[key]
		if best == nil || bound && !warm || bound == warm && r.room() > best.room() {
			best, warm = r, bound
		}
	}
	return best
}

// largeJob is the size from which jobs stand back for the large one that waits for room.
// Smaller ones hardly keep it waiting, and should not wait for what it waits for.
const largeJob = 64 << 10

// spare is the runner that gets nothing large before the large job that waits fits it: the
// one with the fewest bytes. Callers hold the mutex.
func (e *Engine) spare(now time.Time) *runner {
	if e.large == nil {
		return nil
	}
	var kept *runner
	for _, r := range e.runners {
		if r.capacity <= 0 || now.Sub(r.seen) > e.o.LeaseTTL {
			continue
		}
		if kept == nil || r.bytes < kept.bytes || r.bytes == kept.bytes && r.node.Compare(kept.node) < 0 {
			kept = r
		}
	}
	return kept
}

// assign gives queued jobs to runners with room and commits their leases.
func (e *Engine) assign(now time.Time) {
	for {
		batch := e.assignBatch(now)
		if len(batch) == 0 {
			return
		}
		e.commitLeases(batch, now)
	}
}

// assignBatch takes the jobs whose turn it is and puts them with runners.
func (e *Engine) assignBatch(now time.Time) []*job {
	e.mu.Lock()
	defer e.mu.Unlock()
	free := e.free(now)
	if free == 0 {
		return nil
	}
	if j := e.large; j != nil && (j.state != queued || e.queue.instanceRoom(j.instance) <= 0) {
		e.large = nil // it could not be given out
	}
	var r *runner
	batch := e.queue.next(min(free, MaxUnit), func(j *job) bool {
		if r == nil || e.large != nil || r.room() <= 0 || !e.fits(r, j) {
			if r = e.choose(j, now); r == nil {
				if e.large == nil {
					e.large = j // it has room, and the bytes do not fit
				}
				return false
			}
		}
		e.take(r, j)
		j.state, j.until = leasing, now.Add(e.o.LeaseTTL)
		return true
	})
	return batch
}

func (e *Engine) commitLeases(batch []*job, now time.Time) {
	nodes := make([]id.Node, len(batch))
	for i, j := range batch {
		nodes[i] = j.runner.node
	}
	refused := make([]bool, len(batch))
	e.db.Submit(func(tx *store.Tx) error {
		for i, j := range batch {
			err := tx.Customer(j.customer).Lease(j.execution, j.fence, nodes[i], now.Add(e.o.LeaseTTL), now)
			if refused[i] = isStale(err); err != nil && !refused[i] {
				return err
			}
		}
		return nil
	}, func(err error) { e.leased(batch, refused, err) })
}

// leased follows the commit of leases. A refused one was cancelled or ended meanwhile.
func (e *Engine) leased(batch []*job, refused []bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, j := range batch {
		switch {
		case e.jobs[j.execution] != j || j.state != leasing:
			if err == nil && !refused[i] {
				e.stray(j.customer, j.execution) // it was forgotten, and nobody has it
			}
		case err != nil:
			e.later(j, time.Now().Add(retryDelay))
		case refused[i]:
			e.forget(j)
			e.stray(j.customer, j.execution)
		default:
			j.fence++
			e.post(j)
			if j.runner.dead {
				e.loseLocked(j, interruptGone)
			}
		}
	}
	if err != nil {
		e.log.Error("leases could not be committed", "error", err)
	}
	e.wakeLoop()
}

// retryDelay is how long a job rests after a failure that is not its own.
const retryDelay = time.Second

// later puts a pending job back into the queue at a time. Callers hold the mutex.
func (e *Engine) later(j *job, at time.Time) {
	e.drop(j)
	j.state = delayed
	e.jobs[j.execution] = j
	e.timers.push(timer{at: at, kind: requeue, customer: j.customer, execution: j.execution})
	e.wakeLoop()
}

// unit is what goes to one runner in one dispatch.
type unit struct {
	node    id.Node
	jobs    []*job
	message wire.Dispatch
	signed  lease.Dispatch
	size    int
}

// sendUnits sends every leased job, grouped by runner and instance.
func (e *Engine) sendUnits(ctx context.Context, now time.Time) {
	e.mu.Lock()
	jobs := e.outbox
	e.outbox = nil
	type group struct {
		node id.Node
		key  boundKey
	}
	groups := map[group][]*job{}
	var order []group
	for _, j := range jobs {
		j.out = false
		if j.state != running || j.sent || j.runner == nil {
			continue
		}
		g := group{j.runner.node, boundKey{j.instance, j.digest}}
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], j)
	}
	e.mu.Unlock()
	for _, g := range order {
		e.sendGroup(ctx, g.node, groups[g], now)
	}
}

// sendGroup sends jobs of one instance to one runner, in as many units as they need.
func (e *Engine) sendGroup(ctx context.Context, to id.Node, jobs []*job, now time.Time) {
	i, err := e.catalog.instance(ctx, jobs[0].customer, jobs[0].instance)
	if err != nil {
		e.log.ErrorContext(ctx, "instance of a leased execution cannot be read", "error", err)
		for _, j := range jobs {
			e.lose(j, interruptStore)
		}
		return
	}
	u := e.newUnit(to, i, jobs[0].digest, now)
	for _, j := range jobs {
		x, err := e.load(ctx, j)
		if err != nil {
			e.log.ErrorContext(ctx, "leased execution cannot be read", "execution", j.execution, "error", err)
			e.lose(j, interruptStore)
			continue
		}
		size := sizeOf(x)
		if size > MaxUnitBytes {
			e.end(j.customer, j.execution, "limit", "the journal is too large to be resumed")
			continue
		}
		if len(u.jobs) == MaxUnit || u.size+size > MaxUnitBytes {
			e.send(u)
			u = e.newUnit(to, i, jobs[0].digest, now)
		}
		u.add(j, x, size)
	}
	e.send(u)
}

func (e *Engine) newUnit(to id.Node, i *store.Instance, digest [32]byte, now time.Time) *unit {
	u := &unit{node: to}
	u.message = wire.Dispatch{
		Customer: i.Customer, Instance: i.ID, Definition: digest, Config: i.Config, ConfigVersion: i.ConfigVersion,
	}
	u.signed = lease.Dispatch{
		Server: e.o.Node, Runner: to, Customer: i.Customer, Instance: i.ID, Definition: digest,
		ConfigVersion: i.ConfigVersion, EgressPool: i.EgressPool, CallbackBase: e.o.CallbackBase, Issued: now,
	}
	for _, s := range i.Slots {
		u.signed.Slots = append(u.signed.Slots, lease.Slot{Name: s.Name, Connection: s.Connection})
	}
	return u
}

func (u *unit) add(j *job, x wire.UnitExecution, size int) {
	u.jobs = append(u.jobs, j)
	u.message.Unit.Executions = append(u.message.Unit.Executions, x)
	u.signed.Executions = append(u.signed.Executions, x.Execution)
	u.size += size
}

// cover makes the permission of a unit cover everything of the instance that its runner
// holds, the unit included: a lease that replaces another must allow no less. Callers
// hold the mutex.
func (e *Engine) cover(u *unit) {
	r := e.runners[u.node]
	if r == nil {
		return
	}
	for _, j := range r.jobs {
		if j.instance != u.signed.Instance || j.digest != u.signed.Definition || j.state != running {
			continue
		}
		if !slices.Contains(u.signed.Days, j.day) {
			u.signed.Days = append(u.signed.Days, j.day)
		}
		if isPermitted(j.viewer) {
			u.signed.Viewers = append(u.signed.Viewers, j.viewer)
		}
	}
}

// renew sends runners a permission without executions for the workers whose leases end soon.
func (e *Engine) renew(ctx context.Context, now time.Time) {
	type renewal struct {
		node id.Node
		job  *job // any that the worker holds
	}
	var list []renewal
	e.mu.Lock()
	for _, r := range e.runners {
		for _, key := range r.renew {
			for _, j := range r.jobs {
				if j.state == running && (boundKey{j.instance, j.digest}) == key {
					list = append(list, renewal{r.node, j})
					break
				}
			}
		}
		r.renew = nil
	}
	e.mu.Unlock()
	for _, x := range list {
		i, err := e.catalog.instance(ctx, x.job.customer, x.job.instance)
		if err != nil {
			e.log.ErrorContext(ctx, "instance of a lease cannot be read", "error", err)
			continue
		}
		u := e.newUnit(x.node, i, x.job.digest, now)
		u.signed.Executions = []id.Execution{x.job.execution}
		e.mu.Lock()
		e.cover(u)
		e.mu.Unlock()
		u.message.Signed = lease.SignDispatch(e.o.Sign, &u.signed)
		e.o.Link.Send(wire.RoleRunner, x.node, &u.message)
	}
}

// send signs and sends a unit, then the wakes that came after it was read.
func (e *Engine) send(u *unit) {
	if len(u.jobs) == 0 {
		return
	}
	e.mu.Lock()
	e.cover(u)
	e.mu.Unlock()
	u.message.Signed = lease.SignDispatch(e.o.Sign, &u.signed)
	e.o.Link.Send(wire.RoleRunner, u.node, &u.message)
	e.mu.Lock()
	defer e.mu.Unlock()
	for n, j := range u.jobs {
		x := &u.message.Unit.Executions[n]
		if j.left >= x.Fence {
			continue // its worker was faster than this
		}
		if e.jobs[j.execution] != j || j.fence != x.Fence || j.state != running {
			e.o.Link.Send(wire.RoleRunner, u.node, &wire.Cancel{Execution: x.Execution, Fence: x.Fence})
			continue
		}
		j.sent = true
		for _, w := range j.wakes {
			if int(w.Seq) > len(x.Wakes) {
				e.o.Link.Send(wire.RoleRunner, u.node, &wire.Wake{Execution: j.execution, Fence: j.fence, Entry: w})
			}
		}
		j.wakes = nil
	}
}

// load makes what a worker needs of a job, from memory when it is new, else from SQL.
func (e *Engine) load(ctx context.Context, j *job) (wire.UnitExecution, error) {
	e.mu.Lock()
	fence, fresh := j.fence, j.row != nil
	row, event := e.unkeep(j)
	if fresh {
		j.learn(row)
	}
	e.mu.Unlock()
	c := e.db.Customer(ctx, j.customer)
	var err error
	if !fresh {
		if row, err = c.Execution(j.execution); err != nil {
			return wire.UnitExecution{}, fmt.Errorf("read execution: %w", err)
		}
		if event, err = c.Event(row.Event); err != nil {
			return wire.UnitExecution{}, fmt.Errorf("read event: %w", err)
		}
		e.mu.Lock()
		if j.fence == fence && row.Fence == fence {
			j.learn(row)
		}
		e.mu.Unlock()
	}
	x := wire.UnitExecution{
		Execution: j.execution, Fence: fence, Flow: row.Flow, Started: row.Accepted, Seed: row.Seed,
		Expires: row.Expires, Day: row.Day, Test: row.Test, EventID: row.Event, Event: event,
	}
	if isPermitted(j.viewer) {
		x.Viewer = j.viewer.View
	}
	if fresh {
		return x, nil
	}
	if row.LastSeq > 0 {
		if x.LogLines, x.LogBytes, err = c.Logged(j.execution); err != nil {
			return x, fmt.Errorf("read logs: %w", err)
		}
	}
	if x.Entries = row.LastSeq; row.LastSeq > 0 && row.LastSeq <= maxInlineEntries {
		if x.Journal, err = inlineJournal(c, j.execution, row.LastSeq); err != nil {
			return x, fmt.Errorf("read journal: %w", err)
		}
	}
	if row.Wakes > 0 {
		if x.Wakes, x.WakesAway, err = inlineWakes(c, j.execution); err != nil {
			return x, fmt.Errorf("read wakes: %w", err)
		}
	}
	return x, nil
}

// entryOverhead is a bound of what an entry needs in a frame beside its path and body.
const entryOverhead = 64

func sizeOf(x wire.UnitExecution) int {
	n := len(x.Event) + len(x.Flow) + 2*entryOverhead
	for _, list := range [][]wire.Entry{x.Journal, x.Wakes} {
		for i := range list {
			n += len(list[i].Body) + len(list[i].Path) + entryOverhead
		}
	}
	return n
}
