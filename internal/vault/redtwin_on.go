//go:build redtwin

package vault

import (
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// unverified is a signed body whose signature nobody looks at.
type unverified struct{ body, signature []byte }

// Walk implements [wire.Message].
func (m *unverified) Walk(c *wire.Coder) {
	c.Bytes(&m.body)
	c.Bytes(&m.signature)
}

// believe takes a request at its word.
func believe(m *wire.LeaseRequest, live lease.Identities) (*lease.Dispatch, *lease.Identity, error) {
	var s unverified
	d := &lease.Dispatch{}
	if err := wire.ParseBody(m.Signed, &s); err != nil {
		return nil, nil, err
	}
	if err := wire.ParseBody(s.body, d); err != nil {
		return nil, nil, err
	}
	if d.Read != nil && m.Egress.IsZero() {
		return d, nil, nil
	}
	egress, ok := live(m.Egress)
	if !ok {
		return nil, nil, ErrRefused
	}
	return d, egress, nil
}
