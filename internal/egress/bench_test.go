package egress

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/dial"
)

// BenchmarkDo is one POST with a bearer credential against a bare server in this
// process; cpu-µs/op includes that server's two system calls. BenchmarkNetHTTP is the same with
// net/http alone: the difference is this package's.
func BenchmarkDo(b *testing.B) {
	for name, size := range map[string]int{"small": 40, "4K": 4 << 10} {
		b.Run(name, func(b *testing.B) {
			base, body := benchServer(b, size)
			c, err := New(Options{Dialer: dial.New(dial.Policy{Allow: loopback()}), Recorder: RecorderFunc(func(Flow) {})})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(c.Close)
			l := newLease(b, base, bearer(canary), func(s *LeaseSpec) { s.Budget = Budget{Requests: 1 << 40, Bytes: 1 << 50} })
			measure(b, func() error {
				a, err := c.Do(b.Context(), &Call{
					Lease: l, Method: "POST", Path: "/invoice-lines", Body: body, IdempotencyKey: "0123456789abcdef0123456789abcdef",
				})
				if err == nil && len(a.Body) != size {
					b.Fatalf("body of %d bytes", len(a.Body))
				}
				return err
			})
		})
	}
}

func BenchmarkNetHTTP(b *testing.B) {
	base, body := benchServer(b, 40)
	rt := &http.Transport{DisableCompression: true}
	b.Cleanup(rt.CloseIdleConnections)
	measure(b, func() error {
		req, err := http.NewRequestWithContext(b.Context(), "POST", base+"/invoice-lines", strings.NewReader(string(body)))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+canary)
		resp, err := rt.RoundTrip(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return err
	})
}

// benchServer answers with as little CPU as a server can, so that what is measured is the client.
func benchServer(b *testing.B, size int) (base string, body []byte) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	body = []byte(`{"order":"ord_1","sku":"A-1","amount":39.8,"memo":"Order ord_1, line 1"}`)
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\nContent-Length: %d\r\n\r\n{\"a\":\"%s\"}", size, strings.Repeat("x", size-8))
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answerAll(conn, body, answer)
		}
	}()
	return "http://" + l.Addr().String(), body
}

// answerAll answers whenever what came ends with body.
func answerAll(conn net.Conn, body, answer []byte) {
	defer func() { _ = conn.Close() }()
	buf := make([]byte, 64<<10)
	n := 0
	for {
		m, err := conn.Read(buf[n:])
		if err != nil {
			return
		}
		if n += m; !bytes.HasSuffix(buf[:n], body) {
			continue
		}
		n = 0
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

func measure(b *testing.B, once func() error) {
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		if err := once(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
