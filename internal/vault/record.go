package vault

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// Limits of a credential record.
const (
	maxHost      = 253
	maxPath      = 2048
	maxConnector = 256
	maxRules     = 256 // methods, paths, customers it is shared with
	maxField     = 16 << 10
)

// fieldsOf are the fields that a kind of credential has, in order of name. ok is
// false for an unknown kind.
func fieldsOf(k lease.Kind) (names []string, ok bool) {
	switch k {
	case lease.KindNone:
		return nil, true
	case lease.KindBearer:
		return []string{"token"}, true
	case lease.KindBasic:
		return []string{"password", "username"}, true
	case lease.KindHeader, lease.KindQuery:
		return []string{"name", "value"}, true
	}
	return nil, false
}

// checkRecord refuses a record that is not the call's or not complete. What a
// binding means is decided by egress; a record without one would mean nothing.
// Errors name no value of the record.
func checkRecord(r *lease.Record, m *lease.ConnectionCall) error {
	if m.Connection.IsZero() || r.Connection != m.Connection || r.Customer != m.Customer {
		return fmt.Errorf("%w: the record is another connection's", ErrRefused)
	}
	want, ok := fieldsOf(r.Kind)
	if !ok {
		return fmt.Errorf("%w: unknown kind of credential", ErrRefused)
	}
	got := make([]string, 0, len(r.Fields))
	for _, f := range r.Fields {
		if len(f.Secret) > maxField {
			return fmt.Errorf("%w: a field over %d bytes", ErrRefused, maxField)
		}
		got = append(got, f.Name)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		return fmt.Errorf("%w: fields do not fit the kind %s", ErrRefused, r.Kind)
	}
	if r.Connector == "" || len(r.Connector) > maxConnector || len(r.SharedWith) > maxRules {
		return fmt.Errorf("%w: no connector, or shared too widely", ErrRefused)
	}
	return checkBinding(&r.Binding)
}

func checkBinding(b *lease.Binding) error {
	switch {
	case b.Scheme != "http" && b.Scheme != "https":
		return fmt.Errorf("%w: binding without a scheme", ErrRefused)
	case b.Host == "" || len(b.Host) > maxHost || strings.ContainsFunc(b.Host, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`/\@?#%"<>`, c)
	}):
		return fmt.Errorf("%w: binding without a host", ErrRefused)
	case b.Port > 65535:
		return fmt.Errorf("%w: binding with an impossible port", ErrRefused)
	case len(b.BasePath) > maxPath || len(b.Methods) > maxRules || len(b.Paths) > maxRules:
		return fmt.Errorf("%w: binding over a limit", ErrRefused)
	}
	return nil
}
