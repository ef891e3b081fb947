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
	// refreshPage is how many connections are read at a time, maxRefreshes how many refreshes
	// are ordered at a time.
	refreshPage  = 256
	maxRefreshes = 32
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
	slots    chan struct{}
	ended    refreshCounters

	mu      sync.Mutex
	ordered map[id.Connection]bool // and not answered
}

func newTokens() *tokens {
	return &tokens{statuses: make(chan *wire.ConnectionStatus, maxStatuses), slots: make(chan struct{}, maxRefreshes), ordered: map[id.Connection]bool{}}
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

// tokenLoop orders the refreshes that are due, of the customers whose shards this server
// has, and notes what egress nodes say of connections.
func (e *Engine) tokenLoop(ctx context.Context) {
	var orders sync.WaitGroup
	defer orders.Wait()
	tick := time.NewTicker(max(e.o.RefreshEvery, time.Second))
	defer tick.Stop()
	for {
		if e.o.RefreshEvery > 0 {
			if err := e.orderRefreshes(ctx, time.Now(), &orders); err != nil && ctx.Err() == nil {
				e.log.ErrorContext(ctx, "refreshes that are due cannot be read", "error", err)
			}
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				waiting = false
			case m := <-e.tokens.statuses:
				if err := e.noteStatus(ctx, m); err != nil {
					e.log.ErrorContext(ctx, "status of a connection not noted", "connection", m.Connection, "error", err)
				}
			}
		}
	}
}

// orderRefreshes orders what is due. A connection is ordered once at a time.
func (e *Engine) orderRefreshes(ctx context.Context, now time.Time, orders *sync.WaitGroup) error {
	if e.o.Refresher == nil {
		return nil
	}
	var after store.RefreshDue
	for {
		page, err := e.db.System(ctx).RefreshesDue(now, after, refreshPage)
		if err != nil {
			return fmt.Errorf("list refreshes: %w", err)
		}
		for i := range page {
			x := page[i]
			if !e.schedules(x.Customer) || !e.tokens.order(x.Connection) {
				continue
			}
			select {
			case e.tokens.slots <- struct{}{}:
			case <-ctx.Done():
				e.tokens.answered(x.Connection)
				return nil
			}
			orders.Go(func() {
				defer func() { <-e.tokens.slots; e.tokens.answered(x.Connection) }()
				if err := e.renewToken(ctx, &x); err != nil && ctx.Err() == nil {
					e.log.ErrorContext(ctx, "refresh of a connection not noted", "connection", x.Connection, "error", err)
				}
			})
		}
		if len(page) < refreshPage {
			return nil
		}
		after = page[len(page)-1]
	}
}

// order notes that a refresh is ordered, unless one is.
func (t *tokens) order(n id.Connection) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ordered[n] {
		return false
	}
	t.ordered[n] = true
	return true
}

func (t *tokens) answered(n id.Connection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.ordered, n)
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

// bury notes that only a person can help a connection.
func (e *Engine) bury(ctx context.Context, m *wire.ConnectionStatus, h store.Health, kind store.NoticeKind, problem string, now time.Time) error {
	var changed bool
	err := e.db.Write(ctx, func(tx *store.Tx) (err error) {
		rows := tx.Customer(m.Customer)
		if changed, err = rows.SetHealth(m.Connection, h, problem, now); err != nil || !changed {
			return err
		}
		_, err = rows.Notify(&store.ConnectionNotice{ID: id.NewNotice(now), Connection: m.Connection, Kind: kind, Reason: problem, At: now})
		return err
	})
	if isStale(err) {
		return nil // it was deleted
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
