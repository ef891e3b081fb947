package runner

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// renewBefore is how long before its end a lease is renewed.
const renewBefore = lease.MaxLife / 2

// dispatch takes a unit: it goes to the worker of the instance, which is bound
// first or given a newer lease when the one it has does not cover the unit.
func (r *Runner) dispatch(from id.Node, f wire.Frame) error {
	d := &wire.Dispatch{}
	if err := f.Parse(d); err != nil {
		return err
	}
	signed, err := lease.PeekDispatch(d.Signed)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = from
	if r.closing {
		return r.giveBack(from, d, "shutdown")
	}
	w := r.byInstance[d.Instance]
	if w == nil || w.state == dead || !w.runs(d) {
		if w, err = r.take(); err != nil {
			r.cfg.Log.Error("start worker", "err", err)
			return r.giveBack(from, d, "unavailable")
		}
		w.assign(d)
		r.byInstance[d.Instance] = w
	}
	for _, e := range d.Unit.Executions {
		if old := r.held[e.Execution]; old != nil && old.worker != w {
			delete(old.worker.executions, e.Execution)
		}
		r.held[e.Execution] = &held{fence: e.Fence, server: from, worker: w}
		w.executions[e.Execution] = e.Fence
	}
	w.queue(&job{d, signed})
	return nil
}

// giveBack tells the server that a unit could not be taken.
func (r *Runner) giveBack(server id.Node, d *wire.Dispatch, why string) error {
	for _, e := range d.Unit.Executions {
		r.cfg.Bus.Send(wire.RoleServer, server, wire.TopicWork, &wire.Released{Execution: e.Execution, Fence: e.Fence, Fault: why})
	}
	return nil
}

// job is a unit on its way to a worker.
type job struct {
	*wire.Dispatch
	signed *lease.Dispatch
}

// errNoEgress means that the pool named in a dispatch has no live node.
var errNoEgress = errors.New("no egress node in the pool")

// lend gets a lease for a worker from the vault and gives egress its half.
func (r *Runner) lend(ctx context.Context, w *worker, j *job) (*wire.LeaseGrant, error) {
	nodes := r.cfg.Egress[j.signed.EgressPool]
	if len(nodes) == 0 {
		return nil, fmt.Errorf("%w %q", errNoEgress, j.signed.EgressPool)
	}
	node := nodes[w.number%uint64(len(nodes))]
	request := lease.SignRequest(r.cfg.Sign, r.cfg.Node, j.Signed, w.key, node)
	grant := &wire.LeaseGrant{}
	if err := r.cfg.Bus.Ask(ctx, wire.RoleVault, wire.TopicLease, request, grant); err != nil {
		return nil, fmt.Errorf("get lease: %w", err)
	}
	r.cfg.Bus.Send(wire.RoleEgress, node, wire.TopicCall, &wire.LeaseGive{Lease: grant.Lease, Sealed: grant.Egress})
	r.mu.Lock()
	w.leases[grant.Lease] = node
	w.cover(j.signed, grant.Expires)
	r.mu.Unlock()
	return grant, nil
}

// definitions keeps the newest published integrations, by digest.
type definitions struct {
	bus Bus

	mu    sync.Mutex
	known map[[32]byte][]byte
	order [][32]byte
}

// maxDefinitions is how many definitions are kept.
const maxDefinitions = 256

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
	if _, ok := d.known[digest]; !ok {
		d.known[digest] = m.JSON
		if d.order = append(d.order, digest); len(d.order) > maxDefinitions {
			delete(d.known, d.order[0])
			d.order = d.order[1:]
		}
	}
	return m.JSON, nil
}

// bindContext bounds everything that a binding waits for.
func bindContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), bindTimeout)
}

// covers reports whether the newest lease of w allows what a dispatch needs.
func (w *worker) covers(d *lease.Dispatch, now time.Time) bool {
	if w.expires.Sub(now) < renewBefore {
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

// cover remembers what a lease allows.
func (w *worker) cover(d *lease.Dispatch, expires time.Time) {
	w.expires = expires
	w.days, w.views = map[lease.Day]bool{}, map[id.View]bool{}
	for _, day := range d.Days {
		w.days[day] = true
	}
	for _, v := range d.Viewers {
		w.views[v.View] = true
	}
}
