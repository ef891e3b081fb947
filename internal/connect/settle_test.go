package connect

import (
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// interrupted is a form that a server had when it crashed.
type interrupted struct {
	*world
	link    *store.Link
	path    string
	browser *browser
	form    url.Values
	visitor *visitor
	entry   *Entry
	method  string
}

// interrupt has a form of a link claim it some time ago, for a connection that is not made yet.
func (w *world) interrupt(ago time.Duration, again id.Connection, method string, fields ...string) *interrupted {
	w.t.Helper()
	x := &interrupted{world: w, method: method}
	x.link, x.path = w.link(func(e *LinkEntry) { e.Connection = again })
	b, proof := w.opened(x.path)
	x.browser, x.form = b, url.Values{"method": {method}, "var.shop": {"bakery"}, proof[0]: {proof[1]}}
	for n := 0; n < len(fields); n += 2 {
		x.form.Set(fields[n], fields[n+1])
	}
	secret := strings.TrimPrefix(x.path, Path)
	x.visitor = &visitor{link: x.link, secret: secret, cookie: b.cookies[cookieBrowser]}
	if err := w.read(w.t.Context(), x.visitor); err != nil {
		w.t.Fatal(err)
	}
	x.entry = x.visitor.entry(x.visitor.chosen(method), x.form)
	err := w.db.Write(w.t.Context(), func(tx *store.Tx) error {
		return tx.System().ClaimLink(x.link.ID, x.entry.Connection, formHash(x.visitor.cookie, x.link.Hash, x.form), time.Now().Add(-ago))
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return x
}

// interruptKey is interrupt for a key.
func (w *world) interruptKey(ago time.Duration, again id.Connection) *interrupted {
	return w.interrupt(ago, again, "key", "field.key_id", "abcdefgh", "field.api_key", canary)
}

// save is what the server did next before it crashed: with the row, or only in the vault.
func (x *interrupted) save(row bool) {
	x.t.Helper()
	ctx, m := x.t.Context(), x.visitor.chosen(x.method)
	r := must(x.draft(ctx, x.visitor.offer, m, x.entry, true))
	c := &engine.Credential{Connection: *x.row(x.visitor.offer, m, x.entry, x.entry.Connection, r), Record: r, KeepSharing: x.visitor.old != nil}
	if !row {
		x.vault.records[x.entry.Connection] = r
	} else if err := x.engine.PutConnection(ctx, c); err != nil {
		x.t.Fatal(err)
	}
}

// click sends the form again.
func (x *interrupted) click() *httptest.ResponseRecorder {
	return x.browser.twin().send(formRequest(x.path, x.form))
}

// is checks how the link is.
func (x *interrupted) is(claimed, connected bool) {
	x.t.Helper()
	l, err := x.db.System(x.t.Context()).Link(x.link.ID)
	if err != nil || l.Used.IsZero() == claimed || l.Connected.IsZero() == connected {
		x.t.Errorf("the link is used at %v and connected at %v, %v", l.Used, l.Connected, err)
	}
}

// A server that crashes behind the save of a key has connected: the second click is told so, and the organization.
func TestACrashBehindTheSave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.interruptKey(settleAfter, id.Connection{})
	first.save(true)
	if a := first.click(); !connectedPage(a) {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	first.is(true, true)
	if a := first.browser.get(first.path); a.Code != http.StatusGone {
		t.Errorf("the form, behind that: %d", a.Code)
	}
	if list := must(w.db.Org(t.Context(), w.org).Notices(&store.NoticeQuery{Customer: w.customer}, 9)); len(list) != 1 || list[0].Kind != store.NoticeConnected {
		t.Errorf("notices %+v", list)
	}
	other := w.interruptKey(settleAfter, id.Connection{}) // nobody clicks
	other.save(true)
	if err := w.Watch(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	other.is(true, true)
	if n := len(w.connections(w.customer)); n != 2 {
		t.Errorf("%d connections", n)
	}
	again := w.interruptKey(settleAfter, first.entry.Connection) // it is connected again
	again.save(true)
	if a := again.click(); !connectedPage(a) {
		t.Fatalf("again: %d %s", a.Code, a.Body)
	}
}

// One that crashes before it has connected nothing: who clicks is told to wait while another server may be at it, and can try
// again then. What was begun is gone.
func TestACrashBeforeTheSave(t *testing.T) {
	t.Parallel()
	for name, begun := range map[string]struct {
		begin func(w *world, ago time.Duration) *interrupted
		after func(x *interrupted)
	}{
		"nothing yet":       {func(w *world, ago time.Duration) *interrupted { return w.interruptKey(ago, id.Connection{}) }, func(*interrupted) {}},
		"only in the vault": {func(w *world, ago time.Duration) *interrupted { return w.interruptKey(ago, id.Connection{}) }, func(x *interrupted) { x.save(false) }},
		"before its first token": {func(w *world, ago time.Duration) *interrupted {
			return w.interrupt(ago, id.Connection{}, "machine", "field.pin", canary)
		}, func(x *interrupted) { x.save(true) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.alreadyWait = time.Millisecond
			early := begun.begin(w, claimLife/2)
			begun.after(early)
			if a := early.click(); a.Code != http.StatusServiceUnavailable || connectedPage(a) {
				t.Errorf("a moment later the click is told: %d %s", a.Code, a.Body)
			}
			if a := early.browser.get(early.path); a.Code != http.StatusServiceUnavailable {
				t.Errorf("a moment later the page is: %d", a.Code)
			}
			early.is(true, false)
			w.alreadyWait = alreadyWait
			late := begun.begin(w, claimLife)
			begun.after(late)
			if a := late.click(); a.Code != http.StatusOK || !connectedPage(a) {
				t.Fatalf("later: %d %s", a.Code, a.Body)
			}
			late.is(true, true)
			l := must(w.db.System(t.Context()).Link(late.link.ID))
			if w.vault.records[late.entry.Connection] != nil || l.Made == late.entry.Connection || w.vault.records[l.Made] == nil {
				t.Error("what was begun is kept, or what was connected is not")
			}
		})
	}
}

// What was connected before stays as it was when nothing came of connecting it again.
func TestACrashKeepsWhatWasConnected(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.interruptKey(settleAfter, id.Connection{})
	first.save(true)
	if err := w.Watch(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	x := w.interruptKey(0, first.entry.Connection)
	if err := w.Watch(t.Context(), time.Now().Add(claimLife)); err != nil {
		t.Fatal(err)
	}
	x.is(false, false)
	if n := must(w.db.Customer(t.Context(), w.customer).Connection(first.entry.Connection)); n.Health == store.HealthRevoked || w.vault.records[n.ID] == nil {
		t.Errorf("it is %+v", n)
	}
}

// A server that crashes while an authorization code is exchanged has connected if it has noted the tokens; else what the vault
// may have is gone, and the link is good for another try.
func TestACrashInTheCallback(t *testing.T) {
	t.Parallel()
	for name, noted := range map[string]bool{"the tokens are noted": true, "they are not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			l, path := w.link(nil)
			b := w.browser()
			state := b.authorize(path)
			ctx := t.Context()
			v := must(w.db.System(ctx).Visit(sha256.Sum256([]byte(state)), time.Now()))
			o := must(w.offer(ctx, l.Organization, l.Connector, l.ConnectorVersion))
			e := &Entry{Org: l.Organization, Customer: l.Customer, Connection: v.Connection, Connector: l.Connector, Method: v.Method, Template: v.Template, Vars: v.Vars}
			err := w.db.Write(ctx, func(tx *store.Tx) error {
				if err := tx.System().UseVisit(v.State, time.Now()); err != nil {
					return err
				}
				return tx.System().ClaimLink(l.ID, v.Connection, [32]byte{}, time.Now().Add(-claimLife))
			})
			if err == nil {
				err = w.putRow(ctx, o, must(o.method(v.Method)), e, v, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
			result, account, err := w.vault.Order(ctx, lease.OrderExchange, l.Customer, v.Connection, &lease.Exchange{State: state, Browser: v.Browser})
			if err == nil && noted {
				err = w.saved(ctx, l.Customer, v.Connection, result, account, l.Connector)
			}
			if err != nil {
				t.Fatal(err)
			}
			a := b.get("/oauth/callback?code=abc&state=" + state)
			if connectedPage(a) != noted || !noted && !strings.Contains(a.Body.String(), "Nothing was connected") {
				t.Errorf("%d %s", a.Code, a.Body)
			}
			if (w.vault.records[v.Connection] != nil) != noted {
				t.Error("the vault has it, or has it no more")
			}
			if want := map[bool]int{true: http.StatusGone, false: http.StatusOK}[noted]; b.get(path).Code != want {
				t.Errorf("the link is not as it should be: want %d", want)
			}
		})
	}
}
