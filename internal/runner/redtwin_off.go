//go:build !redtwin

package runner

import "github.com/bulkheadhq/bulkhead/internal/wire"

// owns reports whether an execution is w's.
func owns(w *worker, h *held) bool { return h != nil && h.worker == w }

// reads reports whether w was asked for a read.
func reads(w *worker, x *reading) bool { return x != nil && x.worker == w && !x.queued }

// lends reports whether a call is under a lease of w, at the node that has its other half.
func lends(w *worker, m *wire.Call) bool {
	l, ok := w.leases[m.Lease]
	return ok && l.node == m.Egress
}
