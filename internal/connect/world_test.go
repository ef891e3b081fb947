package connect

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/blob"
	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// canary is a secret that no page may show.
const canary = "canary-4711-secret"

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// vault keeps records, and plays the provider behind egress.
type vault struct {
	key    *seal.PrivateKey
	server seal.PublicKey
	node   id.Node

	mu      sync.Mutex
	records map[id.Connection]*lease.Record
	version uint64
	configs map[id.Instance]uint64 // their versions
	starts  map[string]*lease.StartCall
	orders  []lease.OrderOp
	asked   []wire.Pair // parameters of the last exchange
	code    string      // of the next order
	sealed  bool        // it destroys nothing
	account lease.Account
}

// Call implements engine.Vault.
func (v *vault) Call(_ context.Context, op string, body []byte) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch op {
	case lease.OpCustomer, lease.OpInstanceDelete:
		return nil, nil
	case lease.OpPayloadKey:
		return wire.AppendBody(nil, &lease.PayloadKeyAnswer{Key: must(seal.GenerateKey()).Public()}), nil
	case lease.OpBlindKey:
		sealed, err := seal.Seal(v.server, lease.PurposeServer, lease.BlindKeyPlace(v.node), make([]byte, 32))
		return wire.AppendBody(nil, &lease.SealedAnswer{Sealed: sealed}), err
	case lease.OpInstance:
		var m lease.InstanceCall
		if err := wire.ParseBody(body, &m); err != nil {
			return nil, err
		}
		v.version++
		v.configs[m.Instance] = v.version
		return wire.AppendBody(nil, &lease.InstanceAnswer{Version: v.version, Config: []byte("sealed")}), nil
	case lease.OpConnectionDelete:
		if v.sealed {
			return nil, errors.New("the vault is sealed")
		}
		var m lease.ConnectionCall
		if err := wire.ParseBody(body, &m); err != nil {
			return nil, err
		}
		delete(v.records, m.Connection)
		return nil, nil
	case lease.OpVersions:
		var m lease.VersionsCall
		if err := wire.ParseBody(body, &m); err != nil {
			return nil, err
		}
		a := &lease.VersionsAnswer{Customers: make([]lease.Version, len(m.Customers))}
		for _, n := range m.Instances {
			a.Instances = append(a.Instances, lease.Version{Number: v.configs[n]})
		}
		for _, n := range m.Connections {
			x := lease.Version{}
			if v.records[n] != nil {
				x.Number = 1
			}
			a.Connections = append(a.Connections, x)
		}
		return wire.AppendBody(nil, a), nil
	case lease.OpConnection:
		var m lease.ConnectionCall
		if err := wire.ParseBody(body, &m); err != nil {
			return nil, err
		}
		r, err := v.open(m.Customer, m.Connection, m.Record)
		if err != nil {
			return nil, err
		}
		v.version++
		v.records[m.Connection] = r
		return wire.AppendBody(nil, &lease.ConnectionAnswer{Version: v.version}), nil
	}
	return nil, errors.New("unknown operation " + op)
}

func (v *vault) open(c id.Customer, n id.Connection, sealed []byte) (*lease.Record, error) {
	plain, err := v.key.Open(lease.PurposeVault, lease.ConnectionPlace(c, n), sealed)
	if err != nil {
		return nil, err
	}
	r := &lease.Record{}
	return r, wire.ParseBody(plain, r)
}

// Start implements Providers.
func (v *vault) Start(_ context.Context, m *lease.StartCall) (*lease.StartAnswer, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, err := v.open(m.Customer, m.Connection, m.Draft); err != nil {
		return nil, err
	}
	state := makeSecret()
	v.starts[state] = m
	return &lease.StartAnswer{State: state, Challenge: makeSecret(), Nonce: rand.Text()}, nil
}

// Order implements Providers. It is careful as the vault is: a start is good for one
// exchange, of the browser that began.
func (v *vault) Order(_ context.Context, op lease.OrderOp, c id.Customer, n id.Connection, x *lease.Exchange) (*lease.OrderResult, *lease.Account, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.orders = append(v.orders, op)
	result := &lease.OrderResult{Code: v.code, Status: wire.ConnectionStatus{Customer: c, Connection: n, Expires: time.Now().Add(time.Hour), Scopes: "read write"}}
	if op == lease.OrderExchange {
		m := v.starts[x.State]
		delete(v.starts, x.State)
		v.asked = x.Params
		if m == nil || m.Connection != n || m.Browser != x.Browser && !off(browsersBound) {
			return nil, nil, errors.New("no such start")
		}
		if result.Code != lease.OrderOK {
			if result.Code == lease.OrderOtherAccount {
				return result, &v.account, nil
			}
			return result, nil, nil
		}
		r, err := v.open(c, n, m.Draft)
		if err != nil {
			return nil, nil, err
		}
		v.records[n] = r
	}
	v.version++
	result.Status.Version = v.version
	return result, &v.account, nil
}

// Account implements Providers.
func (v *vault) Account(_ context.Context, c id.Customer, n id.Connection) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.records[n]
	if r == nil || r.Customer != c {
		return "", errors.New("no such connection")
	}
	return "was-" + v.account.Label, nil
}

// AccountIndex implements Providers.
func (v *vault) AccountIndex(_ context.Context, connector, account string) ([32]byte, error) {
	return browserHash(connector + "/" + account), nil
}

type nobody struct{}

// Send implements engine.Link.
func (nobody) Send(wire.Role, id.Node, ...wire.Typed) {}

// Manifest implements Manifests: one connector with every kind of auth method.
func (w *world) Manifest(_ context.Context, _ id.Org, name, _ string) (*connector.Manifest, error) {
	if name != w.manifest.Name {
		return nil, fmt.Errorf("%w: %s", ErrUnknown, name)
	}
	return w.manifest, nil
}

func acme() *connector.Manifest {
	return &connector.Manifest{
		Name: "acme", Version: "1.2.0", Title: "Acme Shop", Tier: connector.TierVerified, Hosts: []string{"{shop}.acme.example"},
		BaseURL: "https://{shop}.acme.example/v2", Vars: credential.Vars{"shop": {Title: "Your shop"}},
		Auth: []credential.Method{
			{ID: "oauth", Title: "Sign in", Type: credential.OAuth2Code, Recipe: &credential.Recipe{
				Authorize: &credential.Authorize{URL: "https://{shop}.acme.example/authorize", Scopes: []string{"read_orders"}},
				Token:     &credential.Request{URL: "https://{shop}.acme.example/token"},
			}},
			{ID: "key", Title: "Access key", Help: "Make a key in your shop's settings, below API.", Type: credential.APIKey, Fields: []credential.Field{
				{Name: "key_id", Title: "Key id", Help: "Eight letters.", Pattern: "[a-z]{8}"}, {Name: "api_key", Title: "Key", Secret: true},
			}, Places: []credential.Place{{In: credential.InHeader, Name: "X-Key", Format: "{key_id}:{api_key}"}}},
			{ID: "machine", Title: "Machine", Type: credential.Session, Fields: []credential.Field{{Name: "pin", Secret: true}}, Recipe: &credential.Recipe{
				Steps: []credential.Step{{Name: "login", Request: credential.Request{URL: "https://{shop}.acme.example/login", Body: credential.BodyJSON, Params: map[string]string{"pin": "{pin}"}}}},
			}},
		},
		Actions: []connector.Action{{Name: "listOrders", Method: "GET", Path: "/orders"}},
	}
}

// world is a Service with an organization, a template and two customers.
type world struct {
	*Service
	t        *testing.T
	vault    *vault
	manifest *connector.Manifest
	org      id.Org
	own      id.Customer // the organization itself
	customer id.Customer
	other    id.Customer
	template *store.Template
	pages    http.Handler
}

func newWorld(t *testing.T) *world {
	t.Helper()
	key, sign := must(seal.GenerateKey()), must(seal.GenerateSignKey())
	v := &vault{
		key: must(seal.GenerateKey()), server: key.Public(), node: id.NewNode(time.Now()), records: map[id.Connection]*lease.Record{},
		configs: map[id.Instance]uint64{}, starts: map[string]*lease.StartCall{}, code: lease.OrderOK, account: lease.Account{ID: "acct-1", Label: "ann@acme.example"},
	}
	dir := t.TempDir()
	db := must(store.Open(t.Context(), store.Options{Dir: dir, Durability: store.Temporary}))
	blobs := must(blob.Open(dir))
	e := must(engine.New(t.Context(), engine.Options{
		Node: v.node, Sign: sign, Key: key, Store: db, Blobs: blobs, Link: nobody{}, Vault: v, VaultKey: v.key.Public(),
		CallbackBase: "http://127.0.0.1/callbacks/", HookBase: "http://127.0.0.1/hooks/",
	}))
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { _ = e.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		ended.Wait()
		if err := errors.Join(db.Close(), blobs.Close()); err != nil {
			t.Error(err)
		}
	})
	w := &world{t: t, vault: v, manifest: acme(), org: id.NewOrg(time.Now())}
	w.Service = New(Options{Engine: e, Store: db, Manifests: w, Providers: v, BaseURL: "https://bulkhead.example", Pool: "default"})
	w.pages = w.Pages()
	w.fill()
	return w
}

func (w *world) fill() {
	w.t.Helper()
	ctx := w.t.Context()
	if err := w.engine.PutOrganization(ctx, &store.Organization{ID: w.org, Name: "Northwind"}); err != nil {
		w.t.Fatal(err)
	}
	w.own = must(w.engine.PutCustomer(ctx, &store.CustomerRow{Organization: w.org, ExternalID: InternalCustomer, Internal: true}))
	w.customer = must(w.engine.PutCustomer(ctx, &store.CustomerRow{Organization: w.org, ExternalID: "c-1", Title: "Bakery Ltd"}))
	w.other = must(w.engine.PutCustomer(ctx, &store.CustomerRow{Organization: w.org, ExternalID: "c-2"}))
	w.template = must(w.PutTemplate(ctx, &TemplateEntry{
		Org: w.org, Customers: []string{lease.SharedWithAll}, Connector: "acme", Scopes: []string{"write_orders"}, By: "ann", Fields: map[string]string{"client_id": "our-client", "client_secret": canary},
	}))
}

// link makes a link, and returns it with the path of its page.
func (w *world) link(change func(*LinkEntry)) (*store.Link, string) {
	w.t.Helper()
	e := &LinkEntry{Org: w.org, Customer: w.customer, Connector: "acme", By: "ann"}
	if change != nil {
		change(e)
	}
	l, address, err := w.MakeLink(w.t.Context(), e)
	if err != nil {
		w.t.Fatal(err)
	}
	return l, strings.TrimPrefix(address, "https://bulkhead.example")
}

// browser is one that keeps cookies.
type browser struct {
	w       *world
	cookies map[string]string
}

func (w *world) browser() *browser { return &browser{w, map[string]string{}} }

func (b *browser) send(r *http.Request) *httptest.ResponseRecorder {
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	a := httptest.NewRecorder()
	b.w.pages.ServeHTTP(a, r.WithContext(b.w.t.Context()))
	for _, c := range a.Result().Cookies() {
		if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
			b.w.t.Errorf("cookie %+v", c)
		}
		b.cookies[c.Name] = c.Value
	}
	if strings.Contains(a.Body.String(), canary) {
		b.w.t.Errorf("a page shows a secret: %s", a.Body)
	}
	return a
}

func (b *browser) get(path string) *httptest.ResponseRecorder {
	return b.send(httptest.NewRequest(http.MethodGet, "https://bulkhead.example"+path, nil))
}

var formField = regexp.MustCompile(`name="form" value="([^"]*)"`)

// post opens the page at a path and sends its form.
func (b *browser) post(path string, fields ...string) *httptest.ResponseRecorder {
	found := formField.FindStringSubmatch(b.get(path).Body.String())
	if found == nil {
		b.w.t.Fatal("the page has no form")
	}
	return b.submit(path, append(fields, "form", found[1])...)
}

func (b *browser) submit(path string, fields ...string) *httptest.ResponseRecorder {
	form := url.Values{}
	for pair := range slices.Chunk(fields, 2) {
		form.Set(pair[0], pair[1])
	}
	path, _, _ = strings.Cut(path, "?")
	return b.send(formRequest(path, form))
}

// formRequest sends the form of the page at a path.
func formRequest(path string, form url.Values) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "https://bulkhead.example"+path+"/start", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

// authorize goes to the provider, and returns the state with which it would come back.
func (b *browser) authorize(path string, fields ...string) string {
	b.w.t.Helper()
	a := b.post(path, append([]string{"method", "oauth", "var.shop", "bakery"}, fields...)...)
	to, err := url.Parse(a.Header().Get("Location"))
	if a.Code != http.StatusSeeOther || err != nil || to.Host != "bakery.acme.example" {
		b.w.t.Fatalf("%d to %v: %s", a.Code, to, a.Body)
	}
	return to.Query().Get("state")
}

// connections are those of a customer.
func (w *world) connections(c id.Customer) []store.ConnectionInfo {
	w.t.Helper()
	return must(w.db.Org(w.t.Context(), w.org).Connections(&store.ConnectionQuery{Customer: c}, 9))
}
