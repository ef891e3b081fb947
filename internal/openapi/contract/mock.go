package contract

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/openapi"
)

const mockHost = "mock.example.com"

// exchange is one call that the mock server waits for.
type exchange struct {
	origin openapi.Origin
	action *connector.Action
	given  map[string]any
	lease  *lease
	base   string
	answer []byte
}

// mock is a server of a document's operations, reached over connections in memory: every dial of egress ends here.
type mock struct {
	judge  *judge
	server *http.Server
	conns  chan net.Conn
	done   chan struct{}

	mu      sync.Mutex
	waiting *exchange
	calls   int
	found   *Failure
}

func newMock(j *judge) *mock {
	s := &mock{judge: j, conns: make(chan net.Conn), done: make(chan struct{})}
	s.server = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: time.Minute, ErrorLog: nil}
	go func() { _ = s.server.Serve(s) }() // ends with close, which waits for nothing else
	return s
}

// DialContext implements [egress.Dialer].
func (s *mock) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case s.conns <- theirs:
		return &addressed{ours}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// addressed is a connection in memory with an address, which egress writes down.
type addressed struct{ net.Conn }

// RemoteAddr is an address of documentation (RFC 5737).
func (*addressed) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }

// Accept implements [net.Listener].
func (s *mock) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (s *mock) Close() error { return nil }

// Addr implements [net.Listener].
func (s *mock) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }

func (s *mock) close() error {
	close(s.done)
	return s.server.Close()
}

func (s *mock) expect(x *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting, s.found, s.calls = x, nil, 0
}

// verdict is what the last call came to; nil: it is as the document says.
func (s *mock) verdict() *Failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.found != nil:
		return s.found
	case s.calls > 1:
		return failf("judge", "the request was sent more than once", "%d times", s.calls)
	}
	return nil
}

func (s *mock) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	x := s.waiting
	if err != nil || x == nil {
		s.found = failf("judge", "the request cannot be read", "%v", err)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if f := s.safely(x, r, body); f != nil {
		s.found = f
	}
	if x.answer != nil {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(x.answer)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// safely turns a panic of the judge's library into a failure.
func (s *mock) safely(x *exchange, r *http.Request, body []byte) (f *Failure) {
	defer func() {
		if p := recover(); p != nil {
			f = failf("judge", "the judge crashes", "%v", p)
		}
	}()
	return s.judge.request(x, r, body)
}

// whole is a request as it was read, for looking a text up: header and URL with escapes undone, and body.
func whole(r *http.Request, body []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", r.Method, r.URL.Path)
	for k, vs := range r.URL.Query() {
		for _, v := range vs {
			fmt.Fprintf(&b, "%s=%s\n", k, v)
		}
	}
	for k, vs := range r.Header {
		for _, v := range vs {
			fmt.Fprintf(&b, "%s: %s\n", k, v)
		}
	}
	b.Write(body)
	return b.String()
}
