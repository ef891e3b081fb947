package egress

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/dial"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// seen is what a server saw of each request.
type seen struct {
	mu  sync.Mutex
	all []string
}

func (s *seen) add(r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, fmt.Sprintf("%s %s auth=%q key=%q author=%q accept=%q body=%q", r.Method, r.RequestURI,
		r.Header.Get("Authorization")+r.Header.Get("X-Api-Key"), r.Header.Get("Idempotency-Key"), r.Header.Get("X-Author"), r.Header.Get("Accept"), body))
}

func (s *seen) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.all...)
}

func TestRedirectWithinTheOrigin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method string
		status int
		want   []string
	}{
		{"GET", 302, []string{`GET /v1/a auth="Bearer tok" key="" author="1" accept="" body=""`, `GET /v1/b?x=1 auth="Bearer tok" key="" author="1" accept="" body=""`}},
		{"POST", 302, []string{`POST /v1/a auth="Bearer tok" key="k" author="1" accept="" body="{}"`, `GET /v1/b?x=1 auth="Bearer tok" key="" author="1" accept="" body=""`}},
		{"PUT", 303, []string{`PUT /v1/a auth="Bearer tok" key="k" author="1" accept="" body="{}"`, `GET /v1/b?x=1 auth="Bearer tok" key="" author="1" accept="" body=""`}},
		{"POST", 307, []string{`POST /v1/a auth="Bearer tok" key="k" author="1" accept="" body="{}"`, `POST /v1/b?x=1 auth="Bearer tok" key="k" author="1" accept="" body="{}"`}},
		{"DELETE", 308, []string{`DELETE /v1/a auth="Bearer tok" key="k" author="1" accept="" body="{}"`, `DELETE /v1/b?x=1 auth="Bearer tok" key="k" author="1" accept="" body="{}"`}},
	} {
		t.Run(fmt.Sprint(c.method, c.status), func(t *testing.T) {
			t.Parallel()
			var log seen
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				log.add(r)
				if r.URL.Path == "/v1/a" {
					w.Header().Set("Location", "b?x=1#f")
					w.WriteHeader(c.status)
				}
			})
			r := localRig(t)
			call := &Call{Lease: newLease(t, s.URL+"/v1", bearer("tok")), Method: c.method, Path: "/a", Headers: []Pair{{"X-Author", "1"}}, IdempotencyKey: "k"}
			if c.method != "GET" {
				call.Body = []byte("{}")
			}
			if _, err := r.Do(t.Context(), call); err != nil {
				t.Fatal(err)
			}
			if d := gocmp.Diff(c.want, log.list()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if l := r.flows.list(); len(l) != 4 || l[1].Status != c.status || l[2].Hop != 1 || l[3].Status != 200 {
				t.Errorf("flows %+v", l)
			}
		})
	}
}

func TestRedirectKeepsOneQueryCredential(t *testing.T) {
	t.Parallel()
	var log seen
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		log.add(r)
		if r.URL.Path == "/a" {
			http.Redirect(w, r, "/b?page=2&k%65y="+url.QueryEscape(r.URL.Query().Get("key"))+"&KEY=x", http.StatusFound)
		}
	})
	l := newLease(t, s.URL, Credential{Kind: Query, Name: "key", Fields: map[string]secret.Value{"value": secret.New([]byte("a secret"))}})
	if _, err := localRig(t).Do(t.Context(), &Call{Lease: l, Path: "/a"}); err != nil {
		t.Fatal(err)
	}
	if got := log.list()[1]; !strings.HasPrefix(got, "GET /b?page=2&key=a+secret ") {
		t.Errorf("second request %s", got)
	}
}

// mapped dials every address given for a name of the test, so that names and
// port 443 can stand for local servers; what is dialled is still checked.
type mapped struct {
	inner *dial.Dialer
	to    map[string]string
}

func (m mapped) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if a, ok := m.to[address]; ok {
		address = a
	}
	return m.inner.DialContext(ctx, network, address)
}

// trio is an API server and a download server over TLS, and a plain one.
type trio struct {
	*rig
	api, files, plain          seen
	apiHandler, filesHandler   http.HandlerFunc
	apiURL, filesURL, plainURL string
	to                         map[string]string // what is dialled for a name and port
}

func newTrio(t *testing.T) *trio {
	t.Helper()
	x := &trio{apiURL: "https://api.example.com", filesURL: "https://files.example.com", plainURL: "http://api.example.com"}
	nothing := func(http.ResponseWriter, *http.Request) {}
	x.apiHandler, x.filesHandler = nothing, nothing
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { x.api.add(r); x.apiHandler(w, r) }))
	files := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { x.files.add(r); x.filesHandler(w, r) }))
	plain := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { x.plain.add(r) }))
	t.Cleanup(func() { api.Close(); files.Close(); plain.Close() })
	roots := x509.NewCertPool()
	roots.AddCert(api.Certificate())
	roots.AddCert(files.Certificate())
	d := mapped{dial.New(dial.Policy{Allow: loopback()}), map[string]string{
		"api.example.com:443": api.Listener.Addr().String(), "files.example.com:443": files.Listener.Addr().String(), "api.example.com:80": plain.Listener.Addr().String(),
	}}
	f := &flows{}
	c, err := New(Options{Dialer: d, Recorder: f, Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	x.rig, x.to = &rig{c, f}, d.to
	return x
}

func apiKey() Credential {
	return Credential{Kind: Header, Name: "X-Api-Key", Fields: map[string]secret.Value{"value": secret.New([]byte(canary))}}
}

func follow(hosts ...string) func(*LeaseSpec) {
	return func(s *LeaseSpec) {
		if len(hosts) > 0 {
			s.Binding.Follow = []Follow{{Action: "download", Hosts: hosts}}
		}
	}
}

func TestRedirectToAnotherOrigin(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		location string
		method   string
		status   int
		follow   []string
		action   string // download unless set
		denied   string
	}{
		"not named":          {location: "https://files.example.com/f", status: 302, denied: "another origin"},
		"named":              {location: "https://files.example.com/f?sig=1", status: 302, follow: []string{"files.example.com"}},
		"named by pattern":   {location: "https://files.example.com/f?sig=1", status: 307, follow: []string{"*.example.com"}},
		"pattern is strict":  {location: "https://files.example.com/f", status: 302, follow: []string{"*.files.example.com"}, denied: "another origin"},
		"other port":         {location: "https://files.example.com:8443/f", status: 302, follow: []string{"files.example.com"}, denied: "another origin"},
		"plain http":         {location: "http://files.example.com/f", status: 302, follow: []string{"files.example.com"}, denied: "https to http"},
		"own host by http":   {location: "http://api.example.com/f", status: 302, follow: []string{"*.example.com"}, denied: "https to http"},
		"other action":       {location: "https://files.example.com/f", status: 302, follow: []string{"files.example.com"}, action: "list", denied: "for this action"},
		"other host":         {location: "https://files.example.com/f", status: 302, follow: []string{"files.example.org", "*.files.example.com"}, denied: "another origin"},
		"host that ends so":  {location: "https://files.example.com.evil.example/f", status: 302, follow: []string{"files.example.com"}, denied: "another origin"},
		"by an address":      {location: "https://127.0.0.1/f", status: 302, follow: []string{"files.example.com"}, denied: "another origin"},
		"effect":             {location: "https://files.example.com/f", status: 307, method: "POST", follow: []string{"files.example.com"}, denied: "no GET"},
		"POST becomes GET":   {location: "https://files.example.com/f?sig=1", status: 303, method: "POST", follow: []string{"files.example.com"}, denied: "no GET"},
		"HEAD":               {location: "https://files.example.com/f?sig=1", status: 302, method: "HEAD", follow: []string{"files.example.com"}, denied: "no GET"},
		"secret in location": {location: "https://files.example.com/f?k=" + url.QueryEscape(canary), status: 302, follow: []string{"files.example.com"}, denied: "take the credential"},
		"user in location":   {location: "https://u:p@files.example.com/f", status: 302, follow: []string{"files.example.com"}, denied: "cannot be used"},
		"odd scheme":         {location: "ftp://files.example.com/f", status: 302, follow: []string{"files.example.com"}, denied: "cannot be used"},
		"outside of base":    {location: "/v2/f", status: 302, denied: "outside of the connection's binding"},
		"base look-alike":    {location: "/v1x/f", status: 302, denied: "outside of the connection's binding"},
		"dots":               {location: "/v1/../v2", status: 302, denied: "outside of the connection's binding"},
		"encoded dots":       {location: "/v1/%2e%2e/v2", status: 302, denied: "cannot be used"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newTrio(t)
			x.apiHandler = func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Location"] = []string{c.location}
				w.WriteHeader(c.status)
			}
			call := &Call{
				Lease: newLease(t, x.apiURL+"/v1", apiKey(), follow(c.follow...)), Action: cmp.Or(c.action, "download"), Method: c.method, Path: "/f",
				Headers: []Pair{{"X-Author", "1"}, {"Accept", "a/b"}, {"Authorization", "own"}}, IdempotencyKey: "k",
			}
			if c.method == "POST" {
				call.Body = []byte("{}")
			}
			_, err := x.Do(t.Context(), call)
			files := x.files.list()
			if plain := x.plain.list(); len(plain) != 0 {
				t.Errorf("plain server saw %v", plain)
			}
			if c.denied != "" {
				f := faultOf(t, err)
				if f.Type != EgressDenied || !strings.Contains(f.Message, c.denied) || len(files) != 0 || len(x.api.list()) != 1 {
					t.Errorf("fault %v, files saw %v", f, files)
				}
				l := x.flows.list()
				if end := l[len(l)-1]; end.Verdict != Denied || end.Status != c.status {
					t.Errorf("record %+v", end)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := gocmp.Diff([]string{`GET /f?sig=1 auth="" key="" author="" accept="" body=""`}, files); d != "" {
				t.Errorf("download server (-want +got):\n%s", d)
			}
		})
	}
}

// The red twin: net/http's own client takes a header credential and the author's headers along.
func TestRedirectToAnotherOriginRedTwin(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	x.apiHandler = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, x.filesURL+"/f", http.StatusFound) }
	c := &http.Client{Transport: x.pool.transport()}
	t.Cleanup(c.CloseIdleConnections)
	req, err := http.NewRequest("GET", x.apiURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Api-Key", canary)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := x.files.list(); len(got) != 1 || !strings.Contains(got[0], "s3cr3t") {
		t.Errorf("download server saw %v", got)
	}
}

func TestRedirectLimits(t *testing.T) {
	t.Parallel()
	var log seen
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		log.add(r)
		http.Redirect(w, r, r.URL.Path+"x", http.StatusTemporaryRedirect)
	})
	r := localRig(t)
	l := newLease(t, s.URL, Credential{Kind: None})
	_, err := r.Do(t.Context(), &Call{Lease: l, Path: "/"})
	if f := faultOf(t, err); f.Type != Upstream || len(log.list()) != MaxRedirects+1 {
		t.Errorf("fault %v after %d requests", f, len(log.list()))
	}
	_, err = r.Do(t.Context(), &Call{Lease: l, Path: "/", Method: "POST", Stream: strings.NewReader("x"), StreamSize: 1})
	if f := faultOf(t, err); f.Type != Upstream || !strings.Contains(f.Message, "streamed") {
		t.Errorf("stream: fault %v", f)
	}
	a, err := r.Do(t.Context(), &Call{Lease: l, Path: "/", Expect: []string{"307"}})
	if err != nil || a.Status != 307 || a.Headers.Get("Location") != "/x" {
		t.Errorf("expected redirect: %+v, %v", a, err)
	}
}
