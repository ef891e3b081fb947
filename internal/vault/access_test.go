package vault

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func TestWrongCustomerGetsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.tenant("token of A"), w.tenant("token of B")
	n := &attempts{t: t, what: "wrong customer"}
	for name, change := range map[string]func(*lease.Dispatch){
		"B's connection":                 func(d *lease.Dispatch) { d.Slots[0].Connection = b.connection },
		"B's connection beside A's":      func(d *lease.Dispatch) { d.Slots = append(d.Slots, lease.Slot{Name: "x", Connection: b.connection}) },
		"B's instance":                   func(d *lease.Dispatch) { d.Instance = b.instance },
		"A's instance as B":              func(d *lease.Dispatch) { d.Customer = b.customer; d.Slots = nil },
		"B's instance and connection":    func(d *lease.Dispatch) { d.Instance = b.instance; d.Slots[0].Connection = b.connection; d.Days = nil },
		"an unknown customer":            func(d *lease.Dispatch) { d.Customer = id.NewCustomer(testStart) },
		"an unknown instance":            func(d *lease.Dispatch) { d.Instance = id.NewInstance(testStart) },
		"an unknown connection":          func(d *lease.Dispatch) { d.Slots[0].Connection = id.NewConnection(testStart) },
		"no connection":                  func(d *lease.Dispatch) { d.Slots[0].Connection = id.Connection{} },
		"a day without a pair":           func(d *lease.Dispatch) { d.Days = append(d.Days, a.day+1) },
		"two slots of one name":          func(d *lease.Dispatch) { d.Slots = append(d.Slots, d.Slots[0]) },
		"an instance's id as connection": func(d *lease.Dispatch) { d.Slots[0].Connection = id.Connection(a.instance) },
	} {
		d := w.dispatch(a)
		change(d)
		n.refused(name, leaseError(w, d))
	}
	calls := map[string]error{
		"B's instance saved as A":         w.try(lease.OpInstance, w.instanceCall(a.customer, b.instance, `{}`), nil),
		"B's instance deleted as A":       w.try(lease.OpInstanceDelete, &lease.InstanceCall{Customer: a.customer, Instance: b.instance}, nil),
		"B's connection deleted as A":     w.try(lease.OpConnectionDelete, &lease.ConnectionCall{Customer: a.customer, Connection: b.connection}, nil),
		"B's connection replaced as A":    w.try(lease.OpConnection, w.connectionCall(bearer(a.customer, b.connection, "x")), nil),
		"a payload key of nobody":         w.try(lease.OpPayloadKey, &lease.PayloadKeyCall{Customer: id.NewCustomer(testStart), Day: a.day}, nil),
		"an instance of nobody":           w.try(lease.OpInstance, w.instanceCall(id.NewCustomer(testStart), id.NewInstance(testStart), `{}`), nil),
		"A's record in a call of B":       w.try(lease.OpConnection, &lease.ConnectionCall{Customer: b.customer, Connection: a.connection, Record: w.connectionCall(bearer(a.customer, a.connection, "x")).Record}, nil),
		"A's config in a call of B":       w.try(lease.OpInstance, &lease.InstanceCall{Customer: b.customer, Instance: b.instance, Config: w.instanceCall(a.customer, a.instance, `{}`).Config}, nil),
		"a record that says it is B's":    w.try(lease.OpConnection, &lease.ConnectionCall{Customer: a.customer, Connection: a.connection, Record: w.sealToVault(lease.ConnectionPlace(a.customer, a.connection), wire.AppendBody(nil, bearer(b.customer, a.connection, "x")))}, nil),
		"a record that says another name": w.try(lease.OpConnection, &lease.ConnectionCall{Customer: a.customer, Connection: a.connection, Record: w.sealToVault(lease.ConnectionPlace(a.customer, a.connection), wire.AppendBody(nil, bearer(a.customer, b.connection, "x")))}, nil),
		"a customer without an id":        w.try(lease.OpCustomer, &lease.CustomerCall{}, nil),
	}
	for name, err := range calls {
		n.refused(name, err)
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", name, err)
		}
	}
	if got := string(w.lease(w.dispatch(b)).egress.Slots[0].Record.Fields[0].Secret); got != b.token {
		t.Errorf("B's lease holds %q after A's attempts", got)
	}
	n.report(23)
}

func TestSharedConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, c := w.tenant("token of A"), w.tenant("token of B"), w.tenant("token of C")
	w.saveConnection(bearer(a.customer, a.connection, "shared token", b.customer.String()))
	d := w.dispatch(b)
	d.Slots[0].Connection = a.connection
	if got := string(w.lease(d).egress.Slots[0].Record.Fields[0].Secret); got != "shared token" {
		t.Errorf("the customer it is shared with got %q", got)
	}
	n := &attempts{t: t, what: "shared connection"}
	d = w.dispatch(c)
	d.Slots[0].Connection = a.connection
	n.refused("a customer it is not shared with", leaseError(w, d))
	w.saveConnection(bearer(a.customer, a.connection, "shared token"))
	d = w.dispatch(b)
	d.Slots[0].Connection = a.connection
	n.refused("a customer it is no longer shared with", leaseError(w, d))
	n.report(2)
}

func TestExpiredDay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token")
	n := &attempts{t: t, what: "expired day"}
	today := lease.DayOf(w.clock.now())
	for name, d := range map[string]lease.Day{"yesterday": today - 1, "the first day": 0, "in eleven years": today + 4000, "the last day there is": ^lease.Day(0)} {
		n.refused(name, w.try(lease.OpPayloadKey, &lease.PayloadKeyCall{Customer: a.customer, Day: d}, nil))
	}
	w.payloadKey(a.customer, today)
	d := w.dispatch(a)
	d.Days = []lease.Day{today, a.day}
	w.clock.add(12*time.Hour - 2*time.Minute)
	d.Issued = w.clock.now()
	if l := w.lease(d); !l.grant.Expires.Equal(testStart.Add(12*time.Hour)) || !l.worker.Expires.Equal(l.grant.Expires) || !l.egress.Expires.Equal(l.grant.Expires) {
		t.Errorf("a lease with a key of today ends %v, want midnight", l.grant.Expires)
	}
	w.clock.add(2 * time.Minute)
	d.Issued = w.clock.now()
	n.refused("a day that ended this moment", leaseError(w, d))
	d.Days = []lease.Day{a.day}
	w.lease(d)
	n.report(5)
}

func TestTwoSignatures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token")
	runner2, server2, elsewhere := w.enroll(wire.RoleRunner, "default"), w.enroll(wire.RoleServer, ""), w.enroll(wire.RoleEgress, "eu")
	retired, stranger, worker := w.enroll(wire.RoleServer, ""), newProcess(t), newProcess(t)
	if err := w.vault.Retire(t.Context(), retired.node); err != nil {
		t.Fatal(err)
	}
	stranger.node = id.NewNode(testStart)
	signed := func(k *process, change func(*lease.Dispatch)) []byte {
		d := w.dispatch(a)
		if change != nil {
			change(d)
		}
		return lease.SignDispatch(k.sign, d)
	}
	ask := func(k *process, node id.Node, dispatch []byte, egress id.Node) *wire.LeaseRequest {
		return lease.SignRequest(k.sign, node, dispatch, worker.seal.Public(), egress)
	}
	good := ask(w.runner, w.runner.node, signed(w.server, nil), w.egress.node)
	if _, err := w.vault.Lease(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	otherWorker, unsigned, cut := *good, *good, *good
	otherWorker.Worker, unsigned.Signature, cut.Signed = stranger.seal.Public(), nil, good.Signed[:len(good.Signed)-1]
	n := &attempts{t: t, what: "two signatures"}
	for name, m := range map[string]*wire.LeaseRequest{
		"signed by the runner alone":         ask(w.runner, w.runner.node, signed(w.runner, nil), w.egress.node),
		"signed by the server alone":         ask(w.server, w.runner.node, signed(w.server, nil), w.egress.node),
		"by another server than it says":     ask(w.runner, w.runner.node, signed(server2, nil), w.egress.node),
		"by a stranger as the server":        ask(w.runner, w.runner.node, signed(stranger, nil), w.egress.node),
		"a stranger's own dispatch":          ask(w.runner, w.runner.node, signed(stranger, func(d *lease.Dispatch) { d.Server = stranger.node }), w.egress.node),
		"a retired server":                   ask(w.runner, w.runner.node, signed(retired, func(d *lease.Dispatch) { d.Server = retired.node }), w.egress.node),
		"another runner":                     ask(runner2, runner2.node, signed(w.server, nil), w.egress.node),
		"another runner in the first's name": ask(runner2, w.runner.node, signed(w.server, nil), w.egress.node),
		"a stranger as the runner":           ask(stranger, stranger.node, signed(w.server, func(d *lease.Dispatch) { d.Runner = stranger.node }), w.egress.node),
		"egress as the runner":               ask(w.egress, w.egress.node, signed(w.server, func(d *lease.Dispatch) { d.Runner = w.egress.node }), w.egress.node),
		"egress of another pool":             ask(w.runner, w.runner.node, signed(w.server, nil), elsewhere.node),
		"a server as egress":                 ask(w.runner, w.runner.node, signed(w.server, nil), w.server.node),
		"a stranger as egress":               ask(w.runner, w.runner.node, signed(w.server, nil), stranger.node),
		"an old dispatch":                    ask(w.runner, w.runner.node, signed(w.server, func(d *lease.Dispatch) { d.Issued = testStart.Add(-2 * time.Minute) }), w.egress.node),
		"another worker's key":               &otherWorker,
		"no signature":                       &unsigned,
		"half a dispatch":                    &cut,
		"nothing":                            {},
	} {
		_, err := w.vault.Lease(t.Context(), m)
		n.refused(name, err)
		if err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", name, err)
		}
	}
	for i := range good.Signed {
		m := *good
		m.Signed = bytes.Clone(good.Signed)
		m.Signed[i] ^= 1
		_, err := w.vault.Lease(t.Context(), lease.SignRequest(w.runner.sign, w.runner.node, m.Signed, m.Worker, m.Egress))
		n.refused("a changed dispatch signed again by the runner", err)
	}
	n.report(200)
}

func TestOnlyLiveServersCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token")
	old := w.enroll(wire.RoleServer, "")
	if err := w.vault.Retire(t.Context(), old.node); err != nil {
		t.Fatal(err)
	}
	n := &attempts{t: t, what: "callers"}
	for name, from := range map[string]id.Node{
		"runner": w.runner.node, "egress": w.egress.node, "vault": w.enroll(wire.RoleVault, "").node, "bus": w.enroll(wire.RoleBus, "").node,
		"a retired server": old.node, "nobody": {}, "a stranger": id.NewNode(testStart),
	} {
		for op, m := range map[string]wire.Message{
			lease.OpCustomer: &lease.CustomerCall{Customer: id.NewCustomer(testStart)}, lease.OpPayloadKey: &lease.PayloadKeyCall{Customer: a.customer, Day: a.day},
			lease.OpInstance: w.instanceCall(a.customer, a.instance, `{}`), lease.OpConnection: w.connectionCall(bearer(a.customer, a.connection, "x")),
			lease.OpInstanceDelete:   &lease.InstanceCall{Customer: a.customer, Instance: a.instance},
			lease.OpConnectionDelete: &lease.ConnectionCall{Customer: a.customer, Connection: a.connection},
		} {
			_, err := w.vault.Call(t.Context(), from, op, wire.AppendBody(nil, m))
			n.refused(name+" asks for "+op, err)
		}
		for _, op := range []string{lease.OpBlindKey, lease.OpPeers, "export", "list", ""} {
			_, err := w.vault.Call(t.Context(), from, op, nil)
			n.refused(name+" asks for "+op, err)
		}
	}
	for _, op := range []string{"export", "list", "", "root", "unseal"} {
		_, err := w.vault.Call(t.Context(), w.server.node, op, nil)
		n.refused("a server asks for "+op, err)
	}
	w.clock.add(IdentityLife)
	_, err := w.vault.Call(t.Context(), w.server.node, lease.OpPeers, nil)
	n.refused("a server whose certificate has expired", err)
	n.report(83)
}

func TestBlindKeyIsForTheAskingServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var a lease.SealedAnswer
	w.call(lease.OpBlindKey, nil, &a)
	key, err := w.server.seal.Open(lease.PurposeServer, lease.BlindKeyPlace(w.server.node), a.Sealed)
	if err != nil || len(key) != seal.KeySize {
		t.Fatalf("the server opens %d bytes, %v", len(key), err)
	}
	_, other := w.runner.seal.Open(lease.PurposeServer, lease.BlindKeyPlace(w.server.node), a.Sealed)
	_, moved := w.server.seal.Open(lease.PurposeServer, nil, a.Sealed)
	n := &attempts{t: t, what: "blind-index key"}
	n.refused("another process", other)
	n.refused("as another value", moved)
	n.report(2)
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	busy := 0
	for range requestBurst + 100 {
		if err := w.try(lease.OpPeers, nil, nil); errors.Is(err, ErrBusy) {
			busy++
		}
	}
	if busy != 100 {
		t.Errorf("%d of %d requests at once were refused as too many, want 100", busy, requestBurst+100)
	}
	w.clock.add(time.Second)
	if err := w.try(lease.OpPeers, nil, nil); err != nil {
		t.Errorf("a second later: %v", err)
	}
	if got := Answer(ErrBusy).Code; got != "busy" {
		t.Errorf("code %q, want busy", got)
	}
}
