package lease

import (
	"crypto/rand"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func fullRecord() Record {
	return Record{
		Connection: id.NewConnection(testNow), Customer: id.NewCustomer(testNow), Connector: "crm", Digest: [32]byte{7}, Version: 3, Kind: KindOAuth2,
		Binding: Binding{Scheme: "https", Host: "api.example.com", Port: 443, BasePath: "/v2", Methods: []string{"GET"}, Paths: []string{"/**"}},
		Spec:    []byte(`{"id":"oauth"}`), Fields: []Field{{FieldAccessToken, []byte("a")}, {FieldRefreshToken, []byte("r")}},
		Client: id.NewConnection(testNow), Hosts: []string{"*.example.com"}, SharedWith: []string{SharedWithAll}, SharedFor: []SharedAction{{"list", "GET", "files", "/items/{id}"}},
		Expires: testNow, State: wire.ConnectionNeedsReconnect,
	}
}

// Every field of every message arrives, and no cut one is taken for whole.
func TestTokenMessagesSurviveTheRoundTrip(t *testing.T) {
	t.Parallel()
	r, n := fullRecord(), id.NewNode(testNow)
	full := []wire.Message{
		&r,
		&SlotRecord{"erp", r, []byte("ticket")},
		&StartCall{r.Customer, r.Connection, r.Client, []byte("d"), "https://a.example/cb", [32]byte{1}, true, true},
		&StartAnswer{"s", "c", "n"},
		&BeginCall{r.Connection, []byte("t"), []byte("o"), 4, [16]byte{1}, "s", [32]byte{2}},
		&Begin{Work: &Work{5, GrantRefresh, r, &r, "v", "u", "n", []Raw{{200, []wire.Pair{{Name: "a", Value: "b"}}, []byte("x"), testNow}}, true}},
		&Begin{Current: &SlotRecord{"", r, nil}}, &Begin{Busy: &Busy{time.Second, true}}, &Begin{Dead: &Dead{wire.ConnectionRevoked, r.Customer, 7}},
		&RawCall{r.Connection, 5, 1, []byte("x")},
		&SaveCall{r.Connection, 5, OutcomeRevoked, []byte("x"), "why"},
		&SaveAnswer{5, wire.ConnectionLostAnswer, true, time.Second},
		&Order{n, n, OrderExchange, r.Customer, r.Connection, 6, testNow, [16]byte{3}, []byte("b")},
		&Exchange{"s", [32]byte{4}, []wire.Pair{{Name: "code", Value: "c"}}},
		&OrderResult{wire.ConnectionStatus{Node: n, At: testNow, Version: 1, Scopes: "a b", Account: []byte("x"), Error: "e", Signature: []byte("s")}, OrderBusy, "m", time.Second},
		&Account{"id", "label"},
	}
	for _, m := range full {
		b := wire.AppendBody(nil, m)
		fresh := func() wire.Message { return reflect.New(reflect.TypeOf(m).Elem()).Interface().(wire.Message) }
		got := fresh()
		if err := wire.ParseBody(b, got); err != nil {
			t.Fatalf("%T: %v", m, err)
		}
		if diff := cmp.Diff(m, got); diff != "" {
			t.Errorf("%T (-want +got):\n%s", m, diff)
		}
		for cut := range b {
			if err := wire.ParseBody(b[:cut], fresh()); !errors.Is(err, wire.ErrMalformed) {
				t.Fatalf("%T cut to %d of %d bytes: %v, want ErrMalformed", m, cut, len(b), err)
			}
		}
	}
}

func TestLeasedFields(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]bool{
		FieldAccessToken: true, "user.access_token": true, "kept.realm_id": true,
		FieldRefreshToken: false, "user.refresh_token": false, FieldIDToken: false, FieldClientID: false, FieldClientSecret: false,
		"private_key": false, "password": false, FieldAccount: false, "my_access_token": false,
	} {
		for _, k := range []Kind{KindOAuth2, KindSession} {
			if got := Leased(k, field); got != want {
				t.Errorf("%s of %s is leased: %v, want %v", field, k, got, want)
			}
		}
		if Leased(KindOAuth2Client, field) {
			t.Errorf("%s of a client is leased", field)
		}
	}
	if !Leased(KindBearer, "token") || !Leased(KindSigV4, "secret_access_key") {
		t.Error("a field of a kind that never changes is not leased")
	}
}

func TestCheckTicket(t *testing.T) {
	t.Parallel()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	k := Ticket{Lease: id.NewLease(testNow), Egress: id.NewNode(testNow), Customer: id.NewCustomer(testNow), Connection: id.NewConnection(testNow), Expires: testNow.Add(time.Minute)}
	good := MakeTicket(key, &k)
	got, err := CheckTicket(key, good, k.Egress, k.Connection, testNow)
	if err != nil || got.Lease != k.Lease || got.Customer != k.Customer {
		t.Fatalf("%+v, %v", got, err)
	}
	refused := func(name string, err error) {
		t.Helper()
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", name, err)
		}
	}
	_, err = CheckTicket(make([]byte, 32), good, k.Egress, k.Connection, testNow)
	refused("another vault", err)
	_, err = CheckTicket(key, good, id.NewNode(testNow), k.Connection, testNow)
	refused("another node", err)
	_, err = CheckTicket(key, good, k.Egress, id.NewConnection(testNow), testNow)
	refused("another connection", err)
	_, err = CheckTicket(key, good, k.Egress, k.Connection, k.Expires)
	refused("after the lease", err)
	for i := range good {
		b := append([]byte(nil), good...)
		b[i] ^= 1
		_, err := CheckTicket(key, b, k.Egress, k.Connection, testNow)
		refused("a changed byte", err)
	}
}

func TestCheckOrder(t *testing.T) {
	t.Parallel()
	server, egress, other, runner := newNode(t, wire.RoleServer, ""), newNode(t, wire.RoleEgress, "p"), newNode(t, wire.RoleEgress, "p"), newNode(t, wire.RoleRunner, "p")
	all := map[id.Node]*Identity{}
	for _, n := range []node{server, egress, other, runner} {
		all[n.identity.Node] = n.identity
	}
	live := func(n id.Node) (*Identity, bool) { i, ok := all[n]; return i, ok }
	make := func(change func(*Order)) []byte {
		o := &Order{Server: server.identity.Node, Egress: egress.identity.Node, Op: OrderRefresh, Customer: id.NewCustomer(testNow), Connection: id.NewConnection(testNow), Issued: testNow}
		change(o)
		return SignOrder(server.sign, o).Signed
	}
	good := make(func(*Order) {})
	if o, err := CheckOrder(good, egress.identity.Node, live, testNow); err != nil || o.Op != OrderRefresh {
		t.Fatalf("%+v, %v", o, err)
	}
	refused := func(name string, order []byte, to node) {
		t.Helper()
		if _, err := CheckOrder(order, to.identity.Node, live, testNow); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", name, err)
		}
	}
	refused("at another node", good, other)
	refused("in a runner's name", make(func(o *Order) { o.Server = runner.identity.Node }), egress)
	refused("in the name of nobody", make(func(o *Order) { o.Server = id.NewNode(testNow) }), egress)
	refused("an old one", make(func(o *Order) { o.Issued = testNow.Add(-MaxDispatchAge - time.Second) }), egress)
	refused("an unknown one", make(func(o *Order) { o.Op = "export" }), egress)
	refused("an exchange without a body", make(func(o *Order) { o.Op = OrderExchange }), egress)
	refused("a refresh with a body", make(func(o *Order) { o.Body = []byte("x") }), egress)
	refused("the word that something was replaced by nothing", make(func(o *Order) { o.Op = OrderReplaced }), egress)
	refused("nothing", nil, egress)
	for i := range good {
		b := append([]byte(nil), good...)
		b[i] ^= 1
		refused("a changed byte", b, egress)
	}
}

func TestExchangeAndAccountAreForTheirReaderOnly(t *testing.T) {
	t.Parallel()
	server, egress, other := newNode(t, wire.RoleServer, ""), newNode(t, wire.RoleEgress, "p"), newNode(t, wire.RoleEgress, "p")
	o := &Order{Server: server.identity.Node, Egress: egress.identity.Node, Op: OrderExchange, Connection: id.NewConnection(testNow), Issued: testNow, Nonce: [16]byte{1}}
	x := &Exchange{State: "s", Browser: [32]byte{1}, Params: []wire.Pair{{Name: "code", Value: "c"}}}
	if err := SealExchange(egress.identity, o, x); err != nil {
		t.Fatal(err)
	}
	got, err := OpenExchange(egress.seal, o)
	if diff := cmp.Diff(x, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := OpenExchange(other.seal, o); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("another node: %v, want ErrOpen", err)
	}
	moved := *o
	moved.Connection = id.NewConnection(testNow)
	if _, err := OpenExchange(egress.seal, &moved); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("in an order for another connection: %v, want ErrOpen", err)
	}
	sealed, err := SealAccount(server.identity, o.Connection, &Account{"1", "one"})
	if err != nil {
		t.Fatal(err)
	}
	if a, err := OpenAccount(server.seal, server.identity.Node, o.Connection, sealed); err != nil || a.ID != "1" {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := OpenAccount(server.seal, server.identity.Node, moved.Connection, sealed); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("account of another connection: %v, want ErrOpen", err)
	}
}

func TestCheckStatusAndOrderResult(t *testing.T) {
	t.Parallel()
	egress, other, server := newNode(t, wire.RoleEgress, "p"), newNode(t, wire.RoleEgress, "p"), newNode(t, wire.RoleServer, "")
	all := map[id.Node]*Identity{}
	for _, n := range []node{server, egress, other} {
		all[n.identity.Node] = n.identity
	}
	live := func(n id.Node) (*Identity, bool) { i, ok := all[n]; return i, ok }
	m := wire.ConnectionStatus{Node: egress.identity.Node, At: testNow, Connection: id.NewConnection(testNow), Version: 2}
	SignStatus(egress.sign, &m)
	if err := CheckStatus(egress.identity.Node, &m, live, testNow); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*wire.ConnectionStatus){
		"another version": func(m *wire.ConnectionStatus) { m.Version++ },
		"another state":   func(m *wire.ConnectionStatus) { m.State = wire.ConnectionRevoked },
		"another node's":  func(m *wire.ConnectionStatus) { m.Node = other.identity.Node },
		"a server's":      func(m *wire.ConnectionStatus) { m.Node = server.identity.Node; SignStatus(server.sign, m) },
		"an old one":      func(m *wire.ConnectionStatus) { m.At = testNow.Add(-time.Hour); SignStatus(egress.sign, m) },
		"no signature":    func(m *wire.ConnectionStatus) { m.Signature = nil },
	} {
		bad := m
		change(&bad)
		if err := CheckStatus(bad.Node, &bad, live, testNow); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", name, err)
		}
	}
	order, again := &wire.Order{Signed: []byte("one")}, &wire.Order{Signed: []byte("two")}
	a := SignOrderResult(egress.sign, order, &OrderResult{Code: OrderOK})
	if r, err := CheckOrderResult(egress.identity, order, a); err != nil || r.Code != OrderOK {
		t.Errorf("%+v, %v", r, err)
	}
	for name, err := range map[string]error{
		"of another order": func() error { _, err := CheckOrderResult(egress.identity, again, a); return err }(),
		"by another node":  func() error { _, err := CheckOrderResult(other.identity, order, a); return err }(),
	} {
		if !errors.Is(err, ErrRefused) {
			t.Errorf("answer %s: %v, want ErrRefused", name, err)
		}
	}
}

func TestCheckTokenCall(t *testing.T) {
	t.Parallel()
	egress, server := newNode(t, wire.RoleEgress, "p"), newNode(t, wire.RoleServer, "")
	good := SignTokenCall(egress.sign, OpTokenBegin, []byte("b"), testNow)
	if err := CheckTokenCall(egress.identity, good, testNow); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"of a server":             CheckTokenCall(server.identity, SignTokenCall(server.sign, OpTokenBegin, nil, testNow), testNow),
		"signed as a server's":    CheckTokenCall(egress.identity, SignCall(egress.sign, OpTokenBegin, nil, testNow), testNow),
		"an old one":              CheckTokenCall(egress.identity, good, testNow.Add(MaxDispatchAge+time.Second)),
		"as a call of the server": CheckCall(egress.identity, good, testNow),
	} {
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", name, err)
		}
	}
}
