package suite

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/connect"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/vault"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// bakery is a provider on this machine: an authorization server with PKCE, rotating refresh
// tokens and revocation, and an API that takes its tokens.
type bakery struct {
	*httptest.Server
	t *testing.T

	mu      sync.Mutex
	codes   map[string]url.Values // the authorize request behind a code
	access  string                // the only access token that is taken
	refresh string
	revoked []string
	calls   int
	refused int // calls with another token
	account string
}

func newBakery(t *testing.T) *bakery {
	t.Helper()
	b := &bakery{t: t, codes: map[string]url.Values{}, account: "acct-1"}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authorize", b.authorize)
	mux.HandleFunc("POST /token", b.token)
	mux.HandleFunc("POST /revoke", func(_ http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.revoked = append(b.revoked, r.FormValue("token"))
		b.access, b.refresh = "", ""
	})
	mux.HandleFunc("GET /v1/me", func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.access == "" || r.Header.Get("Authorization") != "Bearer "+b.access {
			b.refused++
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		b.calls++
		_, _ = io.WriteString(w, `{"name":"Ann"}`)
	})
	b.Server = httptest.NewServer(mux)
	t.Cleanup(b.Close)
	return b
}

func (b *bakery) authorize(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := r.URL.Query()
	back := q.Get("redirect_uri") + "?state=" + url.QueryEscape(q.Get("state"))
	code := rand.Text()
	b.codes[code] = q
	http.Redirect(w, r, back+"&code="+code, http.StatusFound)
}

func (b *bakery) token(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.FormValue("client_id") != "our-client" || r.FormValue("client_secret") != clientCanary {
		http.Error(w, `{"error":"invalid_client"}`, http.StatusUnauthorized)
		return
	}
	switch r.FormValue("grant_type") {
	case "authorization_code":
		q := b.codes[r.FormValue("code")]
		delete(b.codes, r.FormValue("code"))
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if q == nil || q.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) || q.Get("redirect_uri") != r.FormValue("redirect_uri") {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
	case "refresh_token":
		if b.refresh == "" || r.FormValue("refresh_token") != b.refresh {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
	default:
		http.Error(w, `{"error":"unsupported_grant_type"}`, http.StatusBadRequest)
		return
	}
	b.access, b.refresh = "canary-"+rand.Text(), "canary-"+rand.Text()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"access_token": b.access, "refresh_token": b.refresh, "token_type": "Bearer", "expires_in": 3600, "account_id": b.account, "account_name": "ann@bakery.example",
	})
}

// clientCanary is the secret of the organization's client at the bakery.
const clientCanary = "canary-client-8143"

// manifest is the connector of the bakery.
func (b *bakery) manifest() string {
	return strings.ReplaceAll(`connector: bakery
version: 1.0.0
title: The Bakery
description: A provider on this machine.
tier: imported
provenance: {kind: hand}
hosts: ["HOST"]
base_url: http://HOST/v1
auth:
  - id: oauth
    title: Sign in
    type: oauth2_code
    recipe:
      authorize: {url: "http://HOST/authorize", scopes: [orders.read]}
      token: {url: "http://HOST/token"}
      revoke: {url: "http://HOST/revoke", params: {token: "{token}"}}
      answer:
        keep:
          - {name: account_id, from: account_id}
          - {name: account_name, from: account_name}
      account: {id: "{account_id}", label: "{account_name}"}
actions:
  me:
    title: Who I am
    method: GET
    path: /me
    output: {type: object}
`, "HOST", strings.TrimPrefix(b.URL, "http://"))
}

// leafConnectionDestroyed is the kind of a leaf, as the format of the vault's log has it.
const leafConnectionDestroyed = 10

const bakeryFlow = `bulkhead: 1
integration: bread
connections:
  shop: {connector: bakery, title: The bakery}
flows:
  main:
    trigger: {manual: {}}
    steps:
      - id: me
        uses: shop.me
`

// person is somebody with a browser.
type person struct {
	t       *testing.T
	http    *http.Client
	cookies map[string]string
	method  string // by which it connects
	seen    string // every page that was shown
}

func newPerson(t *testing.T) *person {
	away := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &person{t: t, http: &http.Client{CheckRedirect: away}, cookies: map[string]string{}, method: "oauth"}
}

// do sends a request as a browser does, and returns status, Location and body.
func (p *person) do(method, address string, form url.Values) (status int, location, body string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for name, value := range p.cookies { // secure ones too: this machine counts as such
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	a, err := p.http.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer a.Body.Close()
	for _, c := range a.Cookies() {
		p.cookies[c.Name] = c.Value
	}
	text, err := io.ReadAll(a.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if a.StatusCode != http.StatusFound { // a provider sends on, with what it knows
		p.seen += string(text)
	}
	if strings.Contains(string(text), "canary-") {
		p.t.Errorf("%s shows a secret", address)
	}
	return a.StatusCode, a.Header.Get("Location"), string(text)
}

// connect opens a connect link and signs in at the provider.
func (p *person) connect(link string) (status int, body string) {
	p.t.Helper()
	status, _, body = p.do(http.MethodGet, link, nil)
	form := regexp.MustCompile(`name="form" value="([^"]*)"`).FindStringSubmatch(body)
	if status != 200 || form == nil {
		p.t.Fatalf("%d %s", status, body)
	}
	status, to, body := p.do(http.MethodPost, link+"/start", url.Values{"form": {form[1]}, "method": {p.method}})
	if status != http.StatusSeeOther {
		p.t.Fatalf("%d %s", status, body)
	}
	status, back, _ := p.do(http.MethodGet, to, nil)
	if status != http.StatusFound {
		p.t.Fatalf("the provider answers %d", status)
	}
	status, _, body = p.do(http.MethodGet, back, nil)
	return status, body
}

// TestConnectingACustomer connects a customer by a link and a provider's sign-in through
// every role, calls the provider with what it granted, breaks the glass, connects again, and
// deletes the connection: at the provider too.
func TestConnectingACustomer(t *testing.T) {
	t.Parallel()
	needSystem(t)
	b := newBakery(t)
	s := startSystem(t, false)
	ctx := t.Context()
	if _, err := s.PublishConnector(ctx, api.ConnectorRequest{Source: b.manifest()}); err != nil {
		t.Fatal(err)
	}
	tmpl, err := s.PutTemplate(ctx, id.Template{}, api.TemplateRequest{Connector: "bakery", Customers: []string{"*"}, Fields: map[string]string{"client_id": "our-client", "client_secret": clientCanary}})
	if err != nil {
		t.Fatal(err)
	}
	if tmpl.RedirectURI != s.roles.URL+"/oauth/callback" {
		t.Errorf("redirect URI = %s", tmpl.RedirectURI)
	}
	link, err := s.MakeConnectLink(ctx, api.ConnectLinkRequest{Customer: "local", Connector: "bakery"})
	if err != nil {
		t.Fatal(err)
	}
	if status, body := newPerson(t).connect(link.URL); status != 200 || !strings.Contains(body, "Connected as ann@bakery.example") {
		t.Fatalf("%d %s", status, body)
	}
	k := s.onlyConnection(ctx)
	if k.Health != store.HealthOK || k.Expires.Before(time.Now()) || k.Template != tmpl.ID.String() {
		t.Errorf("connection = %+v", k)
	}
	v, err := s.Publish(ctx, api.PublishRequest{Source: bakeryFlow})
	if err != nil {
		t.Fatal(err)
	}
	i := id.NewInstance(time.Now())
	if _, err = s.DeploySealed(ctx, s.customer, i, api.DeployRequest{Digest: v.Digest, Slots: map[string]id.Connection{"shop": k.ID}}); err != nil {
		t.Fatal(err)
	}
	if e := s.start(i, "main", nil).wait(); e.status != "completed" || b.calls != 1 {
		t.Fatalf("the execution is %s %s, %d calls", e.status, e.errorType, b.calls)
	}
	s.breakGlass(ctx, b, k, i)
	k = s.onlyConnection(ctx)
	gone, err := s.DeleteConnection(ctx, k.ID)
	if err != nil || gone.Revoked != connect.RevokedYes || len(gone.Instances) != 1 {
		t.Errorf("deleted: %+v, %v", gone, err)
	}
	if len(b.revoked) != 2 || b.access != "" {
		t.Errorf("the provider revoked %d tokens", len(b.revoked))
	}
	if x, err := s.Instance(ctx, i); err != nil || x.State != string(store.InstanceNeedsConnection) {
		t.Errorf("instance = %+v, %v", x, err)
	}
	s.stop() // nobody writes to the keystore any more
	s.destroyed(k.ID)
	if text := s.logged(); strings.Contains(text, "canary-") {
		t.Error("a log holds a secret")
	}
}

// destroyed looks into a copy of the vault's keystore: there is no record of a connection any more, and the
// log says that it was destroyed, in an unbroken chain.
func (s *system) destroyed(n id.Connection) {
	s.t.Helper()
	store, err := keystore.Open(s.t.Context(), keystore.Config{Dir: s.copyKeystore()})
	if err != nil {
		s.t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Connection(s.t.Context(), n); !errors.Is(err, keystore.ErrNotFound) {
		s.t.Errorf("the record: %v", err)
	}
	if _, err := store.VerifyLog(s.t.Context()); err != nil {
		s.t.Error(err)
	}
	found, after := 0, uint64(0)
	for {
		page, err := store.Leaves(s.t.Context(), after, 1000)
		if err != nil {
			s.t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, l := range page {
			var change vault.Change
			if wire.ParseBody(l.Body, &change) == nil && change.Subject == n && l.Kind == leafConnectionDestroyed {
				found++
			}
			after = l.Seq
		}
	}
	if found != 1 {
		s.t.Errorf("%d leaves of the end of the connection", found)
	}
}

func (s *system) onlyConnection(ctx context.Context) *api.Connection {
	s.t.Helper()
	page, err := s.FindConnections(ctx, "local", "bakery", "", client.List{})
	if err != nil || len(page.Items) != 1 {
		s.t.Fatalf("connections: %+v, %v", page, err)
	}
	return &page.Items[0]
}

// breakGlass revokes all connections, and connects the customer again by the link that it
// gives.
func (s *system) breakGlass(ctx context.Context, b *bakery, k *api.Connection, i id.Instance) {
	s.t.Helper()
	r := api.RevocationRequest{Connector: "bakery"}
	var plan *api.RevocationPlan
	s.eventually("a flow record", func() bool {
		var err error
		plan, err = s.PlanRevocation(ctx, r)
		return err == nil && slices.ContainsFunc(plan.Uses, func(u api.Use) bool { return u.Instance == i && u.Host == b.URL && u.Requests == 1 })
	})
	if len(plan.Connections) != 1 || len(b.revoked) != 0 {
		s.t.Errorf("plan = %+v", plan)
	}
	done, err := s.RevokeConnections(ctx, r)
	if err != nil || len(done.Connections) != 1 || done.Connections[0].Revoked != connect.RevokedYes || len(done.Paused) != 1 {
		s.t.Fatalf("done: %+v, %v", done, err)
	}
	if _, err := s.Connection(ctx, k.ID); !client.IsCode(err, api.CodeNotFound) {
		s.t.Errorf("after it: %v", err)
	}
	if status, body := newPerson(s.t).connect(done.Connections[0].Link); status != 200 {
		s.t.Fatalf("%d %s", status, body)
	}
	if _, err := s.Resume(ctx, i); err != nil {
		s.t.Fatal(err)
	}
	calls := b.calls
	if e := s.start(i, "main", nil).wait(); e.status != "completed" || b.calls != calls+1 {
		s.t.Errorf("after it was connected again the execution is %s %s", e.status, e.errorType)
	}
}
