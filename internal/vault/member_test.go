package vault

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func (w *world) tryEnroll(role wire.Role, pool string, p *process) (*wire.Enrolled, error) {
	w.tb.Helper()
	return w.vault.Enroll(w.tb.Context(), &wire.Enroll{Role: string(role), Pool: pool, Sign: p.sign.Public(), Seal: p.seal.Public()})
}

// TestUserIsTheRowOfTheMatrix reads the NATS user of every role back and compares it
// with the matrix: nothing more, and nothing open by omission.
func TestUserIsTheRowOfTheMatrix(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	operator, account := w.vault.Bus()
	o, err := jwt.DecodeOperatorClaims(operator)
	if err != nil {
		t.Fatal(err)
	}
	a, err := jwt.DecodeAccountClaims(account)
	if err != nil {
		t.Fatal(err)
	}
	if !o.DidSign(a) || a.Limits.IsJSEnabled() || a.Limits.LeafNodeConn != 0 || a.Limits.Exports != 0 || a.Limits.Imports != 0 || !a.Limits.DisallowBearer {
		t.Errorf("account limits are too wide: %+v", a.Limits)
	}
	for _, role := range wire.Roles() {
		p := newProcess(t)
		e, err := w.tryEnroll(role, "default", p)
		if err != nil {
			t.Fatal(err)
		}
		u, err := jwt.DecodeUserClaims(e.UserJWT)
		if err != nil {
			t.Fatal(err)
		}
		want := wire.PermissionsOf(role, e.Node)
		if diff := cmp.Diff(want.Publish, []string(u.Pub.Allow)); diff != "" {
			t.Errorf("%s publishes (-want +got):\n%s", role, diff)
		}
		if diff := cmp.Diff(want.Subscribe, []string(u.Sub.Allow)); diff != "" {
			t.Errorf("%s subscribes (-want +got):\n%s", role, diff)
		}
		if len(u.Pub.Allow) == 0 && !u.Pub.Deny.Contains(">") {
			t.Errorf("%s may publish anything, because its list is empty", role)
		}
		if (u.Resp != nil) != want.Answers || u.BearerToken || u.Expires != testStart.Add(IdentityLife).Unix() {
			t.Errorf("%s: answers %v, bearer %v, expires %d", role, u.Resp, u.BearerToken, u.Expires)
		}
		key, _ := nkeys.Encode(nkeys.PrefixByteUser, bytesOf(p.sign.Public()))
		if u.Subject != string(key) || !a.DidSign(u) {
			t.Errorf("%s: the user is not the process's key, or not by the account", role)
		}
	}
	e, err := w.tryEnroll(wire.RoleBus, "", newProcess(t))
	if err != nil || e.UserJWT != "" {
		t.Errorf("the bus got a user of its own: %q, %v", e.UserJWT, err)
	}
}

func TestEnrollRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := newProcess(t)
	stolen := &process{sign: w.runner.sign, seal: other.seal}
	n := &attempts{t: t, what: "enrolling"}
	for name, try := range map[string]func() (*wire.Enrolled, error){
		"a worker":                     func() (*wire.Enrolled, error) { return w.tryEnroll("worker", "", other) },
		"no role":                      func() (*wire.Enrolled, error) { return w.tryEnroll("", "", other) },
		"a wildcard":                   func() (*wire.Enrolled, error) { return w.tryEnroll("*", "", other) },
		"a runner's key as a server":   func() (*wire.Enrolled, error) { return w.tryEnroll(wire.RoleServer, "", w.runner) },
		"a runner's key, another pool": func() (*wire.Enrolled, error) { return w.tryEnroll(wire.RoleRunner, "eu", w.runner) },
		"a runner's key, another seal": func() (*wire.Enrolled, error) { return w.tryEnroll(wire.RoleRunner, "default", stolen) },
		"a long pool": func() (*wire.Enrolled, error) {
			return w.tryEnroll(wire.RoleRunner, string(make([]byte, maxPool+1)), other)
		},
	} {
		_, err := try()
		n.refused(name, err)
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", name, err)
		}
	}
	n.report(7)
}

func TestIdentitiesEndAndRenew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.clock.add(IdentityLife - time.Hour)
	e, err := w.tryEnroll(wire.RoleServer, "", w.server)
	if err != nil || e.Node != w.server.node {
		t.Fatalf("renewal: node %s, %v, want %s", e.Node, err, w.server.node)
	}
	w.clock.add(time.Hour)
	if _, ok := w.vault.Live(w.runner.node); ok {
		t.Error("an expired identity is live")
	}
	var peers lease.PeersAnswer
	w.call(lease.OpPeers, nil, &peers)
	if len(peers.Peers) != 1 {
		t.Fatalf("%d peers, want the renewed server alone", len(peers.Peers))
	}
	i, err := lease.ParseIdentity(w.vault.Authority(), peers.Peers[0].Certificate, w.clock.now())
	if err != nil || i.Node != w.server.node || i.Role != wire.RoleServer || i.Seal != w.server.seal.Public() {
		t.Errorf("certificate %+v, %v", i, err)
	}
	sweep := func(want int) {
		t.Helper()
		if _, err := w.vault.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(w.thief().copy("identity").rows); got != want {
			t.Errorf("%d identities after the sweep, want %d", got, want)
		}
	}
	sweep(3)
	w.clock.add(lateRenewal) // the renewed one ends an hour before its life is over again
	sweep(1)
}

// A process whose renewal comes late, for the machine slept or the vault was away, is who it was: its node is in what others
// signed for it and in what it may say on the bus.
func TestLateRenewals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	renew := func(how string) {
		t.Helper()
		if _, ok := w.vault.Live(w.runner.node); ok {
			t.Fatalf("%s: it is live", how)
		}
		e, err := w.tryEnroll(wire.RoleRunner, "default", w.runner)
		if err != nil || e.Node != w.runner.node {
			t.Fatalf("%s: node %v, %v, want %s", how, e, err, w.runner.node)
		}
		if _, ok := w.vault.Live(w.runner.node); !ok {
			t.Errorf("%s: it is not live again", how)
		}
	}
	w.clock.add(IdentityLife + time.Hour)
	renew("an hour late")
	w.clock.add(IdentityLife + lateRenewal - time.Minute)
	if _, err := w.vault.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	renew("days late, behind a sweep")
	w.clock.add(IdentityLife)
	if err := w.vault.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	w.vault, err = Open(t.Context(), Config{
		Dir: w.dir, Temporary: true, Root: secret.New(w.root), Now: w.clock.now, NewRun: true, Live: []id.Node{w.runner.node, w.server.node},
	})
	if err != nil {
		t.Fatal(err)
	}
	renew("behind a restart of the vault")
	if e, err := w.tryEnroll(wire.RoleEgress, "default", w.egress); err != nil || e.Node == w.egress.node {
		t.Errorf("one that is gone: %v, %v, want another node", e, err)
	}
	if err := w.vault.Retire(t.Context(), w.runner.node); err != nil {
		t.Fatal(err)
	}
	if e, err := w.tryEnroll(wire.RoleRunner, "default", w.runner); err != nil || e.Node == w.runner.node {
		t.Errorf("one that is retired: %v, %v, want another node", e, err)
	}
}

func TestIdentitiesAcrossRestarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	th := w.thief()
	before := th.copy("identity")
	w.reopen()
	for name, p := range map[string]*process{"server": w.server, "runner": w.runner, "egress": w.egress} {
		if i, ok := w.vault.Live(p.node); !ok || i.Sign != p.sign.Public() {
			t.Errorf("%s is not live after a restart of the vault alone", name)
		}
	}
	if err := w.vault.Retire(t.Context(), w.runner.node); err != nil {
		t.Fatal(err)
	}
	th.putBack(before)
	th.exec("INSERT INTO identity VALUES (?, ?)", bytesOf(id.NewNode(testStart)), before.rows[0][1])
	w.reopen()
	if _, ok := w.vault.Live(w.runner.node); ok {
		t.Error("a retired identity came back with its row")
	}
	if got := len(w.vault.Peers()); got != 2 {
		t.Errorf("%d peers, want 2: a certificate in another node's row counts for nothing", got)
	}
}

// bytesOf is an array as a slice, for values that have no address.
func bytesOf[A ~[16]byte | ~[32]byte](a A) []byte {
	switch v := any(a).(type) {
	case id.Node:
		return v[:]
	case seal.VerifyKey:
		return v[:]
	}
	panic("not an array of this test")
}
