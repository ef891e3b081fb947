package egress

import (
	"bufio"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/dial"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

func TestConnectionsAreReusedWithinOneRecordOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := newRig(t, w.policy())
	base := fmt.Sprintf("http://allowed.example:%d", w.port)
	customer, connection := id.NewCustomer(time.Now()), id.NewConnection(time.Now())
	record := func(c id.Customer, n id.Connection, version uint64) *Lease {
		return newLease(t, base, bearer(canary), func(s *LeaseSpec) { s.Customer, s.Connection, s.Version = c, n, version })
	}
	for i, c := range []struct {
		lease *Lease
		want  int32
	}{
		{record(customer, connection, 1), 1},
		{record(customer, connection, 1), 1}, // another lease of the same record
		{record(customer, connection, 2), 2},
		{record(customer, id.NewConnection(time.Now()), 1), 3},
		{record(id.NewCustomer(time.Now()), connection, 1), 4},
		{record(customer, connection, 1), 4},
	} {
		if _, err := r.Do(t.Context(), &Call{Lease: c.lease}); err != nil {
			t.Fatal(err)
		}
		if got := w.outside.Load(); got != c.want {
			t.Errorf("call %d: %d connections, want %d", i, got, c.want)
		}
	}
}

func TestPoolIsBounded(t *testing.T) {
	t.Parallel()
	p := newPool(dial.New(dial.Policy{}), nil)
	key := func(v uint64) poolKey { return poolKey{version: v} }
	first := p.get(key(0), nil)
	for v := range uint64(maxTransports) {
		p.get(key(v), nil)
	}
	if p.get(key(0), nil) != first || p.recency.Len() != maxTransports {
		t.Errorf("%d transports", p.recency.Len())
	}
	p.get(key(maxTransports), nil)
	if _, ok := p.byKey[key(1)]; ok || p.recency.Len() != maxTransports || len(p.byKey) != maxTransports {
		t.Errorf("the least recently used stays: %v, %d", ok, len(p.byKey))
	}
	if p.get(key(0), nil) != first {
		t.Error("a recently used transport was given up")
	}
	p.close()
	if p.recency.Len() != 0 || len(p.byKey) != 0 {
		t.Error("close leaves transports")
	}
}

// stale answers the first request of a connection and closes it on the second without an answer.
func stale(t *testing.T, requests *atomic.Int32) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				in := bufio.NewReader(conn)
				for i := range 2 {
					req, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					requests.Add(1)
					if i == 0 {
						_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

func TestOnceIsNotSentTwice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		call Call
		want int32
		ok   bool
	}{
		{"with a key", Call{Method: "POST", Body: []byte("{}"), IdempotencyKey: "k"}, 3, true},
		{"with a key, once", Call{Method: "POST", Body: []byte("{}"), IdempotencyKey: "k", Once: true}, 2, false},
		{"no body, once", Call{Method: "DELETE", IdempotencyKey: "k", Once: true}, 2, false},
		{"no key", Call{Method: "POST", Body: []byte("{}")}, 2, false},
		{"read", Call{Method: "GET"}, 3, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			r := localRig(t)
			l := newLease(t, stale(t, &requests), Credential{Kind: None})
			if _, err := r.Do(t.Context(), &Call{Lease: l}); err != nil {
				t.Fatal(err)
			}
			c.call.Lease = l
			_, err := r.Do(t.Context(), &c.call)
			if got := requests.Load(); got != c.want || (err == nil) != c.ok {
				t.Errorf("server saw %d requests, want %d; %v", got, c.want, err)
			}
			if err != nil {
				if f := faultOf(t, err); f.Type != Upstream || f.Outcome != Unknown {
					t.Errorf("fault %v, %s", f, f.Outcome)
				}
			}
		})
	}
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Echo", r.Header.Get("Authorization"))
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Proto, r.Header.Get("Idempotency-Key"), r.Header.Get("Authorization"))
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	f := &flows{}
	c, err := New(Options{Dialer: dial.New(dial.Policy{Allow: loopback()}), Recorder: f, Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	a, err := c.Do(t.Context(), &Call{Lease: newLease(t, s.URL, bearer(canary)), Method: "POST", Body: []byte("{}"), IdempotencyKey: "k", Once: true})
	if err != nil {
		t.Fatal(err)
	}
	if string(a.Body) != "HTTP/2.0 k [redacted]" || a.Headers.Get("X-Echo") != "[redacted]" || a.ScrubHits != 2 {
		t.Errorf("%q, %v", a.Body, a.Headers)
	}
	if end := f.list()[1]; !end.Addr.IsValid() || end.Verdict != Completed {
		t.Errorf("record %+v", end)
	}
}

func TestCharsets(t *testing.T) {
	t.Parallel()
	var utf16 strings.Builder
	for _, r := range "\ufeff" + "ä " + canary {
		utf16.WriteByte(byte(r))
		utf16.WriteByte(byte(r >> 8))
	}
	for name, c := range map[string]struct{ contentType, body, want string }{
		"latin":        {"text/plain; charset=ISO-8859-1", "\xe4\xf6", "äö"},
		"windows-1252": {"application/json; charset=windows-1252", "\"\x80\"", "\"€\""},
		"utf-16":       {"text/plain; charset=utf-16", utf16.String(), "ä [redacted]"},
		"utf-8":        {"text/plain; charset=UTF-8", "ä", "ä"},
		"none":         {"text/plain", "ä", "ä"},
		"unknown":      {"text/plain; charset=x-klingon", "\xe4", "\xe4"},
		"file":         {"application/octet-stream; charset=ISO-8859-1", "\xe4", "\xe4"},
		"mark":         {"application/json", "\xef\xbb\xbf{}", "{}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.contentType)
				_, _ = io.WriteString(w, c.body)
			})
			a, err := localRig(t).Do(t.Context(), &Call{Lease: newLease(t, s.URL, bearer(canary))})
			if err != nil || string(a.Body) != c.want {
				t.Errorf("%q, %v, want %q", a.Body, err, c.want)
			}
		})
	}
}
