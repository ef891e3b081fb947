package lease

import (
	"slices"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Kind is how a credential is presented to the other system.
type Kind string

// The kinds of credentials. Those without fields named here have the fields that the method
// in their Spec names.
const (
	KindNone   Kind = "none"
	KindBearer Kind = "bearer" // field token
	KindBasic  Kind = "basic"  // fields username, password
	KindHeader Kind = "header" // fields name, value
	KindQuery  Kind = "query"  // fields name, value
	KindKey    Kind = "key"    // fields at the places of the method
	KindHMAC   Kind = "hmac"   // a signature over each request
	KindSigV4  Kind = "sigv4"  // AWS Signature Version 4: access_key_id, secret_access_key, perhaps session_token
	KindOAuth1 Kind = "oauth1" // OAuth 1.0: consumer_key, consumer_secret, perhaps token and token_secret
	KindMTLS   Kind = "mtls"   // a client certificate: certificate, private_key, both PEM
	// KindOAuth2 has the tokens of a grant (RFC 6749), see the field names below.
	KindOAuth2 Kind = "oauth2"
	// KindOAuth2Client is an app registration: client_id, and client_secret or private_key,
	// perhaps signing_secret, with which the provider signs webhooks. It is never leased to a
	// slot: it goes to egress inside the [Work] of a connection that names it as its Client.
	KindOAuth2Client Kind = "oauth2-client"
	// KindSession has what a user entered, and the tokens that were exchanged for it.
	KindSession Kind = "session"
)

// Changes reports whether credentials of the kind hold tokens that are renewed.
func (k Kind) Changes() bool { return k == KindOAuth2 || k == KindSession }

// The names of fields that mean the same in every record.
const (
	FieldAccessToken   = "access_token"
	FieldRefreshToken  = "refresh_token" // never leased
	FieldIDToken       = "id_token"      // never leased
	FieldClientID      = "client_id"
	FieldClientSecret  = "client_secret"
	FieldSigningSecret = "signing_secret"
	// FieldAccount is the stable name of the account at the provider. The vault compares it
	// when a connection is connected again.
	FieldAccount = "account"
	// FieldAccountLabel is what the account is called at the provider, for people. It is never
	// leased; servers ask for it by [OpAccount].
	FieldAccountLabel = "account_label"
	// KeptPrefix begins the names of values that came with the tokens and that requests need,
	// such as kept.realm_id. They are leased together with the access tokens.
	KeptPrefix = "kept."
	// accessSuffix ends the names of access tokens of further token sets, such as
	// user.access_token.
	accessSuffix = "." + FieldAccessToken
)

// Leased reports whether an egress lease holds a field of a kind. Of kinds that change those
// are the access tokens and what is kept with them: no refresh token, no client secret and
// nothing that a user entered.
func Leased(k Kind, field string) bool {
	switch k {
	case KindOAuth2Client:
		return false
	case KindOAuth2, KindSession:
		return field == FieldAccessToken || strings.HasSuffix(field, accessSuffix) || strings.HasPrefix(field, KeptPrefix)
	}
	return true
}

// Field is one part of a credential.
type Field struct {
	Name   string
	Secret []byte
}

// Walk implements [wire.Message].
func (m *Field) Walk(c *wire.Coder) {
	c.String(&m.Name)
	c.Bytes(&m.Secret)
}

// SharedWithAll in SharedWith lets every customer use a connection, as the server says.
const SharedWithAll = "*"

// Record is a connection as the keystore holds it, sealed: the credential together
// with everything that limits its use.
type Record struct {
	Connection id.Connection
	Customer   id.Customer // the owner
	Connector  string      // http, or the name of a connector
	Digest     [32]byte    // of the connector's manifest; zero for http
	Version    uint64      // set by the vault, counts up
	Kind       Kind
	Binding    Binding
	// Spec is the canonical JSON of a credential.Method with the places, the signing
	// parameters and the recipe. The vault keeps it as it is. Of an oauth2 record with a
	// Client, what concerns the client's secret is read from the client's Spec and never from
	// this one: only that was entered together with the secret.
	Spec   []byte
	Fields []Field
	// Client is the client record that an oauth2 record was made with. Zero: none, or the
	// record's own fields.
	Client id.Connection
	// Hosts, of a client record: the hosts to which connections made with it may be bound, by the
	// scheme of its binding; "*.example.com" is every host below, "*" every host. A port stands
	// behind a colon; without one it is the scheme's own. Of a record whose tokens are renewed:
	// the hosts of which the provider's first answer chooses one; the vault takes them away then.
	Hosts      []string
	SharedWith []string       // customers who may use an organization's connection; [SharedWithAll]
	SharedFor  []SharedAction // the only actions that may use it; empty: all
	Expires    time.Time      // of the access token; zero: it does not expire
	State      wire.ConnectionState
}

// Walk implements [wire.Message].
func (m *Record) Walk(c *wire.Coder) {
	c.Fixed(m.Connection[:])
	c.Fixed(m.Customer[:])
	c.String(&m.Connector)
	c.Fixed(m.Digest[:])
	c.Uint(&m.Version)
	c.String((*string)(&m.Kind))
	m.Binding.Walk(c)
	c.Bytes(&m.Spec)
	wire.List(c, &m.Fields)
	c.Fixed(m.Client[:])
	c.Strings(&m.Hosts)
	c.Strings(&m.SharedWith)
	wire.List(c, &m.SharedFor)
	c.Time(&m.Expires)
	c.Byte((*byte)(&m.State))
	if c.Reading() && !m.State.Valid() {
		c.Fail("an unknown state of a connection")
	}
}

// Field is the value of a field, nil when the record has none of that name.
func (m *Record) Field(name string) []byte {
	for i := range m.Fields {
		if m.Fields[i].Name == name {
			return m.Fields[i].Secret
		}
	}
	return nil
}

// Keep removes the fields that keep does not want.
func (m *Record) Keep(keep func(name string) bool) {
	m.Fields = slices.DeleteFunc(m.Fields, func(f Field) bool {
		if keep(f.Name) {
			return false
		}
		clear(f.Secret)
		return true
	})
}

// SharedTo reports whether a customer may use the connection, or be connected with the OAuth client. A client is for whom it names:
// that the organization keeps it does not make it one for the organization's own connections.
func (m *Record) SharedTo(c id.Customer) bool {
	return m.Customer == c && m.Kind != KindOAuth2Client || slices.Contains(m.SharedWith, SharedWithAll) || slices.Contains(m.SharedWith, c.String())
}

// Wipe overwrites the fields.
func (m *Record) Wipe() {
	for _, f := range m.Fields {
		clear(f.Secret)
	}
}

// SlotRecord is the credential record that fills a slot, with the fields that [Leased] allows.
type SlotRecord struct {
	Slot   string
	Record Record
	// Ticket lets the egress node ask for newer tokens of the connection, see [BeginCall].
	// Empty for kinds that never change.
	Ticket []byte
}

// Walk implements [wire.Message].
func (m *SlotRecord) Walk(c *wire.Coder) {
	c.String(&m.Slot)
	m.Record.Walk(c)
	c.Bytes(&m.Ticket)
}
