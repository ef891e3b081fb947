package lease

import (
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// OrderOp is what a server orders.
type OrderOp string

// The orders.
const (
	OrderExchange OrderOp = "exchange" // a person came back from the provider; the body is an [Exchange]
	OrderRefresh  OrderOp = "refresh"  // tokens are to be renewed; without a body
	OrderRevoke   OrderOp = "revoke"   // the grant is to be ended at the provider; without a body
	// OrderReplaced says that leases of records older than Version are not to be used any more: the credential was replaced or
	// destroyed. It is without a body, gives nothing, and the vault takes none.
	OrderReplaced OrderOp = "replaced"
)

// Order is a server's word that an egress node may act for a connection, without a lease. The
// vault sees it too, and takes each once.
type Order struct {
	Server     id.Node
	Egress     id.Node
	Op         OrderOp
	Customer   id.Customer // the owner of the connection
	Connection id.Connection
	// Version is the version of the record that is to be renewed, as the server knows it; a
	// newer one is left as it is. 0: whatever there is. Of OrderReplaced it is the oldest that may be used.
	Version uint64
	Issued  time.Time
	Nonce   [16]byte
	Body    []byte // sealed to the egress node with [PurposeOrderBody] at [Order.Place]
}

// Walk implements [wire.Message].
func (m *Order) Walk(c *wire.Coder) {
	c.Fixed(m.Server[:])
	c.Fixed(m.Egress[:])
	c.String((*string)(&m.Op))
	c.Fixed(m.Customer[:])
	c.Fixed(m.Connection[:])
	c.Uint(&m.Version)
	c.Time(&m.Issued)
	c.Fixed(m.Nonce[:])
	c.Bytes(&m.Body)
}

// Place is the associated data of the body of an order.
func (m *Order) Place() []byte {
	return seal.Tuple(nil, []byte("order/1"), m.Server[:], m.Egress[:], []byte(m.Op), m.Customer[:], m.Connection[:], m.Nonce[:])
}

// Exchange is what came back from the provider, as the browser brought it.
type Exchange struct {
	State   string
	Browser [32]byte    // SHA-256 of the cookie that the browser showed
	Params  []wire.Pair // of the callback's query, or of its form
}

// Walk implements [wire.Message].
func (m *Exchange) Walk(c *wire.Coder) {
	c.String(&m.State)
	c.Fixed(m.Browser[:])
	wire.List(c, &m.Params)
}

// SealExchange puts the body into an order, whose other fields are set.
func SealExchange(to *Identity, m *Order, x *Exchange) error {
	body := wire.AppendBody(nil, x)
	defer clear(body)
	sealed, err := seal.Seal(to.Seal, PurposeOrderBody, m.Place(), body)
	if err != nil {
		return fmt.Errorf("seal order: %w", err)
	}
	m.Body = sealed
	return nil
}

// OpenExchange opens the body of an order as its egress node.
func OpenExchange(k *seal.PrivateKey, m *Order) (*Exchange, error) {
	body, err := k.Open(PurposeOrderBody, m.Place(), m.Body)
	if err != nil {
		return nil, fmt.Errorf("open order: %w", err)
	}
	x := &Exchange{}
	if err := wire.ParseBody(body, x); err != nil {
		return nil, fmt.Errorf("open order: %w", err)
	}
	return x, nil
}

// SignOrder encodes and signs an order as the server named in it.
func SignOrder(server *seal.SignKey, m *Order) *wire.Order {
	m.Issued = m.Issued.UTC().Truncate(time.Microsecond)
	return &wire.Order{Signed: sign(server, PurposeOrder, m)}
}

// CheckOrder verifies that a live server gave this order to this node a moment ago. That its
// nonce has not come before is the caller's to check, for 2*[MaxDispatchAge].
func CheckOrder(order []byte, to id.Node, live Identities, now time.Time) (*Order, error) {
	var s signed
	m := &Order{}
	if err := wire.ParseBody(order, &s); err != nil {
		return nil, fmt.Errorf("%w: order: %w", ErrRefused, err)
	}
	if err := wire.ParseBody(s.Body, m); err != nil {
		return nil, fmt.Errorf("%w: order: %w", ErrRefused, err)
	}
	server, ok := live(m.Server)
	if !ok || server.Role != wire.RoleServer || !server.Sign.Verify(PurposeOrder, s.Body, s.Signature) {
		return nil, fmt.Errorf("%w: order is not signed by a live server", ErrRefused)
	}
	if m.Egress != to {
		return nil, fmt.Errorf("%w: order to another node", ErrRefused)
	}
	if age := now.Sub(m.Issued); age > MaxDispatchAge || age < -MaxDispatchAge {
		return nil, fmt.Errorf("%w: order is %v old", ErrRefused, age)
	}
	switch {
	case m.Op != OrderExchange && m.Op != OrderRefresh && m.Op != OrderRevoke && m.Op != OrderReplaced:
		return nil, fmt.Errorf("%w: unknown order", ErrRefused)
	case m.Op == OrderReplaced && m.Version == 0:
		return nil, fmt.Errorf("%w: an order that names no version", ErrRefused)
	case (m.Op == OrderExchange) != (len(m.Body) > 0):
		return nil, fmt.Errorf("%w: an order with a body that it must not have, or without the one it needs", ErrRefused)
	}
	return m, nil
}

// OrderResult is what became of an order.
type OrderResult struct {
	// Status is how the connection does now. Its Account is set after an exchange, also one that
	// ended with other_account.
	Status wire.ConnectionStatus
	// Code is a stable word: ok; busy: ask again later; dead: a person has to connect again;
	// refused: the provider said no; denied: the person said no; other_account; failed: the
	// provider could not be reached or understood; unsure: and nobody knows what it did.
	Code string
	// Message is for the operator. It holds no token and no text of the provider.
	Message string
	Retry   time.Duration // with busy and failed
}

// Walk implements [wire.Message].
func (m *OrderResult) Walk(c *wire.Coder) {
	m.Status.Walk(c)
	c.String(&m.Code)
	c.String(&m.Message)
	c.Duration(&m.Retry)
}

// The codes of an [OrderResult].
const (
	OrderOK           = "ok"
	OrderBusy         = "busy"
	OrderDead         = "dead"
	OrderRefused      = "refused"
	OrderDenied       = "denied"
	OrderOtherAccount = "other_account"
	OrderFailed       = "failed"
	OrderUnsure       = "unsure"
)

// SignOrderResult answers an order as the egress node that it was for.
func SignOrderResult(egress *seal.SignKey, order *wire.Order, m *OrderResult) *wire.OrderAnswer {
	body := wire.AppendBody(nil, m)
	return &wire.OrderAnswer{Body: body, Signature: egress.Sign(PurposeOrderAnswer, seal.Tuple(nil, order.Signed, body))}
}

// CheckOrderResult reads the answer to an order that was sent to a node.
func CheckOrderResult(egress *Identity, order *wire.Order, a *wire.OrderAnswer) (*OrderResult, error) {
	if egress.Role != wire.RoleEgress || !egress.Sign.Verify(PurposeOrderAnswer, seal.Tuple(nil, order.Signed, a.Body), a.Signature) {
		return nil, fmt.Errorf("%w: answer is not by the egress node of the order", ErrRefused)
	}
	m := &OrderResult{}
	if err := wire.ParseBody(a.Body, m); err != nil {
		return nil, fmt.Errorf("read answer to order: %w", err)
	}
	return m, nil
}

// Account is whose account a connection is at the provider.
type Account struct {
	ID    string // stable; the server keeps its blind index only
	Label string // for people; the server keeps it sealed
}

// Walk implements [wire.Message].
func (m *Account) Walk(c *wire.Coder) {
	c.String(&m.ID)
	c.String(&m.Label)
}

// AccountPlace binds an account on its way to the server that asked for it.
func AccountPlace(server id.Node, c id.Connection) []byte {
	return seal.Tuple(nil, []byte("account/1"), server[:], c[:])
}

// SealAccount seals an account to a server.
func SealAccount(to *Identity, c id.Connection, m *Account) ([]byte, error) {
	return seal.Seal(to.Seal, PurposeServer, AccountPlace(to.Node, c), wire.AppendBody(nil, m))
}

// OpenAccount opens an account as the server that it is for.
func OpenAccount(k *seal.PrivateKey, server id.Node, c id.Connection, sealed []byte) (*Account, error) {
	body, err := k.Open(PurposeServer, AccountPlace(server, c), sealed)
	if err != nil {
		return nil, fmt.Errorf("open account: %w", err)
	}
	m := &Account{}
	if err := wire.ParseBody(body, m); err != nil {
		return nil, fmt.Errorf("open account: %w", err)
	}
	return m, nil
}

// SignStatus signs a status as the egress node that sends it, which it names in it. The bus
// cannot make one up.
func SignStatus(egress *seal.SignKey, m *wire.ConnectionStatus) {
	m.At = m.At.UTC().Truncate(time.Microsecond)
	m.Signature = nil
	m.Signature = egress.Sign(PurposeStatus, wire.AppendBody(nil, m))
}

// CheckStatus verifies that a live egress node signed a status a moment ago.
func CheckStatus(from id.Node, m *wire.ConnectionStatus, live Identities, now time.Time) error {
	egress, ok := live(from)
	bare := *m
	bare.Signature = nil
	if !ok || egress.Role != wire.RoleEgress || m.Node != from || !egress.Sign.Verify(PurposeStatus, wire.AppendBody(nil, &bare), m.Signature) {
		return fmt.Errorf("%w: status is not signed by a live egress node", ErrRefused)
	}
	if age := now.Sub(m.At); age > MaxDispatchAge || age < -MaxDispatchAge {
		return fmt.Errorf("%w: status is %v old", ErrRefused, age)
	}
	if !m.State.Valid() {
		return fmt.Errorf("%w: status of an unknown state", ErrRefused)
	}
	return nil
}
