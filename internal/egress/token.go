package egress

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// tokenSkew is how long before its end a token is not used any more: clocks differ, and requests travel.
const tokenSkew = 10 * time.Second

// tokenSlot is a slot whose credential is renewed. Safe for concurrent use.
type tokenSlot struct {
	granted *granted
	ticket  []byte
	spent   *spent // of the whole lease

	mu     sync.Mutex
	lease  *Lease       // nil while there are no tokens
	record lease.Record // without fields
}

// now is what the slot is used with, and when that ends.
func (s *tokenSlot) now() (l *Lease, r lease.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease, s.record
}

// take makes a newer record the one to use, unless there is a newer one already. The budget stays the lease's.
func (s *tokenSlot) take(r *lease.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Connection != s.record.Connection || r.Version <= s.record.Version {
		return nil
	}
	spec, err := specOf(s.granted.Egress, r)
	if err != nil {
		return err
	}
	l, err := NewLease(spec)
	if err != nil {
		return err
	}
	l.spent = s.spent
	s.lease, s.record = l, *r
	s.record.Fields = nil
	return nil
}

// usable returns the lease of a slot whose tokens are good, and its version. Tokens that have ended are renewed first.
func (n *Node) usable(ctx context.Context, s *tokenSlot) (*Lease, uint64, *Fault) {
	l, r := s.now()
	if l != nil && (r.Expires.IsZero() || time.Now().Add(tokenSkew).Before(r.Expires)) {
		return l, r.Version, nil
	}
	if err := n.renewSlot(ctx, s, r.Version); err != nil {
		return nil, 0, renewFault(err)
	}
	if l, r = s.now(); l == nil || !r.Expires.IsZero() && !time.Now().Before(r.Expires) {
		return nil, 0, renewFault(&TokenFault{})
	}
	return l, r.Version, nil
}

// renewSlot brings newer tokens than a version.
func (n *Node) renewSlot(ctx context.Context, s *tokenSlot, stale uint64) error {
	if n.cfg.Renewer == nil || len(s.ticket) == 0 {
		return &TokenFault{}
	}
	_, r := s.now()
	if r.Version > stale {
		return nil // another call has done it
	}
	newer, err := n.cfg.Renewer.Renew(ctx, r.Connection, s.ticket, stale)
	if err != nil {
		return err
	}
	return s.take(newer)
}

// renewFault is the fault of a call that was not made for want of a token.
func renewFault(err error) *Fault {
	f := &Fault{Type: Upstream, Outcome: NotSent, Message: "the connection's token has ended: " + err.Error(), cause: err}
	if t, ok := errors.AsType[*TokenFault](err); ok {
		f.RetryAfter = min(t.Retry, MaxRetryAfter)
		if t.State != wire.ConnectionLive {
			f.Type, f.Message = Auth, t.Error()
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		f.Type = Interrupted
	}
	return f
}
