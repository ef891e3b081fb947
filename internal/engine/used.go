package engine

import (
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// usedEvery is how often it is stored when connections were last used; maxUsed is the most
// connections that are remembered between.
const (
	usedEvery = 5 * time.Minute
	maxUsed   = 100_000
)

// used remembers when connections were last used. It is a help for people: what a server
// that dies remembers is lost, and the next use tells it again.
type used struct {
	mu     sync.Mutex
	last   map[id.Connection]time.Time
	stored time.Time
}

// note takes a request that was made with a connection. One that renews its tokens is of no execution, and no use.
func (u *used) note(m *wire.FlowRecord) {
	if m.Connection.IsZero() || m.Execution.IsZero() {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = map[id.Connection]time.Time{}
	}
	if len(u.last) < maxUsed {
		u.last[m.Connection] = m.Time
	}
}

// due takes what is to be stored, when the time for it has come.
func (u *used) due(now time.Time) map[id.Connection]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now.Sub(u.stored) < usedEvery || len(u.last) == 0 {
		return nil
	}
	last := u.last
	u.last, u.stored = nil, now
	return last
}

// storeUsed stores when connections were last used.
func (e *Engine) storeUsed(now time.Time) {
	last := e.used.due(now)
	if len(last) == 0 {
		return
	}
	e.db.Submit(func(tx *store.Tx) error {
		for n, at := range last {
			if err := tx.System().ConnectionUsed(n, at); err != nil {
				return err
			}
		}
		return nil
	}, func(err error) {
		if err != nil {
			e.log.Error("last uses of connections are not stored", "error", err)
		}
	})
}
