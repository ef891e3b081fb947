package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// signed is a pre-authenticated address: whoever has it has the file.
const (
	signedPath = "/y23vmagahszhxzlcvh/download.aspx"
	signature  = "tempauth=canary-9137-of-the-address"
	signed     = "https://files.example.com" + signedPath + "?" + signature
)

// downloads is the lease of a connection whose action download is followed to files.example.com.
func downloads(t testing.TB) *Lease {
	t.Helper()
	l, err := recorded(t, func(r *lease.Record) {
		r.Binding.Follow = []lease.Follow{{Action: "download", Hosts: []string{"files.example.com"}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// download makes the call of the action as a worker does.
func download(t testing.TB, x *trio, l *Lease, action string) (*Answer, error) {
	t.Helper()
	return x.Do(t.Context(), (&Node{}).callOf(t.Context(), l, &wire.Request{
		Action: action, Method: "GET", Path: "/content", Accept: wire.ResponseFile, Headers: []wire.Pair{{Name: "X-Author", Value: "1"}, {Name: "Range", Value: "bytes=0-1"}},
	}))
}

// TestDownloadsAreFollowedToNamedHosts: the sealed record says for which action and to which hosts.
func TestDownloadsAreFollowedToNamedHosts(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	x.apiHandler = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, signed, http.StatusFound) }
	x.filesHandler = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the file") }
	a, err := download(t, x, downloads(t), "download")
	if err != nil || string(a.Body) != "the file" || a.Format != ModeFile {
		t.Fatalf("%+v, %v", a, err)
	}
	none, err := recorded(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := recorded(t, func(r *lease.Record) {
		r.Binding.Follow = []lease.Follow{{Action: "download", Hosts: []string{"files.example.org", "*.files.example.com"}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct {
		l      *Lease
		action string
	}{"no host": {none, "download"}, "another action": {downloads(t), "list"}, "no action": {downloads(t), ""}, "other hosts": {other, "download"}} {
		_, err := download(t, x, try.l, try.action)
		if f := faultOf(t, err); f.Type != EgressDenied || !strings.Contains(f.Message, "does not name for this action") {
			t.Errorf("%s: %v", name, f)
		}
	}
	if n := len(x.files.list()); n != 1 {
		t.Errorf("the download server was asked %d times, want once", n)
	}
}

// TestDownloadsTakeNothingAlong: the download server sees neither the credential nor a header or cookie of anybody.
func TestDownloadsTakeNothingAlong(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	x.apiHandler = func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "1", Domain: "example.com", Path: "/"})
		http.Redirect(w, r, signed, http.StatusFound)
	}
	var got http.Header
	x.filesHandler = func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() }
	if _, err := download(t, x, downloads(t), "download"); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(http.Header{"Accept-Encoding": {"gzip"}, "User-Agent": {"bulkhead"}}, got); d != "" {
		t.Errorf("headers (-want +got):\n%s", d)
	}
	if api := x.api.list(); len(api) != 1 || !strings.Contains(api[0], "Bearer") {
		t.Errorf("the API saw %v", api)
	}
}

// TestDownloadsAreFollowedOnce: a download server leads nowhere, not even back.
func TestDownloadsAreFollowedOnce(t *testing.T) {
	t.Parallel()
	for _, to := range []string{"https://files.example.com/again", "/again", "https://api.example.com/2/content", "http://files.example.com/plain", "https://127.0.0.1/x"} {
		x := newTrio(t)
		x.apiHandler = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, signed, http.StatusFound) }
		x.filesHandler = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusTemporaryRedirect) }
		_, err := download(t, x, downloads(t), "download")
		if f := faultOf(t, err); f.Type != EgressDenied {
			t.Errorf("to %s: %v", to, f)
		}
		if len(x.api.list()) != 1 || len(x.files.list()) != 1 || len(x.plain.list()) != 0 {
			t.Errorf("to %s: %v %v %v", to, x.api.list(), x.files.list(), x.plain.list())
		}
	}
}

// TestDownloadsWithinTheOriginFirst: an API that redirects to itself first, as GitHub does for renamed repositories, gets its
// credential again; what it leads to then gets none.
func TestDownloadsWithinTheOriginFirst(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	x.apiHandler = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/2/content" {
			http.Redirect(w, r, "/2/renamed", http.StatusMovedPermanently)
			return
		}
		http.Redirect(w, r, signed, http.StatusFound)
	}
	if _, err := download(t, x, downloads(t), "download"); err != nil {
		t.Fatal(err)
	}
	api := x.api.list()
	if len(api) != 2 || !strings.HasPrefix(api[1], "GET /2/renamed auth=\"Bearer") || !strings.Contains(x.files.list()[0], `auth=""`) {
		t.Errorf("%v %v", api, x.files.list())
	}
}

// TestSignedAddressesAreToldToNobody: whatever a download server answers, and however it fails, neither answer, fault nor record
// has the address but for its host.
func TestSignedAddressesAreToldToNobody(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		location string
		answer   http.HandlerFunc
		fault    Type // empty: a file
	}{
		"a file": {signed, func(w http.ResponseWriter, _ *http.Request) {
			for _, h := range []string{"Location", "Content-Location", "Link", "Set-Cookie", "X-Ms-Request-Url"} {
				w.Header().Set(h, signed)
			}
			w.Header().Set("Content-Disposition", `attachment; filename="a.txt"`)
			_, _ = io.WriteString(w, "the file")
		}, ""},
		"a refusal that repeats it": {signed, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.Header().Set("X-Echo", signed)
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprintf(w, "<Error><StringToSign>GET %s</StringToSign></Error>", signed)
		}, Upstream},
		"unauthorized":   {signed, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, Upstream},
		"gone":           {signed, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }, NotFound},
		"not modified":   {signed, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, Upstream},
		"one more":       {signed, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, signed, http.StatusFound) }, EgressDenied},
		"no HTTP":        {signed, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, Upstream},
		"no such host":   {"https://nowhere.example.com" + signedPath + "?" + signature, nil, EgressDenied},
		"an odd address": {"https://files.example.com:99999" + signedPath + "?" + signature, nil, EgressDenied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newTrio(t)
			x.apiHandler = func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Location"] = []string{c.location}
				w.WriteHeader(http.StatusFound)
			}
			if c.answer != nil {
				x.filesHandler = c.answer
			}
			a, err := download(t, x, downloads(t), "download")
			told := fmt.Sprintf("%+v %v %+v", a, err, x.flows.list())
			if c.fault == "" {
				if err != nil || a.Headers.Get("Content-Disposition") == "" || len(a.Headers) > 3 {
					t.Fatalf("%+v, %v", a, err)
				}
			} else {
				f := faultOf(t, err)
				if f.Type != c.fault || f.Answer != nil {
					t.Errorf("fault %+v", f)
				}
				if name == "a refusal that repeats it" && (f.RetryAfter != 7*time.Second || f.Status != http.StatusForbidden || f.Message != "the download server answered 403 (forbidden)") {
					t.Errorf("fault %+v", f)
				}
				for e := error(f); e != nil; e = errors.Unwrap(e) {
					told += e.Error()
				}
			}
			if strings.Contains(told, "canary-9137") || strings.Contains(told, signedPath) {
				t.Errorf("the address is told: %s", told)
			}
		})
	}
}

// TestDownloadsOfInnerHosts: a host that is named but stands for an address of this network is not dialled.
func TestDownloadsOfInnerHosts(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	x.apiHandler = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://inner.example.com"+signedPath+"?"+signature, http.StatusFound)
	}
	x.to["inner.example.com:443"] = "10.1.2.3:443"
	l, err := recorded(t, func(r *lease.Record) {
		r.Binding.Follow = []lease.Follow{{Action: "download", Hosts: []string{"inner.example.com"}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = download(t, x, l, "download")
	if f := faultOf(t, err); f.Type != EgressDenied || strings.Contains(f.Error(), "canary") {
		t.Errorf("%v", f)
	}
}

func TestFollowsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	many := make([]string, MaxFollow+1)
	for i := range many {
		many[i] = fmt.Sprintf("f%d.example.com", i)
	}
	for name, list := range map[string][]lease.Follow{
		"no action":  {{Hosts: []string{"files.example.com"}}},
		"no host":    {{Action: "a"}},
		"every host": {{Action: "a", Hosts: []string{"*"}}},
		"a domain":   {{Action: "a", Hosts: []string{"*.com"}}},
		"an URL":     {{Action: "a", Hosts: []string{"https://files.example.com"}}},
		"twice":      {{Action: "a", Hosts: []string{"files.example.com"}}, {Action: "a", Hosts: []string{"b.example.com"}}},
		"too many":   {{Action: "a", Hosts: many}},
	} {
		if _, err := recorded(t, func(r *lease.Record) { r.Binding.Follow = list }); !errors.Is(err, ErrBinding) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestADownloadServersRefusalRenewsNoTokens: a 401 of another host says nothing of the connection's credential.
func TestADownloadServersRefusalRenewsNoTokens(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	x.apiHandler = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, signed, http.StatusFound) }
	x.filesHandler = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }
	n := &Node{cfg: NodeConfig{Client: x.Client}, blobs: newBlobLink(nil)}
	call := &task{request: wire.Request{Action: "download", Method: "GET", Path: "/content", Accept: wire.ResponseFile}}
	out := n.once(context.WithoutCancel(t.Context()), call, downloads(t), nil)
	if out.Status != http.StatusUnauthorized || out.ErrorType != string(Upstream) || !out.Definite || out.Headers != nil || out.Body != nil {
		t.Errorf("%+v", out)
	}
}
