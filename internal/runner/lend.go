package runner

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// renewBefore is how long before its end a lease is renewed.
	renewBefore = lease.MaxLife / 2
	// renewPause is how long after a refusal the vault is not asked again for what the
	// present lease allows as well.
	renewPause = 5 * time.Second
	// leaseSlack is how long after its end a lease is remembered, for calls under way.
	leaseSlack = time.Minute
	// maxViews is how many views a worker's leases are known to cover.
	maxViews = 4096
)

// errNoEgress means that the pool named in a dispatch has no live node.
var errNoEgress = errors.New("no egress node in the pool")

// lent is a lease that a worker has.
type lent struct {
	node    id.Node // the egress node with the other half
	expires time.Time
	gone    bool // the node does not have it any more
}

// lend gets a lease for a worker from the vault, gives egress its half, and the
// worker the rest when it is bound already.
func (r *Runner) lend(ctx context.Context, w *worker, j *job) (*wire.LeaseGrant, error) {
	for {
		node, err := r.egressFor(ctx, w, j.signed)
		if err != nil {
			return nil, err
		}
		request := lease.SignRequest(r.cfg.Sign, r.cfg.Node, j.Signed, w.sealKey, node)
		grant := &wire.LeaseGrant{}
		err = r.cfg.Bus.Ask(ctx, wire.RoleVault, wire.TopicLease, request, grant)
		r.mu.Lock()
		ended := j.signed.Read == nil && !slices.Contains(r.egress[j.signed.EgressPool], node)
		if err == nil && !ended {
			err = r.lent(w, j, grant, node)
		}
		r.mu.Unlock()
		switch {
		case ended: // it is gone since: another one is to act for the worker
		case err != nil:
			return nil, fmt.Errorf("get lease: %w", err)
		default:
			return grant, nil
		}
	}
}

// lent follows a grant. The caller holds mu.
func (r *Runner) lent(w *worker, j *job, grant *wire.LeaseGrant, node id.Node) error {
	if w.state == dead {
		return errEnded // egress would keep what nobody drops
	}
	if j.signed.Read == nil {
		r.cfg.Bus.Send(wire.RoleEgress, node, wire.TopicCall, &wire.LeaseGive{Lease: grant.Lease, Sealed: grant.Egress})
		w.cover(j.signed, grant, node, time.Now())
	} else {
		w.permit(j.signed.Read, grant.Expires)
	}
	if w.state == bound {
		w.write(&wire.Renew{Lease: grant.Worker})
	}
	return nil
}

// egressFor is the egress node for a worker. Without one it waits for the next.
func (r *Runner) egressFor(ctx context.Context, w *worker, d *lease.Dispatch) (id.Node, error) {
	if d.Read != nil {
		return id.Node{}, nil // a read calls nobody
	}
	pool := d.EgressPool
	for {
		r.mu.Lock()
		nodes, changed := r.egress[pool], r.egressChanged
		r.mu.Unlock()
		if len(nodes) > 0 {
			return nodes[w.number%uint64(len(nodes))], nil
		}
		select {
		case <-changed:
		case <-w.ended:
			return id.Node{}, errEnded
		case <-ctx.Done():
			return id.Node{}, fmt.Errorf("%w %q", errNoEgress, pool)
		}
	}
}

// covers reports whether the leases of w allow what a dispatch needs. The caller holds mu.
func (w *worker) covers(d *lease.Dispatch, now time.Time) bool {
	if d.Read != nil {
		return w.allows(d.Read, now)
	}
	left := w.expires.Sub(now)
	if w.server != d.Server && !d.Server.IsZero() {
		return false
	}
	if left < renewBefore && (!now.Before(w.askAgain) || left < leaseSlack) {
		return false
	}
	for _, day := range d.Days {
		if !w.days[day] {
			return false
		}
	}
	for _, v := range d.Viewers {
		if !w.views[v.View] {
			return false
		}
	}
	return true
}

// cover remembers what a new lease allows, beside what the earlier ones did: a
// worker keeps the payload keys and viewers of all. The caller holds mu.
func (w *worker) cover(d *lease.Dispatch, grant *wire.LeaseGrant, node id.Node, now time.Time) {
	for l, old := range w.leases {
		if now.Sub(old.expires) > leaseSlack {
			delete(w.leases, l)
		}
	}
	w.leases[grant.Lease] = lent{node: node, expires: grant.Expires}
	w.newest, w.server = grant.Lease, d.Server
	w.expires = grant.Expires
	if len(w.views) > maxViews {
		clear(w.views)
	}
	for _, day := range d.Days {
		w.days[day] = true
	}
	for _, v := range d.Viewers {
		w.views[v.View] = true
	}
}

// definitions keeps the newest published integrations, by digest.
type definitions struct {
	bus Bus

	mu    sync.Mutex
	known map[[32]byte][]byte
	order [][32]byte
	size  int
}

// Limits of the definitions that are kept: how many, and bytes of all.
const (
	maxDefinitions     = 256
	maxDefinitionBytes = 32 << 20
)

func newDefinitions(b Bus) *definitions { return &definitions{bus: b, known: map[[32]byte][]byte{}} }

// errDefinition means that a server answered with another definition.
var errDefinition = errors.New("definition does not match its digest")

func (d *definitions) get(ctx context.Context, digest [32]byte) ([]byte, error) {
	d.mu.Lock()
	b, ok := d.known[digest]
	d.mu.Unlock()
	if ok {
		return b, nil
	}
	var m wire.Definition
	if err := d.bus.Ask(ctx, wire.RoleServer, wire.TopicAsk, &wire.DefinitionGet{Digest: digest}, &m); err != nil {
		return nil, fmt.Errorf("get definition: %w", err)
	}
	if sha256.Sum256(m.JSON) != digest {
		return nil, errDefinition
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.known[digest]; ok {
		return m.JSON, nil
	}
	d.known[digest] = m.JSON
	d.order = append(d.order, digest)
	d.size += len(m.JSON)
	for len(d.order) > maxDefinitions || d.size > maxDefinitionBytes && len(d.order) > 1 {
		d.size -= len(d.known[d.order[0]])
		delete(d.known, d.order[0])
		d.order = d.order[1:]
	}
	return m.JSON, nil
}
