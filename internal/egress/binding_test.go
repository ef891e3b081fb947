package egress

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/secret"
)

func TestParseBinding(t *testing.T) {
	t.Parallel()
	for base, want := range map[string]string{
		"https://API.Example.com":            "https api.example.com 443 ",
		"https://api.example.com./v1/":       "https api.example.com 443 /v1",
		"HTTPS://api.example.com:8443/a%2Fb": "https api.example.com 8443 /a%2Fb",
		"http://127.0.0.1:9900":              "http 127.0.0.1 9900 ",
		"http://[::1]:80/":                   "http ::1 80 ",
		"http://[::ffff:10.0.0.1]":           "http 10.0.0.1 80 ",
		"https://xn--mller-kva.example":      "https xn--mller-kva.example 443 ",
		"https://*.example.com/v1":           "https *.example.com 443 /v1",
		"http://a_b.example":                 "http a_b.example 80 ",
	} {
		b, err := ParseBinding(base)
		if err != nil {
			t.Errorf("%q: %v", base, err)
			continue
		}
		c, err := compile(b)
		if err != nil {
			t.Errorf("%q: %v", base, err)
			continue
		}
		host := c.host.exact
		if c.host.suffix != "" {
			host = "*" + c.host.suffix
		}
		at := target{scheme: c.scheme, host: c.host.exact, port: c.port}
		if got := c.scheme + " " + host + " " + strings.TrimPrefix(portText(at), ":") + " " + c.base; got != want {
			t.Errorf("%q = %q, want %q", base, got, want)
		}
	}
	for _, base := range []string{
		"", "api.example.com", "//api.example.com", "ftp://api.example.com", "https:", "https://", "https:///x", "https:api.example.com",
		"https://u:p@api.example.com", "https://u@api.example.com", "https://@api.example.com", "https://api.example.com?x=1", "https://api.example.com?",
		"https://api.example.com#f", "https://api.example.com:0", "https://api.example.com:", "https://api.example.com:99999", "https://api.example.com:a",
		"https://127.1", "https://0x7f.1", "https://2130706433", "https://1.2.3.4.5", "https://256.1.1.1", "https://010.0.0.1", "https://[::1%25eth0]",
		"https://müller.example", "https://a..example", "https://-a.example", "https://a-.example", "https://.example", "https://a b.example",
		"https://" + strings.Repeat("a", 64) + ".example", "https://" + strings.Repeat("a.", 130) + "example",
		"https://*", "https://*.com", "https://*.*.example.com", "https://a*.example.com", "https://*.1.2.3.4", "https://api.*.com",
		"https://api.example.com/../x", "https://api.example.com/a/%2e%2e", `https://api.example.com/\x`, "https://api.example.com//x", "https://api.example.com\\@evil.example",
		"https://api.example.com/\r\n", "https://[api.example.com]", "https://api.example.com%2eevil.example",
	} {
		if b, err := ParseBinding(base); !errors.Is(err, ErrBinding) {
			t.Errorf("%q = %+v, %v, want ErrBinding", base, b, err)
		} else if strings.Contains(err.Error(), "u:p") {
			t.Errorf("%q: the error repeats its input: %v", base, err)
		}
	}
}

func portText(t target) string {
	a := t.authority()
	if i := strings.LastIndexByte(a, ':'); i >= 0 && !strings.HasSuffix(a, "]") {
		return a[i:]
	}
	return map[string]string{"http": ":80", "https": ":443"}[t.scheme]
}

func TestHostPattern(t *testing.T) {
	t.Parallel()
	h, err := compileHost("*.example.com")
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"a.example.com": true, "a.b.example.com": true, "example.com": false, ".example.com": false,
		"evilexample.com": false, "a.example.com.evil.org": false, "a.example.org": false, "": false,
	} {
		if got := h.match(host); got != want {
			t.Errorf("%q matches: %v", host, got)
		}
	}
	r := localRig(t)
	l := newLease(t, "https://*.example.com", bearer(canary))
	_, err = r.Do(t.Context(), &Call{Lease: l})
	if f := faultOf(t, err); f.Type != EgressDenied {
		t.Errorf("pattern without a host: %v", f)
	}
	_, err = r.Do(t.Context(), &Call{Lease: l, Host: "example.com"})
	if f := faultOf(t, err); f.Type != EgressDenied {
		t.Errorf("pattern's own domain: %v", f)
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	c, err := compile(Binding{Scheme: "https", Host: "a.example", BasePath: "/v1/", Rules: []Rule{
		{"GET", "/orders/{id}"}, {"POST", "/orders"}, {"*", "/files/**"}, {"GET", "/"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for call, want := range map[string]bool{
		"GET /v1/orders/1": true, "GET /v1/orders/a%20b": true, "POST /v1/orders": true, "DELETE /v1/files/a/b": true, "PUT /v1/files/": true, "GET /v1/": true, "GET /v1": true,
		"GET /v1/orders": false, "GET /v1/orders/": false, "GET /v1/orders/1/lines": false, "GET /v1/orders/1%2Flines": false, "GET /v1/orders/1%5clines": false,
		"GET /v1/orders/1%252Flines": false, "POST /v1/orders/1": false, "GET /v1/%6Frders/1": false, "GET /v2/orders/1": false, "GET /v1orders/1": false, "DELETE /v1/orders/1": false, "PUT /v1/files": false,
	} {
		method, path, _ := strings.Cut(call, " ")
		if got := c.permits(method, path); got != want {
			t.Errorf("%s: %v, want %v", call, got, want)
		}
	}
	for _, r := range []Rule{{"get", "/"}, {"", "/"}, {"GET", ""}, {"GET", "x"}, {"CONNECT", "/"}} {
		if err := (Binding{Scheme: "https", Host: "a.example", Rules: []Rule{r}}).Check(); !errors.Is(err, ErrBinding) {
			t.Errorf("rule %+v: %v", r, err)
		}
	}
}

func TestPathsThatAreFine(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"/", "/a", "/a/", "/a//b", "/a.b/..c/d..", "/...", "/a%20b", "/a%2Fb", "/caf%C3%A9", "/a;v=1/b", "/a:b@c,d", "/100%25", "/(x)'*!$&+=~_-", "/a%5Cb", "/%E2%82%AC"} {
		if err := checkPath(p); err != nil {
			t.Errorf("%q: %v", p, err)
		}
		if u, ok := (target{scheme: "https", host: "a.example", port: 443, path: p}).url(); !ok || u.RequestURI() != p {
			t.Errorf("%q is sent as %q", p, u.RequestURI())
		}
	}
}

func TestCredentialsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	v := func(s string) map[string]secret.Value {
		return map[string]secret.Value{"token": secret.New([]byte(s)), "value": secret.New([]byte(s)), "username": secret.New([]byte(s)), "password": secret.New([]byte(s))}
	}
	for name, c := range map[string]Credential{
		"zero":               {},
		"unknown kind":       {Kind: "magic"},
		"no token":           {Kind: Bearer},
		"empty token":        {Kind: Bearer, Fields: v("")},
		"line end":           {Kind: Bearer, Fields: v(canary + "\n")},
		"CRLF":               {Kind: Header, Name: "X-A", Fields: v(canary + "\r\nX: y")},
		"NUL":                {Kind: Query, Name: "a", Fields: v(canary + "\x00")},
		"too long":           {Kind: Bearer, Fields: v(strings.Repeat("x", MaxSecret+1))},
		"colon in user":      {Kind: Basic, Fields: v(canary + ":x")},
		"bad header name":    {Kind: Header, Name: "a b", Fields: v(canary)},
		"reserved header":    {Kind: Header, Name: "Host", Fields: v(canary)},
		"no header name":     {Kind: Header, Fields: v(canary)},
		"no parameter":       {Kind: Query, Fields: v(canary)},
		"array parameter":    {Kind: Query, Name: "a[b]", Fields: v(canary)},
		"CRLF in parameter":  {Kind: Query, Name: "a\r\nb", Fields: v(canary)},
		"control in pasword": {Kind: Basic, Fields: map[string]secret.Value{"username": secret.New([]byte("u")), "password": secret.New([]byte("a\x01"))}},
	} {
		_, err := NewLease(LeaseSpec{Binding: Binding{Scheme: "https", Host: "a.example"}, Credential: c})
		if !errors.Is(err, ErrCredential) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: the error has the secret: %v", name, err)
		}
	}
}

// FuzzTarget checks that what passes the checks is what net/http sends, to the bound host, below the base path.
func FuzzTarget(f *testing.F) {
	for _, p := range pathTricks(80) {
		f.Add("https://api.example.com/v1", p, "q", "v")
	}
	for _, h := range innerHosts() {
		f.Add("http://"+h+"/x", "/a", "a&b", "\r\n")
	}
	f.Fuzz(func(t *testing.T, base, path, name, value string) {
		b, err := ParseBinding(base)
		if err != nil {
			return
		}
		l, err := NewLease(LeaseSpec{Binding: b, Credential: Credential{Kind: None}})
		if err != nil {
			t.Fatalf("%q parses but makes no lease: %v", base, err)
		}
		x := &exchange{call: &Call{Lease: l, Path: path, Query: []Pair{{name, value}}}, method: "GET", bound: l.bound}
		x.at = target{scheme: l.bound.scheme, host: l.bound.host.exact, port: l.bound.port}
		if x.aim() != nil {
			return
		}
		u, ok := x.at.url()
		if !ok {
			return
		}
		again, err := url.Parse(u.String())
		if err != nil {
			t.Fatalf("%q does not parse: %v", u, err)
		}
		if again.Host != x.at.authority() || again.Scheme != x.at.scheme || again.User != nil || again.EscapedPath() != x.at.path || again.RawQuery != x.at.query || again.Fragment != "" {
			t.Errorf("%q + %q: sent %q, checked %+v", base, path, again, x.at)
		}
		if !strings.HasPrefix(again.EscapedPath(), l.bound.base) || strings.ContainsAny(u.RequestURI(), " \r\n\\\x00") {
			t.Errorf("%q + %q: sent %q", base, path, u.RequestURI())
		}
		for _, segment := range strings.Split(again.Path, "/") {
			if segment == ".." || segment == "." {
				t.Errorf("%q + %q: dot segment in %q", base, path, again.Path)
			}
		}
		if q := again.Query(); len(q) != 1 || q.Get(name) != value {
			t.Errorf("query %q=%q is sent as %v", name, value, q)
		}
	})
}

func FuzzLocation(f *testing.F) {
	for _, l := range locations(80) {
		f.Add(l)
	}
	from := target{scheme: "https", host: "api.example.com", port: 443, path: "/v1/a"}
	f.Fuzz(func(t *testing.T, location string) {
		to, ok := resolve(from, location)
		if !ok {
			return
		}
		u, ok := to.url()
		if !ok {
			return
		}
		again, err := url.Parse(u.String())
		if err != nil || again.Host != to.authority() || again.User != nil || again.EscapedPath() != to.path || checkPath(to.path) != nil {
			t.Errorf("%q: sent %v, checked %+v, %v", location, again, to, err)
		}
	})
}
