package egress

import (
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// maxReplaced is how many replaced credentials are remembered; the server of one more is told to ask again.
	maxReplaced = 1 << 16
	// replacedLife is how long one is: no lease from before it was replaced is taken any more then, see [Node.give].
	replacedLife = 2 * lease.MaxLife
)

// errReplaced means that a call was not made, because the credential of its lease was replaced.
var errReplaced = errors.New("the credential was replaced")

// replacements are credentials that were replaced or destroyed, which leases from before may still hold. It costs a call
// nothing while there is none, and a look into a map for replacedLife after. Safe for concurrent use.
type replacements struct {
	some   atomic.Bool
	mu     sync.Mutex
	oldest map[id.Connection]replacement
}

// replacement is the oldest version of a record that may be used, and until when that is remembered.
type replacement struct {
	version uint64
	until   time.Time
}

// note remembers that leases of a connection are used from a version of its record on only. It is false when there is no room.
func (r *replacements) note(c id.Connection, oldest uint64, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.oldest[c]
	if !ok && len(r.oldest) >= maxReplaced {
		return false
	}
	if r.oldest == nil {
		r.oldest = map[id.Connection]replacement{}
	}
	r.oldest[c] = replacement{max(oldest, known.version), now.Add(replacedLife)}
	r.some.Store(true)
	return true
}

// after reports whether a record was replaced by a newer one.
func (r *replacements) after(c id.Connection, version uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return version < r.oldest[c].version
}

// forget drops what no lease can be from before of.
func (r *replacements) forget(now time.Time) {
	if !r.some.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.oldest, func(_ id.Connection, x replacement) bool { return !now.Before(x.until) })
	r.some.Store(len(r.oldest) > 0)
}

// outdated reports whether the credential that the vault has leased for the slot of a call was replaced since. Tokens that were
// renewed under the lease do not make it newer: with the record, its binding and sharing were replaced too.
func (n *Node) outdated(t *task) bool {
	if !n.replaced.some.Load() || off(replacedLeft) {
		return false
	}
	for i := range t.lease.Slots {
		if s := &t.lease.Slots[i]; s.Slot == t.request.Slot {
			return n.replaced.after(s.Record.Connection, s.Record.Version)
		}
	}
	return false
}

// noteReplaced serves the word of a server that a credential was replaced.
func (r *Renewer) noteReplaced(o *lease.Order) *lease.OrderResult {
	now := r.cfg.Now()
	result := &lease.OrderResult{
		Status: wire.ConnectionStatus{Node: r.cfg.Node, At: now, Customer: o.Customer, Connection: o.Connection, Version: o.Version}, Code: lease.OrderOK,
	}
	if r.replaced != nil && !r.replaced(o.Connection, o.Version, now) {
		result.Code, result.Message, result.Retry = lease.OrderBusy, "too many credentials were replaced lately", time.Second
	}
	return result
}
