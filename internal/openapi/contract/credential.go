package contract

import (
	"encoding/base64"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// planted is the credential that the mock server looks for.
const planted = "planted-credential-0123456789"

// plant makes a lease whose credential egress places as a method says; without one for methods that sign, present a
// certificate, or place several fields.
func plant(m *credential.Method, base string) *lease {
	l := &lease{}
	c := egress.Credential{Kind: egress.None}
	if m != nil {
		c = l.credential(m)
		l.places = m.Placed()
	}
	made, err := egress.NewLease(spec(c, base))
	if err != nil { // a name that egress does not place: sent without
		l.sought = ""
		if made, err = egress.NewLease(spec(egress.Credential{Kind: egress.None}, base)); err != nil {
			return &lease{}
		}
	}
	l.lease = made
	return l
}

func (l *lease) credential(m *credential.Method) egress.Credential {
	field := func(name string) map[string]secret.Value {
		return map[string]secret.Value{name: secret.New([]byte(planted))}
	}
	switch m.Type {
	case credential.Bearer, credential.OAuth2Code, credential.OAuth2Client:
		l.in, l.name, l.sought = "header", "Authorization", "Bearer "+planted
		return egress.Credential{Kind: egress.Bearer, Fields: field("token")}
	case credential.Basic:
		l.in, l.name = "header", "Authorization"
		l.sought = "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+planted))
		fields := field("password")
		fields["username"] = secret.New([]byte("user"))
		return egress.Credential{Kind: egress.Basic, Fields: fields}
	case credential.APIKey:
		if len(m.Places) != 1 {
			break
		}
		p := m.Places[0]
		if p.In != credential.InHeader && p.In != credential.InQuery {
			break
		}
		l.in, l.name, l.sought = string(p.In), p.Name, planted
		kind := egress.Header
		if p.In == credential.InQuery {
			kind = egress.Query
		}
		return egress.Credential{Kind: kind, Name: p.Name, Fields: field("value")}
	}
	return egress.Credential{Kind: egress.None}
}

// bare is the part of what is sought that stands nowhere else.
func (l *lease) bare() string {
	return strings.TrimPrefix(strings.TrimPrefix(l.sought, "Bearer "), "Basic ")
}
