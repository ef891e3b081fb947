package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
)

// seen is a request as the server got it.
type seen struct {
	method, path, key, match, token string
	body                            []byte
}

// server answers with what a test says, and remembers what it was asked. An answer that is
// nil breaks the connection off.
type server struct {
	*Client
	mu  sync.Mutex
	got []seen
}

func newServer(t *testing.T, answer func(n int, r *http.Request) func(http.ResponseWriter)) *server {
	t.Helper()
	s := &server{}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		s.got = append(s.got, seen{r.Method, r.URL.EscapedPath(), r.Header.Get("Idempotency-Key"), r.Header.Get("If-Match"), r.Header.Get("Authorization"), body})
		n := len(s.got)
		s.mu.Unlock()
		say := answer(n, r)
		if say == nil {
			panic(http.ErrAbortHandler)
		}
		say(w)
	}))
	t.Cleanup(h.Close)
	c, err := Open(h.URL, "bhk_test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.http.Transport.(*http.Transport).DisableKeepAlives = true // each try is the client's own, not the transport's
	s.Client = c
	return s
}

func problem(status int, p api.Problem) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		p.Status = status
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(p)
	}
}

func ok(w http.ResponseWriter) { _, _ = io.WriteString(w, "{}") }

// A request without an answer is sent again when that does nothing twice: a POST carries
// the same key each time, and a PATCH is not repeated, since the first one may have been
// done.
func TestRetriesWhereThatIsSafe(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]int{
		http.MethodGet: 3, http.MethodPut: 3, http.MethodDelete: 3, http.MethodPost: 3, http.MethodPatch: 1,
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(n int, _ *http.Request) func(http.ResponseWriter) {
				if n < 3 {
					return nil
				}
				return ok
			})
			err := s.ask(t.Context(), request{method: method, path: "/x", body: map[string]int{"a": 1}, match: 7}, nil)
			if len(s.got) != want || (err == nil) != (want == 3) {
				t.Fatalf("%d requests, %v; want %d", len(s.got), err, want)
			}
			for _, r := range s.got {
				if (r.key != "") != (method == http.MethodPost) || r.key != s.got[0].key {
					t.Errorf("key %q after %q", r.key, s.got[0].key)
				}
				if string(r.body) != `{"a":1}` || r.match != `"7"` || r.token != "Bearer bhk_test" || r.path != api.Prefix+"/x" {
					t.Errorf("request %+v", r)
				}
			}
		})
	}
}

func TestTriesEnd(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(int, *http.Request) func(http.ResponseWriter) { return nil })
	if err := s.ask(t.Context(), request{method: http.MethodGet, path: "/x"}, nil); err == nil || len(s.got) != maxTries {
		t.Errorf("%d requests, %v", len(s.got), err)
	}
	keys := map[string]bool{}
	for range 2 {
		s := newServer(t, func(int, *http.Request) func(http.ResponseWriter) { return ok })
		if err := s.ask(t.Context(), request{method: http.MethodPost, path: "/x"}, nil); err != nil {
			t.Fatal(err)
		}
		keys[s.got[0].key] = true
	}
	if len(keys) != 2 {
		t.Errorf("two requests have the keys %v", keys)
	}
}

// What the server refuses is sent again only when it says that a later try may succeed,
// also a PATCH: it was not done.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for code, want := range map[api.Code]int{
		api.CodeRateLimited: 2, api.CodeInProgress: 2, api.CodeConflict: 1, api.CodeInternal: 1, api.CodeUnauthenticated: 1, api.CodeInvalid: 1,
	} {
		s := newServer(t, func(n int, _ *http.Request) func(http.ResponseWriter) {
			if n > 1 {
				return ok
			}
			return problem(http.StatusConflict, api.Problem{Code: code, Title: "no", Detail: "because", RequestID: "r1", Errors: []api.Place{{Place: "body.x", Message: "wrong"}}})
		})
		err := s.ask(t.Context(), request{method: http.MethodPatch, path: "/x"}, nil)
		if len(s.got) != want || (err == nil) != (want == 2) {
			t.Errorf("%s: %d requests, %v; want %d", code, len(s.got), err, want)
		}
		if e, is := errors.AsType[*Error](err); want == 1 && (!is || !IsCode(err, code) || e.Status != 409 || e.Detail != "because" || e.RequestID != "r1" || len(e.Errors) != 1) {
			t.Errorf("%s: %+v", code, err)
		}
	}
}

// An answer that is no problem, as of a proxy, is an error that does not repeat it.
func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"html": "<html>secret</html>", "nothing": "", "other json": `{"error":"secret"}`, "cut": `{"code":"conf`} {
		s := newServer(t, func(int, *http.Request) func(http.ResponseWriter) {
			return func(w http.ResponseWriter) {
				w.WriteHeader(http.StatusBadGateway)
				_, _ = io.WriteString(w, body)
			}
		})
		err := s.ask(t.Context(), request{method: http.MethodGet, path: "/x"}, nil)
		if !IsCode(err, api.CodeInternal) || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "502") {
			t.Errorf("%s: %v", name, err)
		}
	}
	elsewhere := newServer(t, func(int, *http.Request) func(http.ResponseWriter) { return ok })
	s := newServer(t, func(int, *http.Request) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Location", elsewhere.base+"/x")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	})
	if err := s.ask(t.Context(), request{method: http.MethodPost, path: "/x"}, nil); err == nil || len(elsewhere.got) != 0 {
		t.Errorf("a redirect is followed with the token: %v, %+v", err, elsewhere.got)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"": 0, "2": 2 * time.Second, "-1": 0, "x": 0, "3600": maxRetryAfter} {
		e := &Error{}
		e.retryAfter(http.Header{"Retry-After": {text}})
		if got := e.RetryAfter(); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// A token goes over TLS, or stays on this machine.
func TestOpenKeepsTokensFromTheNetwork(t *testing.T) {
	t.Parallel()
	for base, want := range map[string]bool{
		"https://bulkhead.example.com": true, "https://bulkhead.example.com/base/": true, "http://127.0.0.1:8480": true, "http://[::1]:1": true, "http://localhost": true,
		"http://bulkhead.example.com": false, "http://192.0.2.1": false, "http://localhost.example.com": false, "ftp://127.0.0.1": false, "https://": false,
		"https://u:p@bulkhead.example.com": false, "https://bulkhead.example.com?x=1": false, "bulkhead.example.com": false, "http://127.0.0.1:x": false,
	} {
		c, err := Open(base, "bhk_t")
		if (err == nil) != want || (c != nil) != want {
			t.Errorf("%s: %v", base, err)
		}
	}
}

// Config is sealed to the vault's key for the one instance before it is sent: nothing of it
// travels in clear, and it opens nowhere else.
func TestConfigIsSealed(t *testing.T) {
	t.Parallel()
	vault, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	key := vault.Public()
	s := newServer(t, func(_ int, r *http.Request) func(http.ResponseWriter) {
		if r.URL.Path != api.Prefix+"/server" {
			return ok
		}
		return func(w http.ResponseWriter) { _ = json.NewEncoder(w).Encode(api.ServerInfo{VaultKey: key[:]}) }
	})
	customer, instance := id.NewCustomer(time.Now()), id.NewInstance(time.Now())
	const secret = `{"key":"canary-4711-secret"}`
	if _, err := s.DeploySealed(t.Context(), customer, instance, api.DeployRequest{Integration: "x", Config: json.RawMessage(secret)}); err != nil {
		t.Fatal(err)
	}
	last := s.got[len(s.got)-1]
	if last.method != http.MethodPut || last.path != api.Prefix+"/instances/"+instance.String() || len(s.got) != 2 {
		t.Errorf("requests %+v", s.got)
	}
	var sent api.DeployRequest
	if err := json.Unmarshal(last.body, &sent); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(last.body, []byte("canary")) || sent.Config != nil || sent.Customer != customer.String() {
		t.Errorf("sent %s", last.body)
	}
	got, err := vault.Open(lease.PurposeVault, lease.ConfigPlace(customer, instance, 0), sent.SealedConfig)
	if d := cmp.Diff(secret, string(got)); err != nil || d != "" {
		t.Errorf("opened: %v %s", err, d)
	}
	if _, err := vault.Open(lease.PurposeVault, lease.ConfigPlace(customer, id.NewInstance(time.Now()), 0), sent.SealedConfig); err == nil {
		t.Error("it opens as the config of another instance")
	}
	bad := newServer(t, func(int, *http.Request) func(http.ResponseWriter) { return ok })
	if _, err := bad.DeploySealed(t.Context(), customer, instance, api.DeployRequest{Config: json.RawMessage(secret)}); err == nil || len(bad.got) != 1 {
		t.Errorf("without a vault key: %v, %d requests", err, len(bad.got))
	}
}

func TestAllPages(t *testing.T) {
	t.Parallel()
	failed := errors.New("failed")
	pages := map[string]*api.Page[int]{"": {Items: []int{1, 2}, Next: "a"}, "a": {Items: []int{}, Next: "b"}, "b": {Items: []int{3}}}
	var got []int
	for x, err := range All(func(cursor string) (*api.Page[int], error) { return pages[cursor], nil }) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, x)
	}
	if !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("items %v", got)
	}
	n := 0
	for _, err := range All(func(cursor string) (*api.Page[int], error) {
		if cursor != "" {
			return nil, failed
		}
		return pages[cursor], nil
	}) {
		if n++; n == 3 && !errors.Is(err, failed) {
			t.Errorf("the last is %v", err)
		}
	}
	if n != 3 {
		t.Errorf("%d yields", n)
	}
}
