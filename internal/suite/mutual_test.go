package suite

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
)

// certifier signs certificates, those of customers or those of services.
type certifier struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newCertifier(name string) *certifier {
	a := &certifier{key: newECKey()}
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert = a.issue(c, a.key, time.Hour)
	return a
}

// issue signs a certificate of a key that ends after life. An authority that has none of its own yet signs itself.
func (a *certifier) issue(c *x509.Certificate, of crypto.Signer, life time.Duration) *x509.Certificate {
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(life)
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	parent := a.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, of.Public(), a.key)
	if err != nil {
		panic(err) // the platform's random numbers cannot fail
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return made
}

func (a *certifier) client(of crypto.Signer, life time.Duration) string {
	return certificateText(a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "customer"}}, of, life))
}

func (a *certifier) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func certificateText(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func newECKey() crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // the platform's random numbers cannot fail
	}
	return k
}

// key writes a private key, and marks it: the PEM, the DER, and the numbers as they are, in hex and in base64.
func (k *kind) key(private crypto.Signer) string {
	var block pem.Block
	numbers := map[string][]byte{}
	var err error
	switch p := private.(type) {
	case *rsa.PrivateKey:
		block = pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(p)}
		numbers["exponent"], numbers["first prime"], numbers["second prime"] = p.D.Bytes(), p.Primes[0].Bytes(), p.Primes[1].Bytes()
	case *ecdsa.PrivateKey:
		block.Type = "PRIVATE KEY"
		if block.Bytes, err = x509.MarshalPKCS8PrivateKey(p); err != nil {
			panic(err)
		}
		if numbers["scalar"], err = p.Bytes(); err != nil {
			panic(err)
		}
	}
	text, der := string(pem.EncodeToMemory(&block)), base64.StdEncoding.EncodeToString(block.Bytes)
	line := strings.Split(text, "\n")[2] // of the middle: the first has what every key has
	k.add(&mark{name: "private key, PEM", class: credential, value: text, core: line[:40], among: true})
	k.add(&mark{name: "private key, DER", class: credential, value: der, core: der[58:102], encoded: true, among: true})
	for name, b := range numbers {
		bytes := keyMark("private key, "+name, b)
		bytes.class, bytes.among = credential, true
		k.add(bytes)
		for form, s := range map[string]string{"hex": hex.EncodeToString(b), "base64": base64.RawStdEncoding.EncodeToString(b)} {
			// The last character of base64 has bits of what stands behind.
			k.add(&mark{name: "private key, " + name + ", " + form, class: credential, value: s, core: s[:len(s)-1], encoded: true, among: true})
		}
	}
	return text
}

// mutual is a provider that wants a certificate of its callers, and has one that nobody outside knows.
type mutual struct {
	*httptest.Server
	own     tls.Certificate
	clients *x509.CertPool
	shaken  atomic.Int32 // how many requests came with a certificate that it takes
}

func newMutual(services *certifier, clients *x509.CertPool) *mutual {
	k := newECKey()
	c := services.issue(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, k, time.Hour)
	return &mutual{own: tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: k}, clients: clients}
}

func (m *mutual) serve(t *testing.T, h http.Handler) {
	t.Helper()
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.VerifiedChains) > 0 && r.TLS.PeerCertificates[0].Subject.CommonName == "customer" {
			m.shaken.Add(1)
		}
		h.ServeHTTP(w, r)
	}))
	m.Config.ErrorLog = log.New(io.Discard, "", 0)
	m.TLS = &tls.Config{Certificates: []tls.Certificate{m.own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: m.clients}
	m.StartTLS()
	t.Cleanup(func() { m.CloseClientConnections(); m.Close() })
}

// mutualKinds are kinds whose credential is a client certificate: of two kinds of keys, and one that the provider does not take.
func mutualKinds() []*kind {
	const auth = `{id: m, type: mtls}`
	services, ours, others := newCertifier("services"), newCertifier("clients"), newCertifier("other clients")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err) // the platform's random numbers cannot fail
	}
	made := func(name string, private crypto.Signer, by, wanted *certifier) *kind {
		k := signed(name, auth, func(k *kind) map[string]string {
			return map[string]string{"certificate": by.client(private, time.Hour), "private_key": k.key(private), "server_ca": certificateText(services.cert)}
		})
		k.mutual = newMutual(services, wanted.pool())
		return k
	}
	other := made("mtls-other", newECKey(), others, ours)
	other.knows, other.fails = false, "the client certificate is of no authority that the service accepts"
	return []*kind{made("mtls", newECKey(), ours, ours), made("mtls-rsa", rsaKey, ours, ours), other}
}

// callInVain calls with a credential with which no call comes through.
func (s *spill) callInVain(k *kind) {
	s.t.Helper()
	e := s.told(k, "-once", map[string]any{"as": "json"})
	if e.status != "faulted" || e.errorType != "upstream" || !strings.Contains(e.output, k.fails) {
		s.t.Errorf("%s: %s %s %s, want %q", k.name, e.status, e.errorType, e.output, k.fails)
	}
	if e := s.told(k, "", map[string]any{"forms": []string{"json", "text"}}); e.status != "completed" || !strings.Contains(e.output, k.fails) {
		s.t.Errorf("%s, caught: %s %s, want %q", k.name, e.status, e.output, k.fails)
	}
	tested, err := s.TestConnection(s.t.Context(), s.conns[k.name])
	if err != nil || tested.OK {
		s.t.Errorf("test of %s: %+v, %v", k.name, tested, err)
		return
	}
	s.pages.WriteString(tested.Message)
}

// refuseCertificates enters client certificates that cannot work, and returns the marks of their keys. The API says what is wrong.
func (s *spill) refuseCertificates(like *kind) []*mark {
	s.t.Helper()
	ca, entered := newCertifier("clients"), &kind{name: "entered in vain"}
	one, two := newECKey(), newECKey()
	key := entered.key(one)
	for _, c := range []struct{ name, certificate, key, ca, says string }{
		{"red twin: whole", ca.client(one, time.Hour), key, "", ""},
		{"key of another certificate", ca.client(two, time.Hour), key, "", "it is not that of the certificate"},
		{"expired", ca.client(one, -time.Hour), key, "", "the certificate expired on "},
		{"key twice", key, key, "", "no PEM block CERTIFICATE"},
		{"cut key", ca.client(one, time.Hour), key[:len(key)-50], "", "no PEM block PRIVATE KEY"},
		{"key for the CA", ca.client(one, time.Hour), key, key, "the CA certificates cannot be used"},
	} {
		fields := maps.Clone(like.fields)
		fields["certificate"], fields["private_key"], fields["server_ca"] = c.certificate, c.key, c.ca
		_, err := s.MakeConnection(s.t.Context(), api.ConnectionRequest{Customer: s.customer.String(), Name: c.name, Connector: "told-" + like.name, Fields: fields})
		if c.says == "" {
			if err != nil {
				s.t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			s.t.Errorf("%s: got %v, want %q", c.name, err, c.says)
			continue
		}
		s.shown.WriteString(err.Error())
	}
	return entered.marks
}
