package connect

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// connectedPage reports whether an answer says that the shop is connected.
func connectedPage(a *httptest.ResponseRecorder) bool {
	return a.Code == http.StatusOK && strings.Contains(a.Body.String(), "Acme Shop is connected")
}

// twin is a second window of a browser.
func (b *browser) twin() *browser {
	c := b.w.browser()
	for name, value := range b.cookies {
		c.cookies[name] = value
	}
	return c
}

// opened is a browser that was shown the form of a link, and the proof of that.
func (w *world) opened(path string) (b *browser, proof []string) {
	w.t.Helper()
	b = w.browser()
	found := formField.FindStringSubmatch(b.get(path).Body.String())
	if found == nil {
		w.t.Fatal("the page has no form")
	}
	return b, []string{"form", found[1]}
}

// Who sends the very form again that has connected is told so, and nothing happens again. Another form, or the same one from
// another browser, has connected nothing.
func TestAFormThatIsSentAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l, path := w.link(nil)
	key := []string{"method", "key", "var.shop", "bakery", "field.key_id", "abcdefgh", "field.api_key", canary}
	b, proof := w.opened(path)
	other, otherProof := w.opened(path)
	for n := range 3 {
		if a := b.twin().submit(path, slices.Concat(key, proof)...); !connectedPage(a) {
			t.Fatalf("time %d: %d %s", n, a.Code, a.Body)
		}
	}
	changed := slices.Concat(key, proof)
	changed[7] = canary + "2"
	for name, a := range map[string]*httptest.ResponseRecorder{
		"another key":                  b.submit(path, changed...),
		"another browser":              other.submit(path, slices.Concat(key, otherProof)...),
		"another browser's proof":      other.submit(path, slices.Concat(key, proof)...),
		"no browser":                   w.browser().submit(path, slices.Concat(key, proof)...),
		"another link's address":       b.submit(Path+makeSecret(), slices.Concat(key, proof)...),
		"the page of the form, though": b.get(path),
	} {
		if a.Code != http.StatusGone {
			t.Errorf("%s: %d", name, a.Code)
		}
	}
	if list := w.connections(w.customer); len(list) != 1 || len(w.vault.records) != 2 { // the other is the template's client
		t.Errorf("%d connections, %d records", len(list), len(w.vault.records))
	}
	made := w.connections(w.customer)[0].ID
	if _, err := w.End(t.Context(), w.org, made, "deleted"); err != nil {
		t.Fatal(err)
	}
	if a := b.submit(path, slices.Concat(key, proof)...); a.Code != http.StatusGone {
		t.Errorf("after it was deleted: %d", a.Code)
	}
	if got, err := w.db.System(t.Context()).Link(l.ID); err != nil || got.Made != made {
		t.Errorf("%+v, %v", got, err)
	}
}

// Two clicks are told the same: that it is connected, once, or that it is not, and the link is good for another try.
func TestTwoClicksOnAForm(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]int{lease.OrderOK: http.StatusOK, lease.OrderRefused: http.StatusUnprocessableEntity} {
		w := newWorld(t)
		l, path := w.link(nil)
		machine := []string{"method", "machine", "var.shop", "bakery", "field.pin", canary}
		b, proof := w.opened(path)
		w.vault.mu.Lock()
		w.vault.code = code
		answers := make([]*httptest.ResponseRecorder, 3)
		var clicks sync.WaitGroup
		click := func(n int) {
			again := b.twin()
			clicks.Go(func() { answers[n] = again.submit(path, slices.Concat(machine, proof)...) })
		}
		click(0)
		for used := false; !used; { // the first click has claimed the link, and waits for the vault
			got, err := w.db.System(t.Context()).Link(l.ID)
			if err != nil {
				t.Fatal(err)
			}
			used = !got.Used.IsZero()
		}
		click(1)
		click(2)
		w.vault.mu.Unlock()
		clicks.Wait()
		for n, a := range answers {
			if a.Code != want || connectedPage(a) != (code == lease.OrderOK) {
				t.Errorf("%s, click %d: %d %s", code, n, a.Code, strings.TrimSpace(a.Body.String()[strings.Index(a.Body.String(), "<body>"):]))
			}
		}
		var made []id.Connection
		for _, x := range w.connections(w.customer) {
			made = append(made, x.ID)
		}
		if code == lease.OrderOK && (len(made) != 1 || len(w.vault.orders) != 1) || code != lease.OrderOK && len(made) != 0 {
			t.Errorf("%s: %d connections, orders %v", code, len(made), w.vault.orders)
		}
		w.vault.code = lease.OrderOK
		if a := b.submit(path, slices.Concat(machine, proof)...); !connectedPage(a) {
			t.Errorf("%s, afterwards: %d %s", code, a.Code, a.Body)
		}
	}
}

// leaving is the context of a request whose browser goes away: after so many times that somebody looks whether it has.
type leaving struct {
	context.Context
	looks atomic.Int64
	gone  chan struct{}
}

func newLeaving(ctx context.Context, looks int64) *leaving {
	l := &leaving{Context: ctx, gone: make(chan struct{})}
	l.looks.Store(looks)
	return l
}

// Done implements context.Context.
func (l *leaving) Done() <-chan struct{} {
	if l.looks.Add(-1) == 0 {
		close(l.gone)
	}
	return l.gone
}

// Err implements context.Context.
func (l *leaving) Err() error {
	select {
	case <-l.gone:
		return context.Canceled
	default:
		return nil
	}
}

// A browser that goes away at any moment, such as by a second click, leaves a link that has connected or is good for another
// try; and the second click is told which.
func TestBrowsersThatGoAway(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(w *world, b *browser, path string) func() *http.Request{
		"form": func(w *world, b *browser, path string) func() *http.Request {
			found := formField.FindStringSubmatch(b.get(path).Body.String())
			form := url.Values{"method": {"key"}, "var.shop": {"bakery"}, "field.key_id": {"abcdefgh"}, "field.api_key": {canary}, "form": {found[1]}}
			return func() *http.Request { return formRequest(path, form) }
		},
		"answer": func(w *world, b *browser, path string) func() *http.Request {
			state := b.authorize(path)
			return func() *http.Request {
				return httptest.NewRequest(http.MethodGet, "https://bulkhead.example/oauth/callback?code=abc&state="+state, nil)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			finished := false
			for looks := int64(1); !finished; looks++ {
				l, path := w.link(nil)
				b := w.browser()
				request := begin(w, b, path)
				before := len(w.connections(w.customer))
				ctx := newLeaving(t.Context(), looks)
				r := request()
				for name, value := range b.cookies {
					r.AddCookie(&http.Cookie{Name: name, Value: value})
				}
				w.pages.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
				finished = ctx.looks.Load() > 0
				got, err := w.db.System(t.Context()).Link(l.ID)
				if err != nil || got.Used.IsZero() != got.Connected.IsZero() {
					t.Fatalf("after %d looks the link is used at %v and connected at %v, %v", looks, got.Used, got.Connected, err)
				}
				if a := b.send(request()); !connectedPage(a) {
					t.Fatalf("after %d looks the second click is told: %d %s", looks, a.Code, a.Body)
				}
				if n := len(w.connections(w.customer)) - before; n != 1 {
					t.Fatalf("after %d looks there are %d connections", looks, n)
				}
				if _, err := w.End(t.Context(), w.org, w.connections(w.customer)[0].ID, "deleted"); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
