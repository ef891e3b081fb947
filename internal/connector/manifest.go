package connector

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/canon"
	"github.com/bulkheadhq/bulkhead/internal/credential"
)

// Tier says how far a manifest can be trusted, and why.
type Tier string

// The tiers.
const (
	TierVerified Tier = "verified" // written and reviewed by hand, with the vendor's examples as tests
	TierImported Tier = "imported" // made from a document that somebody gave: untrusted
	TierCode     Tier = "code"     // has hooks in Go
)

// Manifest is one version of a connector.
type Manifest struct {
	Name        string     `json:"connector"` // [a-z][a-z0-9-]{0,62}
	Version     string     `json:"version"`   // semantic version 2.0.0, without a build part
	Title       string     `json:"title"`
	Description string     `json:"description,omitempty"`
	Tier        Tier       `json:"tier"`
	Docs        string     `json:"docs,omitempty"` // URL of the vendor's documentation
	Provenance  Provenance `json:"provenance"`

	// Hosts are the only hosts that the connector may ever call: names, or templates such as
	// "{region}.api.example.com" whose variables are of Vars.
	Hosts   []string `json:"hosts"`
	BaseURL string   `json:"base_url"` // a template; its host is one of Hosts
	// Bases are further base URLs by name, for the actions that name one with base: templates whose hosts are of Hosts. The
	// credential of a connection is bound to all of them.
	Bases map[string]string `json:"bases,omitempty"`
	// Vars are the typed variables of hosts, base URL and authentication: what tells one tenant's address from another's.
	Vars credential.Vars `json:"vars,omitempty"`

	Auth     []credential.Method `json:"auth,omitempty"` // in the order of preference; empty: no credential
	Defaults Defaults            `json:"defaults,omitzero"`
	Actions  []Action            `json:"actions,omitempty"`
	Triggers []Trigger           `json:"triggers,omitempty"`
	// Schemas are JSON Schemas (2020-12) by name, for "$ref": "#/schemas/NAME" in the schemas of actions and triggers.
	Schemas map[string]json.RawMessage `json:"schemas,omitempty"`
}

// Provenance says where a manifest comes from.
type Provenance struct {
	Kind      string `json:"kind"`             // hand, openapi
	Source    string `json:"source,omitempty"` // URL of the document
	SHA256    string `json:"sha256,omitempty"` // of the document, in hex
	Licence   string `json:"licence,omitempty"`
	Retrieved string `json:"retrieved,omitempty"` // full-date of RFC 3339
}

// Defaults apply to every action that does not say otherwise.
type Defaults struct {
	Headers     []Fixed      `json:"headers,omitempty"`
	Query       []Fixed      `json:"query,omitempty"`
	Retry       *Retry       `json:"retry,omitempty"`
	Paginate    *Paginate    `json:"paginate,omitempty"`
	Limits      *Limits      `json:"limits,omitempty"`
	Idempotency *Idempotency `json:"idempotency,omitempty"`
	Error       *ErrorBody   `json:"error,omitempty"`
}

// Fixed is a header or query parameter with a fixed value, such as the version of an API.
type Fixed struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Retry says how the other side asks to be called later.
type Retry struct {
	After     string `json:"after,omitempty"`      // header with seconds or a date; empty: Retry-After
	Reset     string `json:"reset,omitempty"`      // header with the time at which the window ends
	ResetUnit string `json:"reset_unit,omitempty"` // unix, unix_ms, seconds, ms; empty: unix
	Remaining string `json:"remaining,omitempty"`  // header with the requests that are left
	Statuses  []int  `json:"statuses,omitempty"`   // that mean "later"; empty: 429 and 503
	// Pause is how long "later" is where the answer does not say: no request of the connection before. Zero is a second.
	Pause Seconds `json:"wait,omitempty"`
}

// Limits are the provider's limits per connection, kept by egress. Those of an action hold beside those of the connection.
type Limits struct {
	Concurrent int     `json:"concurrent,omitempty"` // requests at a time
	PerSecond  float64 `json:"per_second,omitempty"`
	Burst      int     `json:"burst,omitempty"` // requests at once before PerSecond counts; zero: one second's
}

// Idempotency says how a repeated request is recognised. At most one field is set.
type Idempotency struct {
	Header string `json:"header,omitempty"` // that carries the key; empty: Idempotency-Key
	Query  string `json:"query,omitempty"`  // query parameter that carries the key
	Unsafe bool   `json:"unsafe,omitempty"` // the other side recognises none: an interrupted POST or PATCH is not repeated
	Safe   bool   `json:"safe,omitempty"`   // the request has no effect, whatever its method is: a search by POST
}

// ErrorBody says where an answer tells what went wrong, for APIs that answer 200 or hide it in the body.
type ErrorBody struct {
	Path    string   `json:"path"`              // the request failed when there is a value here that is not null, false or empty; or
	OK      string   `json:"ok,omitempty"`      // when the value here is false; or
	Also    []string `json:"also,omitempty"`    // when there is a text at one of these, which is what to tell: GraphQL has several such places
	Message string   `json:"message,omitempty"` // what to tell
	Auth    []string `json:"auth,omitempty"`    // values at Path that mean that the credential is refused
	Limited []string `json:"limited,omitempty"` // values at Path that mean "later"
}

// Encode returns the canonical JSON of m.
func (m *Manifest) Encode() ([]byte, error) {
	b, err := canon.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	if len(b) > MaxManifest {
		return nil, fmt.Errorf("encode manifest: %d bytes are more than %d", len(b), MaxManifest)
	}
	return b, nil
}

// Digest is the SHA-256 of the canonical JSON. A manifest that cannot be encoded, which no decoder makes, has the zero digest.
func (m *Manifest) Digest() [sha256.Size]byte {
	b, err := m.Encode()
	if err != nil {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(b)
}

// ErrNotCanonical is the error of Decode for bytes that Encode would not write.
var ErrNotCanonical = errors.New("manifest is not in canonical form")

// Decode reads canonical JSON as Encode writes it, and nothing else.
func Decode(b []byte) (*Manifest, error) {
	if len(b) > MaxManifest {
		return nil, fmt.Errorf("decode manifest: %d bytes are more than %d", len(b), MaxManifest)
	}
	m := new(Manifest)
	if err := canon.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	again, err := m.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(b, again) {
		return nil, fmt.Errorf("decode manifest: %w", ErrNotCanonical)
	}
	return m, nil
}

// Method returns the auth method of an id, or nil.
func (m *Manifest) Method(id string) *credential.Method {
	for i := range m.Auth {
		if m.Auth[i].ID == id {
			return &m.Auth[i]
		}
	}
	return nil
}

// Action returns the action of a name, or nil.
func (m *Manifest) Action(name string) *Action {
	for i := range m.Actions {
		if m.Actions[i].Name == name {
			return &m.Actions[i]
		}
	}
	return nil
}

// Trigger returns the trigger of a name, or nil.
func (m *Manifest) Trigger(name string) *Trigger {
	for i := range m.Triggers {
		if m.Triggers[i].Name == name {
			return &m.Triggers[i]
		}
	}
	return nil
}
