package egress

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/dial"
)

// issuer is an authority of the tests.
type issuer struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newIssuer(t *testing.T, name string) *issuer {
	t.Helper()
	i := &issuer{t: t}
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	made := i.issue(c, time.Hour)
	i.cert, i.key, i.pem = made.Leaf, made.PrivateKey.(*ecdsa.PrivateKey), certificatePEM(made)
	return i
}

// issue signs a certificate that ends after life; an authority without one signs itself.
func (i *issuer) issue(c *x509.Certificate, life time.Duration) *tls.Certificate {
	i.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(life)
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	parent, signer := i.cert, i.key
	if parent == nil {
		parent, signer = c, k
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &k.PublicKey, signer)
	if err != nil {
		i.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		i.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k, Leaf: leaf}
}

func (i *issuer) client(life time.Duration) *tls.Certificate {
	return i.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "customer"}}, life)
}

func (i *issuer) server() *tls.Certificate {
	return i.issue(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"*.example.com"}}, time.Hour)
}

func (i *issuer) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(i.cert)
	return p
}

func certificatePEM(c *tls.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}))
}

func keyPEM(t *testing.T, c *tls.Certificate) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// forms are a key as it must stand nowhere: each line of its PEM, its DER and its number, in base64 and in hex.
func forms(t *testing.T, c *tls.Certificate) []string {
	t.Helper()
	text := keyPEM(t, c)
	block, _ := pem.Decode([]byte(text))
	scalar, err := c.PrivateKey.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	out := []string{string(scalar)}
	for _, b := range [][]byte{block.Bytes, scalar} {
		out = append(out, hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)), base64.RawStdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b))
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-") {
			out = append(out, line)
		}
	}
	return out
}

// guarded is a service that wants a client certificate.
type guarded struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string // the names in the certificates that came
}

func (g *guarded) names() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.seen, " ")
}

func newGuarded(t *testing.T, own *tls.Certificate, c *tls.Config, answer http.HandlerFunc) *guarded {
	t.Helper()
	g := &guarded{}
	g.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		for _, p := range r.TLS.PeerCertificates {
			g.seen = append(g.seen, p.Subject.CommonName)
		}
		g.mu.Unlock()
		answer(w, r)
	}))
	c.Certificates = []tls.Certificate{*own}
	g.TLS, g.EnableHTTP2, g.Config.ErrorLog = c, true, log.New(io.Discard, "", 0)
	g.StartTLS()
	t.Cleanup(g.Close)
	return g
}

func mutualLease(t *testing.T, base string, c *tls.Certificate, ca string) (*Lease, error) {
	t.Helper()
	return placedLease(t, base, credential.Method{ID: "m", Type: credential.MTLS}, map[string]string{
		"certificate": certificatePEM(c), "private_key": keyPEM(t, c), "server_ca": ca,
	})
}

// TestMutualTLS completes handshakes, and looks for the key in what a service answers that has it.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := newIssuer(t, "clients"), newIssuer(t, "servers")
	for name, c := range map[string]*tls.Config{
		"TLS 1.2":             {ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool(), MaxVersion: tls.VersionTLS12},
		"TLS 1.3":             {ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool()},
		"other names are fit": {ClientAuth: tls.RequireAnyClientCert, ClientCAs: theirs.pool()}, // names an authority, and takes ours
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cert := ours.client(time.Hour)
			told := forms(t, cert)
			s := newGuarded(t, theirs.server(), c, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/json":
					w.Header().Set("Content-Type", "application/json")
					_ = json.NewEncoder(w).Encode(append(told[1:], keyPEM(t, cert), "turned "+r.Proto))
				default:
					w.Header()["X-Told"] = append(told[1:], strings.ReplaceAll(keyPEM(t, cert), "\n", " "))
					_, _ = io.WriteString(w, strings.Join(told, "\n")+keyPEM(t, cert)+" turned "+r.Proto)
				}
			})
			l, err := mutualLease(t, s.URL, cert, theirs.pem)
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{"/json", "/text"} {
				a, err := localRig(t).Do(t.Context(), &Call{Lease: l, Path: path})
				if err != nil {
					t.Fatal(err)
				}
				shown := fmt.Sprint(a.Headers, string(a.Body))
				if !strings.Contains(shown, "turned HTTP/2.0") || a.ScrubHits == 0 {
					t.Errorf("red twin: the answer did not come as it was sent, %d places removed: nothing is shown by what is missing in it", a.ScrubHits)
				}
				for n, f := range told {
					if strings.Contains(shown, f) {
						t.Errorf("%s: form %d of the key is in the answer", path, n)
					}
				}
			}
			if got := s.names(); got != "customer customer" {
				t.Errorf("the service saw certificates of %q", got)
			}
		})
	}
}

// TestMutualTLSFails has handshakes refused, by either side. Each error names what is wrong, and no form of the key.
func TestMutualTLSFails(t *testing.T) {
	t.Parallel()
	ours, others, theirs := newIssuer(t, "clients"), newIssuer(t, "other clients"), newIssuer(t, "servers")
	for name, c := range map[string]struct {
		cert  *tls.Certificate
		ca    string
		takes *x509.CertPool
		roots *x509.CertPool
		says  string
	}{
		"red twin: it would be taken": {ours.client(time.Hour), theirs.pem, ours.pool(), nil, ""},
		"the service wants another":   {others.client(time.Hour), theirs.pem, ours.pool(), nil, "of no authority that the service accepts"},
		"expired":                     {ours.client(-time.Hour), theirs.pem, ours.pool(), nil, "the client certificate expired on "},
		"a service nobody knows":      {ours.client(time.Hour), "", ours.pool(), nil, "the service's certificate is not valid: x509: certificate signed by unknown authority"},
		"a service of the node's":     {ours.client(time.Hour), "", ours.pool(), theirs.pool(), ""},
		"a service of another CA":     {ours.client(time.Hour), others.pem, ours.pool(), theirs.pool(), "the service's certificate is not valid: x509: certificate signed by unknown authority"},
	} {
		for version, most := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
			t.Run(name+" "+version, func(t *testing.T) {
				t.Parallel()
				s := newGuarded(t, theirs.server(), &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: c.takes, MaxVersion: most}, func(http.ResponseWriter, *http.Request) {})
				l, err := mutualLease(t, s.URL, c.cert, c.ca)
				if err != nil {
					t.Fatal(err)
				}
				node, err := New(Options{Dialer: dial.New(dial.Policy{Allow: loopback()}), Recorder: &flows{}, Roots: c.roots})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(node.Close)
				_, err = node.Do(t.Context(), &Call{Lease: l})
				if c.says == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if f := faultOf(t, err); f.Type != Upstream || !strings.Contains(f.Message, c.says) {
					t.Errorf("got %v, want %q", err, c.says)
				}
				for n, f := range forms(t, c.cert) {
					if strings.Contains(err.Error(), f) {
						t.Errorf("form %d of the key is in the error", n)
					}
				}
				if got := s.names(); got != "" {
					t.Errorf("a request came with the certificate of %s", got)
				}
			})
		}
	}
}

// TestMutualTLSPairs refuses what can be seen to be wrong without the service.
func TestMutualTLSPairs(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, "clients")
	one, two := ca.client(time.Hour), ca.client(time.Hour)
	mixed := &tls.Certificate{Certificate: one.Certificate, PrivateKey: two.PrivateKey}
	for name, c := range map[string]struct {
		cert *tls.Certificate
		ca   string
		says string
	}{
		"key of another certificate": {mixed, "", "not that of the certificate"},
		"no CA":                      {one, keyPEM(t, two), "CA certificates cannot be used"},
	} {
		_, err := mutualLease(t, "https://api.example.com", c.cert, c.ca)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		for n, f := range forms(t, two) {
			if strings.Contains(err.Error(), f) {
				t.Errorf("%s: form %d of the key is in the error", name, n)
			}
		}
	}
}

// TestRedirectsTakeNoCertificate leads to another origin that asks for one.
func TestRedirectsTakeNoCertificate(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, "all")
	asks := &tls.Config{ClientAuth: tls.RequestClientCert}
	files := newGuarded(t, ca.server(), asks.Clone(), func(http.ResponseWriter, *http.Request) {})
	api := newGuarded(t, ca.server(), asks.Clone(), func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://files.example.com/f", http.StatusFound)
	})
	d := mapped{dial.New(dial.Policy{Allow: loopback()}), map[string]string{"api.example.com:443": api.Listener.Addr().String(), "files.example.com:443": files.Listener.Addr().String()}}
	node, err := New(Options{Dialer: d, Recorder: &flows{}, Roots: ca.pool()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Close)
	cert := ca.client(time.Hour)
	l, err := mutualLease(t, "https://api.example.com", cert, "")
	if err != nil {
		t.Fatal(err)
	}
	host, err := compileHost("files.example.com")
	if err != nil {
		t.Fatal(err)
	}
	l.bound.follow = map[string][]hostRule{"download": {host}}
	if _, err := node.Do(t.Context(), &Call{Lease: l, Action: "download", Path: "/f"}); err != nil {
		t.Fatal(err)
	}
	if api.names() != "customer" || files.names() != "" {
		t.Errorf("the API saw %q, the other origin %q", api.names(), files.names())
	}
	// The red twin: with the transport of the record, the other origin gets it.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://files.example.com/f", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := node.pool.get(poolKey{}, l.inject.cert).rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if files.names() != "customer" {
		t.Errorf("red twin: the other origin asks for no certificate: %q", files.names())
	}
}
