package connect

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// A person connects by signing in at the provider.
func TestConnectBySigningIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.PutBrand(t.Context(), w.org, &store.Brand{Title: "Northwind Traders", ReturnURLs: []string{"https://app.northwind.example/"}}); err != nil {
		t.Fatal(err)
	}
	l, path := w.link(func(e *LinkEntry) { e.ReturnURL = "https://app.northwind.example/done" })
	b := w.browser()
	a := b.get(path)
	for _, text := range []string{"Northwind Traders", "Acme Shop", "Bakery Ltd", "read_orders", "write_orders", "‹shop›.acme.example", "Access key"} {
		if !strings.Contains(a.Body.String(), text) {
			t.Errorf("the page lacks %q", text)
		}
	}
	if policy := a.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "form-action 'self' https://*.acme.example;") || strings.Contains(policy, "script") {
		t.Errorf("policy = %s", policy)
	}
	a = b.post(path, "method", "oauth", "var.shop", "bakery")
	to := must(url.Parse(a.Header().Get("Location")))
	q := to.Query()
	if a.Code != http.StatusSeeOther || to.Host != "bakery.acme.example" || to.Path != "/authorize" || q.Get("client_id") != "our-client" ||
		q.Get("redirect_uri") != "https://bulkhead.example/oauth/callback" || q.Get("code_challenge_method") != "S256" || len(q.Get("state")) != 43 {
		t.Fatalf("%d to %s", a.Code, to)
	}
	a = b.get("/oauth/callback?code=abc&state=" + q.Get("state"))
	if a.Code != 200 || !strings.Contains(a.Body.String(), "Connected as ann@acme.example") || !strings.Contains(a.Body.String(), `href="https://app.northwind.example/done"`) {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	list := w.connections(w.customer)
	if len(list) != 1 || list[0].Health != store.HealthOK || list[0].Host != "bakery.acme.example" || list[0].Kind != "oauth2" || list[0].Template != w.template.ID ||
		list[0].AccountHash == [32]byte{} || list[0].TokenExpires.IsZero() || list[0].CreatedBy != "connect link "+l.ID.String() {
		t.Fatalf("connections = %+v", list)
	}
	r := w.vault.records[list[0].ID]
	if r.Client != w.template.Client || len(r.Field("scope")) == 0 || r.Binding.Host != "bakery.acme.example" {
		t.Errorf("record = %+v", r)
	}
	notices := must(w.db.Org(t.Context(), w.org).Notices(&store.NoticeQuery{Unseen: true}, 9))
	if len(notices) != 1 || notices[0].Kind != store.NoticeConnected {
		t.Errorf("notices = %+v", notices)
	}
}

// A person connects by entering a key; what is wrong is told at its field, and secrets do
// not come back.
func TestConnectByKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, path := w.link(nil)
	b := w.browser()
	a := b.post(path+"?method=key", "method", "key", "var.shop", "no.dots", "field.key_id", "short", "field.api_key", canary)
	if a.Code != http.StatusUnprocessableEntity || !strings.Contains(a.Body.String(), "It does not look like one") || !strings.Contains(a.Body.String(), `value="short"`) {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	a = b.post(path+"?method=key", "method", "key", "var.shop", "bakery", "field.key_id", "abcdefgh", "field.api_key", canary)
	if a.Code != 200 || !strings.Contains(a.Body.String(), "Acme Shop is connected") {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	list := w.connections(w.customer)
	if len(list) != 1 || list[0].Kind != "key" || list[0].Host != "bakery.acme.example" || string(w.vault.records[list[0].ID].Field("api_key")) != canary {
		t.Errorf("connections = %+v", list)
	}
}

// Of a method that obtains tokens with what was entered the first ones are obtained at once:
// a typo shows here and not in the night.
func TestConnectByMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, path := w.link(nil)
	b := w.browser()
	w.vault.code = lease.OrderRefused
	a := b.post(path+"?method=machine", "method", "machine", "var.shop", "bakery", "field.pin", canary)
	if a.Code != http.StatusUnprocessableEntity || !strings.Contains(a.Body.String(), "did not accept") || len(w.connections(w.customer)) != 0 || len(w.vault.records) != 1 {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	w.vault.code = lease.OrderOK
	if a = b.post(path+"?method=machine", "method", "machine", "var.shop", "bakery", "field.pin", canary); a.Code != 200 {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	if list := w.connections(w.customer); len(list) != 1 || list[0].Health != store.HealthOK {
		t.Errorf("connections = %+v", list)
	}
}

// A new connection whose first tokens do not come is not kept, for its link makes another.
func TestNothingIsLeftOfWhatDidNotConnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, path := w.link(nil)
	w.vault.code = lease.OrderFailed
	a := w.browser().post(path+"?method=machine", "method", "machine", "var.shop", "bakery", "field.pin", canary)
	if a.Code != http.StatusServiceUnavailable || len(w.connections(w.customer)) != 0 {
		t.Errorf("%d, connections = %+v", a.Code, w.connections(w.customer))
	}
}

// Who mistypes a secret when a connection is connected again has not ended the connection: it stays what it is to those who
// use it, and the link can be used once more.
func TestReconnectWithAWrongSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, path := w.link(nil)
	b := w.browser()
	machine := []string{"method", "machine", "var.shop", "bakery", "field.pin", canary}
	if a := b.post(path+"?method=machine", machine...); a.Code != 200 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	old := w.connections(w.customer)[0].ID
	user := w.deployed(w.customer, old)
	_, path = w.link(func(e *LinkEntry) { e.Connection = old })
	w.vault.code = lease.OrderRefused
	if a := b.post(path+"?method=machine", machine...); a.Code != http.StatusUnprocessableEntity {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	list := w.connections(w.customer)
	if len(list) != 1 || list[0].ID != old || list[0].Health != store.HealthNeedsReconnect || w.state(w.customer, user) != store.InstanceNeedsConnection {
		t.Fatalf("connections = %+v, instance %s", list, w.state(w.customer, user))
	}
	w.vault.code = lease.OrderOK
	if a := b.post(path+"?method=machine", machine...); a.Code != 200 {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	if list = w.connections(w.customer); len(list) != 1 || list[0].ID != old || list[0].Health != store.HealthOK || w.state(w.customer, user) == store.InstanceNeedsConnection {
		t.Errorf("connections = %+v, instance %s", list, w.state(w.customer, user))
	}
}

// Whom a connection is shared with does not change when it is connected again.
func TestReconnectKeepsSharing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	shared := store.Shared{Customers: []string{w.customer.String()}, Actions: []string{"listOrders"}}
	of := func(e *LinkEntry) { e.Customer = w.own }
	_, path := w.link(of)
	b := w.browser()
	b.get("/oauth/callback?code=abc&state=" + b.authorize(path))
	old := w.connections(w.own)[0]
	old.Shared = shared
	if err := w.db.Write(t.Context(), func(tx *store.Tx) error { return tx.Customer(w.own).PutConnection(&old.Connection, time.Now()) }); err != nil {
		t.Fatal(err)
	}
	check := func(how string) {
		t.Helper()
		r := w.vault.records[old.ID]
		if now := w.connections(w.own)[0]; !slices.Equal(now.Shared.Customers, shared.Customers) || !slices.Equal(r.SharedWith, shared.Customers) || !slices.Equal(r.Actions(), shared.Actions) {
			t.Errorf("%s: shared with %+v, the record with %v for %v", how, now.Shared, r.SharedWith, r.SharedFor)
		}
	}
	_, path = w.link(func(e *LinkEntry) { of(e); e.Connection = old.ID })
	if a := b.get("/oauth/callback?code=abc&state=" + b.authorize(path)); a.Code != 200 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	check("signed in")
	_, path = w.link(func(e *LinkEntry) { of(e); e.Connection = old.ID })
	if a := b.post(path+"?method=key", "method", "key", "var.shop", "bakery", "field.key_id", "abcdefgh", "field.api_key", canary); a.Code != 200 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	check("entered")

	// What it was shared for may be gone from the connector since, and who it was shared with: that keeps nobody from connecting it.
	old = w.connections(w.own)[0]
	old.Shared = store.Shared{Customers: []string{id.NewCustomer(time.Now()).String()}, Actions: []string{"goneSince"}}
	if err := w.db.Write(t.Context(), func(tx *store.Tx) error { return tx.Customer(w.own).PutConnection(&old.Connection, time.Now()) }); err != nil {
		t.Fatal(err)
	}
	_, path = w.link(func(e *LinkEntry) { of(e); e.Connection = old.ID })
	if a := b.get("/oauth/callback?code=abc&state=" + b.authorize(path)); a.Code != 200 {
		t.Errorf("signed in, shared for what is gone: %d %s", a.Code, a.Body)
	}
	_, path = w.link(func(e *LinkEntry) { of(e); e.Connection = old.ID })
	if a := b.post(path+"?method=key", "method", "key", "var.shop", "bakery", "field.key_id", "abcdefgh", "field.api_key", canary); a.Code != 200 {
		t.Errorf("entered, shared for what is gone: %d %s", a.Code, a.Body)
	}
}

// Where a person names the host, as for software that customers run themselves, an OAuth client of the organization is for
// one host: its secret goes there, whatever host somebody enters with a link.
func TestClientsAreForOneHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manifest.Hosts, w.manifest.BaseURL = []string{"{server}"}, "https://{server}/v2"
	w.manifest.Vars = credential.Vars{"server": {Type: credential.VarHost, Suffixes: []string{credential.AnyHost}}}
	w.manifest.Auth[0].Recipe.Authorize.URL, w.manifest.Auth[0].Recipe.Token.URL = "https://{server}/authorize", "https://{server}/token"
	w.manifest.Auth = w.manifest.Auth[:2]
	e := &TemplateEntry{Org: w.org, ID: w.template.ID, Connector: "acme", Customers: []string{lease.SharedWithAll}, Fields: map[string]string{"client_id": "our-client", "client_secret": canary}}
	var wrong InvalidError
	if _, err := w.PutTemplate(t.Context(), e); !errors.As(err, &wrong) || wrong[0].Place != "vars.server" {
		t.Fatalf("a client for any host: %v", err)
	}
	e.Vars = map[string]string{"server": "git.acme.example"}
	w.template = must(w.PutTemplate(t.Context(), e))
	client := w.vault.records[w.template.Client]
	if !slices.Equal(client.Hosts, []string{"git.acme.example"}) || client.Binding.Host != "git.acme.example" {
		t.Errorf("the client's tokens may go to %v", client.Hosts)
	}
	b := w.browser()
	_, path := w.link(nil)
	if a := b.get(path); strings.Contains(a.Body.String(), `name="var.server"`) || !strings.Contains(a.Header().Get("Content-Security-Policy"), "form-action 'self' https://git.acme.example;") {
		t.Errorf("%s %s", a.Header().Get("Content-Security-Policy"), a.Body)
	}
	a := b.post(path, "method", "oauth", "var.server", "evil.example")
	to := must(url.Parse(a.Header().Get("Location")))
	if a.Code != http.StatusSeeOther || to.Host != "git.acme.example" {
		t.Fatalf("%d to %s: %s", a.Code, to.Host, a.Body)
	}
	m := w.vault.starts[to.Query().Get("state")]
	r := must(w.vault.open(m.Customer, m.Connection, m.Draft))
	ofClient, own := must(credential.ParseSpec(client.Spec)), must(credential.ParseSpec(r.Spec))
	if !own.SameMethod(ofClient) || own.Values["server"] != "git.acme.example" {
		t.Error("the client is of another method than the connection")
	}
	// A breached server writes another host into the draft: that is not the client's method, or no spec at all.
	own.Values["server"] = "evil.example"
	if text := must(own.Bytes()); func() error { _, err := credential.ParseSpec(text); return err }() == nil {
		t.Error("the spec takes another host")
	}
	_, path = w.link(func(e *LinkEntry) { e.Vars = map[string]string{"server": "evil.example"} })
	if a := b.post(path, "method", "oauth"); a.Code != http.StatusUnprocessableEntity {
		t.Errorf("a link for another host: %d to %s", a.Code, a.Header().Get("Location"))
	}
	// Who brings a client brings its host too.
	if err := w.DeleteTemplate(t.Context(), w.org, w.template.ID); err != nil {
		t.Fatal(err)
	}
	_, path = w.link(func(e *LinkEntry) { e.Methods = []string{"oauth"} })
	if a := b.get(path); !strings.Contains(a.Header().Get("Content-Security-Policy"), "form-action 'self' https://*;") {
		t.Errorf("the form may lead to %s", a.Header().Get("Content-Security-Policy"))
	}
	a = b.post(path, "method", "oauth", "var.server", "own.example.net", "field.client_id", "theirs", "field.client_secret", canary)
	if to := must(url.Parse(a.Header().Get("Location"))); a.Code != http.StatusSeeOther || to.Host != "own.example.net" {
		t.Errorf("%d to %s", a.Code, to.Host)
	}
}

// A link connects once.
func TestLinksWorkOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, path := w.link(nil)
	key := []string{"method", "key", "var.shop", "bakery", "field.key_id", "abcdefgh", "field.api_key", canary}
	b, late := w.browser(), w.browser()
	form := formField.FindStringSubmatch(late.get(path).Body.String())[1]
	state := w.browser()
	open := state.authorize(path)
	if a := b.post(path, key...); a.Code != 200 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if a := b.get(path); a.Code != http.StatusGone {
		t.Errorf("shown again: %d", a.Code)
	}
	if a := late.submit(path, append(key, "form", form)...); a.Code != http.StatusGone {
		t.Errorf("used again: %d", a.Code)
	}
	if a := state.get("/oauth/callback?code=x&state=" + open); a.Code != http.StatusGone {
		t.Errorf("came back after it was used: %d", a.Code)
	}
	if n := len(w.connections(w.customer)); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// A link ends, and one that was taken back does so at once.
func TestLinksExpire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l, path := w.link(func(e *LinkEntry) { e.Life = time.Microsecond })
	if a := w.browser().get(path); a.Code != http.StatusGone || strings.Contains(a.Body.String(), "Northwind") {
		t.Errorf("expired: %d %s", a.Code, a.Body)
	}
	l, path = w.link(nil)
	if err := w.db.Write(t.Context(), func(tx *store.Tx) error { return tx.Org(w.org).RevokeLink(l.ID, time.Now()) }); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, Path + "x", Path + strings.Repeat("A", 43), Path + "../api"} {
		if a := w.browser().get(p); a.Code == 200 {
			t.Errorf("%s: %d", p, a.Code)
		}
	}
}

// An answer of a provider is taken once, from the browser that was sent there (RFC 9700
// section 4.7.1).
func TestCallbacksAreBoundToTheBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, path := w.link(nil)
	b := w.browser()
	state := b.authorize(path)
	stranger := w.browser()
	stranger.get(path) // has a cookie, of its own
	for name, other := range map[string]*browser{"without a cookie": w.browser(), "with another cookie": stranger} {
		if a := other.get("/oauth/callback?code=abc&state=" + state); a.Code != http.StatusForbidden {
			t.Errorf("%s: %d %s", name, a.Code, a.Body)
		}
	}
	for _, query := range []string{
		"", "?code=abc", "?code=abc&state=" + makeSecret(), "?code=abc&code=def&state=" + state, "?state=" + state + "&state=" + state, "?%zz",
		"?code=" + strings.Repeat("a", maxCallback), "?" + strings.Repeat("a=1&", 50) + "state=" + state,
	} {
		if a := b.get("/oauth/callback" + query); a.Code < 400 {
			t.Errorf("%s: %d", query[:min(len(query), 40)], a.Code)
		}
	}
	if n := len(w.connections(w.customer)); n != 0 || len(w.vault.orders) != 0 {
		t.Fatalf("%d connections, orders %v", n, w.vault.orders)
	}
	if a := b.get("/oauth/callback?code=abc&state=" + state); a.Code != 200 {
		t.Errorf("its own: %d %s", a.Code, a.Body)
	}
	orders := len(w.vault.orders)
	for range 2 { // the person is told how it ended, and nothing happens again
		if a := b.get("/oauth/callback?code=abc&state=" + state); a.Code != 200 || !strings.Contains(a.Body.String(), "is connected") || strings.Contains(a.Body.String(), "ann@") {
			t.Errorf("twice: %d %s", a.Code, a.Body)
		}
	}
	if a := stranger.get("/oauth/callback?code=abc&state=" + state); a.Code != http.StatusForbidden || len(w.vault.orders) != orders || len(w.connections(w.customer)) != 1 {
		t.Errorf("afterwards, with another cookie: %d, %d orders", a.Code, len(w.vault.orders)-orders)
	}
}

// Who connected with one link and comes back with an answer that was not used is told the truth.
func TestASecondAnswerDoesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, path := w.link(nil)
	first, second := w.browser(), w.browser()
	state, late := first.authorize(path), second.authorize(path)
	if a := first.get("/oauth/callback?code=abc&state=" + state); a.Code != 200 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	for range 2 { // the second time the state was used, and another browser has connected
		if a := second.get("/oauth/callback?code=abc&state=" + late); a.Code < 400 || strings.Contains(a.Body.String(), "is connected") {
			t.Errorf("%d %s", a.Code, a.Body)
		}
	}
}

// A form that another site sends does nothing, nor one that the browser was not shown.
func TestFormsAreBoundToTheBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, path := w.link(nil)
	_, elsewhere := w.link(nil)
	b := w.browser()
	form := formField.FindStringSubmatch(b.get(path).Body.String())[1]
	fields := url.Values{"form": {form}, "method": {"key"}, "var.shop": {"bakery"}, "field.key_id": {"abcdefgh"}, "field.api_key": {"k"}}
	send := func(b *browser, path, form string, header ...string) int {
		fields.Set("form", form)
		r := httptest.NewRequest(http.MethodPost, "https://bulkhead.example"+path+"/start", strings.NewReader(fields.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set(header[0], header[1])
		return b.send(r).Code
	}
	stranger := w.browser()
	stranger.get(elsewhere)
	for name, code := range map[string]int{
		"from another site":           send(b, path, form, "Sec-Fetch-Site", "cross-site"),
		"from a sibling":              send(b, path, form, "Sec-Fetch-Site", "same-site"),
		"from another origin":         send(b, path, form, "Origin", "https://evil.example"),
		"without the token":           send(b, path, "", "Sec-Fetch-Site", "same-origin"),
		"of another link":             send(b, elsewhere, form, "Sec-Fetch-Site", "same-origin"),
		"with another's cookie":       send(stranger, path, form, "Sec-Fetch-Site", "same-origin"),
		"of a browser without cookie": send(w.browser(), path, form, "Sec-Fetch-Site", "same-origin"),
	} {
		if code != http.StatusForbidden {
			t.Errorf("%s: %d", name, code)
		}
	}
	if n := len(w.connections(w.customer)); n != 0 {
		t.Errorf("%d connections", n)
	}
	if code := send(b, path, form, "Sec-Fetch-Site", "same-origin"); code != 200 {
		t.Errorf("its own: %d", code)
	}
}

// No page can be framed, cached, sniffed, or tells where it was left for.
func TestPagesAreNotFramed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, path := w.link(nil)
	for _, p := range []string{path, Path + "x", "/oauth/callback", "/oauth/callback?error=access_denied"} {
		a := w.browser().get(p)
		h := a.Header()
		policy := h.Get("Content-Security-Policy")
		if !strings.Contains(policy, "frame-ancestors 'none'") || h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s can be framed: %s", p, policy)
		}
		if !strings.HasPrefix(policy, "default-src 'none'; style-src 'nonce-") || strings.Contains(policy, "unsafe") || strings.Contains(a.Body.String(), "<script") ||
			h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", p, h)
		}
	}
}

// Nothing of a callback gets into a page.
func TestCallbacksAreNotReflected(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const evil = "<b>call-0800-evil</b>"
	for _, code := range []string{lease.OrderDenied, lease.OrderRefused, lease.OrderFailed, lease.OrderUnsure, lease.OrderOtherAccount} {
		_, path := w.link(nil)
		b := w.browser()
		state := b.authorize(path)
		w.vault.code = code
		a := b.get("/oauth/callback?error=" + url.QueryEscape(evil) + "&error_description=" + url.QueryEscape(evil) + "&error_uri=" + url.QueryEscape("https://call-0800-evil.example") + "&state=" + state)
		if body := a.Body.String(); strings.Contains(body, "0800") || !strings.Contains(body, "Nothing") && !strings.Contains(body, "another account") {
			t.Errorf("%s: %d %s", code, a.Code, body)
		}
		if code != lease.OrderOtherAccount && !strings.Contains(a.Body.String(), `href="`+path+`"`) {
			t.Errorf("%s: the page does not lead back to %s", code, path)
		}
		w.vault.code = lease.OrderOK
		if a := b.get(path); a.Code != 200 {
			t.Errorf("%s: the link is used up: %d", code, a.Code)
		}
	}
	if n := len(w.connections(w.customer)); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// A connection that is connected again keeps its id, and changes its account only when that
// is confirmed.
func TestReconnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, path := w.link(nil)
	b := w.browser()
	b.get("/oauth/callback?code=abc&state=" + b.authorize(path))
	old := w.connections(w.customer)[0]
	if _, err := w.SetHealth(t.Context(), w.customer, old.ID, store.HealthNeedsReconnect, "invalid_grant"); err != nil {
		t.Fatal(err)
	}
	_, path = w.link(func(e *LinkEntry) { e.Connector, e.Connection = "", old.ID })
	state := b.authorize(path)
	w.vault.code = lease.OrderOtherAccount
	a := b.get("/oauth/callback?code=abc&state=" + state)
	if body := a.Body.String(); !strings.Contains(body, "It was connected as was-ann@acme.example.") || !strings.Contains(body, "You have signed in as ann@acme.example.") {
		t.Errorf("from whom to whom: %s", body)
	}
	if a.Code != http.StatusConflict || !strings.Contains(a.Body.String(), "another account") || !strings.Contains(a.Body.String(), `name="other_account"`) {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if now := w.connections(w.customer)[0]; now.Health != store.HealthNeedsReconnect || now.RecordVersion != old.RecordVersion {
		t.Errorf("it changed: %+v", now)
	}
	w.vault.code = lease.OrderOK
	state = b.authorize(path, "other_account", "yes")
	if !w.vault.starts[state].OtherAccount || !w.vault.starts[state].Reconnect || w.vault.starts[state].Connection != old.ID {
		t.Errorf("start = %+v", w.vault.starts[state])
	}
	if a := b.get("/oauth/callback?code=abc&state=" + state); a.Code != 200 {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	if list := w.connections(w.customer); len(list) != 1 || list[0].ID != old.ID || list[0].Health != store.HealthOK || list[0].RecordVersion <= old.RecordVersion {
		t.Errorf("connections = %+v", list)
	}
}

// A link leads to what is its customer's, and to nobody else's.
func TestLinksOfAnotherCustomer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := must(w.Save(t.Context(), &Entry{
		Org: w.org, Customer: w.customer, Connector: "acme", Method: "key", Vars: map[string]string{"shop": "bakery"},
		Fields: map[string]string{"key_id": "abcdefgh", "api_key": canary},
	}))
	for name, e := range map[string]*LinkEntry{
		"another customer's connection":     {Org: w.org, Customer: w.other, Connection: n},
		"a customer of nobody":              {Org: w.org, Customer: id.NewCustomer(time.Now()), Connector: "acme"},
		"another organization's customer":   {Org: id.NewOrg(time.Now()), Customer: w.customer, Connector: "acme"},
		"the client of a template":          {Org: w.org, Customer: w.own, Connection: w.template.Client},
		"another organization's connection": {Org: id.NewOrg(time.Now()), Customer: w.customer, Connection: n},
	} {
		if l, _, err := w.MakeLink(t.Context(), e); err == nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

// Pages lead back only to where the organization allows, also when it changes its mind.
func TestPagesLeadBackWhereAllowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, _, err := w.MakeLink(t.Context(), &LinkEntry{Org: w.org, Customer: w.customer, Connector: "acme", ReturnURL: "https://evil.example/"}); err == nil {
		t.Error("a link leads to where it may not")
	}
	if err := w.PutBrand(t.Context(), w.org, &store.Brand{ReturnURLs: []string{"https://app.example/"}}); err != nil {
		t.Fatal(err)
	}
	_, path := w.link(func(e *LinkEntry) { e.ReturnURL = "https://app.example/x" })
	if err := w.PutBrand(t.Context(), w.org, &store.Brand{}); err != nil {
		t.Fatal(err)
	}
	b := w.browser()
	a := b.post(path, "method", "key", "var.shop", "bakery", "field.key_id", "abcdefgh", "field.api_key", canary)
	if a.Code != 200 || strings.Contains(a.Body.String(), "app.example") {
		t.Errorf("%d %s", a.Code, a.Body)
	}
}

// Who connects sees every host to which the credential goes, and those from which files come without it.
func TestThePageNamesAllHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manifest.Hosts = append(w.manifest.Hosts, "files.acme.example")
	w.manifest.Bases = map[string]string{"files": "https://files.acme.example/v3"}
	w.manifest.Actions = []connector.Action{{Name: "put", Method: "PUT", Base: "files"}, {Name: "load", Method: "GET", Follow: []string{"*.cdn.example", "a.cdn.example"}}}
	w.manifest.Auth[0].Recipe.Token.URL = "https://login.acme.example/token"
	w.manifest.Auth[0].Recipe.Revoke = &credential.Request{URL: "https://{shop}.acme.example/revoke"}
	w.template = must(w.PutTemplate(t.Context(), &TemplateEntry{
		Org: w.org, ID: w.template.ID, Customers: []string{lease.SharedWithAll}, Connector: "acme", By: "ann", Fields: map[string]string{"client_id": "c", "client_secret": canary},
	}))
	_, path := w.link(nil)
	b := w.browser()
	const (
		hosts = "can call <b>‹shop›.acme.example, files.acme.example</b> in the name of"
		files = "Files may be fetched from <b>*.cdn.example, a.cdn.example</b>, where Acme Shop says so, and without the credential"
		made  = "Its tokens are made and kept alive at <b>login.acme.example</b>."
	)
	for method, tokens := range map[string]bool{"oauth": true, "key": false} {
		page := b.get(path + "?method=" + method).Body.String()
		if !strings.Contains(page, hosts) || !strings.Contains(page, files) || strings.Contains(page, made) != tokens {
			t.Errorf("%s: %s", method, page)
		}
	}
}
