package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// writeCertificate writes a certificate for 127.0.0.1 that signs itself, with its key, and
// returns the pool that trusts it.
func writeCertificate(t *testing.T, cert, key string) *x509.CertPool {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, b := range map[string][]byte{cert: chain, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(chain)
	return pool
}

// TestUpSpeaksTLS starts the platform with a certificate, asks it over TLS, and renews the
// certificate while it runs. The addresses of webhooks begin with the public URL.
func TestUpSpeaksTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for d := dir; len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil { // roles run as users of their own
			t.Fatal(err)
		}
	}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	old := writeCertificate(t, cert, key)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience) // it is stopped in order at the end
	t.Cleanup(cancel)
	up := exec.CommandContext(ctx, binary, "up", "--state", filepath.Join(dir, "state"), "--listen", "127.0.0.1:0", "--drain", "0s",
		"--tls-cert", cert, "--tls-key", key, "--public-url", "https://hooks.example.com/base/", "--sample")
	var said bytes.Buffer
	up.Stderr = &said
	out, err := up.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = up.Process.Signal(syscall.SIGTERM)
		if err := up.Wait(); err != nil {
			t.Errorf("bulkhead up: %v\n%s", err, said.String())
		}
	})
	var hook bool
	var address string
	lines := bufio.NewScanner(out)
	for !hook && lines.Scan() {
		if at, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
			address = at
		}
		hook = strings.Contains(lines.Text(), "https://hooks.example.com/base/hooks/")
	}
	if !hook {
		t.Fatalf("no hook at the public URL is shown\n%s", said.String())
	}
	go func() { // it goes on saying things
		for lines.Scan() {
		}
	}()
	if !answers(t, address, old) {
		t.Fatal("the certificate of the files is not shown")
	}
	next := writeCertificate(t, cert, key)
	if err := up.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !answers(t, address, next) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the renewed certificate is not shown")
		}
	}
}

// answers reports whether the API answers over TLS with a certificate of the pool.
func answers(t *testing.T, address string, pool *x509.CertPool) bool {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer c.CloseIdleConnections()
	a, err := c.Get("https://" + address + "/api/v1/server")
	if err != nil {
		return false
	}
	defer a.Body.Close()
	var p struct{ Code string }
	if err := json.NewDecoder(a.Body).Decode(&p); err != nil || a.StatusCode != http.StatusUnauthorized {
		t.Errorf("the API answers %s, %+v, %v", a.Status, p, err)
	}
	return true
}
