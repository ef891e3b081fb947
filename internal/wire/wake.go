package wire

import "github.com/bulkheadhq/bulkhead/internal/id"

// WakeReason says what a wake answers. It is the Epoch of an [EntryWake].
type WakeReason uint32

// The values of [WakeReason].
const (
	// WakeAnswer: a callback or an event came. Body is sealed by the server to the
	// payload key of the execution's day, at lease.EntryPlace of the wake itself.
	WakeAnswer WakeReason = 1 + iota
	// WakeTimer: the time of a timer has come. Body is empty.
	WakeTimer
	// WakeTimeout: nobody answered in time. Body is empty.
	WakeTimeout
	// WakeCompleted, WakeFaulted, WakeCancelled: the child has ended. Hash holds the
	// child's execution id; Body is the Output of its finish, unchanged, which opens at
	// lease.OutputPlace(customer, child, reason.Status()). An empty Body is a child
	// that ended without an output.
	WakeCompleted
	WakeFaulted
	WakeCancelled
)

// Status is the status of the child that a reason speaks of, or 0 when it speaks of none.
func (r WakeReason) Status() Status {
	switch r {
	case WakeCompleted:
		return StatusCompleted
	case WakeFaulted:
		return StatusFaulted
	case WakeCancelled:
		return StatusCancelled
	}
	return 0
}

// WakeOf is the reason for the wake of a parent whose child ended with a status, or 0
// for a status that is no end.
func WakeOf(s Status) WakeReason {
	switch s {
	case StatusCompleted:
		return WakeCompleted
	case StatusFaulted:
		return WakeFaulted
	case StatusCancelled:
		return WakeCancelled
	}
	return 0
}

// Child is the execution that a wake speaks of. It is meaningful when the reason has a status.
func (m *Entry) Child() id.Execution { return id.Execution(m.Hash) }
