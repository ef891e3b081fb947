// Package secret holds values that must never appear in output.
//
// A [Value] prints, logs, marshals and formats as "[redacted]" everywhere, is
// not comparable with ==, and gives up its bytes in exactly one way, [Value.Reveal],
// which an architecture test allows in the packages egress, vault and
// connection only (promise P20: credentials are never logged).
//
// A Value owns its bytes: New copies its argument, Reveal returns the inner
// slice, which the caller must not keep, change or append to. Values are safe
// for concurrent reading.
package secret

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
)

// Redacted is what every printed form of a Value shows.
const Redacted = "[redacted]"

// Value is a secret. The zero Value is an empty secret.
//
// The bytes sit behind a function: reflection-based printers show its address
// only, also for unexported fields and wrong verbs, and == does not compile.
type Value struct{ bytes func() []byte }

// New makes a Value from a copy of b.
func New(b []byte) Value {
	own := append([]byte(nil), b...)
	return Value{bytes: func() []byte { return own }}
}

// Reveal returns the secret bytes. They belong to v: do not change or keep them.
func (v Value) Reveal() []byte {
	if v.bytes == nil {
		return nil
	}
	return v.bytes()
}

// Len is the number of bytes, which may be shown.
func (v Value) Len() int { return len(v.Reveal()) }

// Equal compares in constant time for equal lengths.
func (v Value) Equal(w Value) bool {
	return subtle.ConstantTimeCompare(v.Reveal(), w.Reveal()) == 1
}

// Destroy overwrites the bytes. Every copy of v becomes a string of zeros.
func (v Value) Destroy() { clear(v.Reveal()) }

// String returns [Redacted].
func (Value) String() string { return Redacted }

// GoString returns [Redacted].
func (Value) GoString() string { return Redacted }

// Format writes [Redacted] for every verb, %x and %v alike.
func (Value) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Redacted)) }

// LogValue makes slog print [Redacted].
func (Value) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText gives [Redacted], which covers JSON, YAML, XML and query encoders.
func (Value) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// MarshalJSON gives "[redacted]".
func (Value) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

// errGob is returned to encoders that would copy the bytes.
var errGob = errors.New("a secret cannot be encoded")

// MarshalBinary refuses: a binary form would be the secret itself.
func (Value) MarshalBinary() ([]byte, error) { return nil, errGob }

// GobEncode refuses for the same reason.
func (Value) GobEncode() ([]byte, error) { return nil, errGob }
