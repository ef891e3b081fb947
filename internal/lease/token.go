package lease

import (
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// The operations of the life of tokens (doc/decisions/tokens.md). OpOAuthStart is asked by
// servers, the others by egress nodes, whose calls are made by [SignTokenCall].
const (
	OpOAuthStart = "oauth-start" // StartCall → StartAnswer
	OpTokenBegin = "token-begin" // BeginCall → SealedAnswer, to the node: a Begin, see OpenBegin
	OpTokenRaw   = "token-raw"   // RawCall → nothing
	OpTokenSave  = "token-save"  // SaveCall → SaveAnswer
)

// Limits of the life of tokens.
const (
	// MaxPending is how long a person may take to come back from the provider.
	MaxPending = 10 * time.Minute
	// MaxPendings is the most starts of one customer that are open at a time.
	MaxPendings = 20
	// IntentLife is how long a node has the connection for itself after a begin. After it the
	// next begin is granted, and told that what was sent is uncertain.
	IntentLife = 90 * time.Second
	// WorkTime is how long the node that was granted a Work may talk to the provider, counted
	// from before it asked. It ends well before IntentLife.
	WorkTime = 60 * time.Second
	// MaxRaw is the longest answer of a provider that is kept, MaxRaws the most of one Work.
	MaxRaw  = 128 << 10
	MaxRaws = 8
	// The pauses after a failure: CoolDown, doubled for each further one up to MaxCoolDown.
	// After GiveUp of failures a person has to connect again.
	CoolDown    = 30 * time.Second
	MaxCoolDown = 15 * time.Minute
	GiveUp      = 4 * 24 * time.Hour
)

// StartCall begins an authorization: a person is about to be sent to the provider. Draft is
// an encoded [Record] of kind oauth2 without tokens, sealed to the vault's key with
// [PurposeVault] and [ConnectionPlace]. It replaces the record of the connection, if there
// is one, when the provider's answer is saved and not before.
type StartCall struct {
	Customer     id.Customer
	Connection   id.Connection
	Client       id.Connection // as in the draft
	Draft        []byte
	RedirectURI  string
	Browser      [32]byte // SHA-256 of the cookie of the browser that was sent away
	Reconnect    bool     // the connection exists
	OtherAccount bool     // and may become one with another account
}

// Walk implements [wire.Message].
func (m *StartCall) Walk(c *wire.Coder) {
	c.Fixed(m.Customer[:])
	c.Fixed(m.Connection[:])
	c.Fixed(m.Client[:])
	c.Bytes(&m.Draft)
	c.String(&m.RedirectURI)
	c.Fixed(m.Browser[:])
	c.Bool(&m.Reconnect)
	c.Bool(&m.OtherAccount)
}

// StartAnswer is what the authorize URL needs. The verifier behind Challenge stays in the
// vault until an egress node exchanges the code.
type StartAnswer struct {
	State     string // of 43 characters, good for one callback
	Challenge string // PKCE S256 (RFC 7636)
	Nonce     string // of OpenID Connect
}

// Walk implements [wire.Message].
func (m *StartAnswer) Walk(c *wire.Coder) {
	c.String(&m.State)
	c.String(&m.Challenge)
	c.String(&m.Nonce)
}

// BeginCall asks for the right to renew the credential of a connection. It rests on a ticket
// of a lease, or on an order of a server; exactly one of both is given.
type BeginCall struct {
	Connection id.Connection
	Ticket     []byte
	Order      []byte // a signed [Order], as it came
	// Stale is the version that the node has and that is too old or was refused, with a
	// ticket. A newer one is answered at once.
	Stale uint64
	// Attempt is random, and the same when the connection is asked for again because an answer was
	// lost.
	Attempt [16]byte
	// Of an exchange, from the order's body.
	State   string
	Browser [32]byte
}

// Walk implements [wire.Message].
func (m *BeginCall) Walk(c *wire.Coder) {
	c.Fixed(m.Connection[:])
	c.Bytes(&m.Ticket)
	c.Bytes(&m.Order)
	c.Uint(&m.Stale)
	c.Fixed(m.Attempt[:])
	c.String(&m.State)
	c.Fixed(m.Browser[:])
}

// Grant says what a [Work] is for.
type Grant byte

// The grants.
const (
	GrantExchange Grant = 1 + iota // an authorization code for the first tokens
	GrantRefresh                   // the record has a refresh token
	GrantMint                      // it has none: tokens are made anew from what the record and its client hold
	GrantRevoke                    // the provider is told to forget the grant
)

// String names the grant.
func (g Grant) String() string {
	switch g {
	case GrantExchange:
		return "exchange"
	case GrantRefresh:
		return "refresh"
	case GrantMint:
		return "mint"
	case GrantRevoke:
		return "revoke"
	}
	return "unknown"
}

// Begin is the vault's answer to a [BeginCall]: exactly one of its fields is set.
type Begin struct {
	Work    *Work
	Current *SlotRecord // a newer record than the node has, as it is leased; Slot is empty
	Busy    *Busy
	Dead    *Dead
}

// Walk implements [wire.Message].
func (m *Begin) Walk(c *wire.Coder) {
	wire.Optional(c, &m.Work)
	wire.Optional(c, &m.Current)
	wire.Optional(c, &m.Busy)
	wire.Optional(c, &m.Dead)
}

// Busy: another node is at it, or it failed a moment ago.
type Busy struct {
	RetryAfter time.Duration
	Cooling    bool // it failed; nobody is at it
}

// Walk implements [wire.Message].
func (m *Busy) Walk(c *wire.Coder) {
	c.Duration(&m.RetryAfter)
	c.Bool(&m.Cooling)
}

// Dead: only a person can help. It says enough to tell the servers, who may not know.
type Dead struct {
	State    wire.ConnectionState
	Customer id.Customer // the owner of the connection
	Version  uint64
}

// Walk implements [wire.Message].
func (m *Dead) Walk(c *wire.Coder) {
	c.Byte((*byte)(&m.State))
	c.Fixed(m.Customer[:])
	c.Uint(&m.Version)
}

// Raw is an answer of the provider as it came, before anybody has read it.
type Raw struct {
	Status  uint32
	Headers []wire.Pair
	Body    []byte
	Sent    time.Time // the request: lives are counted from it, whoever reads the answer, and when
}

// Walk implements [wire.Message].
func (m *Raw) Walk(c *wire.Coder) {
	c.Uint32(&m.Status)
	wire.List(c, &m.Headers)
	c.Bytes(&m.Body)
	c.Time(&m.Sent)
}

// Work is the right of one node to renew the credential of a connection, and everything it
// takes. The intent is committed before it is given: nobody else is at it until it is saved
// or [IntentLife] has passed.
type Work struct {
	Fence  uint64 // names this work in what follows
	Grant  Grant
	Record Record
	// Client is the record of the app registration. Its secret goes to the endpoints of its
	// own Spec only.
	Client      *Record
	Verifier    string // of an exchange, as what follows
	RedirectURI string
	Nonce       string
	// Raw are the answers that were committed and not read, in order: read them instead of
	// sending.
	Raw []Raw
	// Uncertain: something was sent with this refresh token before, and nobody knows the
	// answer. The token is tried once; refused now means that the answer was lost.
	Uncertain bool
}

// Walk implements [wire.Message].
func (m *Work) Walk(c *wire.Coder) {
	c.Uint(&m.Fence)
	c.Byte((*byte)(&m.Grant))
	m.Record.Walk(c)
	wire.Optional(c, &m.Client)
	c.String(&m.Verifier)
	c.String(&m.RedirectURI)
	c.String(&m.Nonce)
	wire.List(c, &m.Raw)
	c.Bool(&m.Uncertain)
}

// Wipe overwrites the credentials of a work.
func (m *Work) Wipe() {
	m.Record.Wipe()
	if m.Client != nil {
		m.Client.Wipe()
	}
	for i := range m.Raw {
		clear(m.Raw[i].Body)
	}
}

// RawCall commits an answer of the provider before it is parsed. Raw is an encoded [Raw],
// sealed to the vault's key with [PurposeVault] and [RawPlace].
type RawCall struct {
	Connection id.Connection
	Fence      uint64
	Step       uint32 // counts the answers of this work, from 0; the same step again is taken once
	Raw        []byte
}

// Walk implements [wire.Message].
func (m *RawCall) Walk(c *wire.Coder) {
	c.Fixed(m.Connection[:])
	c.Uint(&m.Fence)
	c.Uint32(&m.Step)
	c.Bytes(&m.Raw)
}

// Outcome is how a work ended.
type Outcome byte

// The outcomes.
const (
	// OutcomeSaved: Record has the new tokens.
	OutcomeSaved Outcome = 1 + iota
	// OutcomeRefused: the provider refused the grant (invalid_grant). The connection is dead.
	OutcomeRefused
	// OutcomeFailed: nothing was sent, or the provider said for certain that nothing happened.
	OutcomeFailed
	// OutcomeUnsure: something was sent, and no answer came. The next work is Uncertain.
	OutcomeUnsure
	// OutcomeRevoked: the provider has forgotten the grant, or knows no way to.
	OutcomeRevoked
	outcomeEnd
)

// Valid reports whether the outcome is one of the constants.
func (o Outcome) Valid() bool { return o >= OutcomeSaved && o < outcomeEnd }

// SaveCall ends a work. Record is an encoded [Record], sealed to the vault's key with
// [PurposeVault] and [SavePlace]; empty but for OutcomeSaved. The vault takes from it the
// fields, the expiry and a binding within the one that the record has, and nothing else.
type SaveCall struct {
	Connection id.Connection
	Fence      uint64
	Outcome    Outcome
	Record     []byte
	Reason     string // stable word for the log, such as invalid_grant; no text of the provider
}

// Walk implements [wire.Message].
func (m *SaveCall) Walk(c *wire.Coder) {
	c.Fixed(m.Connection[:])
	c.Uint(&m.Fence)
	c.Byte((*byte)(&m.Outcome))
	if c.Reading() && !m.Outcome.Valid() {
		c.Fail("an unknown outcome")
	}
	c.Bytes(&m.Record)
	c.String(&m.Reason)
}

// SaveAnswer is what the record has become.
type SaveAnswer struct {
	Version uint64 // 0: there is none
	State   wire.ConnectionState
	// OtherAccount: nothing was saved, because the answer is of another account than the
	// connection had. The new tokens are to be revoked.
	OtherAccount bool
	Retry        time.Duration // after a failure: not before this
}

// Walk implements [wire.Message].
func (m *SaveAnswer) Walk(c *wire.Coder) {
	c.Uint(&m.Version)
	c.Byte((*byte)(&m.State))
	c.Bool(&m.OtherAccount)
	c.Duration(&m.Retry)
}

// BeginPlace binds the answer of a begin to the node and the connection that it is for.
func BeginPlace(n id.Node, c id.Connection) []byte {
	return seal.Tuple(nil, []byte("begin/1"), n[:], c[:])
}

// RawPlace binds an answer of the provider on its way to the vault to its work.
func RawPlace(c id.Connection, fence uint64, step uint32) []byte {
	return seal.Tuple(nil, []byte("raw/1"), c[:], seal.Uint(fence), seal.Uint(uint64(step)))
}

// SavePlace binds a record on its way to the vault to its work.
func SavePlace(c id.Connection, fence uint64) []byte {
	return seal.Tuple(nil, []byte("save/1"), c[:], seal.Uint(fence))
}

// SealBegin seals the answer of a begin to the egress node.
func SealBegin(to *Identity, c id.Connection, m *Begin) ([]byte, error) {
	body := wire.AppendBody(nil, m)
	defer clear(body)
	return seal.Seal(to.Seal, PurposeToken, BeginPlace(to.Node, c), body)
}

// OpenBegin opens the answer of a begin as the egress node. The result points into memory of
// its own.
func OpenBegin(k *seal.PrivateKey, n id.Node, c id.Connection, sealed []byte) (*Begin, error) {
	body, err := k.Open(PurposeToken, BeginPlace(n, c), sealed)
	if err != nil {
		return nil, fmt.Errorf("open answer of begin: %w", err)
	}
	m := &Begin{}
	if err := wire.ParseBody(body, m); err != nil {
		return nil, fmt.Errorf("open answer of begin: %w", err)
	}
	set := 0
	for _, is := range []bool{m.Work != nil, m.Current != nil, m.Busy != nil, m.Dead != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return nil, fmt.Errorf("open answer of begin: %w: %d answers in one", wire.ErrMalformed, set)
	}
	return m, nil
}
