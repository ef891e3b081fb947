package runner

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/blob"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/vault"
	"github.com/bulkheadhq/bulkhead/internal/wire"
	program "github.com/bulkheadhq/bulkhead/internal/worker"
)

// road is a real server's engine, vault, runner and workers in one process: what lies
// between a viewer and what is stored. Only the jails, the bus and egress are played.
type road struct {
	t      *testing.T
	e      *engine.Engine
	db     *store.Store
	vault  *vault.Vault
	runner *Runner
	org    id.Org
	server *enrolled
	node   *enrolled // the runner

	toServer, toRunner chan func()
	// tamper sees every frame on its way to the runner, and may change or drop it.
	tamper func(wire.Typed) wire.Typed

	mu     sync.Mutex
	grants []*wire.LeaseRequest // what the vault was asked
	egress int                  // frames to egress
}

// enrolled is an identity with its keys.
type enrolled struct {
	*wire.Enrolled
	sign *seal.SignKey
	seal *seal.PrivateKey
}

func (x *road) enroll(role wire.Role, pool string) *enrolled {
	x.t.Helper()
	sign, err := seal.GenerateSignKey()
	if err != nil {
		x.t.Fatal(err)
	}
	key, err := seal.GenerateKey()
	if err != nil {
		x.t.Fatal(err)
	}
	e, err := x.vault.Enroll(context.Background(), &wire.Enroll{Role: string(role), Pool: pool, Sign: sign.Public(), Seal: key.Public()})
	if err != nil {
		x.t.Fatal(err)
	}
	return &enrolled{e, sign, key}
}

// Send implements [engine.Link].
func (x *road) Send(role wire.Role, _ id.Node, frames ...wire.Typed) {
	for _, m := range frames {
		if role != wire.RoleRunner {
			continue
		}
		if x.tamper != nil {
			if m = x.tamper(m); m == nil {
				continue
			}
		}
		f := wire.Frame{Type: m.FrameType(), Body: wire.AppendBody(nil, m)}
		x.toRunner <- func() { x.runner.Handle(x.server.Node, wire.TopicUnit, f, nil) }
	}
}

// Call implements [engine.Vault].
func (x *road) Call(ctx context.Context, op string, body []byte) ([]byte, error) {
	return x.vault.Call(ctx, x.server.Node, op, body)
}

// roadBus is the runner's side.
type roadBus struct{ *road }

func (b roadBus) Send(to wire.Role, node id.Node, topic wire.Topic, m wire.Typed) {
	b.Relay(to, node, topic, wire.Frame{Type: m.FrameType(), Body: wire.AppendBody(nil, m)})
}

func (b roadBus) Relay(to wire.Role, _ id.Node, topic wire.Topic, f wire.Frame) {
	if !wire.Allowed(wire.RoleRunner, to, topic) {
		b.t.Errorf("a subject that the bus forbids: %s %s", to, topic)
	}
	if to == wire.RoleEgress {
		b.mu.Lock()
		b.egress++
		b.mu.Unlock()
		return
	}
	f.Body = append([]byte(nil), f.Body...)
	b.toServer <- func() { _ = b.e.Handle(context.Background(), wire.RoleRunner, b.node.Node, f) }
}

func (b roadBus) Ask(ctx context.Context, to wire.Role, _ wire.Topic, m, answer wire.Typed) error {
	switch m := m.(type) {
	case *wire.DefinitionGet:
		var err error
		answer.(*wire.Definition).JSON, err = b.e.Definition(ctx, m.Digest)
		return err
	case *wire.LeaseRequest:
		b.mu.Lock()
		b.grants = append(b.grants, m)
		b.mu.Unlock()
		g, err := b.vault.Lease(ctx, m)
		if err != nil {
			return refusedBy{*vault.Answer(err)}
		}
		*answer.(*wire.LeaseGrant) = *g
		return nil
	}
	return errors.New("asked for something else")
}

type refusedBy struct{ answer wire.Error }

func (e refusedBy) Error() string     { return e.answer.Message }
func (e refusedBy) ErrorCode() string { return e.answer.Code }

func pump(ctx context.Context, c chan func()) {
	for {
		select {
		case f := <-c:
			f()
		case <-ctx.Done():
			return
		}
	}
}

// newRoad starts all of it. Without workers the runner takes nothing.
func newRoad(t *testing.T) *road {
	t.Helper()
	root := make([]byte, vault.RootSize)
	_, _ = rand.Read(root)
	x := &road{t: t, org: id.NewOrg(time.Now()), toServer: make(chan func(), 1<<14), toRunner: make(chan func(), 1<<14)}
	var err error
	if x.vault, err = vault.Open(context.Background(), vault.Config{Dir: t.TempDir() + "/keys", Temporary: true, Root: secret.New(root)}); err != nil {
		t.Fatal(err)
	}
	x.server, x.node = x.enroll(wire.RoleServer, ""), x.enroll(wire.RoleRunner, "default")
	out := x.enroll(wire.RoleEgress, "")
	if x.db, err = store.Open(context.Background(), store.Options{Dir: t.TempDir(), Durability: store.Temporary}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir() + "/blobs"
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	x.e, err = engine.New(context.Background(), engine.Options{
		Node: x.server.Node, Sign: x.server.sign, Key: x.server.seal, Store: x.db, Blobs: blobs, Link: x, Vault: x, VaultKey: x.vault.Key(),
		CallbackBase: "http://example/c/",
	})
	if err != nil {
		t.Fatal(err)
	}
	x.runner = New(Config{
		Node: x.node.Node, Sign: x.node.sign, Bus: roadBus{x}, Egress: map[string][]id.Node{"": {out.Node}}, Spare: -1, Log: slog.New(slog.DiscardHandler),
	})
	x.runner.start = startWorker
	ctx, cancel := context.WithCancel(context.Background())
	pumps, stop := context.WithCancel(context.Background())
	var all, last sync.WaitGroup
	all.Go(func() { _ = x.runner.Run(ctx) })
	last.Go(func() { pump(pumps, x.toServer) })
	last.Go(func() { pump(pumps, x.toRunner) })
	last.Go(func() { _ = x.e.Run(pumps) })
	t.Cleanup(func() {
		cancel()
		all.Wait()
		stop()
		last.Wait()
		if err := errors.Join(x.db.Close(), blobs.Close(), x.vault.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := x.e.PutOrganization(context.Background(), &store.Organization{ID: x.org, Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	return x
}

// startWorker runs the real worker without its jail.
func startWorker(_ context.Context, k jail.Kind) (*child, error) {
	if k != jail.KindWorker {
		return nil, errNoStart
	}
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = program.Serve(context.Background(), theirs, program.Options{})
		_ = theirs.Close()
	}()
	return &child{
		conn: ours,
		kill: func() error { return theirs.Close() },
		wait: func() jail.Exit { <-done; return jail.Exit{Reason: jail.ReasonKilled} },
	}, nil
}

const roadFlow = `bulkhead: 1
integration: road
config:
  token: {type: secret, required: true}
  hour: {type: integer, default: 4}
flows:
  main:
    trigger: {manual: {}}
    labels: {order: "${{ trigger.body.order }}"}
    steps:
      - {id: kept, state: {put: last, value: "${{ trigger.body.note }}"}}
      - {id: out, return: {note: "${{ trigger.body.note }}"}}
  nightly:
    trigger: {schedule: {cron: "0 ${{ config.hour }} * * *", timezone: "${{ customer.timezone }}"}}
    steps:
      - {id: a, set: 1}
`

func integration(t *testing.T, text string) *flow.Integration {
	t.Helper()
	doc, problems := flowfile.Decode("test.yaml", []byte(text))
	if doc == nil {
		t.Fatalf("the integration is not valid:\n%v", problems)
	}
	return doc.Integration
}

// place is a customer's instance.
type place struct {
	customer id.Customer
	instance id.Instance
	digest   [32]byte
}

func (x *road) deploy(text, config string) place {
	x.t.Helper()
	c, err := x.e.PutCustomer(context.Background(), &store.CustomerRow{Organization: x.org, ExternalID: rand.Text(), Timezone: "Europe/Berlin"})
	if err != nil {
		x.t.Fatal(err)
	}
	return x.change(place{customer: c}, text, config)
}

func (x *road) change(p place, text, config string) place {
	x.t.Helper()
	canonical, err := integration(x.t, text).Encode()
	if err != nil {
		x.t.Fatal(err)
	}
	v, err := x.e.Publish(context.Background(), x.org, canonical)
	if err != nil {
		x.t.Fatal(err)
	}
	i, err := x.e.Deploy(context.Background(), &engine.Deployment{Customer: p.customer, Instance: p.instance, Digest: v.Digest, Config: []byte(config)})
	if err != nil {
		x.t.Fatal(err)
	}
	return place{p.customer, i.ID, v.Digest}
}

// run accepts an event and waits for the end of its execution.
func (x *road) run(p place, body string) id.Execution {
	x.t.Helper()
	view, key := id.NewView(time.Now()), mustSealKey(x.t)
	w, err := x.e.Watch(lease.Viewer{View: view, Key: key.Public()})
	if err != nil {
		x.t.Fatal(err)
	}
	defer w.Close()
	got, err := x.e.Accept(context.Background(), &engine.Event{
		Customer: p.customer, Instance: p.instance, Flow: "main", Body: []byte(body), Viewer: lease.Viewer{View: view, Key: key.Public()},
	})
	if err != nil {
		x.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		u, err := w.Next(ctx)
		if err != nil {
			x.t.Fatal(err)
		}
		if u.Finished != nil {
			if u.Finished.Status != store.Completed {
				x.t.Fatalf("it ended as %+v", u.Finished)
			}
			return got.Execution
		}
	}
}

func mustSealKey(t *testing.T) *seal.PrivateKey {
	t.Helper()
	k, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// look reads one page as a viewer.
func (x *road) look(q engine.ReadRequest) ([]string, error) {
	x.t.Helper()
	key := mustSealKey(x.t)
	q.Viewer = lease.Viewer{View: id.NewView(time.Now()), Key: key.Public()}
	if q.Class == 0 {
		q.Class = wire.ClassOperator
	}
	q.Who = "token test"
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	p, err := x.e.Read(ctx, &q)
	if err != nil {
		return nil, err
	}
	if p.Sealed == nil {
		return nil, nil
	}
	plain, err := key.Open(lease.PurposeView, lease.ReadPlace(q.Viewer.View, p.Instance, q.Execution, q.Kind, q.Cursor), p.Sealed)
	if err != nil {
		return nil, err
	}
	var c wire.Content
	if err := json.Unmarshal(plain, &c); err != nil {
		return nil, err
	}
	var out []string
	for _, i := range c.Items {
		out = append(out, strings.TrimSpace(i.Kind+" "+i.Path+" "+string(i.Value)))
	}
	return out, nil
}

const roadSecret = "canary-secret-93hZ"

func TestReadingWhatIsStored(t *testing.T) {
	t.Parallel()
	x := newRoad(t)
	p := x.deploy(roadFlow, `{"token":"`+roadSecret+`"}`)
	e := x.run(p, `{"body":{"order":"A-1","note":"about `+roadSecret+`"}}`)
	want := map[wire.ReadKind][]string{
		wire.ReadEvent:  {`event  {"body":{"order":"A-1","note":"about ••••"}}`},
		wire.ReadOutput: {`output  {"note":"about ••••"}`},
		wire.ReadStep:   {`result kept "about ••••"`},
		wire.ReadLabels: {`label order "A-1"`},
		wire.ReadLogs:   nil,
		wire.ReadConfig: {`config token "••••"`, `config hour 4`},
	}
	check := func(when string) {
		t.Helper()
		for kind, lines := range want {
			q := engine.ReadRequest{Customer: p.customer, Execution: e, Kind: kind}
			switch kind {
			case wire.ReadStep:
				q.Path = "kept"
			case wire.ReadConfig:
				q.Execution, q.Instance = id.Execution{}, p.instance
			}
			got, err := x.look(q)
			if diff := cmp.Diff(lines, got); diff != "" || err != nil {
				t.Errorf("%s, %s: %v\n%s", when, kind, err, diff)
			}
		}
	}
	check("with a warm worker")
	if err := x.e.SetInstanceState(context.Background(), p.customer, p.instance, store.InstancePaused); err != nil {
		t.Fatal(err)
	}
	check("while the instance is paused")
	x.runner.mu.Lock()
	for w := range x.runner.workers {
		w.kill("idle")
	}
	x.runner.mu.Unlock()
	check("with a new worker")
	x.change(p, strings.ReplaceAll(roadFlow, "id: kept", "id: other"), `{"token":"`+roadSecret+`","hour":4}`)
	check("of an old version, with a newer config")
	if x.egress == 0 {
		t.Error("the execution had no lease for egress: this test shows nothing")
	}
}

// TestAReadNeverReachesEgress counts what goes to egress while only reads happen: nothing.
func TestAReadNeverReachesEgress(t *testing.T) {
	t.Parallel()
	x := newRoad(t)
	p := x.deploy(roadFlow, `{"token":"t"}`)
	if _, err := x.look(engine.ReadRequest{Customer: p.customer, Instance: p.instance, Kind: wire.ReadConfig}); err != nil {
		t.Fatal(err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.egress != 0 || len(x.grants) != 1 || !x.grants[0].Egress.IsZero() {
		t.Errorf("%d frames to egress, requests %+v", x.egress, x.grants)
	}
}

func TestResolveByTheRoad(t *testing.T) {
	t.Parallel()
	x := newRoad(t)
	p := x.deploy(roadFlow, `{"token":"t","hour":6}`)
	got, err := x.e.Resolve(context.Background(), p.customer, p.instance, [32]byte{})
	want := &wire.Resolved{Schedules: []wire.ResolvedSchedule{{Flow: "nightly", Kind: "schedule", Cron: "0 6 * * *", Timezone: "Europe/Berlin"}}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	newer := integration(t, strings.ReplaceAll(roadFlow, "hour: {type: integer, default: 4}", "hour: {type: string}\n  more: {type: string, required: true}"))
	canonical, err := newer.Encode()
	if err != nil {
		t.Fatal(err)
	}
	v, err := x.e.Publish(context.Background(), x.org, canonical)
	if err != nil {
		t.Fatal(err)
	}
	got, err = x.e.Resolve(context.Background(), p.customer, p.instance, v.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]wire.ConfigProblem{{Name: "hour", Problem: "want text"}, {Name: "more", Problem: "a value is required"}}, got.Problems); diff != "" {
		t.Error(diff)
	}
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	x := newRoad(t)
	p, other := x.deploy(roadFlow, `{"token":"t"}`), x.deploy(roadFlow, `{"token":"u"}`)
	e := x.run(p, `{"body":{"note":1}}`)
	for name, tt := range map[string]struct {
		q    engine.ReadRequest
		want error
	}{
		"another customer's execution":  {engine.ReadRequest{Customer: other.customer, Execution: e, Kind: wire.ReadEvent}, engine.ErrNotFound},
		"as another instance's":         {engine.ReadRequest{Customer: p.customer, Instance: other.instance, Execution: e, Kind: wire.ReadEvent}, engine.ErrNotFound},
		"another customer's config":     {engine.ReadRequest{Customer: other.customer, Instance: p.instance, Kind: wire.ReadConfig}, engine.ErrNotFound},
		"an entry that is not there":    {engine.ReadRequest{Customer: p.customer, Execution: e, Kind: wire.ReadStep, Path: "kept", Seq: 99}, engine.ErrNotFound},
		"the server's own kind":         {engine.ReadRequest{Customer: p.customer, Instance: p.instance, Kind: wire.ReadResolve}, engine.ErrInvalid},
		"the server's own class":        {engine.ReadRequest{Customer: p.customer, Execution: e, Kind: wire.ReadEvent, Class: wire.ClassServer}, engine.ErrInvalid},
		"an unknown kind":               {engine.ReadRequest{Customer: p.customer, Execution: e, Kind: 99}, engine.ErrInvalid},
		"a range over the limit":        {engine.ReadRequest{Customer: p.customer, Execution: e, Kind: wire.ReadEvent, Length: engine.MaxRange + 1}, engine.ErrInvalid},
		"a config that is an execution": {engine.ReadRequest{Customer: p.customer, Execution: e, Instance: p.instance, Kind: wire.ReadConfig}, engine.ErrInvalid},
	} {
		if got, err := x.look(tt.q); !errors.Is(err, tt.want) {
			t.Errorf("%s: %q, %v, want %v", name, got, err, tt.want)
		}
	}
	if _, err := x.e.Reply(context.Background(), p.customer, e); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("the reply of an execution without one: %v", err)
	}
}

// TestAHostileCarrier changes a read between the server and the worker. Nothing of it is
// answered with what was asked for.
func TestAHostileCarrier(t *testing.T) {
	t.Parallel()
	x := newRoad(t)
	p, other := x.deploy(roadFlow, `{"token":"t"}`), x.deploy(roadFlow, `{"token":"u"}`)
	e, theirs := x.run(p, `{"body":{"note":"mine"}}`), x.run(other, `{"body":{"note":"canary-of-another"}}`)
	row, err := x.db.Customer(context.Background(), other.customer).Execution(theirs)
	if err != nil {
		t.Fatal(err)
	}
	event, err := x.db.Customer(context.Background(), other.customer).Event(row.Event)
	if err != nil {
		t.Fatal(err)
	}
	thief := mustSealKey(t)
	resign := func(m *wire.Read, change func(*lease.Dispatch)) {
		d, err := lease.PeekDispatch(m.Signed)
		if err != nil {
			t.Fatal(err)
		}
		change(d)
		m.Signed = lease.SignDispatch(x.node.sign, d) // who carries it has no server's key
	}
	for name, change := range map[string]func(*wire.Read){
		"nothing":              func(*wire.Read) {},
		"another viewer's key": func(m *wire.Read) { resign(m, func(d *lease.Dispatch) { d.Read.Key = thief.Public() }) },
		"another class":        func(m *wire.Read) { resign(m, func(d *lease.Dispatch) { d.Read.Class = wire.ClassOperator }) },
		"another customer": func(m *wire.Read) {
			resign(m, func(d *lease.Dispatch) { d.Customer = other.customer })
			m.Customer = other.customer
		},
		"another execution":       func(m *wire.Read) { m.Execution = theirs },
		"another customer's rows": func(m *wire.Read) { m.EventID, m.Rows[0].Body = row.Event, event },
		"another's event":         func(m *wire.Read) { m.Rows[0].Body = event },
	} {
		x.tamper = func(m wire.Typed) wire.Typed {
			if r, ok := m.(*wire.Read); ok {
				c := *r
				c.Rows = append([]wire.Sealed(nil), r.Rows...)
				change(&c)
				return &c
			}
			return m
		}
		key := mustSealKey(t)
		q := &engine.ReadRequest{
			Customer: p.customer, Execution: e, Kind: wire.ReadEvent, Class: wire.ClassCustomer, Who: "token test",
			Viewer: lease.Viewer{View: id.NewView(time.Now()), Key: key.Public()},
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		got, err := x.e.Read(ctx, q)
		cancel()
		if (err == nil) != (name == "nothing") {
			t.Errorf("%s changed: %+v, %v", name, got, err)
		}
	}
}
