package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Times of shards.
const (
	// DefaultShardLife is how long a claim of a shard lasts; it is renewed every third of that.
	DefaultShardLife = 15 * time.Second
	// pollEvery is the pause between two looks at what other servers changed.
	pollEvery = time.Second
	// maxNotices is how many notices are read at a time.
	maxNotices = 512
	// changedWithin is how far back changes of instances are looked for: longer than a write
	// takes and than clocks differ.
	changedWithin = time.Minute
)

// claim is what this server knows of a shard. It is guarded by the engine's mutex.
type claim struct {
	held  bool // its executions are in memory, and this server schedules them
	fence uint64
	again time.Time // when to look at its rows again, because of who had it before; or zero
	// unread says that timers before the horizon are not in memory yet.
	unread bool
}

// key names an execution.
type key struct {
	customer  id.Customer
	execution id.Execution
}

// foundRow is an execution that has not ended, as read in a transaction.
type foundRow struct {
	key
	row         *store.Unfinished // nil: it has ended
	concurrency *flow.Concurrency
}

// claiming is one renewal of claims on its way through the writer.
type claiming struct {
	e      *Engine
	now    time.Time
	claims [store.Shards]claim
	gone   []id.Node
	live   map[id.Node]bool // nil: not known

	// Results, set anew by each run of write.
	got   [store.Shards]uint64 // fences; 0: another has it
	found [store.Shards][]foundRow
}

// holds reports whether this server schedules a customer's shard. Callers hold the mutex.
func (e *Engine) holds(c id.Customer) bool { return e.claims[store.ShardOf(c)].held }

// schedules is holds for those who do not hold the mutex.
func (e *Engine) schedules(c id.Customer) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.holds(c)
}

// leads reports whether this server does what one server does for all: the one that has
// the first shard.
func (e *Engine) leads() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.claims[0].held
}

// ours reports whether no other server can have claimed a customer's shard yet.
func (e *Engine) ours(c id.Customer) bool {
	return time.Now().UnixMicro() < e.sure[store.ShardOf(c)].Load()
}

// note leaves a notice about an execution that a transaction changes, when another server
// may schedule it. It reports whether it did.
func (e *Engine) note(rows store.CustomerTx, x id.Execution) (bool, error) {
	if e.ours(rows.ID()) {
		return false, nil
	}
	return true, rows.PutNotice(x, time.Now())
}

// stray says that another server may have to know of an execution that this one changed
// when it thought that the shard was its own. Callers hold the mutex.
func (e *Engine) stray(c id.Customer, x id.Execution) {
	e.strays = append(e.strays, key{c, x})
	e.wakeLoop()
}

// ServersGone says that servers have ended for good: their shards are taken over at once.
func (e *Engine) ServersGone(nodes ...id.Node) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gone = append(e.gone, nodes...)
	e.nextClaim = time.Time{}
	e.wakeLoop()
}

// KeepServers says which servers there are: those that are not live have ended for good.
func (e *Engine) KeepServers(live map[id.Node]bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.liveServers = live
	e.nextClaim = time.Time{}
	e.wakeLoop()
}

// Node is this server.
func (e *Engine) Node() id.Node { return e.o.Node }

// Shards says how many shards this server schedules.
func (e *Engine) Shards() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.claims {
		if e.claims[i].held {
			n++
		}
	}
	return n
}

// Leave gives up every shard, so that other servers take them over at once. It is called
// after Run has ended.
func (e *Engine) Leave(ctx context.Context) error {
	err := e.db.Write(ctx, func(tx *store.Tx) error { return tx.System().EndClaims(e.o.Node) })
	if err != nil {
		return fmt.Errorf("give up shards: %w", err)
	}
	return nil
}

// claimShards renews the claims and takes over those that are over, when that is due. done
// may be nil.
func (e *Engine) claimShards(now time.Time, done func(error)) {
	e.mu.Lock()
	due := !e.claimingNow && !now.Before(e.nextClaim)
	if !due {
		e.mu.Unlock()
		return
	}
	c := &claiming{e: e, now: now, claims: e.claims, gone: e.gone, live: e.liveServers}
	e.claimingNow, e.gone, e.liveServers = true, nil, nil
	e.nextClaim = now.Add(e.o.ShardLife / 3)
	e.mu.Unlock()
	e.db.Submit(c.write, func(err error) {
		e.claimed(c, err)
		if done != nil {
			done(err)
		}
	})
}

// write is the transaction of a renewal. It may run twice. What it finds is as it was at the
// moment of the claim: whoever changes it later leaves a notice.
func (c *claiming) write(tx *store.Tx) error {
	c.got, c.found = [store.Shards]uint64{}, [store.Shards][]foundRow{}
	system := tx.System()
	if c.live != nil {
		holders, err := system.ShardHolders()
		if err != nil {
			return err
		}
		for _, n := range holders {
			if !c.live[n] && n != c.e.o.Node {
				c.gone = append(c.gone, n)
			}
		}
	}
	for _, n := range c.gone {
		if err := system.EndClaims(n); err != nil {
			return err
		}
	}
	list, err := system.ClaimShards(c.e.o.Node, c.now, c.now.Add(c.e.o.ShardLife))
	if err != nil {
		return err
	}
	for _, x := range list {
		c.got[x.Shard] = x.Fence
		was := &c.claims[x.Shard]
		if was.held && was.fence == x.Fence && (was.again.IsZero() || c.now.Before(was.again)) {
			continue
		}
		err := system.OpenExecutions(x.Shard, func(row *store.Unfinished) error {
			c.found[x.Shard] = append(c.found[x.Shard], foundRow{key: key{row.Customer, row.Execution}, row: row})
			return nil
		})
		if err != nil {
			return err
		}
	}
	for shard := range c.found {
		for i := range c.found[shard] {
			c.found[shard][i].concurrency = c.e.concurrency(context.Background(), c.found[shard][i].row)
		}
	}
	return nil
}

// claimed follows the commit of a renewal.
func (e *Engine) claimed(c *claiming, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.claimingNow = false
	if err != nil {
		e.log.Error("shards could not be claimed", "error", err)
		e.gone = append(e.gone, c.gone...)
		e.nextClaim = c.now.Add(retryDelay)
		return
	}
	gained, lost := 0, 0
	for shard := range e.claims {
		x, fence := &e.claims[shard], c.got[shard]
		if x.held && fence != x.fence {
			e.dropShard(uint8(shard))
			lost++
		}
		if fence == 0 {
			e.sure[shard].Store(0)
			continue
		}
		e.sure[shard].Store(c.now.Add(e.o.ShardLife - e.o.ShardLife/6).UnixMicro())
		switch {
		case !x.held:
			// What its last holder began before may be committed a little later.
			*x = claim{held: true, fence: fence, again: c.now.Add(e.o.ShardLife), unread: true}
			gained++
		case !x.again.IsZero() && !c.now.Before(x.again):
			x.again = time.Time{}
		default:
			continue
		}
		e.adopt(c.found[shard], c.now)
	}
	if gained > 0 || lost > 0 {
		e.kickRemovals()
		e.log.Info("shards changed hands", "gained", gained, "lost", lost)
	}
	e.wakeLoop()
}

// dropShard forgets everything of a shard that another server schedules now. What runs is
// given out by that one. Callers hold the mutex.
func (e *Engine) dropShard(shard uint8) {
	e.claims[shard] = claim{}
	e.sure[shard].Store(0)
	e.gates.drop(shard)
	for _, j := range e.jobs {
		if store.ShardOf(j.customer) == shard {
			j.gate = nil
			e.forget(j)
		}
	}
}

// adopt makes memory agree with executions as they were found. Who had a place in a gate
// gets it back before anybody else is let in. Callers hold the mutex.
func (e *Engine) adopt(list []foundRow, now time.Time) {
	var fresh []*job
	var rows []*store.Unfinished
	for i := range list {
		x := &list[i]
		if !e.holds(x.customer) {
			continue
		}
		old := e.jobs[x.execution]
		if x.row == nil {
			e.endedElsewhere(old, x.execution)
			continue
		}
		if old != nil && agrees(old, x.row) || old == nil && x.row.Status == store.Waiting && e.gates.waiting[x.execution] != nil {
			continue
		}
		if old != nil {
			e.callBack(old)
			e.forget(old)
		}
		j := newFoundJob(x)
		j.viewer = e.viewerOf(j.execution)
		if x.row.Status == store.Pending {
			e.jobs[j.execution] = j // the list may name it twice
		}
		e.gates.resume(j)
		e.restoreBegun(j, x.row, now)
		e.addTimer(timer{at: x.row.Expires, kind: expiry, customer: j.customer, execution: j.execution})
		fresh, rows = append(fresh, j), append(rows, x.row)
	}
	for i, j := range fresh {
		x := rows[i]
		if x.Status != store.Pending {
			continue
		}
		end := front
		if !x.Begun && !x.Called {
			j.counted = max(j.size, 1)
			e.backlog.restore(j.customer, j.counted)
		}
		if !x.Begun {
			end = back
		}
		e.enqueue(j, end)
	}
}

// agrees reports whether a job is what its row says.
func agrees(j *job, x *store.Unfinished) bool {
	return j.fence == x.Fence && x.Status != store.Waiting && (j.state == running) == (x.Status == store.Running)
}

// endedElsewhere forgets an execution that another server has ended. Callers hold the mutex.
func (e *Engine) endedElsewhere(j *job, x id.Execution) {
	if j != nil {
		e.callBack(j)
		e.forget(j)
	}
	e.admitted(e.gates.ended(x))
}

// refresh makes memory agree with the rows of executions that others may have changed, and
// drops the notices that said so.
func (e *Engine) refresh(list []key, notices []store.Notice, done func(error)) {
	rows := make([]foundRow, len(list))
	e.db.Submit(func(tx *store.Tx) error {
		system := tx.System()
		for i, k := range list {
			rows[i] = foundRow{key: k}
			x, err := system.OpenExecution(k.customer, k.execution)
			if err != nil && !isStale(err) {
				return err
			}
			if err == nil {
				rows[i].row, rows[i].concurrency = x, e.concurrency(context.Background(), x)
			}
		}
		for i := range notices {
			if err := system.DropNotice(&notices[i], e.o.Node); err != nil {
				return err
			}
		}
		return nil
	}, func(err error) {
		if err == nil {
			e.mu.Lock()
			e.adopt(rows, time.Now())
			e.mu.Unlock()
		}
		done(err)
	})
}

// pollLoop finds out what other servers changed.
func (e *Engine) pollLoop(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	since := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		err := errors.Join(e.readNotices(ctx), e.readChanges(ctx, since.Add(-changedWithin)), e.readWatched(ctx), e.countAll(ctx))
		if err == nil {
			since = now
		} else if ctx.Err() == nil {
			e.log.ErrorContext(ctx, "what other servers changed cannot be read", "error", err)
		}
	}
}

// readNotices acts on notices, all that there are.
func (e *Engine) readNotices(ctx context.Context) error {
	for {
		list, err := e.db.System(ctx).Notices(e.o.Node, maxNotices)
		if err != nil {
			return fmt.Errorf("read notices: %w", err)
		}
		if len(list) == 0 {
			return nil
		}
		keys := make([]key, len(list))
		for i := range list {
			keys[i] = key{list[i].Customer, list[i].Execution}
		}
		result := make(chan error, 1)
		e.refresh(keys, list, func(err error) { result <- err })
		select {
		case err := <-result:
			if err != nil {
				return fmt.Errorf("read noticed executions: %w", err)
			}
		case <-ctx.Done():
			return nil
		}
		if len(list) < maxNotices {
			return nil
		}
	}
}

// readChanges takes over what other servers changed of instances.
func (e *Engine) readChanges(ctx context.Context, since time.Time) error {
	list, err := e.db.System(ctx).ChangedInstances(since)
	if err != nil {
		return fmt.Errorf("read changed instances: %w", err)
	}
	for _, x := range list {
		switch {
		case x.Removed:
			e.catalog.forget(x.Instance)
		case e.catalog.older(x.Instance, x.Revision):
			i, err := e.db.Customer(ctx, x.Customer).Instance(x.Instance)
			if isStale(err) {
				continue
			}
			if err != nil {
				return fmt.Errorf("read changed instance: %w", err)
			}
			e.changed(i)
			if i.State == store.InstanceRemoving {
				e.kickRemovals()
			}
		}
	}
	return nil
}

// readWatched tells viewers of the ends that another server committed.
func (e *Engine) readWatched(ctx context.Context) error {
	e.mu.Lock()
	var away []key
	for x, w := range e.watched {
		if e.jobs[x] == nil || !e.holds(w.customer) {
			away = append(away, key{w.customer, x})
		}
	}
	e.mu.Unlock()
	for _, k := range away {
		row, err := e.Execution(ctx, k.customer, k.execution)
		if err != nil {
			return err
		}
		if row.Status.Ended() {
			e.mu.Lock()
			if w := e.watched[k.execution]; w != nil {
				w.add(Update{Finished: &Finished{k.execution, row.Status, row.ErrorType, row.ErrorStep, row.Output}})
				delete(e.watched, k.execution)
			}
			e.mu.Unlock()
		}
	}
	return nil
}

// sendStrays leaves notices about what may be another server's by now.
func (e *Engine) sendStrays() {
	e.mu.Lock()
	list := e.strays
	e.strays = nil
	e.mu.Unlock()
	if len(list) == 0 {
		return
	}
	e.db.Submit(func(tx *store.Tx) error {
		for _, k := range list {
			if err := tx.Customer(k.customer).PutNotice(k.execution, time.Now()); err != nil {
				return err
			}
		}
		return nil
	}, func(err error) {
		if err == nil {
			return
		}
		e.log.Error("notices could not be left", "error", err)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.strays = append(e.strays, list...) // with the next turn
	})
}
