package egress

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/dial"
)

func gzipped(n int) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	zeros := make([]byte, 1<<20)
	for ; n > 0; n -= len(zeros) {
		_, _ = z.Write(zeros[:min(n, len(zeros))])
	}
	_ = z.Close()
	return b.Bytes()
}

func hijack(f func(net.Conn)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		f(conn)
		_ = conn.Close()
	}
}

// hostile are servers that try to use up memory, time or trust.
func hostile() map[string]struct {
	handler http.HandlerFunc
	want    Type
} {
	bomb := gzipped(200 << 20)
	type server = struct {
		handler http.HandlerFunc
		want    Type
	}
	forever := func(conn net.Conn, head, again string) {
		_, _ = io.WriteString(conn, head)
		for {
			if _, err := io.WriteString(conn, again); err != nil {
				return
			}
		}
	}
	return map[string]server{
		"endless body":       {hijack(func(c net.Conn) { forever(c, "HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 1<<16)) }), Limit},
		"endless chunks":     {hijack(func(c net.Conn) { forever(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\nabcd\r\n") }), Limit},
		"declared too large": {hijack(func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx") }), Limit},
		"endless headers":    {hijack(func(c net.Conn) { forever(c, "HTTP/1.1 200 OK\r\n", "A: b\r\n") }), Upstream},
		"endless header":     {hijack(func(c net.Conn) { forever(c, "HTTP/1.1 200 OK\r\nA: ", strings.Repeat("b", 1<<10)) }), Upstream},
		"large header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("A", strings.Repeat("b", MaxAnswerHeader))
		}, Upstream},
		"endless early hints": {hijack(func(c net.Conn) { forever(c, "", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n") }), Upstream},
		"endless trailer": {hijack(func(c net.Conn) {
			forever(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n0\r\n", "A: b\r\n")
		}), Upstream},
		"silent":        {hijack(func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), Timeout},
		"stops in head": {hijack(func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nA"); _, _ = io.Copy(io.Discard, c) }), Timeout},
		"stops in body": {hijack(func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
			_, _ = io.Copy(io.Discard, c)
		}), Timeout},
		"cut body": {hijack(func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab") }), Upstream},
		"closes":   {hijack(func(net.Conn) {}), Upstream},
		"not HTTP": {hijack(func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n") }), Upstream},
		"two lengths": {hijack(func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
		}), Upstream},
		"switches": {hijack(func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
		}), Upstream},
		"gzip bomb":      {encoded("gzip", bomb), Limit},
		"double gzip":    {encoded("gzip, gzip", gzipped(10)), Upstream},
		"brotli":         {encoded("br", []byte("x")), Upstream},
		"broken gzip":    {encoded("gzip", []byte("not gzip")), Upstream},
		"cut gzip":       {encoded("gzip", bomb[:100]), Upstream},
		"bad checksum":   {encoded("gzip", append(gzipped(10)[:len(gzipped(10))-8], 0, 0, 0, 0, 0, 0, 0, 0)), Upstream},
		"broken deflate": {encoded("deflate", []byte{0xff, 0xff, 0xff}), Upstream},
	}
}

func encoded(coding string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", coding)
		_, _ = w.Write(body)
	}
}

func TestHostileServers(t *testing.T) {
	t.Parallel()
	for name, c := range hostile() {
		for _, sunk := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " sink ", sunk), func(t *testing.T) {
				t.Parallel()
				s := serve(t, c.handler)
				call := &Call{Lease: newLease(t, s.URL, bearer(canary)), Timeout: time.Minute, MaxBytes: 4 << 20}
				if c.want == Timeout {
					call.Timeout = time.Second
				}
				sink := &memorySink{}
				if sunk {
					call.Sink = func(*Answer) (io.WriteCloser, error) { return sink, nil }
				}
				a, err := localRig(t).Do(t.Context(), call)
				if a != nil {
					t.Fatalf("answer %+v", a)
				}
				if f := faultOf(t, err); f.Type != c.want || f.Outcome != Unknown {
					t.Errorf("fault %v (%s), want %s", f, f.Outcome, c.want)
				}
				if sink.closed || sink.Len() > 0 && !sink.aborted {
					t.Errorf("sink closed %v, aborted %v with %d bytes", sink.closed, sink.aborted, sink.Len())
				}
			})
		}
	}
}

func TestGzipAnswer(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("hello ", 1000)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	s := serve(t, encoded("gzip", packed.Bytes()))
	r := localRig(t)
	a, err := r.Do(t.Context(), &Call{Lease: newLease(t, s.URL, bearer(canary))})
	if err != nil {
		t.Fatal(err)
	}
	if string(a.Body) != text || a.Size != int64(len(text)) || a.Headers.Get("Content-Encoding") != "" || a.Headers.Get("Content-Length") != "" {
		t.Errorf("size %d, headers %v", a.Size, a.Headers)
	}
	if end := r.flows.list()[1]; end.BytesIn != int64(packed.Len()) {
		t.Errorf("record %+v, want %d bytes", end, packed.Len())
	}
	empty := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(http.StatusNoContent)
	})
	if a, err := r.Do(t.Context(), &Call{Lease: newLease(t, empty.URL, bearer(canary)), Method: "HEAD"}); err != nil || a.Size != 0 {
		t.Errorf("empty: %+v, %v", a, err)
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 100)) })
	r := localRig(t)
	budget := func(b Budget) *Lease {
		return newLease(t, s.URL, bearer(canary), func(s *LeaseSpec) { s.Budget = b })
	}
	two := budget(Budget{Requests: 2})
	for i := range 3 {
		_, err := r.Do(t.Context(), &Call{Lease: two})
		if i < 2 && err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if i == 2 {
			if f := faultOf(t, err); f.Type != Limit || f.Outcome != NotSent {
				t.Errorf("third request: %v", f)
			}
		}
	}
	_, err := r.Do(t.Context(), &Call{Lease: budget(Budget{Bytes: 99})})
	if f := faultOf(t, err); f.Type != Limit || f.Outcome != Unknown {
		t.Errorf("answer over budget: %v, %s", f, f.Outcome)
	}
	_, err = r.Do(t.Context(), &Call{Lease: budget(Budget{Bytes: 99}), Method: "POST", Body: make([]byte, 100)})
	if f := faultOf(t, err); f.Type != Limit || f.Outcome != NotSent {
		t.Errorf("body over budget: %v, %s", f, f.Outcome)
	}
	_, err = r.Do(t.Context(), &Call{Lease: budget(Budget{Bytes: 99}), Method: "POST", Stream: strings.NewReader(strings.Repeat("x", 1000)), StreamSize: -1})
	if f := faultOf(t, err); f.Type != Limit {
		t.Errorf("stream over budget: %v", f)
	}
	used := budget(Budget{})
	if _, err := r.Do(t.Context(), &Call{Lease: used, Method: "POST", Body: make([]byte, 10)}); err != nil || used.Used() != (Budget{Requests: 1, Bytes: 110}) {
		t.Errorf("used %+v, %v", used.Used(), err)
	}
}

func TestStatusFaults(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Sscan(r.URL.Query().Get("s"), &status)
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "why")
	})
	r := localRig(t)
	l := newLease(t, s.URL, bearer(canary))
	cases := []struct {
		status   int
		want     Type
		definite bool
	}{
		{400, InvalidInput, true},
		{401, Auth, true},
		{402, InvalidInput, true},
		{403, Auth, true},
		{404, NotFound, true},
		{405, InvalidInput, true},
		{408, Timeout, false},
		{409, Upstream, false},
		{410, NotFound, true},
		{413, InvalidInput, true},
		{422, InvalidInput, true},
		{423, Upstream, true},
		{425, Upstream, true},
		{429, RateLimited, true},
		{500, Upstream, true},
		{502, Upstream, false},
		{503, Upstream, true},
		{504, Upstream, false},
		{599, Upstream, true},
	}
	for _, c := range cases {
		_, err := r.Do(t.Context(), &Call{Lease: l, Query: []Pair{{"s", fmt.Sprint(c.status)}}})
		f := faultOf(t, err)
		if f.Type != c.want || f.Definite() != c.definite || f.Status != c.status || f.RetryAfter != 7*time.Second || string(f.Answer.Body) != "why" {
			t.Errorf("%d: %+v", c.status, f)
		}
		for _, expect := range [][]string{{fmt.Sprint(c.status)}, {"2xx", fmt.Sprint(c.status/100, "xx")[:1] + "xx"}} {
			if a, err := r.Do(t.Context(), &Call{Lease: l, Query: []Pair{{"s", fmt.Sprint(c.status)}}, Expect: expect}); err != nil || a.Status != c.status {
				t.Errorf("%d expected by %v: %v", c.status, expect, err)
			}
		}
	}
	for _, status := range []string{"200", "204", "299", "304"} {
		if _, err := r.Do(t.Context(), &Call{Lease: l, Query: []Pair{{"s", status}}, Expect: []string{"201", "404"}}); err != nil {
			t.Errorf("%s where 201 and 404 are listed: %v", status, err)
		}
	}
	_, err := r.Do(t.Context(), &Call{Lease: l, Query: []Pair{{"s", "410"}}, Expect: []string{"2xx", "404"}})
	if f := faultOf(t, err); f.Type != NotFound || !f.Definite() {
		t.Errorf("410 where 2xx and 404 are listed: %v", f)
	}
}

func TestConnectionFaults(t *testing.T) {
	t.Parallel()
	dead, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	resolver := names{"void.example": {answers: [][]string{{}}}}
	r := newRig(t, dial.Policy{Allow: loopback(), Resolver: resolver})
	for base, want := range map[string]string{
		"http://" + dead.Addr().String():                      "connection trouble",
		"http://missing.example":                              "does not resolve",
		"http://void.example":                                 "does not resolve",
		"https://" + strings.TrimPrefix(plain.URL, "http://"): "does not speak TLS",
	} {
		_, err := r.Do(t.Context(), &Call{Lease: newLease(t, base, bearer(canary))})
		if f := faultOf(t, err); f.Type != Upstream || f.Outcome != NotSent || !strings.Contains(f.Message, want) {
			t.Errorf("%s: %v, %s", base, f, f.Outcome)
		}
	}
	x := newTrio(t)
	l := newLease(t, "https://other.example.org", apiKey())
	m := x.pool.dial
	x.pool.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return m(ctx, network, "api.example.com:443")
	}
	_, err = x.Do(t.Context(), &Call{Lease: l})
	if f := faultOf(t, err); f.Type != Upstream || f.Outcome != NotSent || !strings.Contains(f.Message, "certificate") || len(x.api.list()) != 0 {
		t.Errorf("wrong certificate: %v, %s", f, f.Outcome)
	}
	denied := newRig(t, dial.Policy{})
	_, err = denied.Do(t.Context(), &Call{Lease: newLease(t, plain.URL, bearer(canary))})
	var d *dial.Denied
	if f := faultOf(t, err); f.Type != EgressDenied || !errors.As(err, &d) || d.Addr.Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("denied address: %v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"0": 0, "120": 2 * time.Minute, " 5 ": 5 * time.Second, "99999999999999999999999": MaxRetryAfter, "86401": MaxRetryAfter,
		"Sat, 21 Nov 2026 12:00:30 GMT": 30 * time.Second, "Sat, 21 Nov 2026 11:00:00 GMT": 0, "Fri, 31 Dec 9999 23:59:59 GMT": MaxRetryAfter,
		"Saturday, 21-Nov-26 12:01:00 GMT": time.Minute, "Sat Nov 21 12:01:00 2026": time.Minute,
		"": -1, "-1": -1, "1.5": -1, "soon": -1, "1s": -1, "0x10": -1,
	} {
		got, ok := ParseRetryAfter(value, now)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q = %v, %v, want %v", value, got, ok, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, v := range []string{"0", "120", "Sat, 21 Nov 2026 12:00:30 GMT", "-1", "9e9"} {
		f.Add(v, int64(1_800_000_000))
	}
	f.Fuzz(func(t *testing.T, value string, now int64) {
		if wait, ok := ParseRetryAfter(value, time.Unix(now, 0)); wait < 0 || wait > MaxRetryAfter || !ok && wait != 0 {
			t.Errorf("%q at %d = %v, %v", value, now, wait, ok)
		}
	})
}
