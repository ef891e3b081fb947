package vault

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Limits of a credential record.
const (
	maxHost      = 253
	maxPath      = 2048
	maxBases     = 10
	maxFollow    = 50 // actions, and hosts of one
	maxMethod    = 16
	maxConnector = 256
	maxRules     = 256 // methods, paths, hosts, actions, customers it is shared with
	maxField     = 16 << 10
	maxFields    = 32
	maxFieldName = 64
	maxSpec      = 64 << 10
)

// fieldsOf are the fields that a kind of credential has, in order of name; all of them when
// exact, and at least these otherwise. ok is false for an unknown kind.
func fieldsOf(k lease.Kind) (names []string, exact, ok bool) {
	switch k {
	case lease.KindNone:
		return nil, true, true
	case lease.KindBearer:
		return []string{"token"}, true, true
	case lease.KindBasic:
		return []string{"password", "username"}, true, true
	case lease.KindHeader, lease.KindQuery:
		return []string{"name", "value"}, true, true
	case lease.KindKey, lease.KindHMAC, lease.KindSession, lease.KindOAuth2:
		return nil, false, true
	case lease.KindSigV4:
		return []string{"access_key_id", "secret_access_key"}, false, true
	case lease.KindOAuth1:
		return []string{"consumer_key", "consumer_secret"}, false, true
	case lease.KindMTLS:
		return []string{"certificate", "private_key"}, false, true
	case lease.KindOAuth2Client:
		return []string{lease.FieldClientID}, false, true
	}
	return nil, false, false
}

// checkRecord refuses a record that is not the call's or not complete. What a
// binding means is decided by egress; a record without one would mean nothing.
// Errors name no value of the record.
func checkRecord(r *lease.Record, m *lease.ConnectionCall) error {
	if m.Connection.IsZero() || r.Connection != m.Connection || r.Customer != m.Customer {
		return fmt.Errorf("%w: the record is another connection's", ErrRefused)
	}
	if err := checkFields(r); err != nil {
		return err
	}
	if r.Connector == "" || len(r.Connector) > maxConnector || len(r.SharedWith) > maxRules || len(r.SharedFor) > maxRules {
		return fmt.Errorf("%w: no connector, or shared too widely", ErrRefused)
	}
	for i := range r.SharedFor {
		if a := &r.SharedFor[i]; a.Name == "" || len(a.Name) > maxFieldName || a.Method == "" || len(a.Method) > maxMethod || len(a.Base) > maxFieldName || len(a.Path) > maxPath || a.Path != "" && a.Path[0] != '/' {
			return fmt.Errorf("%w: shared for an action without a method and a path", ErrRefused)
		}
	}
	switch {
	case len(r.Spec) > maxSpec:
		return fmt.Errorf("%w: a method over %d bytes", ErrRefused, maxSpec)
	case r.State != wire.ConnectionLive || !r.Expires.IsZero() && !r.Kind.Changes():
		return fmt.Errorf("%w: a state or an expiry that only the vault sets", ErrRefused)
	case !r.Client.IsZero() && (!r.Kind.Changes() || r.Client == r.Connection):
		return fmt.Errorf("%w: a client where none belongs", ErrRefused)
	case len(r.Hosts) > maxRules || !r.Kind.Changes() && len(r.Hosts) > 0 != (r.Kind == lease.KindOAuth2Client):
		return fmt.Errorf("%w: a client without hosts, or hosts where none belong", ErrRefused)
	}
	return checkBinding(&r.Binding)
}

func checkFields(r *lease.Record) error {
	want, exact, ok := fieldsOf(r.Kind)
	if !ok {
		return fmt.Errorf("%w: unknown kind of credential", ErrRefused)
	}
	got := make([]string, 0, len(r.Fields))
	for _, f := range r.Fields {
		if len(f.Secret) > maxField || !fieldName(f.Name) {
			return fmt.Errorf("%w: a field over %d bytes, or without a name", ErrRefused, maxField)
		}
		got = append(got, f.Name)
	}
	slices.Sort(got)
	fits := len(got) <= maxFields && len(slices.Compact(slices.Clone(got))) == len(got)
	if exact {
		fits = fits && slices.Equal(got, want)
	} else {
		for _, name := range want {
			fits = fits && slices.Contains(got, name)
		}
		fits = fits && (len(got) > 0 || !r.Client.IsZero())
	}
	if !fits {
		return fmt.Errorf("%w: fields do not fit the kind %s", ErrRefused, r.Kind)
	}
	return nil
}

// fieldName reports whether a text can name a field.
func fieldName(s string) bool {
	return s != "" && len(s) <= maxFieldName && s[0] >= 'a' && s[0] <= 'z' && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("_.-", c)
	})
}

// checkClient refuses a client that is not one for the record: another connector's, one that
// is not shared with its customer, and one whose tokens must not go where the record is bound.
func checkClient(c, r *lease.Record) error {
	switch {
	case c.Kind != lease.KindOAuth2Client:
		return fmt.Errorf("%w: it is no client", ErrRefused)
	case !c.SharedTo(r.Customer):
		return fmt.Errorf("%w: it is another organization's", ErrRefused)
	case c.Connector != r.Connector:
		return fmt.Errorf("%w: it is of another connector", ErrRefused)
	case c.Binding.Scheme != r.Binding.Scheme || slices.ContainsFunc(placesOf(r), func(p lease.Base) bool { return !reaches(c, &p) }):
		return fmt.Errorf("%w: its tokens must not go to this host and port", ErrRefused)
	}
	return nil
}

// placesOf are the hosts and ports to which a credential is bound, or may be.
func placesOf(r *lease.Record) []lease.Base {
	b := &r.Binding
	list := append([]lease.Base{{Host: b.Host, Port: b.Port}}, b.Bases...)
	for _, h := range r.Hosts {
		list = append(list, lease.Base{Host: h, Port: b.Port})
	}
	return list
}

// reaches reports whether a place is one of those of a client: its host, and its port.
func reaches(c *lease.Record, p *lease.Base) bool {
	scheme := c.Binding.Scheme
	return slices.ContainsFunc(c.Hosts, func(h string) bool {
		host, port, ok := lease.SplitPort(h)
		return ok && (host == "*" || covers(host, p.Host)) && (lease.PortOf(scheme, port) == lease.PortOf(scheme, p.Port) || off(portsChecked))
	})
}

// covers reports whether every host that inner means is one that outer means.
func covers(outer, inner string) bool {
	if outer == inner {
		return true
	}
	below, wild := strings.CutPrefix(outer, "*")
	return wild && strings.HasPrefix(below, ".") && strings.HasSuffix(inner, below) && len(inner) > len(below)
}

// within reports whether every request that inner allows is one that outer allows.
func within(outer, inner *lease.Binding) bool {
	port := func(b *lease.Binding) uint32 { return lease.PortOf(b.Scheme, b.Port) }
	base := strings.TrimSuffix(outer.BasePath, "/")
	return outer.Scheme == inner.Scheme && port(outer) == port(inner) && covers(outer.Host, inner.Host) &&
		(inner.BasePath == outer.BasePath || strings.HasPrefix(inner.BasePath, base+"/") && !strings.Contains(inner.BasePath, "..")) &&
		narrower(outer.Methods, inner.Methods) && narrower(outer.Paths, inner.Paths) &&
		!slices.ContainsFunc(inner.Bases, func(b lease.Base) bool { return !slices.Contains(outer.Bases, b) }) &&
		!slices.ContainsFunc(inner.Follow, func(f lease.Follow) bool { return !followed(outer.Follow, &f) })
}

// followed reports whether redirects of an action are followed to those hosts by a list already.
func followed(list []lease.Follow, f *lease.Follow) bool {
	return slices.ContainsFunc(list, func(o lease.Follow) bool { return o.Action == f.Action && slices.Equal(o.Hosts, f.Hosts) })
}

// narrower reports whether a list of rules allows nothing that the one before does not; an
// empty list allows everything.
func narrower(outer, inner []string) bool {
	if len(outer) == 0 {
		return true
	}
	for _, s := range inner {
		if !slices.Contains(outer, s) {
			return false
		}
	}
	return len(inner) > 0
}

func checkBinding(b *lease.Binding) error {
	switch {
	case b.Scheme != "http" && b.Scheme != "https":
		return fmt.Errorf("%w: binding without a scheme", ErrRefused)
	case len(b.Methods) > maxRules || len(b.Paths) > maxRules || len(b.Bases) > maxBases || len(b.Follow) > maxFollow:
		return fmt.Errorf("%w: binding over a limit", ErrRefused)
	}
	if err := checkPlace(b.Host, b.Port, b.BasePath); err != nil {
		return err
	}
	for i := range b.Bases {
		base := &b.Bases[i]
		if base.Name == "" || len(base.Name) > maxFieldName || strings.Contains(base.Host, "*") ||
			slices.ContainsFunc(b.Bases[:i], func(other lease.Base) bool { return other.Name == base.Name }) {
			return fmt.Errorf("%w: binding with a base without a name or host of its own", ErrRefused)
		}
		if err := checkPlace(base.Host, base.Port, base.BasePath); err != nil {
			return err
		}
	}
	for i := range b.Follow {
		f := &b.Follow[i]
		if f.Action == "" || len(f.Action) > maxFieldName || len(f.Hosts) == 0 || len(f.Hosts) > maxFollow {
			return fmt.Errorf("%w: binding with redirects of no action, or to no host", ErrRefused)
		}
		for _, h := range f.Hosts {
			if err := checkPlace(h, 0, ""); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkPlace(host string, port uint32, path string) error {
	switch {
	case host == "" || len(host) > maxHost || strings.ContainsFunc(host, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`/\@?#%"<>`, c)
	}):
		return fmt.Errorf("%w: binding without a host", ErrRefused)
	case port > 65535:
		return fmt.Errorf("%w: binding with an impossible port", ErrRefused)
	case len(path) > maxPath:
		return fmt.Errorf("%w: binding over a limit", ErrRefused)
	}
	return nil
}
