package connect

import (
	"errors"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/certificate"
	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// checkCertificate says what is wrong with a client certificate for hosts where it is entered, and not only when it is first presented.
func checkCertificate(m *credential.Method, entered []lease.Field, hosts []string, now time.Time) (wrong InvalidError) {
	given := map[string][]byte{}
	for _, f := range entered {
		given[f.Name] = f.Secret
	}
	token := m.Recipe != nil && m.Recipe.Token != nil && m.Recipe.Token.ClientAuth == credential.AuthTLS
	if m.Type != credential.MTLS && !token || len(given["certificate"]) == 0 || len(given["private_key"]) == 0 {
		return nil
	}
	add := func(field string, err error) {
		wrong = append(wrong, Wrong{"fields." + field, err.Error()})
	}
	pair, err := certificate.Read(given["certificate"], given["private_key"])
	switch {
	case errors.Is(err, certificate.ErrKey):
		add("private_key", err)
	case err != nil:
		add("certificate", err)
	default:
		if ended := pair.Ended(now); strings.HasPrefix(ended, "expired") {
			wrong = append(wrong, Wrong{"fields.certificate", "the certificate " + ended})
		}
	}
	if ca := given[credential.FieldServerCA]; len(ca) > 0 {
		if err := certificate.CheckAuthorities(ca, hosts, now); err != nil {
			add(credential.FieldServerCA, err)
		}
	}
	return wrong
}

// hosts are those at which a credential is used; none when the variables say none.
func (x *offer) hosts(values map[string]string) (hosts []string) {
	b, err := x.binding(values)
	if err != nil {
		return nil
	}
	hosts = append(hosts, b.Host)
	for _, base := range b.Bases {
		hosts = append(hosts, base.Host)
	}
	return hosts
}

// certificateEnds is when a client certificate that was entered ends. It is read here, where it was checked: nobody reads it
// back from the vault, and the day is no secret. Zero: there is none.
func certificateEnds(entered []lease.Field) time.Time {
	for _, f := range entered {
		if f.Name == "certificate" {
			return certificate.Ends(f.Secret)
		}
	}
	return time.Time{}
}
