package lease

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

var testNow = time.UnixMilli(1_800_000_000_000).UTC()

type node struct {
	identity *Identity
	sign     *seal.SignKey
	seal     *seal.PrivateKey
}

func newNode(t *testing.T, role wire.Role, pool string) node {
	t.Helper()
	s, err := seal.GenerateSignKey()
	if err != nil {
		t.Fatal(err)
	}
	x, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return node{&Identity{Node: id.NewNode(testNow), Role: role, Pool: pool, Sign: s.Public(), Seal: x.Public(), Expires: testNow.Add(time.Hour)}, s, x}
}

func TestCertificate(t *testing.T) {
	t.Parallel()
	authority, _ := seal.GenerateSignKey()
	other, _ := seal.GenerateSignKey()
	n := newNode(t, wire.RoleEgress, "default")
	c := Certify(authority, n.identity)
	got, err := ParseIdentity(authority.Public(), c, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(n.identity, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := ParseIdentity(other.Public(), c, testNow); !errors.Is(err, ErrRefused) {
		t.Errorf("another authority: %v, want ErrRefused", err)
	}
	if _, err := ParseIdentity(authority.Public(), c, testNow.Add(time.Hour)); !errors.Is(err, ErrRefused) {
		t.Errorf("expired: %v, want ErrRefused", err)
	}
	for i := range c {
		b := append([]byte(nil), c...)
		b[i] ^= 1
		if _, err := ParseIdentity(authority.Public(), b, testNow); err == nil {
			t.Errorf("byte %d changed, still accepted", i)
		}
	}
}

func TestCheckRequest(t *testing.T) {
	t.Parallel()
	server, runner, egress := newNode(t, wire.RoleServer, ""), newNode(t, wire.RoleRunner, "default"), newNode(t, wire.RoleEgress, "default")
	runner2, elsewhere := newNode(t, wire.RoleRunner, "default"), newNode(t, wire.RoleEgress, "eu")
	all := map[id.Node]*Identity{}
	for _, n := range []node{server, runner, egress, runner2, elsewhere} {
		all[n.identity.Node] = n.identity
	}
	live := func(n id.Node) (*Identity, bool) { i, ok := all[n]; return i, ok }
	dispatch := func() *Dispatch {
		return &Dispatch{
			Server: server.identity.Node, Runner: runner.identity.Node, Customer: id.NewCustomer(testNow), Instance: id.NewInstance(testNow),
			ConfigVersion: 3, Slots: []Slot{{"erp", id.NewConnection(testNow)}}, Days: []Day{DayOf(testNow)},
			Executions: []id.Execution{id.NewExecution(testNow)}, EgressPool: "default", Issued: testNow,
		}
	}
	worker := newNode(t, "worker", "")
	d := dispatch()
	good := SignRequest(runner.sign, runner.identity.Node, SignDispatch(server.sign, d), worker.seal.Public(), egress.identity.Node)
	got, node, err := CheckRequest(good, live, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, got); diff != "" || node != egress.identity {
		t.Errorf("(-want +got):\n%s", diff)
	}

	for name, make := range map[string]func() *wire.LeaseRequest{
		"signed by the runner, not the server": func() *wire.LeaseRequest {
			return SignRequest(runner.sign, runner.identity.Node, SignDispatch(runner.sign, dispatch()), worker.seal.Public(), egress.identity.Node)
		},
		"a runner that calls itself a server": func() *wire.LeaseRequest {
			d := dispatch()
			d.Server = runner.identity.Node
			return SignRequest(runner.sign, runner.identity.Node, SignDispatch(runner.sign, d), worker.seal.Public(), egress.identity.Node)
		},
		"another runner": func() *wire.LeaseRequest {
			return SignRequest(runner2.sign, runner2.identity.Node, SignDispatch(server.sign, dispatch()), worker.seal.Public(), egress.identity.Node)
		},
		"another runner with the first one's name": func() *wire.LeaseRequest {
			return SignRequest(runner2.sign, runner.identity.Node, SignDispatch(server.sign, dispatch()), worker.seal.Public(), egress.identity.Node)
		},
		"another worker key": func() *wire.LeaseRequest {
			m := *good
			m.Worker = runner2.seal.Public()
			return &m
		},
		"an egress node of another pool": func() *wire.LeaseRequest {
			return SignRequest(runner.sign, runner.identity.Node, SignDispatch(server.sign, dispatch()), worker.seal.Public(), elsewhere.identity.Node)
		},
		"a server as egress": func() *wire.LeaseRequest {
			return SignRequest(runner.sign, runner.identity.Node, SignDispatch(server.sign, dispatch()), worker.seal.Public(), server.identity.Node)
		},
		"an unknown server": func() *wire.LeaseRequest {
			n := newNode(t, wire.RoleServer, "")
			d := dispatch()
			d.Server = n.identity.Node
			return SignRequest(runner.sign, runner.identity.Node, SignDispatch(n.sign, d), worker.seal.Public(), egress.identity.Node)
		},
		"an old dispatch": func() *wire.LeaseRequest {
			d := dispatch()
			d.Issued = testNow.Add(-MaxDispatchAge - time.Second)
			return SignRequest(runner.sign, runner.identity.Node, SignDispatch(server.sign, d), worker.seal.Public(), egress.identity.Node)
		},
		"a dispatch from the future": func() *wire.LeaseRequest {
			d := dispatch()
			d.Issued = testNow.Add(MaxDispatchAge + time.Second)
			return SignRequest(runner.sign, runner.identity.Node, SignDispatch(server.sign, d), worker.seal.Public(), egress.identity.Node)
		},
		"nothing": func() *wire.LeaseRequest { return &wire.LeaseRequest{} },
	} {
		if _, _, err := CheckRequest(make(), live, testNow); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", name, err)
		}
	}
	for i := range good.Signed {
		m := *good
		m.Signed = append([]byte(nil), good.Signed...)
		m.Signed[i] ^= 1
		m.Signature = runner.sign.Sign(PurposeRequest, requestTuple(&m)) // even when the runner signs the change
		if _, _, err := CheckRequest(&m, live, testNow); err == nil {
			t.Errorf("byte %d of the dispatch changed, still accepted", i)
		}
	}
}

func TestLeaseIsForItsReaderOnly(t *testing.T) {
	t.Parallel()
	k, _ := seal.GenerateKey()
	other, _ := seal.GenerateKey()
	w := &Worker{
		Lease: id.NewLease(testNow), Customer: id.NewCustomer(testNow), Instance: id.NewInstance(testNow), ConfigVersion: 1, Expires: testNow.Add(MaxLife),
		Payload: []PayloadKey{{DayOf(testNow), k.Bytes()}}, InstanceKey: make([]byte, 32), Channel: make([]byte, 32), Viewers: []Viewer{{id.NewView(testNow), k.Public()}},
	}
	sealed, err := SealWorker(k.Public(), w)
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenWorker(k, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(w, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := OpenWorker(other, sealed); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("another worker: %v, want ErrOpen", err)
	}
	authority, _ := seal.GenerateSignKey()
	if _, err := OpenEgress(k, authority.Public(), sealed); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("as an egress lease: %v, want ErrOpen", err)
	}
	e := &Egress{Lease: w.Lease, Customer: w.Customer, Channel: w.Channel, Slots: []SlotRecord{{Slot: "erp", Record: Record{Kind: KindBearer, Fields: []Field{{"token", []byte("t")}}}}}}
	sealed, err = SealEgress(authority, k.Public(), e)
	if err != nil {
		t.Fatal(err)
	}
	back, err := OpenEgress(k, authority.Public(), sealed)
	if diff := cmp.Diff(e, back); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// Public keys are public: whoever can send to an egress node can seal to it. Only what
// the authority signed for this very node is a lease.
func TestNobodyElseMakesEgressLeases(t *testing.T) {
	t.Parallel()
	authority, _ := seal.GenerateSignKey()
	runner, _ := seal.GenerateSignKey()
	k, _ := seal.GenerateKey()
	other, _ := seal.GenerateKey()
	e := &Egress{Lease: id.NewLease(testNow), Channel: make([]byte, 32), Slots: []SlotRecord{{Slot: "any", Record: Record{Kind: KindNone, Binding: Binding{Scheme: "https", Host: "*.example.com"}}}}}
	body := wire.AppendBody(nil, e)
	forTheOther := wire.AppendBody(nil, &signed{body, authority.Sign(PurposeEgressLease, egressTuple(other.Public(), body))})
	for name, plain := range map[string][]byte{
		"unsigned":                  body,
		"an empty signature":        wire.AppendBody(nil, &signed{body, nil}),
		"signed by a runner":        wire.AppendBody(nil, &signed{body, runner.Sign(PurposeEgressLease, egressTuple(k.Public(), body))}),
		"signed for another use":    wire.AppendBody(nil, &signed{body, authority.Sign(PurposeIdentity, egressTuple(k.Public(), body))}),
		"another node's, passed on": forTheOther,
	} {
		sealed, err := seal.Seal(k.Public(), PurposeEgressLease, nil, plain)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := OpenEgress(k, authority.Public(), sealed); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
	sealed, err := seal.Seal(other.Public(), PurposeEgressLease, nil, forTheOther)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenEgress(other, authority.Public(), sealed); err != nil {
		t.Errorf("a true lease: %v", err)
	}
}

// A port stands behind the last colon, outside of the brackets of an address.
func TestSplitPort(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		host string
		port uint32
		ok   bool
	}{
		"example.com": {"example.com", 0, true}, "*.example.com:8443": {"*.example.com", 8443, true}, "*": {"*", 0, true},
		"[2001:db8::1]": {"[2001:db8::1]", 0, true}, "[2001:db8::1]:444": {"[2001:db8::1]", 444, true},
		"": {"", 0, false}, ":80": {"", 80, false}, "a:": {"a", 0, false}, "a:0": {"a", 0, false}, "a:65536": {"a", 65535, false}, "a:b": {"a", 0, false},
	} {
		host, port, ok := SplitPort(text)
		if host != want.host || ok != want.ok || ok && port != want.port {
			t.Errorf("%q is %q, %d, %v", text, host, port, ok)
		}
	}
}
