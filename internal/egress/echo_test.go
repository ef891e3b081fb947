package egress

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// echoes are servers that give the credential back, each in its own way.
func echoes() map[string]http.HandlerFunc {
	auth := func(r *http.Request) string { return r.Header.Get("Authorization") }
	body := func(f func(string) string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, f(auth(r))) }
	}
	packed := func(coding string, pack func(io.Writer) io.WriteCloser) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", coding)
			z := pack(w)
			_, _ = io.WriteString(z, strings.Repeat("x", 5000)+auth(r))
			_ = z.Close()
		}
	}
	header := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.Header().Set(name, "a="+auth(r)+"; b") }
	}
	all := map[string]http.HandlerFunc{
		"json body": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"headers":{"Authorization":"`+jsonText(auth(r))+`"}}`)
		},
		"header":     header("X-Echo"),
		"set-cookie": header("Set-Cookie"),
		"error body": func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "bad token "+auth(r), http.StatusUnauthorized)
		},
		"server text": func(w http.ResponseWriter, r *http.Request) { http.Error(w, auth(r), http.StatusInternalServerError) },
		"location": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/?t="+auth(r))
			w.WriteHeader(http.StatusCreated)
		},
		"status line": func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 400 Bad %s\r\nContent-Length: 0\r\n\r\n", auth(r))
			_ = conn.Close()
		},
		"not HTTP": func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(conn, "%s\r\n\r\n", auth(r))
			_ = conn.Close()
		},
		"bad header": func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n%s\r\n\r\n", auth(r))
			_ = conn.Close()
		},
		"trailer": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-T")
			_, _ = io.WriteString(w, "x")
			w.Header().Set("X-T", auth(r))
		},
		"chunk boundary": func(w http.ResponseWriter, r *http.Request) {
			rc := http.NewResponseController(w)
			for _, c := range []byte(auth(r)) {
				_, _ = w.Write([]byte{c})
				_ = rc.Flush()
			}
		},
		"gzip": packed("gzip", func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }),
		"zlib": packed("deflate", func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }),
		"deflate": packed("deflate", func(w io.Writer) io.WriteCloser {
			f, _ := flate.NewWriter(w, 1)
			return f
		}),
		"binary":      body(func(v string) string { return "\x00\xff" + v + "\x00" }),
		"large":       body(func(v string) string { return strings.Repeat("x", 2<<20) + v }),
		"large, 1MiB": body(func(v string) string { return strings.Repeat("x", scrubDeep-5) + v + strings.Repeat("y", 1<<20) }),
	}
	for name := range encodings(canary) {
		all["body: "+name] = func(w http.ResponseWriter, r *http.Request) {
			token := strings.TrimPrefix(auth(r), "Bearer ")
			_, _ = io.WriteString(w, encodings(token)[name])
		}
		all["header: "+name] = func(w http.ResponseWriter, r *http.Request) {
			token := strings.TrimPrefix(auth(r), "Bearer ")
			w.Header().Set("X-Echo", encodings(token)[name])
		}
	}
	return all
}

// everything is all that a caller gets of an answer or a fault, as text.
func everything(a *Answer, err error, sink *memorySink, f *flows) string {
	var b strings.Builder
	show := func(a *Answer) {
		if a != nil {
			_, _ = fmt.Fprintf(&b, "%d %v %s %+v\n", a.Status, a.Headers, a.Body, *a)
		}
	}
	show(a)
	for ; err != nil; err = unwrap(err) {
		_, _ = fmt.Fprintf(&b, "%v %+v %#v\n", err, err, err)
		if f, ok := err.(*Fault); ok {
			show(f.Answer)
		}
	}
	_, _ = fmt.Fprintf(&b, "%s %+v", sink.String(), f.list())
	return b.String()
}

func unwrap(err error) error {
	if u, ok := err.(interface{ Unwrap() error }); ok {
		return u.Unwrap()
	}
	return nil
}

func TestEchoedCredentialDoesNotReachTheCaller(t *testing.T) {
	t.Parallel()
	tried, leaked := echo(t, false)
	t.Logf("echo servers tried %d, leaks %d", tried, leaked)
	if leaked != 0 {
		t.Errorf("%d of %d answers leaked", leaked, tried)
	}
}

// The red twin: the same servers, the same road, but the lease scrubs nothing.
func TestEchoRedTwin(t *testing.T) {
	t.Parallel()
	tried, leaked := echo(t, true)
	t.Logf("without scrubbing: tried %d, leaks %d", tried, leaked)
	if leaked < tried*8/10 {
		t.Errorf("without scrubbing only %d of %d leak: the test proves nothing", leaked, tried)
	}
}

func echo(t *testing.T, off bool) (tried, leaked int) {
	t.Helper()
	handlers := echoes()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { handlers[r.Header.Get("X-Case")](w, r) })
	for name := range handlers {
		for _, sunk := range []bool{false, true} {
			if sunk && strings.Contains(name, ":") {
				continue
			}
			r := localRig(t)
			l := newLease(t, s.URL, bearer(canary))
			if off {
				l.scrub = nil
			}
			sink := &memorySink{}
			call := &Call{Lease: l, Headers: []Pair{{"X-Case", name}}}
			if sunk {
				call.Response, call.Sink = ModeFile, func(*Answer) (io.WriteCloser, error) { return sink, nil }
			}
			a, err := r.Do(t.Context(), call)
			tried++
			if leaks(everything(a, err, sink, r.flows), canary) {
				leaked++
				if !off {
					t.Errorf("%s (sink %v) leaks", name, sunk)
				}
			}
			if !off && a != nil && name != "trailer" {
				end := r.flows.list()[1]
				if a.ScrubHits == 0 || end.ScrubHits != a.ScrubHits {
					t.Errorf("%s: hits %d, in the record %d", name, a.ScrubHits, end.ScrubHits)
				}
			}
		}
	}
	return tried, leaked
}

func TestEachKindIsScrubbed(t *testing.T) {
	t.Parallel()
	v := func(s string) secret.Value { return secret.New([]byte(s)) }
	cases := map[string]struct {
		credential Credential
		hidden     []string
		shown      []string
	}{
		"bearer":       {bearer("token-1234567"), []string{"token-1234567", "Bearer token-1234567"}, nil},
		"short bearer": {bearer("abc"), []string{"Bearer abc"}, []string{"abc"}},
		"basic": {
			Credential{Kind: Basic, Fields: map[string]secret.Value{"username": v("anna@example.com"), "password": v("pass-word-1")}},
			[]string{"pass-word-1", "YW5uYUBleGFtcGxlLmNvbTpwYXNzLXdvcmQtMQ==", "Basic YW5uYUBleGFtcGxlLmNvbTpwYXNzLXdvcmQtMQ=="},
			[]string{"anna@example.com"},
		},
		"key as user name": {
			Credential{Kind: Basic, Fields: map[string]secret.Value{"username": v("sk_live_12345")}},
			[]string{"sk_live_12345", "c2tfbGl2ZV8xMjM0NTo="},
			nil,
		},
		"header": {Credential{Kind: Header, Name: "X-Api-Key", Fields: map[string]secret.Value{"value": v("Token abcdefgh")}}, []string{"Token abcdefgh"}, nil},
		"query":  {Credential{Kind: Query, Name: "key", Fields: map[string]secret.Value{"value": v("a key & more")}}, []string{"a key & more", "a+key+%26+more"}, []string{"key"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Join(append(c.hidden, c.shown...), "\n")
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
			a, err := localRig(t).Do(t.Context(), &Call{Lease: newLease(t, s.URL, c.credential)})
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Join(append(strings.Split(strings.TrimSpace(strings.Repeat(secret.Redacted+"\n", len(c.hidden))), "\n"), c.shown...), "\n")
			if got := string(a.Body); got != want && !bytes.Contains(a.Body, []byte("Bearer [redacted]")) && !bytes.Contains(a.Body, []byte("Basic [redacted]")) {
				t.Errorf("got %q, want %q", got, want)
			}
			for _, h := range c.hidden {
				if bytes.Contains(a.Body, []byte(h)) {
					t.Errorf("%q is in %q", h, a.Body)
				}
			}
		})
	}
}
