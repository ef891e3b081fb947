package role

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// maxCertificateFile bounds the files of a certificate and its key, in bytes.
const maxCertificateFile = 256 << 10

// Errors about the address for the outside. Their texts say what to do.
var (
	errClear = errors.New("this address can be reached by other machines and would serve tokens and webhooks in clear: give --tls-cert and --tls-key, " +
		"or --behind-proxy when a proxy ends TLS before it, or listen on 127.0.0.1")
	errHalf      = errors.New("a certificate needs its key: give both --tls-cert and --tls-key")
	errPublicURL = errors.New("the public URL is to be https://HOST[:PORT][/PATH], or http for this machine only: see --public-url")
)

// hostOf is the host of host:port, without brackets.
func hostOf(address string) string {
	return strings.Trim(address[:max(strings.LastIndexByte(address, ':'), 0)], "[]")
}

// loopbackHost reports whether only this machine can reach a host.
func loopbackHost(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// checkOutside refuses to serve other machines in clear. What a proxy says in headers is
// never trusted for anything, so that saying there is one opens nothing else.
func checkOutside(cfg *Config) error {
	switch {
	case (cfg.Certificate == "") != (cfg.CertificateKey == ""):
		return errHalf
	case cfg.Certificate == "" && !cfg.Proxied && !loopbackHost(hostOf(cfg.Listen)):
		return fmt.Errorf("listen on %s: %w", cfg.Listen, errClear)
	case cfg.PublicURL == "":
		return nil
	}
	u, err := url.Parse(cfg.PublicURL)
	if err != nil || u.Host == "" || u.Opaque != "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" ||
		u.Scheme != "https" && (u.Scheme != "http" || !loopbackHost(u.Hostname())) {
		return errPublicURL
	}
	return nil
}

// publicURL is what the addresses of webhooks and callbacks begin with, without a slash at
// the end. A name to listen on stays, so that it fits the certificate.
func publicURL(cfg *Config, at string) string {
	if cfg.PublicURL != "" {
		return strings.TrimRight(cfg.PublicURL, "/")
	}
	scheme := "http://"
	if cfg.Certificate != "" {
		scheme = "https://"
	}
	_, port, err := net.SplitHostPort(at)
	host := hostOf(cfg.Listen)
	if _, ip := netip.ParseAddr(host); err != nil || host == "" || ip == nil {
		return scheme + at
	}
	return scheme + net.JoinHostPort(host, port)
}

// Renew gives the server the certificate that the files hold now. Connections that are open
// keep theirs. When the files do not fit together, the server says so in its log and goes on
// with what it has. Without a certificate, or while no server runs, there is nothing to do.
func (s *Supervisor) Renew() error {
	s.mu.Lock()
	var server *child
	if t := s.seat("server"); t != nil && t.child != nil && t.child.told {
		server = t.child
	}
	s.mu.Unlock()
	if server == nil {
		return nil // the next one is given what the files hold then
	}
	return s.sendCertificate(server)
}

// sendCertificate reads the files and passes them on to a server that has its Start. They
// are not parsed here, and nothing of them stays.
func (s *Supervisor) sendCertificate(c *child) error {
	if s.cfg.Certificate == "" {
		return nil
	}
	var m wire.Certificate
	var err error
	if m.Chain, err = readCertificate(s.cfg.Certificate); err != nil {
		return err
	}
	if m.Key, err = readCertificate(s.cfg.CertificateKey); err != nil {
		return err
	}
	c.post(&m) // behind its Start
	return nil
}

// readCertificate reads one PEM file of the operator's.
func readCertificate(name string) ([]byte, error) {
	f, err := os.Open(name) // #nosec G304 -- the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	defer f.Close()
	b := make([]byte, maxCertificateFile+1) // never grown: no copy of a key is left behind
	n, err := io.ReadFull(f, b)
	switch {
	case n > maxCertificateFile:
		clear(b)
		return nil, fmt.Errorf("read certificate: %s is larger than %d bytes", name, maxCertificateFile)
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF):
		clear(b)
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	return b[:n], nil
}

// certificate is what the server proves with who it is. It is safe for concurrent use.
type certificate struct {
	present *atomic.Pointer[tls.Certificate]
	first   chan error // how the first one was
}

func newCertificate() certificate {
	return certificate{&atomic.Pointer[tls.Certificate]{}, make(chan error, 1)}
}

// take takes a certificate with its key. One that cannot be used changes nothing.
func (c *certificate) take(m *wire.Certificate) error {
	pair, err := tls.X509KeyPair(m.Chain, m.Key)
	clear(m.Key)
	if err != nil {
		err = fmt.Errorf("use certificate: %w", err)
	} else {
		c.present.Store(&pair)
	}
	select {
	case c.first <- err:
	default:
	}
	return err
}

// certified waits for the first certificate where the settings say that there is one, and
// returns how to speak TLS with the present one; nil: without TLS.
func (p *process) certified(c *certificate) (*tls.Config, error) {
	if p.set["tls"] != "yes" {
		return nil, nil //nolint:nilnil // no TLS is no error
	}
	select {
	case err := <-c.first:
		if err != nil {
			return nil, err
		}
	case <-p.stopped:
		return nil, errStopped
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.present.Load(), nil },
	}, nil
}

// outsideServer is the HTTP server for the outside. What it logs by itself, such as failed
// handshakes, anyone can cause: it is for debugging.
func outsideServer(h http.Handler, secured *tls.Config, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, TLSConfig: secured, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// serveOutside serves until the server is closed: TLS with HTTP/2 when there is a certificate, else
// HTTP.
func serveOutside(s *http.Server, l net.Listener) error {
	if s.TLSConfig != nil {
		return s.ServeTLS(l, "", "")
	}
	return s.Serve(l)
}
