package lease

import (
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Identity is one process as the vault certifies it.
type Identity struct {
	Node    id.Node
	Role    wire.Role
	Pool    string // of egress nodes and runners
	Sign    seal.VerifyKey
	Seal    seal.PublicKey
	Expires time.Time
}

// Walk implements [wire.Message].
func (m *Identity) Walk(c *wire.Coder) {
	c.Fixed(m.Node[:])
	c.String((*string)(&m.Role))
	c.String(&m.Pool)
	c.Fixed(m.Sign[:])
	c.Fixed(m.Seal[:])
	c.Time(&m.Expires)
}

// signed is a body with a signature over it.
type signed struct{ Body, Signature []byte }

// Walk implements [wire.Message].
func (m *signed) Walk(c *wire.Coder) {
	c.Bytes(&m.Body)
	c.Bytes(&m.Signature)
}

func sign(k *seal.SignKey, purpose string, m wire.Message) []byte {
	body := wire.AppendBody(nil, m)
	return wire.AppendBody(nil, &signed{body, k.Sign(purpose, body)})
}

// Certify makes the certificate of an identity with the authority's key.
func Certify(authority *seal.SignKey, i *Identity) []byte { return sign(authority, PurposeIdentity, i) }

// ParseIdentity checks a certificate against the authority and the time.
func ParseIdentity(authority seal.VerifyKey, certificate []byte, now time.Time) (*Identity, error) {
	var s signed
	if err := wire.ParseBody(certificate, &s); err != nil {
		return nil, fmt.Errorf("%w: certificate: %w", ErrRefused, err)
	}
	if !authority.Verify(PurposeIdentity, s.Body, s.Signature) {
		return nil, fmt.Errorf("%w: certificate is not by this authority", ErrRefused)
	}
	i := &Identity{}
	if err := wire.ParseBody(s.Body, i); err != nil {
		return nil, fmt.Errorf("%w: certificate: %w", ErrRefused, err)
	}
	if !now.Before(i.Expires) {
		return nil, fmt.Errorf("%w: certificate of %s has expired", ErrRefused, i.Node)
	}
	return i, nil
}
