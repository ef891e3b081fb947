// Package id holds the typed identifiers of the platform.
//
// An id is a UUID version 7 (RFC 9562): 48 bits of Unix milliseconds, then
// random bits, so that ids sort by creation time. Its text form is a prefix that
// names the kind, an underscore and 26 characters of Crockford's base32 in lower
// case, which sort the same way: exe_01jd3k….
//
// Each kind is a type of its own, so that the compiler refuses an execution where
// an instance is meant. Ids are comparable values and safe for concurrent use.
package id

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Kind names a kind of id and its prefix. Only this package declares kinds.
type Kind interface{ prefix() string }

type (
	org         struct{}
	project     struct{}
	customer    struct{}
	integration struct{}
	instance    struct{}
	connection  struct{}
	execution   struct{}
	event       struct{}
	lease       struct{}
	node        struct{}
	blob        struct{}
	view        struct{}
	token       struct{}
	template    struct{}
	link        struct{}
	notice      struct{}
)

func (org) prefix() string         { return "org" }
func (project) prefix() string     { return "prj" }
func (customer) prefix() string    { return "cus" }
func (integration) prefix() string { return "int" }
func (instance) prefix() string    { return "ins" }
func (connection) prefix() string  { return "con" }
func (execution) prefix() string   { return "exe" }
func (event) prefix() string       { return "evt" }
func (lease) prefix() string       { return "lea" }
func (node) prefix() string        { return "nod" }
func (blob) prefix() string        { return "blb" }
func (view) prefix() string        { return "vie" }
func (token) prefix() string       { return "tok" }
func (template) prefix() string    { return "tpl" }
func (link) prefix() string        { return "lnk" }
func (notice) prefix() string      { return "ntc" }

// The kinds of ids. See doc/architecture.md for what each names.
type (
	Org         = ID[org]
	Project     = ID[project]
	Customer    = ID[customer]
	Integration = ID[integration]
	Instance    = ID[instance]
	Connection  = ID[connection]
	Execution   = ID[execution]
	Event       = ID[event]
	Lease       = ID[lease]
	Node        = ID[node] // one running process of a role
	Blob        = ID[blob]
	View        = ID[view] // one reader of payloads, see package lease
	Token       = ID[token]
	Template    = ID[template] // a connection template
	Link        = ID[link]     // a connect link
	Notice      = ID[notice]
)

// ID is an identifier of kind K. The zero ID names nothing.
type ID[K Kind] [16]byte

// ErrInvalid is wrapped by every parse error of this package.
var ErrInvalid = errors.New("invalid id")

// New makes an id for the time now. It panics only if the system has no randomness.
func New[K Kind](now time.Time) ID[K] {
	var v ID[K]
	_, _ = rand.Read(v[6:]) // never fails since Go 1.24
	binary.BigEndian.PutUint32(v[0:], uint32(now.UnixMilli()>>16))
	binary.BigEndian.PutUint16(v[4:], uint16(now.UnixMilli()))
	v[6] = v[6]&0x0f | 0x70
	v[8] = v[8]&0x3f | 0x80
	return v
}

// NewOrg makes an organization id.
func NewOrg(now time.Time) Org { return New[org](now) }

// NewProject makes a project id.
func NewProject(now time.Time) Project { return New[project](now) }

// NewCustomer makes a customer id.
func NewCustomer(now time.Time) Customer { return New[customer](now) }

// NewIntegration makes an integration id.
func NewIntegration(now time.Time) Integration { return New[integration](now) }

// NewInstance makes an instance id.
func NewInstance(now time.Time) Instance { return New[instance](now) }

// NewConnection makes a connection id.
func NewConnection(now time.Time) Connection { return New[connection](now) }

// NewExecution makes an execution id.
func NewExecution(now time.Time) Execution { return New[execution](now) }

// NewEvent makes an event id.
func NewEvent(now time.Time) Event { return New[event](now) }

// NewLease makes a lease id.
func NewLease(now time.Time) Lease { return New[lease](now) }

// NewNode makes a node id.
func NewNode(now time.Time) Node { return New[node](now) }

// NewBlob makes a blob id.
func NewBlob(now time.Time) Blob { return New[blob](now) }

// NewView makes a view id.
func NewView(now time.Time) View { return New[view](now) }

// NewToken makes the id of an API token.
func NewToken(now time.Time) Token { return New[token](now) }

// NewTemplate makes the id of a connection template.
func NewTemplate(now time.Time) Template { return New[template](now) }

// NewLink makes the id of a connect link.
func NewLink(now time.Time) Link { return New[link](now) }

// NewNotice makes the id of a notice.
func NewNotice(now time.Time) Notice { return New[notice](now) }

// IsZero reports whether v names nothing.
func (v ID[K]) IsZero() bool { return v == ID[K]{} }

// Time is the creation time, to the millisecond.
func (v ID[K]) Time() time.Time {
	ms := int64(binary.BigEndian.Uint32(v[0:]))<<16 | int64(binary.BigEndian.Uint16(v[4:]))
	return time.UnixMilli(ms).UTC()
}

// Compare orders ids by time, then by their random bits.
func (v ID[K]) Compare(w ID[K]) int {
	for i := range v {
		if v[i] != w[i] {
			return int(v[i]) - int(w[i])
		}
	}
	return 0
}

// String is the text form, or "" for the zero ID.
func (v ID[K]) String() string {
	if v.IsZero() {
		return ""
	}
	var k K
	p := k.prefix()
	b := make([]byte, 0, len(p)+1+encodedLen)
	b = append(b, p...)
	b = append(b, '_')
	return string(appendBase32(b, v))
}

// MarshalText implements encoding.TextMarshaler.
func (v ID[K]) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Empty text is the zero ID.
func (v *ID[K]) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*v = ID[K]{}
		return nil
	}
	w, err := Parse[K](string(b))
	if err == nil {
		*v = w
	}
	return err
}

// Parse reads the text form. Errors wrap [ErrInvalid] and never repeat the input.
func Parse[K Kind](s string) (ID[K], error) {
	var v ID[K]
	var k K
	p := k.prefix()
	if len(s) != len(p)+1+encodedLen || s[:len(p)] != p || s[len(p)] != '_' {
		return v, fmt.Errorf("%w: want %s_ and %d characters", ErrInvalid, p, encodedLen)
	}
	if !decodeBase32((*[16]byte)(&v), s[len(p)+1:]) {
		return ID[K]{}, fmt.Errorf("%w: want characters of Crockford's base32 after %s_", ErrInvalid, p)
	}
	return v, nil
}

// FromBytes reads the 16-byte form used in frames and in the database.
func FromBytes[K Kind](b []byte) (ID[K], error) {
	var v ID[K]
	if len(b) != len(v) {
		return v, fmt.Errorf("%w: want %d bytes, got %d", ErrInvalid, len(v), len(b))
	}
	copy(v[:], b)
	return v, nil
}
