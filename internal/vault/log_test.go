package vault

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// leaves are all leaves of the log after a number.
func (w *world) leaves(after uint64) []keystore.Leaf {
	w.tb.Helper()
	all, err := w.vault.store.Leaves(w.tb.Context(), after, 1000)
	if err != nil {
		w.tb.Fatal(err)
	}
	return all
}

func TestEachLeaseAndEachViewIsALeaf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token")
	d := w.dispatch(a)
	for range 3 {
		k := newProcess(t)
		d.Viewers = append(d.Viewers, lease.Viewer{View: id.NewView(testStart), Key: k.seal.Public()})
	}
	before, _ := w.vault.Head()
	l := w.lease(d)
	got := w.leaves(before)
	if len(got) != 4 || got[0].Kind != leafLease || got[1].Kind != leafView || got[3].Kind != leafView {
		t.Fatalf("%d leaves, want one lease and three views", len(got))
	}
	var g Grant
	if err := wire.ParseBody(got[0].Body, &g); err != nil {
		t.Fatal(err)
	}
	if g.Lease != l.grant.Lease || g.Server != w.server.node || g.Egress != w.egress.node || g.Connections[0] != (Change{a.connection, 1}) || g.Days[0] != a.day ||
		id.Execution(g.Executions[0].Subject) != d.Executions[0] || !g.Expires.Equal(l.grant.Expires) || got[0].Requester != w.runner.node || got[0].Customer != a.customer {
		t.Errorf("leaf %+v of lease %s", g, l.grant.Lease)
	}
	for i, v := range d.Viewers {
		var x View
		if err := wire.ParseBody(got[i+1].Body, &x); err != nil || x.View != v.View || x.Lease != l.grant.Lease {
			t.Errorf("view %d: %+v, %v", i, x, err)
		}
	}
}

// TestEveryChangeIsALeaf runs each operation once and looks for its leaf.
func TestEveryChangeIsALeaf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token")
	for name, op := range map[string]struct {
		kind byte
		run  func() error
	}{
		"customer": {leafCustomer, func() error {
			return w.try(lease.OpCustomer, &lease.CustomerCall{Customer: id.NewCustomer(testStart)}, nil)
		}},
		"payload key": {leafPayload, func() error {
			return w.try(lease.OpPayloadKey, &lease.PayloadKeyCall{Customer: a.customer, Day: a.day + 1}, nil)
		}},
		"instance": {leafInstance, func() error { return w.try(lease.OpInstance, w.instanceCall(a.customer, a.instance, `{}`), nil) }},
		"connection": {leafConnection, func() error {
			return w.try(lease.OpConnection, w.connectionCall(bearer(a.customer, a.connection, "x")), nil)
		}},
		"blind key":         {leafBlindKey, func() error { return w.try(lease.OpBlindKey, nil, nil) }},
		"customer rotation": {leafCustomerRotated, func() error { _, err := w.vault.Rotate(t.Context(), a.customer); return err }},
		"root rotation":     {leafRootRotated, func() error { return w.vault.RotateRoot(t.Context(), secret.New(make([]byte, RootSize))) }},
		"enrolled":          {leafEnrolled, func() error { _, err := w.tryEnroll(wire.RoleRunner, "x", newProcess(t)); return err }},
	} {
		before, _ := w.vault.Head()
		if err := op.run(); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := w.leaves(before); len(got) != 1 || got[0].Kind != op.kind {
			t.Errorf("%s: %d leaves %+v, want one of kind %d", name, len(got), got, op.kind)
		}
	}
	before, _ := w.vault.Head()
	w.call(lease.OpCustomer, &lease.CustomerCall{Customer: a.customer}, nil)
	w.payloadKey(a.customer, a.day)
	if got := w.leaves(before); len(got) != 0 {
		t.Errorf("%d leaves for what changed nothing", len(got))
	}
	w.call(lease.OpInstanceDelete, &lease.InstanceCall{Customer: a.customer, Instance: a.instance}, nil)
	w.call(lease.OpConnectionDelete, &lease.ConnectionCall{Customer: a.customer, Connection: a.connection}, nil)
	if got := w.leaves(before); len(got) != 2 || got[0].Kind != leafInstanceDestroyed || got[1].Kind != leafConnectionDestroyed {
		t.Errorf("%d leaves for two deletions", len(got))
	}
}

// TestNoAnswerWithoutALeaf closes the store under the vault: what cannot be written
// down is not granted.
func TestNoAnswerWithoutALeaf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("token")
	d := w.dispatch(a)
	w.thief().exec(`CREATE TRIGGER no_leaf BEFORE INSERT ON leaf BEGIN SELECT RAISE(ABORT, 'disk is full'); END`)
	n := &attempts{t: t, what: "leases without a leaf"}
	for range 10 {
		err := leaseError(w, d)
		n.refused("a lease", err)
		if err != nil && !errors.Is(err, ErrUnavailable) {
			t.Errorf("%v, want ErrUnavailable", err)
		}
	}
	n.refused("the blind-index key", w.try(lease.OpBlindKey, nil, nil))
	w.thief().exec(`DROP TRIGGER no_leaf`)
	w.lease(d)
	n.report(11)
}

func TestRefusalsSayOneThing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.tenant("canary-token-5Hn2")
	d := w.dispatch(a)
	d.Slots[0].Connection = id.NewConnection(testStart)
	for name, err := range map[string]error{
		"unknown connection": leaseError(w, d),
		"garbage":            w.try(lease.OpConnection, &lease.ConnectionCall{Customer: a.customer, Connection: a.connection, Record: []byte("canary-record-8Lw1")}, nil),
		"unknown operation":  w.try("canary-operation-2Yq6", nil, nil),
		"moved record":       w.try(lease.OpConnection, &lease.ConnectionCall{Customer: id.NewCustomer(testStart), Connection: a.connection, Record: w.connectionCall(bearer(a.customer, a.connection, "x")).Record}, nil),
	} {
		if err != ErrRefused { //nolint:errorlint // it must be this error and wrap nothing
			t.Errorf("%s: %v, want exactly ErrRefused", name, err)
		}
		if got := Answer(err); got.Code != "refused" || got.Message != ErrRefused.Error() {
			t.Errorf("%s: answer %+v", name, got)
		}
	}
	if strings.Contains(w.log.String(), "canary") || strings.Count(w.log.String(), "request refused") != 4 {
		t.Errorf("the log repeats what was sent, or lacks a refusal:\n%s", w.log)
	}
	if got := Answer(errors.New("disk")).Code; got != "unavailable" {
		t.Errorf("code %q, want unavailable", got)
	}
}

func TestConcurrentLeasesAndRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tenants := []*tenant{w.tenant("token 0"), w.tenant("token 1"), w.tenant("token 2"), w.tenant("token 3")}
	lift(w.vault)
	before, _ := w.vault.Head()
	const callers, each = 16, 12
	var wait sync.WaitGroup
	for i := range callers {
		a := tenants[i%len(tenants)]
		k := newProcess(t)
		wait.Go(func() {
			for range each {
				m := lease.SignRequest(w.runner.sign, w.runner.node, lease.SignDispatch(w.server.sign, w.dispatch(a)), k.seal.Public(), w.egress.node)
				g, err := w.vault.Lease(t.Context(), m)
				if err != nil {
					t.Error(err)
					return
				}
				e, err := lease.OpenEgress(w.egress.seal, w.vault.Authority(), g.Egress)
				if err != nil || string(e.Slots[0].Record.Fields[0].Secret) != a.token {
					t.Errorf("a lease for %q holds something else: %v", a.token, err)
				}
			}
		})
	}
	changes := 0
	wait.Go(func() {
		for i := range 6 {
			root := bytes.Repeat([]byte{byte(i)}, RootSize)
			_, err1 := w.vault.Rotate(t.Context(), tenants[i%4].customer)
			err2 := w.vault.RotateRoot(t.Context(), secret.New(root))
			forget(w.vault)
			err3 := w.try(lease.OpCustomer, &lease.CustomerCall{Customer: id.NewCustomer(testStart)}, nil)
			if err := errors.Join(err1, err2, err3); err != nil {
				t.Error(err)
			}
			w.root, changes = root, changes+3
		}
	})
	wait.Wait()
	if got, want := mustVerify(t, w), before+callers*each+uint64(changes); got != want {
		t.Errorf("%d leaves, want %d", got, want)
	}
	w.reopen()
	for _, a := range tenants {
		w.lease(w.dispatch(a))
	}
}

// FuzzCall sends any body to any operation as a live server: no panic, and an answer
// or one of the three errors.
func FuzzCall(f *testing.F) {
	w := newWorld(f)
	a := w.tenant("token")
	lift(w.vault)
	ops := []string{lease.OpCustomer, lease.OpPayloadKey, lease.OpInstance, lease.OpInstanceDelete, lease.OpConnection, lease.OpConnectionDelete, lease.OpBlindKey, lease.OpPeers, lease.OpVersions, "x"}
	for i, m := range []wire.Message{
		&lease.CustomerCall{Customer: a.customer}, &lease.PayloadKeyCall{Customer: a.customer, Day: a.day}, w.instanceCall(a.customer, a.instance, `{}`),
		&lease.InstanceCall{Customer: a.customer}, w.connectionCall(bearer(a.customer, a.connection, "x")), &lease.ConnectionCall{Customer: a.customer},
	} {
		f.Add(i, wire.AppendBody(nil, m), false)
	}
	record := bearer(a.customer, a.connection, "x")
	f.Add(4, wire.AppendBody(nil, record), true)
	f.Fuzz(func(t *testing.T, op int, body []byte, inside bool) {
		if inside { // the body is what a user entered, sealed well
			place := lease.ConnectionPlace(a.customer, a.connection)
			sealed, err := seal.Seal(w.vault.Key(), lease.PurposeVault, place, body)
			if err != nil {
				t.Fatal(err)
			}
			op, body = 4, wire.AppendBody(nil, &lease.ConnectionCall{Customer: a.customer, Connection: a.connection, Record: sealed})
		}
		_, err := w.vault.Call(t.Context(), w.server.node, ops[uint(op)%uint(len(ops))], body)
		if err != nil && err != ErrRefused && err != ErrBusy { //nolint:errorlint // exactly these
			t.Errorf("%v", err)
		}
	})
}

// FuzzLease sends any signed bytes as a dispatch of a live server through a live runner.
func FuzzLease(f *testing.F) {
	w := newWorld(f)
	a := w.tenant("token")
	lift(w.vault)
	worker := newProcess(f)
	f.Add(wire.AppendBody(nil, w.dispatch(a)), true)
	f.Add(lease.SignDispatch(w.server.sign, w.dispatch(a)), false)
	f.Fuzz(func(t *testing.T, b []byte, signed bool) {
		var d lease.Dispatch
		if signed && wire.ParseBody(b, &d) == nil {
			b = lease.SignDispatch(w.server.sign, &d)
		}
		g, err := w.vault.Lease(t.Context(), lease.SignRequest(w.runner.sign, w.runner.node, b, worker.seal.Public(), w.egress.node))
		if err != nil && err != ErrRefused && err != ErrBusy { //nolint:errorlint // exactly these
			t.Errorf("%v", err)
		}
		if err == nil && (d.Customer != a.customer && signed) {
			t.Errorf("lease %s for another customer", g.Lease)
		}
	})
}

// FuzzOpenStored opens any bytes in the place of every stored value.
func FuzzOpenStored(f *testing.F) {
	w := newWorld(f)
	w.crowd()
	all := w.storedValues()
	for _, s := range all {
		f.Add(s.sealed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range all {
			if s.open(b) == nil && !bytes.Equal(b, s.sealed) {
				t.Errorf("%x opens in the place of %s", b, s.name)
			}
		}
	})
}
