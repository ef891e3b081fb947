package egress

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/certificate"
	"github.com/bulkheadhq/bulkhead/internal/credential"
)

// mutual is what a connection by mutual TLS brings into handshakes. It is immutable.
type mutual struct {
	pair  *certificate.Pair
	roots *x509.CertPool // instead of those that the node trusts; nil: those
}

// certificate reads the client certificate of mutual TLS, and whom to believe to be the service.
func (p *placed) certificate(in *injector) error {
	pair, err := certificate.Read(p.fields["certificate"], p.fields["private_key"])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCredential, err)
	}
	in.cert = &mutual{pair: pair}
	if text := p.fields[credential.FieldServerCA]; len(text) > 0 {
		if in.cert.roots, err = certificate.Authorities(text); err != nil {
			return fmt.Errorf("%w: %w", ErrCredential, err)
		}
	}
	in.hide(string(bytes.TrimSpace(p.fields["private_key"])))
	for _, s := range pair.Secrets {
		in.hide(string(s))
	}
	for _, line := range pair.Lines {
		in.lines = append(in.lines, []byte(line))
	}
	return nil
}

// configure makes handshakes present the certificate, whichever authorities the service names: many name those at the end of a
// chain that they complete themselves. unwanted notes whether they named others.
func (m *mutual) configure(c *tls.Config, unwanted *atomic.Bool) {
	if m.roots != nil {
		c.RootCAs = m.roots
	}
	own := m.issuers()
	c.GetClientCertificate = func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		unwanted.Store(len(asked.AcceptableCAs) > 0 && !slices.ContainsFunc(asked.AcceptableCAs, func(name []byte) bool {
			return slices.ContainsFunc(own, func(issuer []byte) bool { return bytes.Equal(issuer, name) })
		}))
		return &m.pair.TLS, nil
	}
}

// issuers are the names of those who signed the certificates of the chain.
func (m *mutual) issuers() (names [][]byte) {
	for _, der := range m.pair.TLS.Certificate {
		if c, err := x509.ParseCertificate(der); err == nil {
			names = append(names, c.RawIssuer)
		}
	}
	return names
}

// doubtPrefix begins what is said of the client certificate.
const doubtPrefix = "; the client certificate "

// doubt says why a service may have ended a connection when it saw the certificate. What it says itself is an alert at best, which
// is lost when the connection breaks first.
func (m *mutual) doubt(unwanted *atomic.Bool) string {
	if m == nil {
		return ""
	}
	if ended := m.pair.Ended(time.Now()); ended != "" {
		return doubtPrefix + ended
	}
	if unwanted.Load() {
		return doubtPrefix + "is of no authority that the service accepts"
	}
	return ""
}
