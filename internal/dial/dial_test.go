package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fixed resolves every name to the same addresses.
type fixed []string

func (f fixed) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if !strings.HasSuffix(host, ".") {
		return nil, fmt.Errorf("name %q is not absolute", host)
	}
	var out []netip.Addr
	for _, a := range f {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, nil
}

func allow(prefixes ...string) Policy {
	var p Policy
	for _, s := range prefixes {
		p.Allow = append(p.Allow, netip.MustParsePrefix(s))
	}
	return p
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	denied := []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255",
		"192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.1.1", "192.175.48.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
		"224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "168.63.129.16", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1",
		"64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:5ef5:79fb::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1",
		"2620:4f:8000::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "4000::1", "::ffff:168.63.129.16",
	}
	allowed := []string{"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "168.63.129.17", "2606:4700::1111", "2a00:1450::1", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"}
	d := New(Policy{})
	wrong := 0
	check := func(addr string, want bool) {
		err := d.Check("h", netip.AddrPortFrom(netip.MustParseAddr(addr), 443))
		if got := err == nil; got != want {
			wrong++
			t.Errorf("%s allowed: %v (%v)", addr, got, err)
		}
	}
	for _, a := range denied {
		check(a, false)
	}
	for _, a := range allowed {
		check(a, true)
	}
	t.Logf("addresses tried %d, wrong %d", len(denied)+len(allowed), wrong)
}

func TestAllowOpensOnlyWhatItNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		allow, addr string
		want        bool
	}{
		{"127.0.0.0/8", "127.0.0.1", true},
		{"127.0.0.0/8", "::ffff:127.0.0.1", true},
		{"127.0.0.0/8", "64:ff9b::127.0.0.1", true},
		{"127.0.0.0/8", "::1", false},
		{"127.0.0.0/8", "10.0.0.1", false},
		{"127.0.0.1/32", "127.0.0.2", false},
		{"::ffff:10.0.0.0/104", "10.1.2.3", true},
		{"127.0.0.0/8", "2002:7f00:1::", false},
		{"2002::/16", "2002:7f00:1::", false},
		{"2002::/16", "2002:808:808::", true},
		{"2001::/32", "2001:0:808:808::80ff:fffe", false},
		{"2001::/32", "2001:0:808:808::f7f7:f7f7", true},
		{"2001::/32", "2001:0:7f00:1::f7f7:f7f7", false},
		{"fd00::/8", "fd12::1", true},
		{"168.63.129.16/32", "168.63.129.16", true},
		{"0.0.0.0/0", "::1", false},
	} {
		err := New(allow(c.allow)).Check("h", netip.AddrPortFrom(netip.MustParseAddr(c.addr), 80))
		if got := err == nil; got != c.want {
			t.Errorf("allow %s: %s allowed %v (%v)", c.allow, c.addr, got, err)
		}
	}
	if err := New(Policy{Allow: []netip.Prefix{{}}}).Check("h", netip.MustParseAddrPort("127.0.0.1:80")); err == nil {
		t.Error("an invalid prefix allows something")
	}
	if err := New(allow("fe80::/10")).Check("h", netip.MustParseAddrPort("[fe80::1%lo]:80")); err == nil {
		t.Error("an address with a zone is allowed")
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	public := netip.MustParseAddr("8.8.8.8")
	listed := Policy{Ports: []uint16{25, 8443}}
	for _, c := range []struct {
		policy Policy
		port   uint16
		want   bool
	}{
		{Policy{}, 443, true},
		{Policy{}, 80, true},
		{Policy{}, 8080, true},
		{Policy{}, 0, false},
		{Policy{}, 22, false},
		{Policy{}, 25, false},
		{Policy{}, 6667, false},
		{listed, 25, true},
		{listed, 8443, true},
		{listed, 443, false},
		{listed, 0, false},
	} {
		err := New(c.policy).Check("h", netip.AddrPortFrom(public, c.port))
		if got := err == nil; got != c.want {
			t.Errorf("%v port %d allowed %v (%v)", c.policy.Ports, c.port, got, err)
		}
	}
}

// listener counts connections on a loopback address.
func listener(t *testing.T, addr string) (port string, accepted func() int) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("listen on %s: %v", addr, err)
	}
	var mu sync.Mutex
	n := 0
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			n++
			mu.Unlock()
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

func TestDialChecksTheAddressItUses(t *testing.T) {
	t.Parallel()
	port, _ := listener(t, "127.0.0.1:0")
	for name, c := range map[string]struct {
		policy Policy
		want   []Attempt
		ok     bool
	}{
		"literal, denied":  {Policy{}, []Attempt{{Host: "127.0.0.1", Addr: netip.MustParseAddrPort("127.0.0.1:" + port), Verdict: Refused, Reason: "special-purpose range 127.0.0.0/8"}}, false},
		"literal, allowed": {allow("127.0.0.0/8"), []Attempt{{Host: "127.0.0.1", Addr: netip.MustParseAddrPort("127.0.0.1:" + port), Verdict: Connected}}, true},
	} {
		var got []Attempt
		c.policy.Report = func(a Attempt) { got = append(got, a) }
		conn, err := New(c.policy).DialContext(t.Context(), "tcp", "127.0.0.1:"+port)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			_ = conn.Close()
		} else if d, ok := errors.AsType[*Denied](err); !ok || d.Host != "127.0.0.1" || !d.Addr.IsValid() {
			t.Errorf("%s: error %v", name, err)
		}
		if d := cmp.Diff(c.want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestDialSkipsDeniedAddresses(t *testing.T) {
	t.Parallel()
	port, accepted := listener(t, "127.0.0.1:0")
	var verdicts []string
	p := allow("127.0.0.1/32")
	p.Resolver = fixed{"127.0.0.2", "10.0.0.1", "127.0.0.1"}
	p.Report = func(a Attempt) { verdicts = append(verdicts, a.Addr.Addr().String()+" "+string(a.Verdict)) }
	conn, err := New(p).DialContext(t.Context(), "tcp", "mixed.example:"+port)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Read(make([]byte, 1))
	_ = conn.Close()
	if d := cmp.Diff([]string{"127.0.0.2 denied", "10.0.0.1 denied", "127.0.0.1 connected"}, verdicts); d != "" || accepted() != 1 {
		t.Errorf("accepted %d (-want +got):\n%s", accepted(), d)
	}
}

func TestDialRefusesWhatIsNotAName(t *testing.T) {
	t.Parallel()
	port, accepted := listener(t, "127.0.0.1:0")
	p := Policy{Resolver: fixed{"127.0.0.1"}}
	d := New(p)
	for _, c := range [][2]string{
		{"unix", "/tmp/x.sock"},
		{"unix", "a:1"},
		{"udp", "8.8.8.8:53"},
		{"ip", "8.8.8.8:1"},
		{"", "8.8.8.8:1"},
		{"tcp", "127.1:" + port},
		{"tcp", "0x7f.1:" + port},
		{"tcp", "2130706433:" + port},
		{"tcp", "LOCALHOST:" + port},
		{"tcp", "a.example.:" + port},
		{"tcp", "[::ffff:127.0.0.1]:" + port},
		{"tcp", "[::1%lo]:" + port},
		{"tcp", ":" + port},
		{"tcp", "a b:" + port},
		{"tcp", "a.example"},
		{"tcp", "a.example:http"},
		{"tcp", "a.example:-1"},
		{"tcp", "a.example:65536"},
		{"tcp", "a.example:0"},
		{"tcp", "a.example:" + port},
		{"tcp", "127.0.0.1:" + port},
	} {
		conn, err := d.DialContext(t.Context(), c[0], c[1])
		if err == nil {
			_ = conn.Close()
		}
		if _, ok := errors.AsType[*Denied](err); !ok {
			t.Errorf("%s %s: %v", c[0], c[1], err)
		}
	}
	if accepted() != 0 {
		t.Errorf("reached %d times", accepted())
	}
}

func TestDialBoundsTheAddresses(t *testing.T) {
	t.Parallel()
	var many fixed
	for i := range 100 {
		many = append(many, fmt.Sprintf("10.0.0.%d", i))
	}
	tried := 0
	d := New(Policy{Resolver: many, Report: func(Attempt) { tried++ }})
	if _, err := d.DialContext(t.Context(), "tcp", "many.example:80"); err == nil || tried != MaxAddresses {
		t.Errorf("tried %d, %v", tried, err)
	}
	if _, err := New(Policy{Resolver: fixed{}}).DialContext(t.Context(), "tcp", "none.example:80"); err == nil {
		t.Error("a name without addresses connects")
	}
}

func TestCanonicalHost(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Example.COM": "example.com", "example.com.": "example.com", "a_b.example": "a_b.example", "xn--mller-kva.example": "xn--mller-kva.example",
		"127.0.0.1": "127.0.0.1", "127.0.0.1.": "127.0.0.1", "[::1]": "::1", "[0:0::1]": "::1", "[::FFFF:1.2.3.4]": "1.2.3.4", "[2001:DB8::1]": "2001:db8::1",
		"localhost": "localhost", "1a.example": "1a.example", "1.example": "1.example", "a.0xg": "a.0xg",
	} {
		if got, err := CanonicalHost(in); err != nil || got != want {
			t.Errorf("%q = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", ".", "..", "a..b", ".a", "a..", "-a", "a-", "a.-b", "127.1", "0177.0.0.1", "0x7f000001", "0x", "1", "1.2.3", "1.2.3.4.5", "256.1.1.1", "127.0.0.01", "a.1", "a.0x1F",
		"::1", "[::1", "::1]", "[]", "[1.2.3.4]", "[::1%lo]", "[::1%25lo]", "a b", "a\tb", "a\x00", "a%41", "a@b", "a:80", "a/b", `a\b`, "ä", "a。b", "１.1.1.1", "*.a", "a,b",
		strings.Repeat("a", 64), strings.Repeat("a.", 127) + "ab",
	} {
		if got, err := CanonicalHost(in); !errors.Is(err, ErrHost) {
			t.Errorf("%q = %q, %v, want ErrHost", in, got, err)
		}
	}
}

func FuzzCanonicalHost(f *testing.F) {
	for _, s := range []string{"Example.COM.", "[::1]", "127.1", "0x7f.1", "a..b", "[::ffff:1.2.3.4]", "xn--a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		host, err := CanonicalHost(in)
		if err != nil {
			return
		}
		spelt := host
		if strings.Contains(host, ":") {
			spelt = "[" + host + "]"
		}
		if again, err := CanonicalHost(spelt); err != nil || again != host {
			t.Errorf("%q = %q, again %q, %v", in, host, again, err)
		}
		if strings.ToLower(host) != host || strings.ContainsAny(host, " \r\n\t/@\\%#?[]") {
			t.Errorf("%q = %q", in, host)
		}
		// What other parsers would take for an address has to be one.
		if last := host[strings.LastIndexByte(host, '.')+1:]; numeric(last) && !strings.Contains(host, ":") {
			if _, err := netip.ParseAddr(host); err != nil {
				t.Errorf("%q = %q ends in a number", in, host)
			}
		}
	})
}
