package lease

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Ticket is the vault's word to itself that an egress node holds a lease of a connection. It
// travels with the lease, and comes back when the node needs newer tokens.
type Ticket struct {
	Lease      id.Lease
	Egress     id.Node
	Customer   id.Customer // of the lease, who may be another than the owner of the connection
	Connection id.Connection
	Expires    time.Time // with the lease
	mac        []byte
}

// Walk implements [wire.Message].
func (m *Ticket) Walk(c *wire.Coder) {
	c.Fixed(m.Lease[:])
	c.Fixed(m.Egress[:])
	c.Fixed(m.Customer[:])
	c.Fixed(m.Connection[:])
	c.Time(&m.Expires)
	c.Bytes(&m.mac)
}

func (m *Ticket) sum(key []byte) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write(seal.Tuple(nil, []byte(PurposeTicket), m.Lease[:], m.Egress[:], m.Customer[:], m.Connection[:], seal.Uint(uint64(m.Expires.UnixMicro()))))
	return h.Sum(nil)
}

// MakeTicket encodes a ticket under the vault's key.
func MakeTicket(key []byte, m *Ticket) []byte {
	m.Expires = m.Expires.UTC().Truncate(time.Microsecond)
	m.mac = m.sum(key)
	return wire.AppendBody(nil, m)
}

// CheckTicket reads a ticket that a node presents for a connection.
func CheckTicket(key, ticket []byte, from id.Node, c id.Connection, now time.Time) (*Ticket, error) {
	m := &Ticket{}
	if err := wire.ParseBody(ticket, m); err != nil {
		return nil, fmt.Errorf("%w: ticket: %w", ErrRefused, err)
	}
	switch {
	case !hmac.Equal(m.mac, m.sum(key)):
		return nil, fmt.Errorf("%w: ticket is not by this vault", ErrRefused)
	case m.Egress != from:
		return nil, fmt.Errorf("%w: ticket of another node", ErrRefused)
	case m.Connection != c:
		return nil, fmt.Errorf("%w: ticket of another connection", ErrRefused)
	case !now.Before(m.Expires):
		return nil, fmt.Errorf("%w: ticket of a lease that has ended", ErrRefused)
	}
	return m, nil
}
