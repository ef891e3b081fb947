package egress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/certificate"
	"github.com/bulkheadhq/bulkhead/internal/dial"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/oauth"
)

// tokenTimeout is the time for one request of the token engine.
const tokenTimeout = 20 * time.Second

var (
	errTokenSize   = errors.New("the answer is too large")
	errTokenCoding = errors.New("the answer is compressed, which was not asked for")
)

// Tokens is the way of the token engine to the outside, for one connection: through package dial, without following redirects,
// over connections of its own, and with flow records. Close it when the work is done. It is used by one goroutine.
type Tokens struct {
	client     *Client
	customer   id.Customer
	connection id.Connection
	transports []*http.Transport
	plain      *http.Transport
}

var _ oauth.Doer = (*Tokens)(nil)

// Tokens makes the way of the token engine for one connection.
func (c *Client) Tokens(customer id.Customer, connection id.Connection) *Tokens {
	return &Tokens{client: c, customer: customer, connection: connection}
}

// Close gives up the connections.
func (t *Tokens) Close() {
	for _, rt := range t.transports {
		rt.CloseIdleConnections()
	}
}

// transport is that of a request: one with a client certificate has its own.
func (t *Tokens) transport(r *oauth.Request) (*http.Transport, error) {
	if r.Certificate == nil {
		if t.plain == nil {
			t.plain = t.client.pool.transport()
			t.transports = append(t.transports, t.plain)
		}
		return t.plain, nil
	}
	pair, err := certificate.Read(r.Certificate, r.Key)
	if err != nil {
		return nil, fmt.Errorf("the client: %w: %w", err, oauth.ErrUnsent)
	}
	rt := t.client.pool.transport()
	(&mutual{pair: pair}).configure(rt.TLSClientConfig, new(atomic.Bool))
	t.transports = append(t.transports, rt)
	return rt, nil
}

// Do implements [oauth.Doer].
func (t *Tokens) Do(ctx context.Context, r *oauth.Request) (*oauth.Response, error) {
	rt, err := t.transport(r)
	if err != nil {
		return nil, err
	}
	host, err := dial.CanonicalHost(bracketed(r.URL.Hostname()))
	if err != nil {
		return nil, fmt.Errorf("host: %w", errors.Join(err, oauth.ErrUnsent))
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	x := &tokenCall{started: time.Now(), flow: Flow{
		Request: id.NewEvent(time.Now()), Customer: t.customer, Connection: t.connection, Method: r.Method, Scheme: r.URL.Scheme, Host: host,
		Port: defaultPort(r.URL.Scheme),
	}}
	if port := r.URL.Port(); port != "" {
		_, _ = fmt.Sscan(port, &x.flow.Port)
	}
	x.flow.Phase, x.flow.Verdict = Begin, Allowed
	t.client.recorder.Record(x.flow)
	answer, err := x.do(ctx, rt, r, t.client.userAgent)
	x.flow.Phase, x.flow.Verdict, x.flow.Duration = End, Completed, time.Since(x.started)
	if err != nil {
		x.flow.Verdict, x.flow.Fault = Failed, Upstream
		if denied, ok := errors.AsType[*dial.Denied](err); ok {
			x.flow.Verdict, x.flow.Fault, x.flow.Addr = Denied, EgressDenied, denied.Addr
		}
	}
	t.client.recorder.Record(x.flow)
	return answer, err
}

func bracketed(host string) string {
	if bytes.IndexByte([]byte(host), ':') >= 0 {
		return "[" + host + "]"
	}
	return host
}

// tokenCall is one request of the token engine on its way.
type tokenCall struct {
	started time.Time
	flow    Flow
	sent    bool
}

func (x *tokenCall) do(ctx context.Context, rt *http.Transport, r *oauth.Request, agent []string) (answer *oauth.Response, err error) {
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		x.sent = true
		if tcp, ok := info.Conn.RemoteAddr().(*net.TCPAddr); ok {
			x.flow.Addr = tcp.AddrPort()
		}
	}}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), r.Method, r.URL.String(), bytes.NewReader(r.Body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", errors.Join(err, oauth.ErrUnsent))
	}
	req.GetBody = nil // the connection layer must never send a refresh token twice
	req.Header = r.Header.Clone()
	req.Header["Accept-Encoding"] = []string{"identity"}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header["User-Agent"] = agent
	}
	x.flow.BytesOut = int64(len(r.Body))
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil, x.failed(ctx, err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	x.flow.Status = resp.StatusCode
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return nil, errTokenCoding
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, oauth.MaxAnswer+1))
	x.flow.BytesIn = int64(len(body))
	switch {
	case err != nil:
		return nil, x.failed(ctx, err)
	case len(body) > oauth.MaxAnswer:
		return nil, errTokenSize
	}
	return &oauth.Response{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// failed describes an error in our words, and says whether anything was sent.
func (x *tokenCall) failed(ctx context.Context, err error) error {
	fault := transportFault(ctx, err, x.sent)
	if x.sent {
		return fault
	}
	return fmt.Errorf("%w: %w", fault, oauth.ErrUnsent)
}
