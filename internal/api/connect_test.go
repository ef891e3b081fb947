package api

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/connect"
	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// manifests has one connector.
type manifests struct{}

// Manifest implements connect.Manifests.
func (manifests) Manifest(_ context.Context, _ id.Org, name, version string) (*connector.Manifest, error) {
	if name != "acme" || version != "" && !strings.HasPrefix("1.2.0", version) {
		return nil, fmt.Errorf("%w: %s %s", connect.ErrUnknown, name, version)
	}
	return &connector.Manifest{
		Name: "acme", Version: "1.2.0", Title: "Acme", Tier: connector.TierVerified, Hosts: []string{"{region}.api.acme.example"},
		BaseURL: "https://{region}.api.acme.example/v2", Vars: credential.Vars{"region": {Enum: []string{"eu", "us"}, Default: "eu"}},
		Auth: []credential.Method{
			{ID: "key", Type: credential.APIKey, Places: []credential.Place{{In: credential.InHeader, Name: "X-Key", Format: "{api_key}"}}},
			{ID: "oauth", Type: credential.OAuth2Code, Recipe: &credential.Recipe{
				Authorize: &credential.Authorize{URL: "https://login.acme.example/authorize"}, Token: &credential.Request{URL: "https://login.acme.example/token"},
			}},
		},
		Actions: []connector.Action{{Name: "list", Method: "GET", Path: "/items"}},
	}, nil
}

// connectScene adds what connects customers to a scene.
func (s *scene) connectScene(w *world) {
	w.t.Helper()
	ask[Customer](w, call{method: "POST", path: Prefix + "/customers", body: map[string]any{"external_id": InternalCustomer}})
	s.template = ask[Template](w, call{method: "POST", path: Prefix + "/connection-templates", body: map[string]any{
		"connector": "acme", "customers": []string{"*"}, "fields": map[string]string{"client_id": "ours", "client_secret": canary, "signing_secret": canary},
	}})
	s.link = ask[NewConnectLink](w, call{method: "POST", path: Prefix + "/connect-links", body: map[string]any{"customer": "c-1", "connector": "acme"}})
	s.notice = id.NewNotice(time.Now())
	err := w.db.Write(w.t.Context(), func(tx *store.Tx) error {
		_, err := tx.Customer(s.customer.ID).Notify(&store.ConnectionNotice{ID: s.notice, Connection: s.connection.ID, Kind: store.NoticeUnused, At: time.Now()})
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// secret is the secret of the address of the scene's link.
func (s *scene) secret() string { return s.link.URL[strings.LastIndex(s.link.URL, "/")+1:] }

// A connection by an auth method of a manifest is bound to the hosts that the manifest and
// the values of its variables say, and what is entered is checked.
func TestConnectionsByManifest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.scene()
	key := func(change func(map[string]any)) call {
		body := map[string]any{
			"customer": "c-1", "name": "crm", "connector": "acme", "auth": "key", "vars": map[string]string{"region": "us"},
			"fields": map[string]string{"api_key": canary},
		}
		change(body)
		return call{method: "POST", path: Prefix + "/connections", body: body}
	}
	got := ask[Connection](w, key(func(map[string]any) {}))
	if got.Host != "us.api.acme.example" || got.Kind != "key" || got.Auth != "key" || got.ConnectorVersion != "1.2.0" || got.CreatedBy != "admin" || got.Vars["region"] != "us" {
		t.Errorf("connection = %+v", got)
	}
	r := w.vault.records[got.ID]
	m, _ := manifests{}.Manifest(t.Context(), id.Org{}, "acme", "")
	want := lease.Binding{Scheme: "https", Host: "us.api.acme.example", BasePath: "/v2"}
	if d := cmp.Diff(want, r.Binding); d != "" || r.Digest != m.Digest() || string(r.Field("api_key")) != canary || r.Connector != "acme" {
		t.Errorf("record: %s\n%+v", d, r)
	}
	if spec, err := credential.ParseSpec(r.Spec); err != nil || spec.Values["region"] != "us" || spec.Method.ID != "key" {
		t.Errorf("spec: %+v, %v", spec, err)
	}
	for place, change := range map[string]func(map[string]any){
		"body.vars.region":    func(b map[string]any) { b["vars"] = map[string]string{"region": "evil.example/"} },
		"body.vars":           func(b map[string]any) { b["vars"] = map[string]string{"host": "evil.example"} },
		"body.fields.api_key": func(b map[string]any) { b["fields"] = map[string]string{} },
		"body.fields":         func(b map[string]any) { b["fields"] = map[string]string{"api_key": "x", canary: "x"} },
		"body.auth":           func(b map[string]any) { b["url"] = "https://evil.example" },
		"body.shared":         func(b map[string]any) { b["shared"] = map[string]any{"customers": []string{"*"}} },
		"":                    func(b map[string]any) { b["connector"] = "unknown" },
	} {
		p := w.refused(key(change), CodeInvalid)
		if place != "" && (len(p.Errors) != 1 || p.Errors[0].Place != place) || strings.Contains(fmt.Sprint(p), canary) {
			t.Errorf("%s: %+v", place, p)
		}
	}
	w.refused(key(func(b map[string]any) { b["auth"] = "oauth" }), CodeInvalid)
	// It stays a connection of its connector, and another's secret does not become this one's.
	put := call{method: "PUT", path: Prefix + "/connections/" + got.ID.String()}
	put.body = map[string]any{"customer": "c-1", "kind": "none", "url": "https://evil.example"}
	w.refused(put, CodeConflict)
	put.body = map[string]any{"customer": "c-1", "connector": "acme", "auth": "key", "vars": map[string]string{"region": "eu"}}
	w.refused(put, CodeInvalid) // another host needs the secret again
	renamed := ask[Connection](w, call{method: "PATCH", path: put.path, body: map[string]any{"name": "till"}})
	if renamed.Name != "till" || renamed.Host != got.Host || renamed.Version != got.Version {
		t.Errorf("renamed: %+v", renamed)
	}
	page := ask[Page[Connection]](w, call{method: "GET", path: Prefix + "/connections?connector=acme&health=unknown"})
	if len(page.Items) != 1 || page.Items[0].ID != got.ID || page.Items[0].Unused {
		t.Errorf("list: %+v", page)
	}
}

// A connection of the organization says in its sealed record who may use it and for what.
func TestSharedConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	for action, body := range map[lease.SharedAction]map[string]any{
		{Name: "list", Method: "GET", Path: "/items"}:          {"customer": "internal", "connector": "acme", "auth": "key", "fields": map[string]string{"api_key": "k"}},
		{Name: "request", Method: "*", Base: "*", Path: "/**"}: {"customer": "internal", "kind": "bearer", "url": "https://x.example", "fields": map[string]string{"token": "k"}},
	} {
		body["shared"] = map[string]any{"customers": []string{s.customer.ID.String()}, "actions": []string{action.Name}}
		got := ask[Connection](w, call{method: "POST", path: Prefix + "/connections", body: body})
		r := w.vault.records[got.ID]
		if cmp.Diff(r.SharedWith, []string{s.customer.ID.String()}) != "" || cmp.Diff(r.SharedFor, []lease.SharedAction{action}) != "" || got.Shared == nil {
			t.Errorf("%+v, %+v", r, got)
		}
		for _, shared := range []map[string]any{
			{"customers": []string{id.NewCustomer(time.Now()).String()}},
			{"customers": []string{s.customer.ID.String()}, "actions": []string{action.Name, "drop"}},
		} {
			body["shared"] = shared
			w.refused(call{method: "POST", path: Prefix + "/connections", body: body}, CodeInvalid)
		}
	}
}

// A connection of the organization fills slots of the customers it is shared with, and of nobody else.
func TestSharedConnectionsFillSlots(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	body := map[string]any{
		"customer": "internal", "kind": "bearer", "url": "https://x.example", "fields": map[string]string{"token": "k"},
		"shared": map[string]any{"customers": []string{s.customer.ID.String()}},
	}
	shared := ask[Connection](w, call{method: "POST", path: Prefix + "/connections", body: body})
	ask[Customer](w, call{method: "POST", path: Prefix + "/customers", body: map[string]any{"external_id": "c-2"}})
	deploy := func(customer string, n id.Connection) call {
		return call{method: "POST", path: Prefix + "/instances", body: map[string]any{
			"customer": customer, "integration": "hello", "config": map[string]string{"greeting": "x"}, "slots": map[string]any{"shop": n},
		}}
	}
	got := ask[Instance](w, deploy("c-1", shared.ID))
	x, err := w.db.Customer(t.Context(), s.customer.ID).Instance(got.ID)
	if err != nil || len(x.Slots) != 1 || x.Slots[0].Owner != shared.Customer || x.Slots[0].Connection != shared.ID {
		t.Errorf("slots %+v, %v", x, err)
	}
	for name, n := range map[string]id.Connection{"not shared with it": shared.ID, "another customer's": s.connection.ID} {
		if p := w.refused(deploy("c-2", n), CodeInvalid); len(p.Errors) != 1 || p.Errors[0].Place != "body.slots.shop" {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// Lists say which instances use a connection.
func TestConnectionsAreUsedBy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	got := ask[Connection](w, call{method: "GET", path: Prefix + "/connections/" + s.connection.ID.String()})
	if len(got.UsedBy) != 1 || got.UsedBy[0] != s.instance.ID {
		t.Errorf("connection = %+v", got)
	}
}

func TestConnectionTemplates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	if s.template.Auth != "oauth" || s.template.ClientID != "ours" || s.template.RedirectURI != "https://bulkhead.example/oauth/callback" ||
		s.template.EventsURL != "https://bulkhead.example/hooks/app/"+s.template.ID.String() {
		t.Errorf("template = %+v", s.template)
	}
	path := Prefix + "/connection-templates/" + s.template.ID.String()
	row, err := w.db.Org(t.Context(), w.org).Template(s.template.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got := ask[Template](w, call{method: "GET", path: path}); got.UnknownAccounts != nil {
		t.Errorf("events of unknown accounts: %+v", got.UnknownAccounts)
	}
	since := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	if err := w.db.Write(t.Context(), func(tx *store.Tx) error {
		return tx.Org(w.org).AddUnknown(&store.Unknown{Template: s.template.ID, Events: 7, Since: since, Last: since})
	}); err != nil {
		t.Fatal(err)
	}
	if text := w.send(call{method: "GET", path: "/metrics", token: w.tokens[RoleViewer]}).Body.String(); !strings.Contains(text, `bulkhead_app_unknown_accounts_total{connector="`+row.Connector+`"} 7`+"\n") {
		t.Error("no metric of unknown accounts")
	}
	list := ask[Page[Template]](w, call{method: "GET", path: Prefix + "/connection-templates"})
	for _, got := range append(list.Items, ask[Template](w, call{method: "GET", path: path})) {
		if u := got.UnknownAccounts; u == nil || u.Events != 7 || !u.Since.Equal(since) {
			t.Errorf("events of unknown accounts: %+v, want 7", u)
		}
	}
	r := w.vault.records[row.Client]
	if r.Kind != lease.KindOAuth2Client || string(r.Field("client_secret")) != canary || cmp.Diff(r.Hosts, []string{"*.api.acme.example"}) != "" {
		t.Errorf("client = %+v", r)
	}
	// The client is no connection.
	client := Prefix + "/connections/" + row.Client.String()
	w.refused(call{method: "GET", path: client}, CodeNotFound)
	w.refused(call{method: "DELETE", path: client}, CodeNotFound)
	w.refused(call{method: "PATCH", path: client, body: map[string]any{"name": "x"}}, CodeNotFound)
	w.refused(call{method: "PUT", path: client, body: map[string]any{
		"customer": "internal", "connector": "acme", "auth": "key", "fields": map[string]string{"api_key": "x"},
	}}, CodeNotFound)
	w.refused(call{method: "PUT", path: path, body: map[string]any{"connector": "acme", "customers": []string{"*"}, "fields": map[string]string{"client_id": "other"}}}, CodeInvalid)
	for _, customers := range [][]string{nil, {"nobody"}, {"*", "c-1"}} { // for whom it is has to be said
		w.refused(call{method: "PUT", path: path, body: map[string]any{
			"connector": "acme", "customers": customers, "fields": map[string]string{"client_id": "other", "client_secret": "new"},
		}}, CodeInvalid)
	}
	changed := ask[Template](w, call{method: "PUT", path: path, body: map[string]any{
		"connector": "acme", "customers": []string{"c-1"}, "name": "ours", "scopes": []string{"read"}, "fields": map[string]string{"client_id": "other", "client_secret": "new"},
	}})
	if mine := []string{s.customer.ID.String()}; cmp.Diff(mine, changed.Customers) != "" || cmp.Diff(mine, w.vault.records[row.Client].SharedWith) != "" {
		t.Errorf("it is for %v, and sealed for %v", changed.Customers, w.vault.records[row.Client].SharedWith)
	}
	if changed.ClientID != "other" || changed.Name != "ours" || string(w.vault.records[row.Client].Field("client_secret")) != "new" {
		t.Errorf("changed: %+v", changed)
	}
	if a := w.send(call{method: "DELETE", path: path}); a.Code != 204 {
		t.Errorf("delete: %d %s", a.Code, a.Body)
	}
	w.refused(call{method: "GET", path: path}, CodeNotFound)
}

func TestConnectLinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	if !strings.HasPrefix(s.link.URL, "https://bulkhead.example/connect/") || len(s.secret()) != 43 || s.link.State != "open" || s.link.Template != s.template.ID.String() {
		t.Errorf("link = %+v", s.link)
	}
	made := func(body map[string]any) call {
		return call{method: "POST", path: Prefix + "/connect-links", body: body}
	}
	w.refused(made(map[string]any{"customer": "c-1"}), CodeInvalid)
	w.refused(made(map[string]any{"customer": "c-1", "connector": "acme", "return_url": "https://app.example/x"}), CodeInvalid)
	w.refused(made(map[string]any{"connection": s.connection.ID}), CodeConflict) // of the built-in connector
	w.refused(made(map[string]any{"connection": id.NewConnection(time.Now())}), CodeNotFound)
	ask[Brand](w, call{method: "PUT", path: Prefix + "/brand", body: map[string]any{"title": "Ours", "return_urls": []string{"https://app.example/settings/"}}})
	for url, ok := range map[string]bool{
		"https://app.example/settings/": true, "https://app.example/settings/a?b=c": true, "https://app.example/settings": true,
		"https://app.example/": false, "https://app.example.evil.example/settings/": false, "https://app.example@evil.example/settings/": false,
		"http://app.example/settings/": false, "https://app.example/settings/../x": false, `https://app.example\@evil.example/settings/`: false,
		"//app.example/settings/": false, "javascript:alert(1)": false, "https://app.example:444/settings/": false, "https://app.example/settings/%2e%2e/x": false,
	} {
		body := map[string]any{"customer": "c-1", "connector": "acme", "return_url": url}
		if ok {
			ask[NewConnectLink](w, made(body))
		} else {
			w.refused(made(body), CodeInvalid)
		}
	}
	if a := w.send(call{method: "DELETE", path: Prefix + "/connect-links/" + s.link.ID.String()}); a.Code != 204 {
		t.Errorf("revoke: %d", a.Code)
	}
	if page := ask[Page[ConnectLink]](w, call{method: "GET", path: Prefix + "/connect-links?customer=c-1"}); len(page.Items) != 3 {
		t.Errorf("links: %+v", page)
	}
}

func TestBrandIsChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	png := []byte("\x89PNG\r\n\x1a\n")
	for _, body := range []map[string]any{
		{"colours": map[string]string{"accent": "red;} body{background:url(//evil)"}},
		{"colours": map[string]string{"shadow": "#000000"}},
		{"logo": []byte("<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>")},
		{"logo": append(png, make([]byte, connect.MaxLogo)...)},
		{"return_urls": []string{"https://app.example"}},
		{"return_urls": []string{"http://app.example/"}},
		{"return_urls": []string{"javascript:/"}},
		{"title": "a\nb"},
	} {
		w.refused(call{method: "PUT", path: Prefix + "/brand", body: body}, CodeInvalid)
	}
	got := ask[Brand](w, call{method: "PUT", path: Prefix + "/brand", body: map[string]any{"logo": png, "colours": map[string]string{"accent": "#0a7d5a"}}})
	if got.Title != "acme" || string(got.Logo) != string(png) {
		t.Errorf("brand = %+v", got)
	}
}

func TestNoticesAreSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	list := func() int {
		return len(ask[Page[Notice]](w, call{method: "GET", path: Prefix + "/notices?unseen=true&customer=c-1"}).Items)
	}
	if n := list(); n != 1 {
		t.Errorf("%d notices", n)
	}
	if a := w.send(call{method: "POST", path: Prefix + "/notices/" + s.notice.String() + "/seen"}); a.Code != 204 {
		t.Errorf("seen: %d %s", a.Code, a.Body)
	}
	if n := list(); n != 0 {
		t.Errorf("%d notices after it was seen", n)
	}
}

// Breaking the glass takes a plan, and then as many requests as it needs.
func TestRevocations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	plan := ask[RevocationPlan](w, call{method: "POST", path: Prefix + "/revocations/plan", body: map[string]any{"customer": "c-1"}})
	if len(plan.Connections) != 1 || plan.Connections[0].ID != s.connection.ID || len(plan.Connections[0].UsedBy) != 1 {
		t.Errorf("plan = %+v", plan)
	}
	w.refused(call{method: "POST", path: Prefix + "/revocations", body: map[string]any{}}, CodeInvalid)
	w.refused(call{method: "POST", path: Prefix + "/revocations", body: map[string]any{"customer": "c-1"}, token: w.tokens[RoleViewer]}, CodeForbidden)
	done := ask[Revocation](w, call{method: "POST", path: Prefix + "/revocations", body: map[string]any{"all": true}})
	if len(done.Connections) != 1 || !done.Connections[0].Done || done.Connections[0].Revoked != connect.RevokedNothing || len(done.Paused) != 1 || done.Links != 1 {
		t.Errorf("done = %+v", done)
	}
	if page := ask[Page[Connection]](w, call{method: "GET", path: Prefix + "/connections"}); len(page.Items) != 0 {
		t.Errorf("left: %+v", page)
	}
}
