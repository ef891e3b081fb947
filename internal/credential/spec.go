package credential

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/canon"
)

// MaxSpec is the largest encoded method or spec, in bytes.
const MaxSpec = 64 << 10

// ErrFormat is wrapped by the errors of reading a method or a spec.
var ErrFormat = errors.New("invalid method")

// Spec is a method with what its variables are and were set to. It is the member Spec of a
// credential record. The record of an OAuth client holds the same method and variables
// without values: a connection whose method differs gets nothing of that client.
type Spec struct {
	Method Method            `json:"method"`
	Vars   Vars              `json:"vars,omitempty"`
	Values map[string]string `json:"values,omitempty"`
	// Rate is how often the connection may ask. Nil: as often as it likes.
	Rate *Rate `json:"rate,omitempty"`
}

// ParseMethod reads the JSON of one method. Unknown members are refused; call Check afterwards.
func ParseMethod(text []byte) (*Method, error) {
	m := &Method{}
	return m, decode(text, m)
}

func decode(text []byte, to any) error {
	if len(text) > MaxSpec {
		return fmt.Errorf("%w: it has more than %d bytes", ErrFormat, MaxSpec)
	}
	if err := canon.Unmarshal(text, to); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return nil
}

// ParseSpec reads what Bytes has written, and nothing else: one spec has one form.
func ParseSpec(text []byte) (*Spec, error) {
	s := &Spec{}
	if err := decode(text, s); err != nil {
		return nil, err
	}
	again, err := s.Bytes()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, text) {
		return nil, fmt.Errorf("%w: it is not in canonical form", ErrFormat)
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	return s, nil
}

// Bytes is the canonical JSON of s: members in the order of the types, maps by name.
func (s *Spec) Bytes() ([]byte, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode method: %w", err)
	}
	return text, nil
}

// Check reports problems of method, variables and values. A spec without values is one of a client.
func (s *Spec) Check() error {
	if err := s.Method.Check("method", s.Vars); err != nil {
		return err
	}
	if err := s.Vars.Check("vars"); err != nil {
		return err
	}
	if s.Rate != nil {
		if err := s.Rate.Check(); err != nil {
			return err
		}
	}
	if s.Values == nil {
		return nil
	}
	_, err := s.Vars.Accept(s.Values)
	return err
}

// SameMethod reports whether a client's spec is for the method of s: all but the values.
func (s *Spec) SameMethod(client *Spec) bool {
	a, errA := (&Spec{Method: s.Method, Vars: s.Vars}).Bytes()
	b, errB := (&Spec{Method: client.Method, Vars: client.Vars}).Bytes()
	return errA == nil && errB == nil && bytes.Equal(a, b)
}
