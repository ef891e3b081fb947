package runner

import (
	"maps"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// faultLost gives back what messages were lost about: it is not the execution's doing.
const faultLost = "lost"

// SetEgress replaces the live egress nodes of each pool. Workers get other leases for
// those of nodes that are gone, and repeat the calls that were open there.
func (r *Runner) SetEgress(pools map[string][]id.Node) {
	live := map[id.Node]bool{}
	for _, nodes := range pools {
		for _, n := range nodes {
			live[n] = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.egress = pools
	close(r.egressChanged)
	r.egressChanged = make(chan struct{})
	r.dropLeases(func(l lent) bool { return !live[l.node] })
	r.due()
}

// dropLeases takes leases from workers. The caller holds mu.
func (r *Runner) dropLeases(gone func(lent) bool) {
	for w := range r.workers {
		for l, to := range maps.Clone(w.leases) {
			if !to.gone && gone(to) {
				w.drop(l)
			}
		}
	}
}

// drop takes a lease from a worker whose egress node does not have it any more. The
// caller holds mu.
func (w *worker) drop(l id.Lease) {
	to := w.leases[l]
	to.gone = true
	w.leases[l] = to // what the worker sends under it is answered here
	if l == w.newest {
		w.expires = time.Time{} // long over: it needs another
		w.r.due()
	}
	if w.state == bound {
		w.write(&wire.LeaseDrop{Lease: l})
	} else {
		w.dropped = append(w.dropped, l) // it is told when it is bound
	}
}

// tellDropped tells a worker that has been bound what it lost meanwhile. The caller holds mu.
func (w *worker) tellDropped() {
	for _, l := range w.dropped {
		w.write(&wire.LeaseDrop{Lease: l})
	}
	w.dropped = nil
}

// ServersGone forgets what is held for servers that have ended: who comes after them
// gives it out again.
func (r *Runner) ServersGone(nodes []id.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.heldOf(func(h *held) bool { return slices.Contains(nodes, h.server) }) {
		r.displace(h)
	}
	for _, n := range nodes {
		delete(r.servers, n)
	}
	r.due()
}

// Lost gives back everything that is held: messages to and from this runner may have been
// lost, so that nobody would ever answer. It is given out again and goes on from its journal.
func (r *Runner) Lost() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lose(func(*held) bool { return true })
}

// lose gives back what is held. The caller holds mu.
func (r *Runner) lose(which func(*held) bool) {
	for _, h := range r.heldOf(which) {
		r.displace(h)
		r.cfg.Bus.Send(wire.RoleServer, h.server, wire.TopicWork, &wire.Released{Execution: h.execution, Fence: h.fence, Fault: faultLost})
	}
	r.due()
}

func (r *Runner) heldOf(which func(*held) bool) []*held {
	var out []*held
	for _, h := range r.held {
		if which(h) {
			out = append(out, h)
		}
	}
	return out
}

// lostWith is the word of a server or an egress node that messages between it and this
// runner may have been lost.
func (r *Runner) lostWith(from id.Node, topic wire.Topic) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if topic == wire.TopicUnit {
		r.lose(func(h *held) bool { return h.server == from })
	} else {
		r.dropLeases(func(l lent) bool { return l.node == from })
	}
}

// Drain takes nothing new and waits until nothing is held any more, or done is closed.
func (r *Runner) Drain(done <-chan struct{}) {
	r.mu.Lock()
	r.draining = true
	r.mu.Unlock()
	r.due()
	for {
		r.mu.Lock()
		empty, left := len(r.held) == 0, r.heldLess
		r.mu.Unlock()
		if empty {
			return
		}
		select {
		case <-left:
		case <-done:
			return
		}
	}
}
