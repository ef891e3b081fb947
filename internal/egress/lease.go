package egress

import (
	"sync/atomic"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Default budget of a lease.
const (
	// DefaultRequests is how many requests, redirects included, one lease may make.
	DefaultRequests = 100_000
	// DefaultBytes is how many body bytes, sent and received, one lease may move.
	DefaultBytes = 4 << 30
)

// Budget bounds what one lease may do. Zero fields are the defaults.
type Budget struct {
	// Requests counts redirects too.
	Requests int64
	// Bytes counts bodies sent and received, the latter after decompression.
	Bytes int64
}

// LeaseSpec is what the vault's lease for one connection says.
type LeaseSpec struct {
	Customer id.Customer
	// Instance is on whose behalf the lease is used, for the flow record.
	Instance   id.Instance
	Connection id.Connection
	// Version is the version of the credential record.
	Version    uint64
	Binding    Binding
	Credential Credential
	Budget     Budget
	// Rate is how often the provider lets the connection ask; nil: as often as it likes.
	Rate *credential.Rate
}

// Lease is the permission to use one connection. Safe for concurrent use.
//
// It holds the credential in clear, as net/http needs strings; it disappears
// with the garbage, so leases are short.
type Lease struct {
	customer   id.Customer
	instance   id.Instance
	connection id.Connection
	version    uint64
	bound      *bound
	inject     *injector
	scrub      *Scrubber
	budget     Budget
	spent      *spent
	rate       *credential.Rate
}

// spent is what has been used of a budget. Connections of one lease share it.
type spent struct{ requests, bytes atomic.Int64 }

// NewLease checks and compiles s. Errors wrap [ErrBinding] or [ErrCredential].
func NewLease(s LeaseSpec) (*Lease, error) {
	b, err := compile(s.Binding)
	if err != nil {
		return nil, err
	}
	in, err := newInjector(s.Credential)
	if err != nil {
		return nil, err
	}
	if s.Budget.Requests == 0 {
		s.Budget.Requests = DefaultRequests
	}
	if s.Budget.Bytes == 0 {
		s.Budget.Bytes = DefaultBytes
	}
	return &Lease{
		customer: s.Customer, instance: s.Instance, connection: s.Connection, version: s.Version, spent: &spent{},
		bound: b, inject: in, scrub: newScrubber(in.secrets, in.lines), budget: s.Budget, rate: s.Rate,
	}, nil
}

// Used is what the lease has spent so far.
func (l *Lease) Used() Budget {
	return Budget{Requests: l.spent.requests.Load(), Bytes: l.spent.bytes.Load()}
}

// takeRequest counts one request with a body of n bytes.
func (l *Lease) takeRequest(n int64) *Fault {
	if l.spent.requests.Add(1) > l.budget.Requests || !l.takeBytes(n) {
		return &Fault{Type: Limit, Outcome: NotSent, Message: errBudget.Message}
	}
	return nil
}

// takeBytes counts n body bytes and reports whether the budget still holds.
func (l *Lease) takeBytes(n int64) bool { return l.spent.bytes.Add(n) <= l.budget.Bytes }
