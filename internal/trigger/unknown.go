package trigger

import (
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// unknowns counts events of apps whose account nobody has connected, by the app's template, and writes the counts now and
// then. Which accounts they were is not kept.
type unknowns struct {
	store *store.Store // nil: nothing is written
	org   *id.Org

	flushing sync.Mutex // over one flush: what it took is queued when another ends

	mu     sync.Mutex
	counts map[id.Template]*store.Unknown // at most one for each app that is known
	timer  bool                           // a flush is on its way
}

// add counts one event.
func (u *unknowns) add(t id.Template, now time.Time) {
	if u.store == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	x := u.counts[t]
	if x == nil {
		if u.counts == nil {
			u.counts = map[id.Template]*store.Unknown{}
		}
		x = &store.Unknown{Template: t, Since: now}
		u.counts[t] = x
	}
	x.Events++
	x.Last = now
	if !u.timer {
		u.timer = true
		time.AfterFunc(rejectionEvery, u.flush)
	}
}

// flush writes what has gathered. What cannot be written is forgotten: the count shows that something is wrong, and is no
// record.
func (u *unknowns) flush() {
	u.flushing.Lock()
	defer u.flushing.Unlock()
	u.mu.Lock()
	counts := u.counts
	u.counts, u.timer = nil, false
	u.mu.Unlock()
	for _, x := range counts {
		u.store.Submit(func(tx *store.Tx) error { return tx.Org(*u.org).AddUnknown(x) }, func(error) {})
	}
}
