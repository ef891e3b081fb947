package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/blob"
	"github.com/bulkheadhq/bulkhead/internal/connect"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// vault makes keys and remembers what it was given.
type vault struct {
	key    *seal.PrivateKey
	server seal.PublicKey
	node   id.Node
	blind  []byte
	asked  func(op string) // nil: nothing is told

	mu      sync.Mutex
	configs map[id.Instance][]byte
	records map[id.Connection]*lease.Record
	version uint64
}

// Call implements engine.Vault.
func (v *vault) Call(_ context.Context, op string, body []byte) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.asked != nil {
		v.asked(op)
	}
	switch op {
	case lease.OpCustomer, lease.OpCustomerDelete, lease.OpConnectionDelete, lease.OpInstanceDelete:
		return nil, nil
	case lease.OpPayloadKey:
		k, err := seal.GenerateKey()
		if err != nil {
			return nil, err
		}
		return wire.AppendBody(nil, &lease.PayloadKeyAnswer{Key: k.Public()}), nil
	case lease.OpBlindKey:
		sealed, err := seal.Seal(v.server, lease.PurposeServer, lease.BlindKeyPlace(v.node), v.blind)
		return wire.AppendBody(nil, &lease.SealedAnswer{Sealed: sealed}), err
	case lease.OpInstance:
		var m lease.InstanceCall
		if err := wire.ParseBody(body, &m); err != nil {
			return nil, err
		}
		config, err := v.key.Open(lease.PurposeVault, lease.ConfigPlace(m.Customer, m.Instance, 0), m.Config)
		if err != nil {
			return nil, err
		}
		v.version++
		v.configs[m.Instance] = config
		return wire.AppendBody(nil, &lease.InstanceAnswer{Version: v.version, Config: []byte("sealed config")}), nil
	case lease.OpConnection:
		var m lease.ConnectionCall
		if err := wire.ParseBody(body, &m); err != nil {
			return nil, err
		}
		plain, err := v.key.Open(lease.PurposeVault, lease.ConnectionPlace(m.Customer, m.Connection), m.Record)
		if err != nil {
			return nil, err
		}
		r := &lease.Record{}
		if err := wire.ParseBody(plain, r); err != nil {
			return nil, err
		}
		v.version++
		v.records[m.Connection] = r
		return wire.AppendBody(nil, &lease.ConnectionAnswer{Version: v.version}), nil
	}
	return nil, errors.New("unknown operation " + op)
}

// nobody drops every frame: no runner listens.
type nobody struct{}

// Send implements engine.Link.
func (nobody) Send(wire.Role, id.Node, ...wire.Typed) {}

// world is a server with two organizations, and a token for each role of both.
type world struct {
	t      *testing.T
	db     *store.Store
	vault  *vault
	server *Server
	public http.Handler
	org    id.Org
	tokens map[Role]string
	other  string // an administrator's of another organization
}

// newPlatform is a database without an organization, and the engine that runs on it.
func newPlatform(t *testing.T) (*world, *engine.Engine) {
	t.Helper()
	key, sign := must(seal.GenerateKey()), must(seal.GenerateSignKey())
	w := &world{t: t, tokens: map[Role]string{}, vault: &vault{
		key: must(seal.GenerateKey()), server: key.Public(), node: id.NewNode(time.Now()), blind: make([]byte, 32),
		configs: map[id.Instance][]byte{}, records: map[id.Connection]*lease.Record{},
	}}
	_, _ = rand.Read(w.vault.blind)
	dir := t.TempDir()
	w.db = must(store.Open(t.Context(), database(t, dir)))
	blobs := must(blob.Open(dir))
	e := must(engine.New(t.Context(), engine.Options{
		Node: w.vault.node, Sign: sign, Key: key, Store: w.db, Blobs: blobs, Link: nobody{}, Vault: w.vault,
		VaultKey: w.vault.key.Public(), CallbackBase: "http://127.0.0.1/callbacks/", HookBase: "http://127.0.0.1/hooks/",
	}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		_ = e.Run(ctx) // it ends with its context
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if err := errors.Join(w.db.Close(), blobs.Close()); err != nil {
			t.Error(err)
		}
	})
	return w, e
}

func newWorld(t *testing.T, options ...func(*Options)) *world {
	t.Helper()
	w, e := newPlatform(t)
	w.org = w.organization(e, "acme")
	o := Options{Engine: e, Store: w.db, Org: w.org, Version: "test", Connect: connect.New(connect.Options{
		Engine: e, Store: w.db, Manifests: manifests{}, BaseURL: "https://bulkhead.example", Pool: DefaultPool,
	})}
	for _, set := range options {
		set(&o)
	}
	w.server = New(o)
	w.public = w.server.Public()
	for _, r := range []Role{RoleAdmin, RoleOperator, RoleBuilder, RoleViewer} {
		w.tokens[r] = w.token(w.org, r, time.Hour)
	}
	w.other = w.token(w.organization(e, "evil"), RoleAdmin, time.Hour)
	return w
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (w *world) organization(e *engine.Engine, name string) id.Org {
	w.t.Helper()
	org := id.NewOrg(time.Now())
	if err := e.PutOrganization(w.t.Context(), &store.Organization{ID: org, Name: name}); err != nil {
		w.t.Fatal(err)
	}
	return org
}

func (w *world) token(org id.Org, r Role, life time.Duration) string {
	w.t.Helper()
	row, text := makeToken(string(r), r, life, time.Now())
	if err := w.db.Write(w.t.Context(), func(tx *store.Tx) error { return tx.Org(org).PutToken(row) }); err != nil {
		w.t.Fatal(err)
	}
	return text
}

// call is one request.
type call struct {
	method, path string
	body         any // text is sent as it is
	header       map[string]string
	token        string // default: the administrator's; "none": none
}

func (w *world) send(c call) *httptest.ResponseRecorder {
	w.t.Helper()
	var body io.Reader
	switch b := c.body.(type) {
	case nil:
	case string:
		body = bytes.NewReader([]byte(b))
	default:
		body = bytes.NewReader(must(json.Marshal(b)))
	}
	r := httptest.NewRequest(c.method, c.path, body).WithContext(w.t.Context())
	if c.body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	switch c.token {
	case "none":
	case "":
		r.Header.Set("Authorization", "Bearer "+w.tokens[RoleAdmin])
	default:
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	for name, value := range c.header {
		r.Header.Set(name, value)
	}
	a := httptest.NewRecorder()
	w.public.ServeHTTP(a, r)
	return a
}

// ask sends a request that must succeed and reads its answer.
func ask[T any](w *world, c call) T {
	w.t.Helper()
	a := w.send(c)
	if a.Code >= 300 {
		w.t.Fatalf("%s %s: %d %s", c.method, c.path, a.Code, a.Body)
	}
	var v T
	if a.Body.Len() > 0 {
		if err := json.Unmarshal(a.Body.Bytes(), &v); err != nil {
			w.t.Fatalf("%s %s: %v in %s", c.method, c.path, err, a.Body)
		}
	}
	return v
}

// refused sends a request that must fail and returns its problem.
func (w *world) refused(c call, want Code) Problem {
	w.t.Helper()
	a := w.send(c)
	var p Problem
	if err := json.Unmarshal(a.Body.Bytes(), &p); err != nil || a.Header().Get("Content-Type") != "application/problem+json" {
		w.t.Fatalf("%s %s: %d %s is no problem: %v", c.method, c.path, a.Code, a.Body, err)
	}
	if p.Code != want || p.Status != a.Code || p.RequestID == "" || p.RequestID != a.Header().Get("X-Request-Id") {
		w.t.Errorf("%s %s: %d %s, want %s", c.method, c.path, a.Code, a.Body, want)
	}
	return p
}

const sample = `bulkhead: 1
integration: hello
config:
  greeting: {type: string, title: Greeting, default: hi}
connections:
  shop: {connector: http, title: The shop}
flows:
  main:
    trigger: {manual: {}}
    steps:
      - id: a
        set: {x: "${{ 1 + 1 }}"}
  hook:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps:
      - id: a
        set: {x: "${{ 1 + 1 }}"}
`

// scene is one of everything in the first organization.
type scene struct {
	customer   Customer
	version    Version
	connection Connection
	instance   Instance
	execution  id.Execution
	template   Template
	link       NewConnectLink
	notice     id.Notice
}

func (w *world) scene() *scene {
	w.t.Helper()
	s := &scene{}
	s.customer = ask[Customer](w, call{method: "POST", path: "/api/v1/customers", body: map[string]any{"external_id": "c-1", "name": "One"}})
	s.version = ask[Version](w, call{method: "POST", path: "/api/v1/integrations", body: map[string]any{"source": sample}})
	s.connection = ask[Connection](w, call{method: "POST", path: "/api/v1/connections", body: map[string]any{
		"customer": "c-1", "name": "shop", "kind": "bearer", "url": "https://shop.example.com/v1", "fields": map[string]string{"token": canary},
	}})
	s.instance = ask[Instance](w, call{method: "POST", path: "/api/v1/instances", body: map[string]any{
		"customer": "c-1", "integration": "hello", "config": map[string]string{"greeting": canary}, "slots": map[string]any{"shop": s.connection.ID},
	}})
	s.connectScene(w)
	s.execution = ask[Started](w, call{
		method: "POST", path: "/api/v1/instances/" + s.instance.ID.String() + "/executions",
		body: map[string]any{"flow": "main", "event": map[string]any{"body": canary}, "test": true},
	}).Execution
	return s
}

// canary is what no answer and no log may hold.
const canary = "canary-4711-secret"
