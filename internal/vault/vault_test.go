package vault

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// testStart is when the clock of every test begins.
var testStart = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// clock is a clock that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// process is a role as the vault sees it, with its keys.
type process struct {
	node id.Node
	sign *seal.SignKey
	seal *seal.PrivateKey
}

// world is an open vault with one process of each role.
type world struct {
	tb     testing.TB
	dir    string
	root   []byte
	clock  *clock
	log    *bytes.Buffer
	vault  *Vault
	server *process
	runner *process
	egress *process
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{tb: tb, dir: tb.TempDir() + "/keys", root: make([]byte, RootSize), clock: &clock{at: testStart}, log: &bytes.Buffer{}}
	_, _ = rand.Read(w.root) // fuzzing runs in several processes, whose values must not open in each other
	w.open()
	w.server, w.runner, w.egress = w.enroll(wire.RoleServer, ""), w.enroll(wire.RoleRunner, "default"), w.enroll(wire.RoleEgress, "default")
	return w
}

func (w *world) tryOpen() (*Vault, error) {
	return Open(context.Background(), Config{
		Dir: w.dir, Temporary: true, Root: secret.New(w.root), Now: w.clock.now, Log: slog.New(slog.NewTextHandler(&lockedWriter{w: w.log}, nil)),
	})
}

// lockedWriter lets concurrent handlers share a buffer.
type lockedWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func (w *world) open() {
	w.tb.Helper()
	v, err := w.tryOpen()
	if err != nil {
		w.tb.Fatal(err)
	}
	w.vault = v
	w.tb.Cleanup(func() { _ = v.Close() })
}

func (w *world) reopen() {
	w.tb.Helper()
	if err := w.vault.Close(); err != nil {
		w.tb.Fatal(err)
	}
	w.open()
}

func newProcess(tb testing.TB) *process {
	tb.Helper()
	s, err := seal.GenerateSignKey()
	if err != nil {
		tb.Fatal(err)
	}
	x, err := seal.GenerateKey()
	if err != nil {
		tb.Fatal(err)
	}
	return &process{sign: s, seal: x}
}

func (w *world) enroll(role wire.Role, pool string) *process {
	w.tb.Helper()
	p := newProcess(w.tb)
	e, err := w.vault.Enroll(w.tb.Context(), &wire.Enroll{Role: string(role), Pool: pool, Sign: p.sign.Public(), Seal: p.seal.Public()})
	if err != nil {
		w.tb.Fatal(err)
	}
	p.node = e.Node
	return p
}

func (w *world) try(op string, m, answer wire.Message) error {
	var body []byte
	if m != nil {
		body = wire.AppendBody(nil, m)
	}
	b, err := w.vault.Call(w.tb.Context(), w.server.node, op, body)
	if err != nil || answer == nil {
		return err
	}
	return wire.ParseBody(b, answer)
}

func (w *world) call(op string, m, answer wire.Message) {
	w.tb.Helper()
	if err := w.try(op, m, answer); err != nil {
		w.tb.Fatalf("%s: %v\n%s", op, err, w.log)
	}
}

func (w *world) customer() id.Customer {
	w.tb.Helper()
	c := id.NewCustomer(w.clock.now())
	w.call(lease.OpCustomer, &lease.CustomerCall{Customer: c}, nil)
	return c
}

func (w *world) sealToVault(place, plain []byte) []byte {
	w.tb.Helper()
	b, err := seal.Seal(w.vault.Key(), lease.PurposeVault, place, plain)
	if err != nil {
		w.tb.Fatal(err)
	}
	return b
}

func (w *world) instanceCall(c id.Customer, i id.Instance, config string) *lease.InstanceCall {
	w.tb.Helper()
	return &lease.InstanceCall{Customer: c, Instance: i, Config: w.sealToVault(lease.ConfigPlace(c, i, 0), []byte(config))}
}

func (w *world) saveInstance(c id.Customer, i id.Instance, config string) *lease.InstanceAnswer {
	w.tb.Helper()
	a := &lease.InstanceAnswer{}
	w.call(lease.OpInstance, w.instanceCall(c, i, config), a)
	return a
}

// bearer is a record with a token.
func bearer(c id.Customer, n id.Connection, token string, shared ...string) *lease.Record {
	return &lease.Record{
		Connection: n, Customer: c, Connector: "http", Kind: lease.KindBearer, SharedWith: shared,
		Binding: lease.Binding{Scheme: "https", Host: "api.example.com", BasePath: "/v2"}, Fields: []lease.Field{{Name: "token", Secret: []byte(token)}},
	}
}

func (w *world) connectionCall(r *lease.Record) *lease.ConnectionCall {
	w.tb.Helper()
	return &lease.ConnectionCall{
		Customer: r.Customer, Connection: r.Connection, Record: w.sealToVault(lease.ConnectionPlace(r.Customer, r.Connection), wire.AppendBody(nil, r)),
	}
}

func (w *world) saveConnection(r *lease.Record) uint64 {
	w.tb.Helper()
	a := &lease.ConnectionAnswer{}
	w.call(lease.OpConnection, w.connectionCall(r), a)
	return a.Version
}

func (w *world) payloadKey(c id.Customer, d lease.Day) seal.PublicKey {
	w.tb.Helper()
	a := &lease.PayloadKeyAnswer{}
	w.call(lease.OpPayloadKey, &lease.PayloadKeyCall{Customer: c, Day: d}, a)
	return a.Key
}

// tenant is a customer with one instance, one connection and one payload pair.
type tenant struct {
	customer   id.Customer
	instance   id.Instance
	connection id.Connection
	day        lease.Day
	payload    seal.PublicKey
	config     *lease.InstanceAnswer
	token      string
}

func (w *world) tenant(token string) *tenant {
	w.tb.Helper()
	now := w.clock.now()
	t := &tenant{customer: w.customer(), instance: id.NewInstance(now), connection: id.NewConnection(now), day: lease.DayOf(now) + 3, token: token}
	t.config = w.saveInstance(t.customer, t.instance, `{"a":1}`)
	w.saveConnection(bearer(t.customer, t.connection, token))
	t.payload = w.payloadKey(t.customer, t.day)
	return t
}

func (w *world) dispatch(t *tenant) *lease.Dispatch {
	return &lease.Dispatch{
		Server: w.server.node, Runner: w.runner.node, Customer: t.customer, Instance: t.instance, Definition: [32]byte{1}, ConfigVersion: t.config.Version,
		Slots: []lease.Slot{{Name: "erp", Connection: t.connection}}, Days: []lease.Day{t.day},
		Executions: []id.Execution{id.NewExecution(w.clock.now())}, EgressPool: "default", Issued: w.clock.now(),
	}
}

// leased is both halves of a granted lease, opened by those they are for.
type leased struct {
	grant  *wire.LeaseGrant
	worker *lease.Worker
	egress *lease.Egress
}

func (w *world) tryLease(d *lease.Dispatch) (*leased, error) {
	w.tb.Helper()
	worker, err := seal.GenerateKey()
	if err != nil {
		w.tb.Fatal(err)
	}
	g, err := w.vault.Lease(w.tb.Context(), lease.SignRequest(w.runner.sign, w.runner.node, lease.SignDispatch(w.server.sign, d), worker.Public(), w.egress.node))
	if err != nil {
		return nil, err
	}
	l := &leased{grant: g}
	if l.worker, err = lease.OpenWorker(worker, g.Worker); err != nil {
		w.tb.Fatal(err)
	}
	if l.egress, err = lease.OpenEgress(w.egress.seal, w.vault.Authority(), g.Egress); err != nil {
		w.tb.Fatal(err)
	}
	return l, nil
}

func (w *world) lease(d *lease.Dispatch) *leased {
	w.tb.Helper()
	l, err := w.tryLease(d)
	if err != nil {
		w.tb.Fatalf("lease: %v\n%s", err, w.log)
	}
	return l
}

// lift removes the rate limits, for tests of something else.
func lift(v *Vault) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, m := range v.members {
		m.limit.SetLimit(rate.Inf)
	}
}
