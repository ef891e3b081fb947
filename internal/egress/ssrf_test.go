package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/dial"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// names is a resolver with fixed answers; the n-th look-up of a name gets its n-th list, then its last.
type names map[string]*script

type script struct {
	asked   atomic.Int32
	answers [][]string
}

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	s, ok := n[strings.TrimSuffix(host, ".")]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	i := min(int(s.asked.Add(1))-1, len(s.answers)-1)
	var out []netip.Addr
	for _, a := range s.answers[i] {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, nil
}

// world is an outside server at 127.0.0.2 and an internal one at 127.0.0.1 (and
// ::1) on the same port. Only connections that are accepted there count as reached.
type world struct {
	port    uint16
	reached *atomic.Int32
	outside *atomic.Int32
	handler atomic.Pointer[http.HandlerFunc]
}

type countingListener struct {
	net.Listener
	n *atomic.Int32
}

func (c countingListener) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return conn, err
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{reached: &atomic.Int32{}, outside: &atomic.Int32{}}
	start := func(l net.Listener, n *atomic.Int32, h http.HandlerFunc) {
		s := &httptest.Server{Listener: countingListener{l, n}, Config: &http.Server{Handler: h, ReadHeaderTimeout: time.Second}}
		s.Start()
		t.Cleanup(s.Close)
	}
	for range 20 {
		out, err := net.Listen("tcp4", "127.0.0.2:0")
		if err != nil {
			t.Skipf("127.0.0.2 cannot be listened on: %v", err)
		}
		w.port = uint16(out.Addr().(*net.TCPAddr).Port)
		in, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", w.port))
		if err != nil {
			_ = out.Close()
			continue
		}
		inside := func(http.ResponseWriter, *http.Request) {}
		start(in, w.reached, inside)
		if six, err := net.Listen("tcp6", fmt.Sprintf("[::1]:%d", w.port)); err == nil {
			start(six, w.reached, inside)
		}
		start(out, w.outside, func(rw http.ResponseWriter, r *http.Request) {
			if h := w.handler.Load(); h != nil {
				(*h)(rw, r)
			}
		})
		return w
	}
	t.Fatal("no port is free on both addresses")
	return nil
}

func (w *world) names() names {
	one := func(addrs ...string) *script { return &script{answers: [][]string{addrs}} }
	return names{
		"allowed.example": one("127.0.0.2"),
		"inside.example":  one("127.0.0.1"), "127.0.0.1.nip.example": one("127.0.0.1"), "six.example": one("::1"),
		"mapped.example": one("::ffff:127.0.0.1"), "unspecified.example": one("0.0.0.0"), "unspecified6.example": one("::"),
		"metadata.example": one("169.254.169.254"), "localhost": one("127.0.0.1", "::1"), "x.localhost": one("127.0.0.1"),
		"mixed.example":  one("127.0.0.1", "::1"),
		"rebind.example": {answers: [][]string{{"127.0.0.2"}, {"127.0.0.1"}}},
		"nat64.example":  one("64:ff9b::7f00:1"), "sixtofour.example": one("2002:7f00:1::1"),
	}
}

// policy allows the outside server only; open is its red twin.
func (w *world) policy() dial.Policy {
	return dial.Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, Resolver: w.names()}
}

func (w *world) open() dial.Policy {
	p := w.policy()
	p.Allow = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	return p
}

// innerHosts are spellings of the internal server in a base URL.
func innerHosts() []string {
	return []string{
		"127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "0x7f.1", "0x7f000001", "0x7f.0x0.0x0.0x1", "2130706433", "017700000001",
		"0177.0.0.1", "0177.0.0.01", "127.0.0.01", "127.000.000.001", "0.0.0.0", "0", "00", "[::1]", "[::]", "[::ffff:127.0.0.1]",
		"[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[::1%25lo]", "[::1%lo]",
		"localhost", "LOCALHOST", "localhost.", "x.localhost", "inside.example", "INSIDE.example.", "127.0.0.1.nip.example", "six.example",
		"mapped.example", "unspecified.example", "unspecified6.example", "mixed.example", "nat64.example", "sixtofour.example", "metadata.example",
		"169.254.169.254", "①②⑦.⓪.⓪.①", "127。0。0。1", "１２７.0.0.1", "ⓛocalhost", "localhost%00.allowed.example", "localhost%2eallowed.example",
		"allowed.example@127.0.0.1", "user:pw@127.0.0.1", "127.0.0.1#@allowed.example", "127.0.0.1?@allowed.example", `127.0.0.1\@allowed.example`,
		"127.0.0.1%2f@allowed.example", "127.0.0.1 ", " 127.0.0.1", "127.0.0.1\t", "127.0.0.1\r\n", "[127.0.0.1]", "[::1].allowed.example", "*", "*.1",
	}
}

func TestInternalHostsAreNotReached(t *testing.T) {
	t.Parallel()
	tried, reached := tryHosts(t, func(w *world) dial.Policy { return w.policy() })
	t.Logf("internal hosts tried %d, reached %d", tried, reached)
	if reached != 0 {
		t.Errorf("internal listener reached %d times", reached)
	}
}

// The red twin: the same bases with an operator who allows every range.
func TestInternalHostsRedTwin(t *testing.T) {
	t.Parallel()
	tried, reached := tryHosts(t, func(w *world) dial.Policy { return w.open() })
	t.Logf("without the address check: tried %d, reached %d", tried, reached)
	if reached < 10 {
		t.Errorf("without the check only %d of %d reach the listener: the test proves nothing", reached, tried)
	}
}

func tryHosts(t *testing.T, policy func(*world) dial.Policy) (tried, reached int) {
	w := newWorld(t)
	r := newRig(t, policy(w))
	for _, host := range innerHosts() {
		tried++
		b, err := ParseBinding("http://" + host + ":" + strconv.Itoa(int(w.port)))
		if err != nil {
			b = Binding{Scheme: "http", Host: host, Port: w.port}
		}
		l, err := NewLease(LeaseSpec{Connection: id.NewConnection(time.Now()), Binding: b, Credential: bearer(canary)})
		if err != nil {
			continue
		}
		before := w.reached.Load()
		_, err = r.Do(t.Context(), &Call{Lease: l, Timeout: time.Second})
		if w.reached.Load() > before {
			reached++
		} else if f := faultOf(t, err); f.Outcome != NotSent {
			t.Errorf("%q: fault %v, outcome %s", host, f, f.Outcome)
		}
	}
	return tried, reached
}

// escapes of the path: every one of these, put behind the base URL by a careless client, is another request.
func pathTricks(port uint16) []string {
	in := fmt.Sprintf("127.0.0.1:%d", port)
	return []string{
		"//" + in + "/", "///" + in + "/", `/\` + in + "/", `\\` + in + "/", "@" + in + "/", ":x@" + in + "/", "http://" + in + "/", "HTTP://" + in,
		".evil.example/", "/%5c" + "../x", "/../x", "/..", "/.", "/a/../../x", "/a/./b", "/%2e%2e/x", "/%2E%2e/x", "/.%2e/x", "/%2e./x", "/a/..%2fx", "/a%2f..%2fx", "/%252e%252e/x",
		"/%25252e%25252e/x", "/%2525252e%2525252e/x", "/..;/x", "/..;a=b/x", "/%2e%2e;/x", `/..\x`, "/..%5cx", "/%c0%ae%c0%ae/x", "/a\r\nHost: " + in, "/a\nX: y", "/a%0d%0aX: y", "/a%0aX:y",
		"/a%00b", "/a b", "/a?b=c", "/a#b", "/%", "/%2", "/%zz", "a", "?a", "#", "/ä", "/\x7f", "/%7f", "/%c2%85", "*", "/" + strings.Repeat("a", MaxPath),
	}
}

func TestPathTricksAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := newRig(t, w.policy())
	l := newLease(t, fmt.Sprintf("http://allowed.example:%d", w.port), bearer(canary))
	tried := 0
	for _, path := range pathTricks(w.port) {
		tried++
		_, err := r.Do(t.Context(), &Call{Lease: l, Path: path})
		if f := faultOf(t, err); f.Type != EgressDenied && f.Type != InvalidInput || f.Outcome != NotSent {
			t.Errorf("%q: fault %v", path, f)
		}
	}
	in := fmt.Sprintf("127.0.0.1:%d", w.port)
	for _, host := range append(innerHosts(), in, "allowed.example:80", "allowed.example/", "evil.example", "xallowed.example", "allowed.example.evil.example") {
		tried++
		_, err := r.Do(t.Context(), &Call{Lease: l, Host: host})
		if f := faultOf(t, err); f.Type != EgressDenied || f.Outcome != NotSent {
			t.Errorf("host %q: fault %v", host, f)
		}
	}
	t.Logf("path and host tricks tried %d, outside %d, internal %d", tried, w.outside.Load(), w.reached.Load())
	if w.reached.Load() != 0 || w.outside.Load() != 0 {
		t.Errorf("reached: internal %d, outside %d", w.reached.Load(), w.outside.Load())
	}
}

// naive is what the client would be without checks: strings joined, redirects followed, any address.
func naive(t *testing.T, w *world) *http.Client {
	d := dial.New(w.open())
	rt := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return d.DialContext(ctx, network, strings.ToLower(address))
	}}
	t.Cleanup(rt.CloseIdleConnections)
	return &http.Client{Transport: rt, Timeout: time.Second}
}

func TestPathTricksRedTwin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := naive(t, w)
	for _, path := range pathTricks(w.port) {
		if resp, err := c.Get("http://allowed.example" + path); err == nil {
			_ = resp.Body.Close()
		}
		if resp, err := c.Get(fmt.Sprintf("http://allowed.example:%d", w.port) + path); err == nil {
			_ = resp.Body.Close()
		}
	}
	t.Logf("without checks: internal %d, outside %d", w.reached.Load(), w.outside.Load())
	if w.reached.Load() == 0 || w.outside.Load() == 0 {
		t.Errorf("internal %d, outside %d: the tricks do nothing", w.reached.Load(), w.outside.Load())
	}
}

// locations are redirect targets that lead inside.
func locations(port uint16) []string {
	p := strconv.Itoa(int(port))
	var all []string
	for _, host := range innerHosts() {
		all = append(all, "http://"+host+":"+p+"/", "//"+host+":"+p+"/")
	}
	return append(all, "http:127.0.0.1:"+p, "http:/127.0.0.1:"+p, `\\127.0.0.1:`+p, `/\127.0.0.1:`+p, `http:\\127.0.0.1:`+p, "https://127.0.0.1:"+p, "ftp://127.0.0.1:"+p,
		"file:///etc/passwd", "gopher://127.0.0.1:"+p+"/_", "unix:///run/x.sock", "data:text/plain,x", "javascript:1", "http://allowed.example@127.0.0.1:"+p,
		"http://rebind.example:"+p+"/", "/again", "http://", "http://:"+p, "//", "://", "http://allowed.example:99999/", "http://allowed.example:/x:"+p)
}

func redirector(w *world) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Connection", "close")
		status, _ := strconv.Atoi(r.Header.Get("X-Status"))
		location := r.Header.Get("X-Location")
		if hops := strings.Count(r.URL.Path, "h"); hops < 3 && r.Header.Get("X-Chain") != "" {
			location = r.URL.Path + "h"
		}
		rw.Header()["Location"] = []string{location}
		rw.WriteHeader(status)
	}
}

func TestRedirectsDoNotLeadInside(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := redirector(w)
	w.handler.Store(&h)
	r := newRig(t, w.policy())
	tried := 0
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, location := range locations(w.port) {
			if strings.ContainsAny(location, "\r\n") {
				continue
			}
			for _, chain := range []string{"", "yes"} {
				tried++
				l := newLease(t, fmt.Sprintf("http://allowed.example:%d", w.port), bearer(canary))
				headers := []Pair{{"X-Status", strconv.Itoa(status)}, {"X-Location", location}}
				if chain != "" {
					headers = append(headers, Pair{"X-Chain", chain})
				}
				_, err := r.Do(t.Context(), &Call{Lease: l, Method: "POST", Path: "/", Headers: headers, Body: []byte("{}"), Timeout: 5 * time.Second})
				if err == nil {
					t.Errorf("%d to %q: no fault", status, location)
				}
			}
		}
	}
	t.Logf("redirects tried %d, internal reached %d, outside %d", tried, w.reached.Load(), w.outside.Load())
	if w.reached.Load() != 0 || w.outside.Load() < int32(tried) {
		t.Errorf("internal %d, outside %d of %d", w.reached.Load(), w.outside.Load(), tried)
	}
}

func TestRedirectsRedTwin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := redirector(w)
	w.handler.Store(&h)
	c := naive(t, w)
	for _, location := range locations(w.port) {
		req, err := http.NewRequest("GET", fmt.Sprintf("http://allowed.example:%d/", w.port), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Status", "302")
		req.Header["X-Location"] = []string{location}
		if resp, err := c.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}
	t.Logf("without checks: internal reached %d", w.reached.Load())
	if w.reached.Load() < 10 {
		t.Errorf("internal reached %d times: the redirects do nothing", w.reached.Load())
	}
}

// A redirect to a host that the binding names is still checked by its address.
func TestNamedRedirectHostIsCheckedByAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	location := "https://inside.example/"
	h := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, location, http.StatusFound) })
	w.handler.Store(&h)
	r := newRig(t, w.policy())
	l := newLease(t, fmt.Sprintf("http://allowed.example:%d", w.port), bearer(canary), follow("inside.example"))
	_, err := r.Do(t.Context(), &Call{Lease: l, Action: "download"})
	denied, ok := errors.AsType[*dial.Denied](err)
	if !ok || denied.Host != "inside.example" || denied.Addr.String() != "127.0.0.1:443" {
		t.Errorf("error %v", err)
	}
}

// A name that was outside when first asked and inside the second time: the
// second connection is refused, although the binding allows the name.
func TestRebindingIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("Connection", "close") })
	w.handler.Store(&h)
	base := fmt.Sprintf("http://rebind.example:%d", w.port)
	for name, c := range map[string]struct {
		policy dial.Policy
		want   int32
	}{"checked": {w.policy(), 0}, "red twin": {w.open(), 1}} {
		before := w.reached.Load()
		r := newRig(t, c.policy)
		l := newLease(t, base, bearer(canary))
		if _, err := r.Do(t.Context(), &Call{Lease: l}); err != nil {
			t.Fatalf("%s: first request: %v", name, err)
		}
		_, err := r.Do(t.Context(), &Call{Lease: l})
		if got := w.reached.Load() - before; got != c.want {
			t.Errorf("%s: internal reached %d times, want %d (%v)", name, got, c.want, err)
		}
		if c.want == 0 {
			if f := faultOf(t, err); f.Type != EgressDenied || f.Outcome != NotSent {
				t.Errorf("%s: fault %v", name, f)
			}
			last := r.flows.list()
			if end := last[len(last)-1]; end.Verdict != Denied || end.Addr.Addr() != netip.MustParseAddr("127.0.0.1") {
				t.Errorf("%s: record %+v", name, end)
			}
		}
	}
}

// The proxy variables of the environment are not used: a proxy would dial for us.
func TestNoProxyFromEnvironment(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"} {
		t.Setenv(name, fmt.Sprintf("http://127.0.0.1:%d", w.port))
	}
	r := newRig(t, w.open())
	l := newLease(t, fmt.Sprintf("http://allowed.example:%d", w.port), bearer(canary))
	if _, err := r.Do(t.Context(), &Call{Lease: l}); err != nil || w.reached.Load() != 0 || w.outside.Load() != 1 {
		t.Errorf("err %v, proxy reached %d, server %d", err, w.reached.Load(), w.outside.Load())
	}
}
