package wire

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Messages of the life of tokens between server and egress. What egress asks of the vault
// travels as a [VaultCall], see package lease.

// ConnectionState is what the vault says of the grant behind a connection. Numbers are part
// of the format.
type ConnectionState byte

// The states of a connection.
const (
	// ConnectionLive: the credential can be used. The zero value: kinds that never change.
	ConnectionLive ConnectionState = iota
	// ConnectionNeedsReconnect: the provider refused the grant, or could not be reached for
	// days. A person has to connect again.
	ConnectionNeedsReconnect
	// ConnectionLostAnswer: an answer with new tokens was lost between the provider and the
	// keystore, and the old ones are no longer taken. A person has to connect again.
	ConnectionLostAnswer
	// ConnectionRevoked: the grant was revoked here or at the provider.
	ConnectionRevoked
	connectionStateEnd
)

// Valid reports whether the state is one of the constants.
func (s ConnectionState) Valid() bool { return s < connectionStateEnd }

// String names the state as the API does.
func (s ConnectionState) String() string {
	switch s {
	case ConnectionLive:
		return "live"
	case ConnectionNeedsReconnect:
		return "needs_reconnect"
	case ConnectionLostAnswer:
		return "lost_answer"
	case ConnectionRevoked:
		return "revoked"
	}
	return "unknown"
}

// Order asks an egress node to do something for a connection. Signed holds a lease.Order,
// signed by the server. It is answered by an [OrderAnswer], or by an [Error].
type Order struct{ Signed []byte }

// Walk implements [Message].
func (m *Order) Walk(c *Coder) { c.Bytes(&m.Signed) }

// FrameType implements [Typed].
func (*Order) FrameType() Type { return TypeOrder }

// OrderAnswer says what became of an [Order]. Body holds a lease.OrderResult; the egress
// node signs it together with the order that it answers.
type OrderAnswer struct{ Body, Signature []byte }

// Walk implements [Message].
func (m *OrderAnswer) Walk(c *Coder) {
	c.Bytes(&m.Body)
	c.Bytes(&m.Signature)
}

// FrameType implements [Typed].
func (*OrderAnswer) FrameType() Type { return TypeOrderAnswer }

// ConnectionStatus tells the server how the credential of a connection does, after each
// change. It holds no token and no name of an account. Statuses of one connection are
// ordered by Version, those of one version by At.
type ConnectionStatus struct {
	Node       id.Node
	At         time.Time
	Customer   id.Customer // the owner of the connection
	Connection id.Connection
	Version    uint64    // of the credential record
	Expires    time.Time // of the access token; zero: it does not expire, or nobody knows
	Refresh    time.Time // when to refresh it ahead of that; zero: the server decides
	Retry      time.Time // after a failure: not before this
	State      ConnectionState
	Scopes     string // as granted, separated by spaces
	Account    []byte // an encoded lease.Account, sealed to the server that asked; empty: unchanged
	Error      string // stable word for what went wrong last, such as network or invalid_grant; empty: nothing
	Signature  []byte // by the egress node, see lease.SignStatus
}

// Walk implements [Message].
func (m *ConnectionStatus) Walk(c *Coder) {
	c.Fixed(m.Node[:])
	c.Time(&m.At)
	c.Fixed(m.Customer[:])
	c.Fixed(m.Connection[:])
	c.Uint(&m.Version)
	c.Time(&m.Expires)
	c.Time(&m.Refresh)
	c.Time(&m.Retry)
	c.Byte((*byte)(&m.State))
	c.String(&m.Scopes)
	c.Bytes(&m.Account)
	c.String(&m.Error)
	c.Bytes(&m.Signature)
}

// FrameType implements [Typed].
func (*ConnectionStatus) FrameType() Type { return TypeConnectionStatus }
