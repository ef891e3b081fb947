package role

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// testCertificate is a certificate of this machine that signs itself, and its key.
func testCertificate(t *testing.T) *wire.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: n, Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &wire.Certificate{
		Chain: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		Key:   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

func TestOutsideIsNotServedInClear(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cfg  Config
		want error
	}{
		{Config{Listen: "127.0.0.1:0"}, nil},
		{Config{Listen: "127.9.9.9:80"}, nil},
		{Config{Listen: "[::1]:0"}, nil},
		{Config{Listen: "localhost:0"}, nil},
		{Config{Listen: "0.0.0.0:0"}, errClear},
		{Config{Listen: "[::]:0"}, errClear},
		{Config{Listen: ":0"}, errClear},
		{Config{Listen: "192.0.2.1:80"}, errClear},
		{Config{Listen: "[::ffff:192.0.2.1]:80"}, errClear},
		{Config{Listen: "localhost.example.com:80"}, errClear},
		{Config{Listen: "127.0.0.1.example.com:80"}, errClear},
		{Config{}, errClear},
		{Config{Listen: "0.0.0.0:0", Proxied: true}, nil},
		{Config{Listen: "0.0.0.0:0", Certificate: "c", CertificateKey: "k"}, nil},
		{Config{Listen: "0.0.0.0:0", Certificate: "c"}, errHalf},
		{Config{Listen: "127.0.0.1:0", CertificateKey: "k"}, errHalf},
		{Config{Listen: "127.0.0.1:0", PublicURL: "https://hooks.example.com"}, nil},
		{Config{Listen: "127.0.0.1:0", PublicURL: "https://hooks.example.com:8443/base/"}, nil},
		{Config{Listen: "127.0.0.1:0", PublicURL: "http://127.0.0.1:8480"}, nil},
		{Config{Listen: "127.0.0.1:0", PublicURL: "http://hooks.example.com"}, errPublicURL},
		{Config{Listen: "127.0.0.1:0", PublicURL: "hooks.example.com"}, errPublicURL},
		{Config{Listen: "127.0.0.1:0", PublicURL: "https://u:p@hooks.example.com"}, errPublicURL},
		{Config{Listen: "127.0.0.1:0", PublicURL: "https://hooks.example.com?x=1"}, errPublicURL},
		{Config{Listen: "127.0.0.1:0", PublicURL: "javascript:alert(1)"}, errPublicURL},
	} {
		if err := checkOutside(&c.cfg); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.cfg, err, c.want)
		}
	}
	s, err := Start(t.Context(), Config{State: t.TempDir(), Listen: "0.0.0.0:0"})
	if s != nil || !errors.Is(err, errClear) {
		t.Errorf("Start: %v", err)
	}
}

func TestPublicURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cfg      Config
		at, want string
	}{
		{Config{Listen: "127.0.0.1:0"}, "127.0.0.1:41", "http://127.0.0.1:41"},
		{Config{Listen: "[::1]:0"}, "[::1]:41", "http://[::1]:41"},
		{Config{Listen: ":41", Proxied: true}, "[::]:41", "http://[::]:41"},
		{Config{Listen: "127.0.0.1:0", Certificate: "c"}, "127.0.0.1:41", "https://127.0.0.1:41"},
		{Config{Listen: "hooks.example.com:0", Certificate: "c"}, "192.0.2.1:41", "https://hooks.example.com:41"},
		{Config{Listen: "127.0.0.1:0", PublicURL: "https://h.example.com/base/"}, "127.0.0.1:41", "https://h.example.com/base"},
	} {
		if got := publicURL(&c.cfg, c.at); got != c.want {
			t.Errorf("%+v at %s: %s, want %s", c.cfg, c.at, got, c.want)
		}
	}
}

// TestCertificateIsRenewed shakes hands before and after a renewal, and after one that
// cannot be used, which changes nothing. Old versions of TLS and plain HTTP are refused.
func TestCertificateIsRenewed(t *testing.T) {
	t.Parallel()
	state := &serverState{tls: newCertificate()}
	p := &process{set: settings{"tls": "yes"}, stopped: make(chan struct{})}
	old := testCertificate(t)
	give := func(m *wire.Certificate) error {
		return state.hear(wire.Frame{Type: wire.TypeCertificate, Body: wire.AppendBody(nil, m)})
	}
	if err := give(old); err != nil {
		t.Fatal(err)
	}
	secured, err := p.certified(&state.tls)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := outsideServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }), secured, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = s.Close() })
	go func() { _ = serveOutside(s, l) }()
	get := func(trust *wire.Certificate, most uint16) (string, error) {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(trust.Chain)
		c := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS10, MaxVersion: most}}}
		defer c.CloseIdleConnections()
		a, err := c.Get("https://" + l.Addr().String())
		if err != nil {
			return "", err
		}
		defer a.Body.Close()
		b, err := io.ReadAll(a.Body)
		return string(b), err
	}
	if got, err := get(old, 0); got != "HTTP/2.0" || err != nil {
		t.Errorf("with the first certificate: %q, %v", got, err)
	}
	if _, err := get(old, tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	if a, err := http.Get("http://" + l.Addr().String()); err == nil {
		_ = a.Body.Close()
		if a.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP: %s", a.Status)
		}
	}
	next := testCertificate(t)
	mixed := &wire.Certificate{Chain: next.Chain, Key: testCertificate(t).Key}
	if err := give(mixed); err == nil {
		t.Error("a key of another certificate is taken")
	}
	if _, err := get(old, 0); err != nil {
		t.Errorf("after a certificate that cannot be used: %v", err)
	}
	if err := give(next); err != nil {
		t.Fatal(err)
	}
	if _, err := get(next, 0); err != nil {
		t.Errorf("after the renewal: %v", err)
	}
	if _, err := get(old, 0); err == nil {
		t.Error("the old certificate is still shown")
	}
}

func TestServerSaysWhyItsCertificateIsNoUse(t *testing.T) {
	t.Parallel()
	state := &serverState{tls: newCertificate()}
	if err := state.tls.take(&wire.Certificate{Chain: []byte("x"), Key: []byte("y")}); err == nil {
		t.Error("noise is taken")
	}
	p := &process{set: settings{"tls": "yes"}, stopped: make(chan struct{})}
	if c, err := p.certified(&state.tls); c != nil || err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("certified: %v, %v", c, err)
	}
	close(p.stopped)
	if _, err := p.certified(&state.tls); !errors.Is(err, errStopped) {
		t.Errorf("certified while it is stopped: %v", err)
	}
	if c, err := (&process{set: settings{}}).certified(&state.tls); c != nil || err != nil {
		t.Errorf("without TLS: %v, %v", c, err)
	}
}

func TestCertificateFilesAreBounded(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "key.pem")
	for size, ok := range map[int]bool{0: true, 10: true, maxCertificateFile: true, maxCertificateFile + 1: false} {
		if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := readCertificate(name); (err == nil) != ok || ok && len(b) != size {
			t.Errorf("%d bytes: %d, %v", size, len(b), err)
		}
	}
	if _, err := readCertificate(name + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
