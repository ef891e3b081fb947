// Package client speaks to the API of a server, with a token over HTTP or HTTPS, or over
// the Unix socket of a session that only its user may open.
//
// What is secret is sealed to the vault here, before it is sent. The vault's key is given
// to [New], and else the server is asked for it.
// Pages of payloads are sealed to a key that is made here and opened here.
//
// A Client is safe for concurrent use. Errors of the server are [*Error]. A request that
// got no answer is repeated when that is safe: when it only reads, when repeating it
// changes nothing, or when it carries an Idempotency-Key, as every POST does.
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Limits of the client.
const (
	// maxAnswer bounds an answer that is no stream, in bytes.
	maxAnswer = 16 << 20
	// maxTries is how often a request is sent that gets no answer, or that the server is
	// too busy for.
	maxTries = 4
	// maxRetryAfter is the longest time that the client waits because the server says so.
	maxRetryAfter = 30 * time.Second
)

// Client is a connection to one server.
type Client struct {
	base   string
	token  string
	http   *http.Client
	public *http.Client   // to what the server serves to the outside
	vault  seal.PublicKey // zero: the server is asked for it
	trust  func(seal.VerifyKey) error
}

// New makes a Client of the server behind a Unix socket, whose vault has the key; zero: the
// server is asked for it.
func New(socket string, vault seal.PublicKey) *Client {
	var d net.Dialer
	return &Client{
		base: "http://bulkhead", vault: vault,
		http: &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) },
			Proxy:       nil,
		}},
		public: &http.Client{Transport: &http.Transport{DialContext: d.DialContext, Proxy: nil}},
	}
}

// Open makes a Client of the server at a base URL such as https://bulkhead.example.com or
// http://127.0.0.1:8080, which it uses with a token. A token is not sent in clear to
// another machine: http is for loopback addresses.
func Open(base, token string) (*Client, error) {
	u, err := url.Parse(strings.TrimSuffix(base, "/"))
	if err != nil {
		return nil, fmt.Errorf("open client: %w", err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil:
		return nil, errors.New("open client: want an address such as https://bulkhead.example.com")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, fmt.Errorf("open client: a token is not sent to %s over http; use https", u.Hostname())
	}
	h := &http.Client{
		Transport:     &http.Transport{ForceAttemptHTTP2: true, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Client{base: u.String(), token: token, http: h, public: h}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Close gives up idle connections.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	c.public.CloseIdleConnections()
}

// Error is what the server answered instead.
type Error struct {
	api.Problem
	Asked string // of what is not found: what the request was about, as it was given, such as "customer acme"; else empty
}

// Error implements error. Of what is not found it says what it was.
func (e *Error) Error() string {
	if e.Code != api.CodeNotFound || e.Asked == "" {
		return e.Problem.Error()
	}
	text := e.Title + ": " + e.Asked
	if e.Detail != "" {
		text += ". " + e.Detail
	}
	return text
}

// IsCode reports whether an error is the server's with that code.
func IsCode(err error, code api.Code) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

// request is one question to the server.
type request struct {
	method string
	path   string // below api.Prefix, escaped
	query  url.Values
	body   any    // nil: none
	match  uint64 // If-Match, when it is not 0
}

// send sends a request, again when that is safe and may help, and returns its answer.
func (c *Client) send(ctx context.Context, q request) (*http.Response, error) {
	var b []byte
	if q.body != nil {
		var err error
		if b, err = json.Marshal(q.body); err != nil {
			return nil, fmt.Errorf("make request: %w", err)
		}
	}
	key := rand.Text()
	for try := 1; ; try++ {
		a, err := c.try(ctx, &q, b, key)
		wait := time.Duration(1<<try) * 50 * time.Millisecond
		switch e, refused := errors.AsType[*Error](err); {
		case err == nil, ctx.Err() != nil, try == maxTries, q.method == http.MethodPatch && !refused:
			return a, err
		case refused && e.Code != api.CodeRateLimited && e.Code != api.CodeInProgress:
			return a, err
		case refused:
			wait = max(wait, e.RetryAfter())
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		}
	}
}

func (c *Client) try(ctx context.Context, q *request, body []byte, key string) (*http.Response, error) {
	address := c.base + api.Prefix + q.path
	if len(q.query) > 0 {
		address += "?" + q.query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, q.method, address, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if q.match != 0 {
		r.Header.Set("If-Match", strconv.Quote(strconv.FormatUint(q.match, 10)))
	}
	if q.method == http.MethodPost {
		r.Header.Set("Idempotency-Key", key)
	}
	a, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask server: %w", err)
	}
	if a.StatusCode < 300 {
		return a, nil
	}
	defer a.Body.Close()
	e := &Error{}
	if err := json.NewDecoder(io.LimitReader(a.Body, maxAnswer)).Decode(&e.Problem); err != nil || e.Code == "" {
		return nil, &Error{Problem: api.Problem{Title: "the server answers " + a.Status, Status: a.StatusCode, Code: api.CodeInternal}}
	}
	if e.Code == api.CodeNotFound {
		e.Asked = q.asked(body)
	}
	e.retryAfter(a.Header)
	return nil, e
}

// RetryAfter is how long the server asks to wait.
func (e *Error) RetryAfter() time.Duration { return min(e.Problem.RetryAfter, maxRetryAfter) }

func (e *Error) retryAfter(h http.Header) {
	if n, err := strconv.Atoi(h.Get("Retry-After")); err == nil && n > 0 {
		e.Problem.RetryAfter = time.Duration(n) * time.Second
	}
}

// ask sends a request and reads its answer into one, which may be nil.
func (c *Client) ask(ctx context.Context, q request, answer any) error {
	a, err := c.send(ctx, q)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(a.Body, maxAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("read answer of server: %w", err)
	}
	return nil
}

func ask[T any](ctx context.Context, c *Client, q request) (*T, error) {
	v := new(T)
	if err := c.ask(ctx, q, v); err != nil {
		return nil, err
	}
	return v, nil
}

// path escapes the parts of a path.
func path(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/")
		b.WriteString(url.PathEscape(p))
	}
	return b.String()
}

// Server asks what the server is, and what the token may do.
func (c *Client) Server(ctx context.Context) (*api.ServerInfo, error) {
	return ask[api.ServerInfo](ctx, c, request{method: http.MethodGet, path: "/server"})
}

// vaultKey is the key to which secrets are sealed. A vault has another after each start,
// so that one which was not given is asked for every time.
func (c *Client) vaultKey(ctx context.Context) (seal.PublicKey, error) {
	if c.vault != (seal.PublicKey{}) {
		return c.vault, nil
	}
	info, err := c.Server(ctx)
	if err != nil {
		return seal.PublicKey{}, err
	}
	if len(info.VaultKey) != seal.KeySize {
		return seal.PublicKey{}, errors.New("read answer of server: it has no vault key")
	}
	key := seal.PublicKey(info.VaultKey)
	if c.trust == nil {
		return key, nil
	}
	if err := c.checkVault(key, info); err != nil {
		return seal.PublicKey{}, err
	}
	return key, nil
}

// ErrUnproved means that a server shows a key that its vault's authority does not certify.
var ErrUnproved = errors.New("the server does not prove that the key it shows is its vault's: nothing secret was sent")

// Trust has what is entered sealed only to a vault whose authority the check knows. The server
// carries the vault's key: without it, one that was breached could show a key of its own and
// read what is entered. Call it before the client is used.
func (c *Client) Trust(check func(authority seal.VerifyKey) error) { c.trust = check }

// checkVault checks that the key is a vault's whose authority is trusted.
func (c *Client) checkVault(key seal.PublicKey, info *api.ServerInfo) error {
	var authority seal.VerifyKey
	if len(info.Authority) != len(authority) {
		return ErrUnproved
	}
	copy(authority[:], info.Authority)
	i, err := lease.ParseIdentity(authority, info.Certificate, time.Now())
	if err != nil || i.Role != wire.RoleVault || i.Seal != key {
		return ErrUnproved
	}
	return c.trust(authority)
}

// List says which page of a list is meant. The zero List is the first page of the default
// length.
type List struct {
	Limit  int
	Cursor string
}

func (l List) query() url.Values {
	v := url.Values{}
	if l.Limit > 0 {
		v.Set("limit", strconv.Itoa(l.Limit))
	}
	if l.Cursor != "" {
		v.Set("cursor", l.Cursor)
	}
	return v
}

// All reads every page of a list. It stops at the first error, which it yields last.
func All[T any](list func(cursor string) (*api.Page[T], error)) func(yield func(T, error) bool) {
	return func(yield func(T, error) bool) {
		for cursor := ""; ; {
			p, err := list(cursor)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, x := range p.Items {
				if !yield(x, nil) {
					return
				}
			}
			if cursor = p.Next; cursor == "" {
				return
			}
		}
	}
}
