package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Times and limits of the refreshes that a server orders.
const (
	// DefaultRefreshEvery is the pause between two looks at what is due.
	DefaultRefreshEvery = 5 * time.Second
	// maxRefreshes is how many refreshes are ordered at a time, maxWaiting how many wait for that
	// in memory, refreshPage how many are read at a time.
	maxRefreshes = 32
	maxWaiting   = 1024
	refreshPage  = 1024
	// refreshSoonest is the least pause between two looks at what is due, and refreshRest how many
	// times as long as the look it is at least.
	refreshSoonest = time.Second
	refreshRest    = 9
	// refreshLate is the pause before another attempt where nobody says how long to wait.
	refreshLate = 30 * time.Second
	// refreshRefused is that after an order that the vault refused.
	refreshRefused = 5 * time.Minute
	// refreshMargin is how long before its end a token is refreshed when the recipe does not
	// say, but half its life at most.
	refreshMargin = 15 * time.Minute
	// maxStatuses bounds the statuses of connections that wait to be noted.
	maxStatuses = 4096
)

// Refresher orders refreshes. It must be safe for concurrent use.
type Refresher interface {
	// Refresh has an egress node renew the credential of a connection, unless it has a newer
	// version by now, and waits for what became of it. An error means that nobody knows.
	Refresh(ctx context.Context, c id.Customer, n id.Connection, version uint64) (*lease.OrderResult, error)
}

// tokens are the refreshes of one server.
type tokens struct {
	statuses chan *wire.ConnectionStatus
	more     chan struct{} // more is due than waits; never closed
	ended    refreshCounters

	mu    sync.Mutex
	queue refreshQueue
}

func newTokens() *tokens {
	return &tokens{statuses: make(chan *wire.ConnectionStatus, maxStatuses), more: make(chan struct{}, 1), queue: newRefreshQueue(maxRefreshes, maxWaiting)}
}

// RefreshAt is when to refresh tokens that end at a time: asked is what the recipe says, or
// zero. A tenth of the wait is left to chance, so that what was made together is not renewed
// together. Zero: they do not end.
func RefreshAt(expires, asked, now time.Time) time.Time {
	if expires.IsZero() {
		return asked
	}
	life := expires.Sub(now)
	if life <= 0 {
		return now
	}
	if asked.IsZero() {
		asked = expires.Add(-min(refreshMargin, life/2))
	}
	wait := max(0, asked.Sub(now))
	if tenth := int64(wait / 10); tenth > 0 {
		wait += time.Duration(rand.Int64N(2*tenth) - tenth) // #nosec G404 -- spreads refreshes
	}
	return now.Add(min(wait, life*9/10))
}

// statusLoop notes what egress nodes say of connections. It waits for no order.
func (e *Engine) statusLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-e.tokens.statuses:
			if err := e.noteStatus(ctx, m); err != nil {
				e.log.ErrorContext(ctx, "status of a connection not noted", "connection", m.Connection, "error", err)
			}
		}
	}
}

// refreshLoop orders the refreshes that are due, of the customers whose shards this server
// has.
func (e *Engine) refreshLoop(ctx context.Context) {
	if e.o.RefreshEvery <= 0 || e.o.Refresher == nil {
		return
	}
	var orders sync.WaitGroup
	defer orders.Wait()
	tick := time.NewTicker(max(e.o.RefreshEvery, time.Second))
	defer tick.Stop()
	for {
		begun := time.Now()
		if err := e.orderRefreshes(ctx, begun, &orders); err != nil && ctx.Err() == nil {
			e.log.ErrorContext(ctx, "refreshes that are due cannot be read", "error", err)
		}
		if !e.restUntil(ctx, tick.C, max(refreshSoonest, refreshRest*time.Since(begun))) {
			return
		}
	}
}

// restUntil waits for a tick, or until more is due than waits, but not before a pause. It
// reports whether the context goes on.
func (e *Engine) restUntil(ctx context.Context, tick <-chan time.Time, pause time.Duration) bool {
	soonest := time.NewTimer(pause)
	defer soonest.Stop()
	var more <-chan struct{}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-soonest.C:
			more = e.tokens.more
		case <-tick:
			return true
		case <-more:
			return true
		}
	}
}

// orderRefreshes looks at what is due and has it ordered: a connection once at a time, customers
// and connectors in turn. It waits for no order.
func (e *Engine) orderRefreshes(ctx context.Context, now time.Time, orders *sync.WaitGroup) error {
	defer e.startRefreshes(ctx, orders)
	t := e.tokens
	t.mu.Lock()
	t.queue.clear()
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		t.queue.filled()
		t.mu.Unlock()
	}()
	var after store.RefreshDue
	for {
		// Of one connector no more can wait or be ordered.
		page, err := e.db.System(ctx).RefreshesDue(now, after, maxWaiting+maxRefreshes, refreshPage)
		if err != nil {
			return fmt.Errorf("list refreshes: %w", err)
		}
		if !t.put(page, e.schedules) || len(page) < refreshPage {
			return nil
		}
		after = page[len(page)-1]
	}
}

// startRefreshes orders what may be ordered now. Each order that is answered lets the next begin.
func (e *Engine) startRefreshes(ctx context.Context, orders *sync.WaitGroup) {
	for ctx.Err() == nil {
		x := e.tokens.next()
		if x == nil {
			return
		}
		orders.Go(func() {
			defer e.startRefreshes(ctx, orders)
			defer e.tokens.done(x)
			if !e.schedules(x.Customer) {
				return
			}
			if err := e.renewToken(ctx, x); err != nil && ctx.Err() == nil {
				e.log.ErrorContext(ctx, "refresh of a connection not noted", "connection", x.Connection, "error", err)
			}
		})
	}
}

// put lets refreshes of this server's customers wait, and reports whether there was room.
func (t *tokens) put(page []store.RefreshDue, ours func(id.Customer) bool) bool {
	for i := range page {
		if !ours(page[i].Customer) {
			continue
		}
		t.mu.Lock()
		room := t.queue.put(&page[i])
		t.mu.Unlock()
		if !room {
			return false
		}
	}
	return true
}

// next takes the refresh to order next, or nil.
func (t *tokens) next() *store.RefreshDue {
	t.mu.Lock()
	x, more := t.queue.next()
	t.mu.Unlock()
	if more {
		select {
		case t.more <- struct{}{}:
		default:
		}
	}
	return x
}

// ordered counts the orders that are not answered.
func (t *tokens) ordered() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.queue.ordered
}

// done says that an order is answered.
func (t *tokens) done(x *store.RefreshDue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue.done(x)
}

// renewToken orders one refresh and notes what became of it.
func (e *Engine) renewToken(ctx context.Context, x *store.RefreshDue) error {
	r, err := e.o.Refresher.Refresh(ctx, x.Customer, x.Connection, x.RecordVersion)
	now := time.Now()
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		e.log.WarnContext(ctx, "refresh of a connection not ordered", "connection", x.Connection, "error", err)
		e.tokens.ended.count(refreshNotOrdered)
		return e.postpone(ctx, x.Customer, x.Connection, now.Add(spread(refreshLate)))
	}
	m := &r.Status
	m.Customer, m.Connection = x.Customer, x.Connection // as ordered
	if r.Retry > 0 {
		m.Retry = now.Add(r.Retry)
	}
	switch r.Code {
	case lease.OrderOK, lease.OrderDead:
		return e.noteStatus(ctx, m)
	case lease.OrderBusy:
		return e.postpone(ctx, x.Customer, x.Connection, later(m.Retry, now.Add(DefaultRefreshEvery)))
	case lease.OrderRefused:
		m.Retry = now.Add(spread(refreshRefused))
	}
	if m.Error == "" {
		m.Error = r.Code
	}
	return e.noteStatus(ctx, m)
}

// spread is a pause that is left to chance by a tenth.
func spread(d time.Duration) time.Duration {
	return d - d/10 + time.Duration(rand.Int64N(int64(d/5))) // #nosec G404 -- spreads attempts
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (e *Engine) postpone(ctx context.Context, c id.Customer, n id.Connection, due time.Time) error {
	return e.db.Write(ctx, func(tx *store.Tx) error { return tx.Customer(c).SetRefreshDue(n, due) })
}

// connectionStatus takes what an egress node says of a connection. One that is not signed by a
// live node is dropped: the bus carries it.
func (e *Engine) connectionStatus(from id.Node, m *wire.ConnectionStatus) {
	if e.o.Live == nil {
		return
	}
	if err := lease.CheckStatus(from, m, e.o.Live, time.Now()); err != nil {
		e.log.Error("status of a connection dropped", "from", from.String(), "error", err)
		return
	}
	select {
	case e.tokens.statuses <- m:
	default:
		e.log.Error("status of a connection dropped: too many wait", "connection", m.Connection.String())
	}
}

// noteStatus writes down how a connection does. What is dead makes a notice, and the instances
// that use it wait for a person.
func (e *Engine) noteStatus(ctx context.Context, m *wire.ConnectionStatus) error {
	now := time.Now()
	problem := m.Error
	switch m.State {
	case wire.ConnectionLive:
		if e.schedules(m.Customer) { // each server is told, and one counts
			if problem == "" {
				e.tokens.ended.count(refreshSaved)
			} else {
				e.tokens.ended.count(refreshFailed)
			}
		}
		return e.db.Write(ctx, func(tx *store.Tx) error {
			rows := tx.Customer(m.Customer)
			if problem == "" {
				return rows.TokenSaved(m.Connection, &store.TokenSaved{
					RecordVersion: m.Version, Expires: m.Expires, RefreshDue: RefreshAt(m.Expires, m.Refresh, now),
				}, now)
			}
			if old, err := superseded(rows, m); err != nil || old {
				return err
			}
			return rows.TokenFailed(m.Connection, problem, later(m.Retry, now.Add(DefaultRefreshEvery)), now)
		})
	case wire.ConnectionRevoked:
		return e.bury(ctx, m, store.HealthRevoked, store.NoticeRevoked, "revoked", now)
	case wire.ConnectionLostAnswer:
		problem = m.State.String()
	default:
		if problem == "" {
			problem = m.State.String()
		}
	}
	return e.bury(ctx, m, store.HealthNeedsReconnect, store.NoticeNeedsReconnect, problem, now)
}

// superseded reports whether a status is of a credential that another has taken the place of meanwhile, or that was
// deleted: it came late, and says nothing of what there is now.
func superseded(rows store.CustomerTx, m *wire.ConnectionStatus) (bool, error) {
	if m.Version == 0 {
		return false, nil // no credential is told from another
	}
	n, err := rows.Connection(m.Connection)
	if isStale(err) {
		return true, nil // it was deleted
	}
	return err == nil && m.Version < n.RecordVersion, err
}

// bury notes that only a person can help a connection.
func (e *Engine) bury(ctx context.Context, m *wire.ConnectionStatus, h store.Health, kind store.NoticeKind, problem string, now time.Time) error {
	var changed, old bool
	err := e.db.Write(ctx, func(tx *store.Tx) (err error) {
		rows := tx.Customer(m.Customer)
		if old, err = superseded(rows, m); err != nil || old {
			return err
		}
		if changed, err = rows.SetHealth(m.Connection, h, problem, now); err != nil || !changed {
			return err
		}
		_, err = rows.Notify(&store.ConnectionNotice{ID: id.NewNotice(now), Connection: m.Connection, Kind: kind, Reason: problem, At: now})
		return err
	})
	if isStale(err) || err == nil && old {
		return nil
	}
	if err != nil {
		return fmt.Errorf("note connection: %w", err)
	}
	if changed { // by one server only
		switch {
		case m.State == wire.ConnectionLostAnswer:
			e.tokens.ended.count(refreshLost)
		case h == store.HealthNeedsReconnect:
			e.tokens.ended.count(refreshNo)
		}
		e.log.WarnContext(ctx, "a connection must be connected again", "connection", m.Connection, "customer", m.Customer, "problem", problem)
	}
	return e.awaitUsers(ctx, store.Owned{Customer: m.Customer, Connection: m.Connection})
}
