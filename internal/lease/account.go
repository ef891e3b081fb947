package lease

import (
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// OpAccount is asked by servers: what the account of a connection is called at its provider.
// AccountCall → SealedAnswer, to the server: an [Account] without its ID, see [OpenAccount].
const OpAccount = "account"

// MaxAccountLabel is the longest name of an account that is kept, in bytes.
const MaxAccountLabel = 200

// AccountCall names a connection, and its owner.
type AccountCall struct {
	Customer   id.Customer
	Connection id.Connection
}

// Walk implements [wire.Message].
func (m *AccountCall) Walk(c *wire.Coder) {
	c.Fixed(m.Customer[:])
	c.Fixed(m.Connection[:])
}
