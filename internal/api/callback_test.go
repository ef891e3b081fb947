package api

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestQueryOf(t *testing.T) {
	t.Parallel()
	u, err := url.Parse("/callbacks/x?a=1&a=2&b&c=%20d")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"a": "1", "b": "", "c": " d"}, queryOf(u)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// A query of twice as many names must cost twice as much, not four times: whoever can
// reach the listener can send one, without a token.
func TestQueryCostsNoMoreThanItsLength(t *testing.T) { // AllocsPerRun wants the process to itself
	cost := func(names int) float64 {
		var b strings.Builder
		for i := range names {
			fmt.Fprintf(&b, "p%d&", i)
		}
		u := &url.URL{RawQuery: b.String()}
		return testing.AllocsPerRun(2, func() { queryOf(u) })
	}
	if small, large := cost(500), cost(4000); large > 16*small {
		t.Errorf("500 names take %.0f allocations, 4000 take %.0f", small, large)
	}
}

// Fetching the address of a callback changes nothing and says nothing: the page is the
// same for every token, and needs no engine.
func TestAskingIsNotAnswering(t *testing.T) {
	t.Parallel()
	h := New(Options{}).Public()
	var pages []string
	for _, token := range []string{"a", strings.Repeat("x", 4000)} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/callbacks/"+token, nil))
		body, err := io.ReadAll(w.Result().Body)
		if err != nil || w.Code != http.StatusOK {
			t.Fatalf("status %d, %v", w.Code, err)
		}
		pages = append(pages, string(body))
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, part) {
				t.Errorf("policy %q lacks %s", csp, part)
			}
		}
	}
	if pages[0] != pages[1] || strings.Contains(pages[1], "xxx") {
		t.Error("the page depends on the token")
	}
}

// unread fails when it is read.
type unread struct{ t *testing.T }

// Read implements io.Reader.
func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// What strangers send to addresses that nobody waits at takes no memory: it is not read.
func TestAnAnswerThatNobodyWaitsForIsNotRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for accept, want := range map[string]string{"": "application/problem+json", "text/html": "text/html; charset=utf-8"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/callbacks/"+strings.Repeat("x", 52), unread{t})
		r.Header.Set("Accept", accept)
		a := httptest.NewRecorder()
		w.public.ServeHTTP(a, r)
		if a.Code != http.StatusNotFound || a.Header().Get("Content-Type") != want {
			t.Errorf("Accept %q: %d %v", accept, a.Code, a.Header())
		}
	}
}
