package trigger

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/blob"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/testkit"
	"github.com/bulkheadhq/bulkhead/internal/vault"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

var postgres = testkit.Postgres{}

func TestMain(m *testing.M) {
	code := m.Run()
	if err := postgres.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// both runs a test on an empty database of each engine.
func both(t *testing.T, test func(t *testing.T, o store.Options)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, store.Options{Dir: t.TempDir()})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, store.Options{URL: postgres.Database(t)})
	})
}

// rig is a server with a real vault behind it. The payload keys are the rig's, so that it
// can open what is stored.
type rig struct {
	t     testing.TB
	db    store.Options
	store *store.Store
	e     *engine.Engine
	door  *Door
	url   string
	vault *vault.Vault
	opt   engine.Options
	link  *link
	org   id.Org
	stop  func()

	mu      sync.Mutex
	payload map[lease.Day]*seal.PrivateKey
	calls   map[string]int // of the vault, by operation
	down    bool           // the vault
}

// link delivers the frames to one node, if there is one.
type link struct {
	mu     sync.Mutex
	frames chan wire.Frame
}

// Send implements [engine.Link].
func (l *link) Send(_ wire.Role, _ id.Node, frames ...wire.Typed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range frames {
		if l.frames != nil {
			l.frames <- wire.Frame{Type: m.FrameType(), Body: wire.AppendBody(nil, m)}
		}
	}
}

// Call implements [engine.Vault].
func (r *rig) Call(ctx context.Context, op string, body []byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls[op]++
	if r.down {
		return nil, errors.New("the vault is away")
	}
	if op != lease.OpPayloadKey {
		return r.vault.Call(ctx, r.opt.Node, op, body)
	}
	var m lease.PayloadKeyCall
	if err := wire.ParseBody(body, &m); err != nil {
		return nil, err
	}
	if r.payload[m.Day] == nil {
		r.payload[m.Day] = must(seal.GenerateKey())
	}
	return wire.AppendBody(nil, &lease.PayloadKeyAnswer{Key: r.payload[m.Day].Public()}), nil
}

func must[V any](v V, err error) V {
	if err != nil {
		panic(err)
	}
	return v
}

func newRig(t testing.TB, db store.Options) *rig {
	t.Helper()
	root := make([]byte, vault.RootSize)
	_, _ = rand.Read(root)
	v, err := vault.Open(context.Background(), vault.Config{Dir: t.TempDir() + "/keys", Temporary: true, Root: secret.New(root)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	r := &rig{t: t, db: db, vault: v, link: &link{}, org: id.NewOrg(time.Now()), payload: map[lease.Day]*seal.PrivateKey{}, calls: map[string]int{}}
	sign, key := must(seal.GenerateSignKey()), must(seal.GenerateKey())
	me, err := v.Enroll(context.Background(), &wire.Enroll{Role: string(wire.RoleServer), Sign: sign.Public(), Seal: key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	r.opt = engine.Options{Node: me.Node, Sign: sign, Key: key, Link: r.link, Vault: r, VaultKey: v.Key(), Log: slog.New(slog.DiscardHandler)}
	if _, ok := t.(*testing.B); ok { // nobody runs what a benchmark starts
		r.opt.Pending = engine.Pending{Events: 1 << 30, AllEvents: 1 << 30, Bytes: 1 << 50, AllBytes: 1 << 50}
	}
	if r.db.URL == "" && r.db.Dir == "" {
		r.db.Dir = t.TempDir()
	}
	r.start()
	t.Cleanup(func() { r.stop() })
	if err := r.e.PutOrganization(context.Background(), &store.Organization{ID: r.org, Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	return r
}

// start opens the database and serves it.
func (r *rig) start() {
	r.t.Helper()
	db, err := store.Open(context.Background(), r.db)
	if err != nil {
		r.t.Fatal(err)
	}
	blobs, err := blob.Open(r.t.TempDir())
	if err != nil {
		r.t.Fatal(err)
	}
	r.store, r.opt.Store, r.opt.Blobs = db, db, blobs
	server := httptest.NewUnstartedServer(nil)
	r.url = "http://" + server.Listener.Addr().String()
	r.opt.HookBase = r.url + Path
	if r.e, err = engine.New(context.Background(), r.opt); err != nil {
		r.t.Fatal(err)
	}
	r.door = NewDoor(Options{Engine: r.e, Vault: r, Store: db})
	server.Config.Handler = r.door
	server.Start()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	e := r.e
	go func() { defer close(done); _ = e.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		server.Close()
		cancel()
		<-done
		if err := errors.Join(db.Close(), blobs.Close()); err != nil {
			r.t.Error(err)
		}
	})
}

// instance is a customer with an instance.
type instance struct {
	customer id.Customer
	id       id.Instance
}

// deploy publishes an integration and makes an instance of it for a new customer.
func (r *rig) deploy(i *flow.Integration, config string) instance {
	r.t.Helper()
	c, err := r.e.PutCustomer(context.Background(), &store.CustomerRow{
		Organization: r.org, ExternalID: rand.Text(), Title: "Müller & Co", Timezone: "Europe/Berlin", Locale: "de", Attributes: []byte(`{"plan":"gold"}`),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.redeploy(instance{customer: c}, i, config)
}

func (r *rig) redeploy(n instance, i *flow.Integration, config string) instance {
	r.t.Helper()
	i.Format, i.ProfileVersion, i.Name = flow.FormatVersion, 1, "sample"
	for k := range i.Flows {
		if i.Flows[k].Steps == nil {
			i.Flows[k].Steps = []flow.Step{{ID: "a", Set: &flow.Value{Kind: flow.Number, Text: "1"}}}
		}
	}
	canonical, err := i.Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	v, err := r.e.Publish(context.Background(), r.org, canonical)
	if err != nil {
		r.t.Fatal(err)
	}
	x, err := r.e.Deploy(context.Background(), &engine.Deployment{Customer: n.customer, Instance: n.id, Digest: v.Digest, Config: []byte(config)})
	if err != nil {
		r.t.Fatal(err)
	}
	return instance{n.customer, x.ID}
}

// webhook is an integration with one flow, hook, that has a webhook.
func webhook(w flow.Webhook) *flow.Integration {
	return &flow.Integration{Flows: []flow.Flow{{Name: "hook", Trigger: flow.Trigger{Webhook: &w}}}}
}

func open() flow.Webhook { return flow.Webhook{Verify: flow.Verify{None: true}} }

// value is a template.
func value(s string) flow.Value {
	v, issues := flow.ParseString(s)
	if len(issues) > 0 {
		panic(issues[0].Message)
	}
	return v
}

func (r *rig) hookURL(n instance) string {
	r.t.Helper()
	u, err := r.e.HookURL(context.Background(), n.customer, n.id, "hook")
	if err != nil {
		r.t.Fatal(err)
	}
	return u
}

// response is an answer of the door.
type response struct {
	status int
	header http.Header
	body   string
}

func (r response) execution(t testing.TB) id.Execution {
	t.Helper()
	var m struct{ Execution id.Execution }
	if err := json.Unmarshal([]byte(r.body), &m); err != nil || r.status != http.StatusAccepted {
		t.Fatalf("status %d, body %s", r.status, r.body)
	}
	return m.Execution
}

// post sends a request with headers given as "Name: value".
func (r *rig) post(url, body string, headers ...string) response {
	r.t.Helper()
	return r.do(http.MethodPost, url, strings.NewReader(body), headers...)
}

func (r *rig) do(method, url string, body io.Reader, headers ...string) response {
	r.t.Helper()
	q, err := http.NewRequestWithContext(context.Background(), method, url, body)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		q.Header.Add(name, value)
	}
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response{a.StatusCode, a.Header, string(b)}
}

// event opens the event of an execution.
func (r *rig) event(n instance, x id.Execution) map[string]any {
	r.t.Helper()
	m := r.tryEvent(n, x)
	if m == nil {
		r.t.Fatal("the event does not open")
	}
	return m
}

// tryEvent is event, or nil for what is no event.
func (r *rig) tryEvent(n instance, x id.Execution) map[string]any {
	r.t.Helper()
	row, err := r.e.Execution(context.Background(), n.customer, x)
	if err != nil {
		r.t.Fatal(err)
	}
	sealed, err := r.store.Customer(context.Background(), n.customer).Event(row.Event)
	if err != nil {
		r.t.Fatal(err)
	}
	day := lease.Day(row.Day)
	r.mu.Lock()
	key := r.payload[day]
	r.mu.Unlock()
	plain, err := seal.NewOpener(key, lease.PurposePayload).Open(nil, lease.EventPlace(n.customer, row.Event, day), sealed)
	if err != nil {
		return nil
	}
	m := map[string]any{}
	if err := json.Unmarshal(plain, &m); err != nil {
		r.t.Fatalf("%v in %s", err, plain)
	}
	return m
}
