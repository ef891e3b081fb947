package trigger

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Limits of what is written down of rejected requests, so that a flood fills no database.
const (
	// rejectionEvery is how long rejections gather before they are written.
	rejectionEvery = 2 * time.Second
	// maxRejected bounds the flows and reasons that gather; what is over it is not listed.
	maxRejected = 1000
)

// Reasons of rejections, beside the codes of the door's answers.
const (
	reasonNoProof  = "no-signature"  // nothing says who the sender is
	reasonBadProof = "bad-signature" // it does not match
	reasonExpired  = "expired"       // it is too old, or of the future
	reasonNoSecret = "no-secret"     // the instance has no secret to check with
	reasonUnknown  = "unchecked"     // the vault could not be asked
)

// rejections gathers what was rejected, and writes it now and then.
type rejections struct {
	store *store.Store // nil: nothing is written

	mu     sync.Mutex
	counts map[rejected]*store.Rejection
	timer  bool // a flush is on its way
}

type rejected struct {
	customer id.Customer
	instance id.Instance
	flow     string
	reason   string
}

// add counts a rejection.
func (r *rejections) add(t *engine.Target, reason string, size int64, now time.Time) {
	if r.store == nil {
		return
	}
	key := rejected{t.Instance.Customer, t.Instance.ID, t.Flow.Name, reason}
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.counts[key]; x != nil {
		x.Repeats++
		x.At, x.Size = now, size
		return
	}
	if len(r.counts) >= maxRejected {
		return
	}
	r.counts[key] = &store.Rejection{At: now, Reason: reason, Size: size}
	if !r.timer {
		r.timer = true
		time.AfterFunc(rejectionEvery, r.flush)
	}
}

// flush writes what has gathered. What cannot be written is forgotten: a list of rejections is
// a help for who looks for a mistake, and no record.
func (r *rejections) flush() {
	r.mu.Lock()
	counts := r.counts
	r.counts, r.timer = map[rejected]*store.Rejection{}, false
	r.mu.Unlock()
	inOrder := slices.SortedFunc(maps.Keys(counts), func(a, b rejected) int { return counts[a].At.Compare(counts[b].At) })
	for _, key := range inOrder {
		x := counts[key]
		r.store.Submit(func(tx *store.Tx) error {
			return tx.Customer(key.customer).PutRejection(key.instance, key.flow, x)
		}, func(error) {})
	}
}

// Rejections lists the requests to a flow's webhook that started nothing, the newest first.
func (d *Door) Rejections(ctx context.Context, c id.Customer, i id.Instance, flow string) ([]store.Rejection, error) {
	if d.rejected.store == nil {
		return nil, nil
	}
	return d.rejected.store.Customer(ctx, c).Rejections(i, flow)
}

// reasonOf is the reason that is listed for a refused proof.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, errBadProof):
		return reasonBadProof
	case errors.Is(err, errExpired):
		return reasonExpired
	case errors.Is(err, errNoSecret), errors.Is(err, errNoRecipe):
		return reasonNoSecret
	default:
		return reasonNoProof
	}
}
