package quirk

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"time"
)

// The hosts of a server. All of them are the same one, see [Server.DialContext].
const (
	IDP = "https://idp.example.com"
	API = "https://api.example.com"
	EU  = "https://eu.example.com"
	// Evil is not the provider's.
	Evil = "https://evil.example.org"
)

// Who is known to a server.
const (
	ClientID = "client-1"
	// ClientSecret has characters that the two spellings of Basic write differently.
	ClientSecret = "s3cret:with/+% and more" //nolint:gosec // of a fake
	RedirectURI  = "https://here.example.net/oauth/callback?env=1"
	Account      = "acct-42"
	// Life is that of the main access token, UserLife that of the second one.
	Life     = time.Hour
	UserLife = 30 * time.Minute
)

// Server is a fake provider.
type Server struct {
	// Now is the provider's clock; set it before the first request.
	Now func() time.Time
	// Slow holds the answer to a token request back until it returns; Break, when it returns true, closes the connection after
	// the request was acted upon.
	Slow  func(r *http.Request)
	Break func(r *http.Request) bool
	// TokenLife is that of the main access token instead of [Life]; set it before the first request.
	TokenLife time.Duration

	on    map[Switch]bool
	srv   *httptest.Server
	roots *x509.CertPool
	dial  func(context.Context) (net.Conn, error)

	mu      sync.Mutex
	codes   map[string]*code
	tokens  map[string]*token
	limited bool
	webhook []byte
	noted   []string
	Counts  Counts
}

// Counts are what a server has seen. Read it when nothing runs.
type Counts struct {
	Exchanges, Refreshes, Revoked int
	// Reused counts uses of refresh tokens that had been used before: each ends the grant.
	Reused int
	// Expired counts calls with a token that had ended.
	Expired int
	// Twice counts requests that carried the client secret in two places.
	Twice int
	// Leaked counts requests to [Evil] that carried a token, a code or the client secret.
	Leaked int
}

// grant is what a person has granted, once.
type grant struct {
	scope   string
	revoked bool
}

type code struct {
	grant                         *grant
	redirect, challenge, resource string
	used                          bool
}

// token is an access or refresh token.
type token struct {
	grant   *grant
	set     string // main, user, session, other
	refresh bool
	used    bool
	expires time.Time
}

// New starts a server with switches on.
func New(switches ...Switch) *Server {
	s := unstarted(switches)
	s.srv.StartTLS()
	address := s.srv.Listener.Addr().String()
	s.dial = func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}
	return s
}

func unstarted(switches []Switch) *Server {
	s := &Server{Now: time.Now, TokenLife: Life, on: map[Switch]bool{}, codes: map[string]*code{}, tokens: map[string]*token{}}
	for _, w := range switches {
		s.on[w] = true
	}
	s.srv = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	cert, roots := certificate()
	s.roots = roots
	s.srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	return s
}

// Close stops the server.
func (s *Server) Close() {
	s.srv.CloseClientConnections()
	s.srv.Close()
}

// DialContext connects to the server, whatever the address: it is the way of a client under test.
func (s *Server) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	return s.dial(ctx)
}

// Roots are the authorities that have signed the server's certificate.
func (s *Server) Roots() *x509.CertPool { return s.roots }

// Noted is what requests lacked, in order.
func (s *Server) Noted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.noted...)
}

// Webhook is what the provider has sent to the webhook of the app, if it did.
func (s *Server) Webhook() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.webhook
}

// End takes all grants back, as a person does in the provider's settings.
func (s *Server) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tokens {
		t.grant.revoked = true
	}
}

// Forget makes access tokens worthless before their time, as a provider does whose signing key changes.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for value, t := range s.tokens {
		if !t.refresh {
			delete(s.tokens, value)
		}
	}
}

// Seen returns the counts.
func (s *Server) Seen() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Counts
}

// Secrets are all tokens and codes that were given out.
func (s *Server) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []string{ClientSecret}
	for t := range s.tokens {
		out = append(out, t)
	}
	for c := range s.codes {
		out = append(out, c)
	}
	return out
}

func (s *Server) note(format string, args ...any) {
	s.noted = append(s.noted, fmt.Sprintf(format, args...))
}

// serve is called for every request; requests are served one at a time, but for Slow.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(w, "body", http.StatusBadRequest)
		return
	}
	if s.Slow != nil {
		s.Slow(r)
	}
	if s.on[Late] && strings.HasPrefix(r.URL.Path, "/token") {
		select {
		case <-time.After(lateBy):
		case <-r.Context().Done():
			return
		}
	}
	rec := httptest.NewRecorder()
	s.mu.Lock()
	s.leaks(r, body)
	s.route(rec, r, body)
	s.mu.Unlock()
	if s.Break != nil && s.Break(r) {
		panic(http.ErrAbortHandler)
	}
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	if s.on[ClockAhead] {
		w.Header().Set("Date", s.Now().UTC().Format(http.TimeFormat))
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

// leaks counts secrets that went to another host.
func (s *Server) leaks(r *http.Request, body []byte) {
	if !strings.HasPrefix(r.Host, "evil.") {
		return
	}
	all := fmt.Sprint(r.Header, r.URL, string(body))
	plain, _ := url.QueryUnescape(all)
	for t := range s.tokens {
		if strings.Contains(all+plain, t) {
			s.Counts.Leaked++
		}
	}
	for c := range s.codes {
		if strings.Contains(all+plain, c) {
			s.Counts.Leaked++
		}
	}
	if strings.Contains(all+plain, ClientSecret) {
		s.Counts.Leaked++
	}
}

func (s *Server) route(w http.ResponseWriter, r *http.Request, body []byte) {
	path := r.URL.Path
	if s.on[Tenant] || s.on[TenantFallback] {
		want := "/t/acme"
		if s.on[TenantFallback] {
			want = "/t/common"
		}
		rest, ok := strings.CutPrefix(path, want)
		if !ok && !strings.HasPrefix(path, "/api") {
			s.note("%s is not of the tenant", path)
			http.NotFound(w, r)
			return
		}
		if ok {
			path = rest
		}
	}
	switch {
	case path == "/token" && !s.on[TrailingSlash], path == "/token/" && s.on[TrailingSlash]:
		s.token(w, r, body, false)
	case path == "/refresh":
		s.token(w, r, body, true)
	case strings.HasPrefix(path, "/api"):
		s.api(w, r, body)
	case strings.HasPrefix(path, "/.well-known/") || path == "/register":
		s.discover(w, r, body)
	default:
		s.step(w, r, path, body)
	}
}

// give makes a random value.
func give(prefix string) string {
	var b [20]byte
	_, _ = rand.Read(b[:])
	return prefix + hex.EncodeToString(b[:])
}

// issue makes a token.
func (s *Server) issue(g *grant, set string, refresh bool, life time.Duration) string {
	t := &token{grant: g, set: set, refresh: refresh, expires: s.Now().Add(life)}
	value := give(map[bool]string{true: "rt-", false: "at-"}[refresh])
	if !refresh && s.on[JWTExpiry] {
		value = unsigned(map[string]any{"exp": t.expires.Unix(), "sub": Account, "jti": value})
	}
	s.tokens[value] = t
	return value
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// refuse answers with an OAuth error, and notes why.
func (s *Server) refuse(w http.ResponseWriter, status int, code, why string) {
	s.note("%s: %s", code, why)
	reply(w, status, map[string]any{"error": code, "error_description": why})
}

// certificate makes one for all hosts.
func certificate() (tls.Certificate, *x509.CertPool) {
	cert, leaf := NewCertificate("idp.example.com", "api.example.com", "eu.example.com", "evil.example.org")
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return cert, pool
}

// NewCertificate makes a self-signed certificate for names, for both sides of a connection.
func NewCertificate(names ...string) (tls.Certificate, *x509.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, leaf
}
