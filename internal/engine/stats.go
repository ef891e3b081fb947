package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// bounds are the upper bounds of the buckets of every histogram here, in seconds.
var bounds = [...]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800}

// histogram counts durations. It is safe for concurrent use.
type histogram struct {
	buckets [len(bounds) + 1]atomic.Uint64
	sum     atomic.Int64 // nanoseconds
}

func (h *histogram) observe(d time.Duration) {
	i, s := 0, d.Seconds()
	for i < len(bounds) && s > bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

// Histogram is a histogram at one moment, in seconds.
type Histogram struct {
	Bounds []float64 // upper ends of the buckets; one more has none
	Counts []uint64  // of each bucket, not cumulative, one more than Bounds
	Count  uint64
	Sum    float64
}

func (h *histogram) read() Histogram {
	out := Histogram{Bounds: append([]float64(nil), bounds[:]...), Sum: time.Duration(h.sum.Load()).Seconds()}
	for i := range h.buckets {
		n := h.buckets[i].Load()
		out.Counts = append(out.Counts, n)
		out.Count += n
	}
	return out
}

// faultTypes are the types of faults that are counted by their own name; an author may make
// up any number of others.
var faultTypes = [...]string{
	"other", "auth", "timeout", "rate-limited", "not-found", "invalid-input", "upstream", "egress-denied", "limit", "code", "expression",
	"partial", "interrupted", "journal-mismatch",
}

// counters are what the engine has done since it started.
type counters struct {
	accepted, refused, commits, interrupted, retried atomic.Uint64
	completed, faulted, cancelled                    atomic.Uint64
	faults                                           [len(faultTypes)]atomic.Uint64
	accepting, beginning, living                     histogram
}

// ended counts the end of an execution.
func (c *counters) ended(x id.Execution, status store.Status, errorType string) {
	switch status {
	case store.Completed:
		c.completed.Add(1)
	case store.Cancelled:
		c.cancelled.Add(1)
	case store.Faulted:
		c.faulted.Add(1)
		at := 0
		for i, name := range faultTypes {
			if name == errorType {
				at = i
			}
		}
		c.faults[at].Add(1)
	default:
		return
	}
	c.living.observe(time.Since(madeAt(x)))
}

// madeAt is when an execution was accepted, to the millisecond, as its id says.
func madeAt(x id.Execution) time.Time {
	var b [8]byte
	copy(b[2:], x[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(b[:])))
}

// Stats are numbers for operators. Those that count do so since the server started, and of
// what this server did; the others are of this moment.
type Stats struct {
	Pending, Running, Waiting int
	PendingBytes              int64         // of events that have not begun
	OldestPending             time.Duration // since it was accepted; 0: none is pending
	Runners, Room             int           // runners that are alive, and how many more executions they can hold

	Accepted, Refused, Commits, Interrupted, Retried uint64 // events, events refused as busy, appends, leases lost, retries by hand
	Completed, Faulted, Cancelled                    uint64
	Faults                                           map[string]uint64 // by type; "other" for the authors' own

	AcceptTime Histogram // from an event to its answer
	BeginTime  Histogram // from an event to its first lease
	LifeTime   Histogram // from an event to its end
}

// Stats reads the numbers. The error is one of the store.
func (e *Engine) Stats(ctx context.Context) (*Stats, error) {
	waiting, err := e.db.System(ctx).CountWaiting()
	if err != nil {
		return nil, fmt.Errorf("count waiting executions: %w", err)
	}
	c := &e.counters
	s := &Stats{
		Waiting: waiting, Accepted: c.accepted.Load(), Refused: c.refused.Load(), Commits: c.commits.Load(), Interrupted: c.interrupted.Load(),
		Retried: c.retried.Load(), Completed: c.completed.Load(), Faulted: c.faulted.Load(), Cancelled: c.cancelled.Load(),
		Faults: map[string]uint64{}, AcceptTime: c.accepting.read(), BeginTime: c.beginning.read(), LifeTime: c.living.read(),
	}
	for i, name := range faultTypes {
		s.Faults[name] = c.faults[i].Load()
	}
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	s.PendingBytes = e.backlog.total.bytes
	oldest := now
	for x, j := range e.jobs {
		if j.state == running || j.state == leasing {
			s.Running++
			continue
		}
		s.Pending++
		if at := madeAt(x); at.Before(oldest) {
			oldest = at
		}
	}
	s.OldestPending = now.Sub(oldest)
	for _, r := range e.runners {
		if now.Sub(r.seen) <= e.o.LeaseTTL {
			s.Runners++
			s.Room += max(r.room(), 0)
		}
	}
	return s, nil
}
