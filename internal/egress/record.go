package egress

import (
	"net/netip"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Phase says whether a [Flow] is written before the dial or after the answer.
type Phase string

// The phases of a flow record.
const (
	Begin Phase = "begin"
	End   Phase = "end"
)

// Verdict is what became of a request.
type Verdict string

// The verdicts of a flow record. Begin records are always Allowed by the binding
// or Denied by it (then no End follows).
const (
	Allowed   Verdict = "allowed"
	Denied    Verdict = "denied"
	Completed Verdict = "completed"
	Failed    Verdict = "failed"
)

// Flow is the record of one request or redirect. It never holds a secret, path,
// query, header or body.
type Flow struct {
	Phase Phase
	// Request joins the two records of one request; each redirect is a request of its own.
	Request    id.Event
	Customer   id.Customer
	Instance   id.Instance
	Execution  id.Execution
	Connection id.Connection
	// Hop is 0 for the request and counts redirects.
	Hop    int
	Method string
	Scheme string
	Host   string
	Port   uint16
	// Addr is the address of the connection, or the one that was refused; invalid before the dial.
	Addr netip.AddrPort
	// Status is the status of the answer, 0 without one.
	Status int
	// BytesOut and BytesIn count body bytes as sent over the wire.
	BytesOut int64
	BytesIn  int64
	Duration time.Duration
	Verdict  Verdict
	// Fault is the type of the fault, empty without one.
	Fault     Type
	ScrubHits int
}

// Recorder takes flow records. Record is called on the calling goroutine of
// [Client.Do], before the dial and after, and must be fast and safe for
// concurrent use.
type Recorder interface{ Record(Flow) }

// RecorderFunc is a function as Recorder.
type RecorderFunc func(Flow)

// Record calls f.
func (f RecorderFunc) Record(r Flow) { f(r) }
