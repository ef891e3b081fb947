package vault

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// app is an organization with an app registration, and a customer who connects with it.
type app struct {
	*world
	owner    id.Customer // the organization's own customer
	client   id.Connection
	customer id.Customer
	browser  [32]byte
}

func newApp(t *testing.T) *app {
	t.Helper()
	w := newWorld(t)
	a := &app{world: w, owner: w.customer(), client: id.NewConnection(w.clock.now()), customer: w.customer(), browser: [32]byte{9}}
	w.saveConnection(a.clientRecord())
	return a
}

func (a *app) clientRecord() *lease.Record {
	return &lease.Record{
		Connection: a.client, Customer: a.owner, Connector: "crm", Kind: lease.KindOAuth2Client, Spec: []byte(`{"id":"oauth"}`),
		Binding: lease.Binding{Scheme: "https", Host: "login.crm.example"}, Hosts: []string{"*.crm.example"}, SharedWith: []string{lease.SharedWithAll},
		Fields: []lease.Field{{Name: lease.FieldClientID, Secret: []byte("app-1")}, {Name: lease.FieldClientSecret, Secret: []byte("app-1-of-the-organization")}},
	}
}

func (a *app) draft(n id.Connection) *lease.Record {
	return &lease.Record{
		Connection: n, Customer: a.customer, Connector: "crm", Kind: lease.KindOAuth2, Client: a.client, Spec: []byte(`{"id":"oauth"}`),
		Binding: lease.Binding{Scheme: "https", Host: "*.crm.example", BasePath: "/api"},
	}
}

func (a *app) startCall(r *lease.Record) *lease.StartCall {
	a.tb.Helper()
	return &lease.StartCall{
		Customer: r.Customer, Connection: r.Connection, Client: r.Client, RedirectURI: "https://bulkhead.example/oauth/callback", Browser: a.browser,
		Draft: a.sealToVault(lease.ConnectionPlace(r.Customer, r.Connection), wire.AppendBody(nil, r)),
	}
}

func (a *app) start(r *lease.Record) *lease.StartAnswer {
	a.tb.Helper()
	s := &lease.StartAnswer{}
	a.call(lease.OpOAuthStart, a.startCall(r), s)
	return s
}

func (a *app) order(op lease.OrderOp, n id.Connection, to *process) *lease.Order {
	o := &lease.Order{Server: a.server.node, Egress: to.node, Op: op, Customer: a.customer, Connection: n, Issued: a.clock.now(), Nonce: [16]byte([]byte(token256())[:16])}
	if op == lease.OrderExchange {
		o.Body = []byte("sealed to the node")
	}
	return o
}

// ask makes a call as an egress node, over everything but the bus.
func (a *app) ask(p *process, op string, m, answer wire.Message) error {
	a.tb.Helper()
	call := lease.SignTokenCall(p.sign, op, wire.AppendBody(nil, m), a.clock.now())
	got, err := a.vault.ServeToken(a.tb.Context(), p.node, call)
	if err != nil {
		return err
	}
	if err := lease.CheckAnswer(a.vault.Authority(), call, got); err != nil {
		a.tb.Fatal(err)
	}
	if answer == nil {
		return nil
	}
	return wire.ParseBody(got.Body, answer)
}

func (a *app) begin(p *process, m *lease.BeginCall) (*lease.Begin, error) {
	a.tb.Helper()
	s := &lease.SealedAnswer{}
	if err := a.ask(p, lease.OpTokenBegin, m, s); err != nil {
		return nil, err
	}
	b, err := lease.OpenBegin(p.seal, p.node, m.Connection, s.Sealed)
	if err != nil {
		a.tb.Fatal(err)
	}
	return b, nil
}

func (a *app) ordered(o *lease.Order) *lease.BeginCall {
	return &lease.BeginCall{Connection: o.Connection, Order: lease.SignOrder(a.server.sign, o).Signed}
}

func (a *app) exchanged(o *lease.Order, state string) *lease.BeginCall {
	m := a.ordered(o)
	m.State, m.Browser = state, a.browser
	return m
}

// mustWork is a begin that must be granted.
func (a *app) mustWork(p *process, m *lease.BeginCall) *lease.Work {
	a.tb.Helper()
	b, err := a.begin(p, m)
	if err != nil || b.Work == nil {
		a.tb.Fatalf("begin: %+v, %v, want a work\n%s", b, err, a.log)
	}
	return b.Work
}

func (a *app) raw(p *process, n id.Connection, fence uint64, step uint32, body string) error {
	a.tb.Helper()
	sealed := a.sealToVault(lease.RawPlace(n, fence, step), wire.AppendBody(nil, &lease.Raw{Status: 200, Body: []byte(body)}))
	return a.ask(p, lease.OpTokenRaw, &lease.RawCall{Connection: n, Fence: fence, Step: step, Raw: sealed}, nil)
}

func (a *app) save(p *process, n id.Connection, fence uint64, outcome lease.Outcome, r *lease.Record) (*lease.SaveAnswer, error) {
	a.tb.Helper()
	m, s := &lease.SaveCall{Connection: n, Fence: fence, Outcome: outcome, Reason: "test"}, &lease.SaveAnswer{}
	if r != nil {
		m.Record = a.sealToVault(lease.SavePlace(n, fence), wire.AppendBody(nil, r))
	}
	err := a.ask(p, lease.OpTokenSave, m, s)
	return s, err
}

func tokens(r lease.Record, generation, account string) *lease.Record {
	r.Fields = []lease.Field{
		{Name: lease.FieldAccessToken, Secret: []byte("access-" + generation)},
		{Name: lease.FieldRefreshToken, Secret: []byte("refresh-" + generation)},
		{Name: lease.FieldAccount, Secret: []byte(account)},
		{Name: "kept.realm_id", Secret: []byte("realm")},
	}
	return &r
}

// connect takes a connection through its first exchange.
func (a *app) connect(n id.Connection) uint64 {
	a.tb.Helper()
	s := a.start(a.draft(n))
	w := a.mustWork(a.egress, a.exchanged(a.order(lease.OrderExchange, n, a.egress), s.State))
	if err := a.raw(a.egress, n, w.Fence, 0, "{}"); err != nil {
		a.tb.Fatal(err)
	}
	got, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, tokens(w.Record, "1", "acme"))
	if err != nil {
		a.tb.Fatalf("save: %v\n%s", err, a.log)
	}
	return got.Version
}

// tenantOf gives the app's customer an instance that uses a connection.
func (a *app) tenantOf(n id.Connection) *tenant {
	a.tb.Helper()
	t := &tenant{customer: a.customer, instance: id.NewInstance(a.clock.now()), connection: n, day: lease.DayOf(a.clock.now()) + 3}
	t.config = a.saveInstance(t.customer, t.instance, `{}`)
	t.payload = a.payloadKey(t.customer, t.day)
	return t
}

// ticket leases the connection to the node and returns its ticket.
func (a *app) ticket(n id.Connection) (*lease.SlotRecord, []byte) {
	a.tb.Helper()
	l := a.lease(a.dispatch(a.tenantOf(n)))
	s := &l.egress.Slots[0]
	return s, s.Ticket
}

// copyTo makes a copy of the keystore as a backup does, to be opened from another directory.
func (a *app) copyTo(dir string) {
	a.tb.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		a.tb.Fatal(err)
	}
	file := filepath.Join(dir, keystore.FileName)
	if _, err := keystore.Image(a.tb.Context(), a.dir, file); err != nil {
		a.tb.Fatal(err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		a.tb.Fatal(err)
	}
}

func (a *app) rotateRoot() {
	a.tb.Helper()
	next := make([]byte, RootSize)
	_, _ = rand.Read(next)
	a.root = bytes.Clone(next)
	if err := a.vault.RotateRoot(a.tb.Context(), secret.New(next)); err != nil {
		a.tb.Fatal(err)
	}
	a.reopenWith()
}

// reopenWith opens the vault again, with the key that it had: nodes seal to that.
func (a *app) reopenWith() {
	a.tb.Helper()
	a.reopen()
	a.clock.add(time.Second)
}
