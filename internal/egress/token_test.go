package egress

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/testkit/quirk"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// tokenRig is a node with a lease of one connection whose tokens come from a fake provider, and the vault's part in it: one
// record, granted to whoever asks.
type tokenRig struct {
	*Node
	t    *testing.T
	m    *minting
	sign *seal.SignKey
	own  *lease.Identity
	g    *granted

	mu     sync.Mutex
	record lease.Record
	begun  int
	dead   wire.ConnectionState
}

func newTokenRig(t *testing.T, method credential.Method, on ...quirk.Switch) *tokenRig {
	t.Helper()
	r := &tokenRig{t: t, m: newMinting(t, method, on...)}
	k, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if r.sign, err = seal.GenerateSignKey(); err != nil {
		t.Fatal(err)
	}
	node := id.NewNode(time.Now())
	r.own = &lease.Identity{Node: node, Role: wire.RoleEgress, Seal: k.Public()}
	vault := NewTokenVault(TokenVaultConfig{
		Node: node, Sign: r.sign, Seal: k, Authority: r.sign.Public(), Ask: r.ask,
		Key: func() (seal.PublicKey, bool) { return k.Public(), true }, // the vault's part is played with the node's own key
	})
	log := slog.New(slog.DiscardHandler)
	renewer := NewRenewer(RenewerConfig{Node: node, Sign: r.sign, Seal: k, Vault: vault, Minter: r.m.Engine, Live: func(id.Node) (*lease.Identity, bool) { return nil, false }, Log: log})
	r.Node = NewNode(NodeConfig{Node: node, Seal: k, Authority: r.sign.Public(), Client: r.m.client, Renewer: renewer, Bus: answersTo(nil), Log: log})
	r.record = *r.m.connected()
	r.record.Binding.Host = "api.example.com"
	r.record.Version = 1
	r.lease(k)
	return r
}

// lease gives the node a lease of the connection as it is now.
func (r *tokenRig) lease(k *seal.PrivateKey) {
	r.t.Helper()
	key, err := seal.RandomKey()
	if err != nil {
		r.t.Fatal(err)
	}
	l := &lease.Egress{
		Lease: id.NewLease(time.Now()), Customer: r.record.Customer, Expires: time.Now().Add(time.Hour), Channel: key.Bytes(),
		Slots: []lease.SlotRecord{{Slot: "s", Record: *leasedOf(&r.record, r.record.Version), Ticket: []byte("ticket")}},
	}
	sealed, err := lease.SealEgress(r.sign, k.Public(), l)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.g, err = openLease(k, r.sign.Public(), &wire.LeaseGive{Lease: l.Lease, Sealed: sealed}); err != nil {
		r.t.Fatal(err)
	}
}

// ask is the vault.
func (r *tokenRig) ask(_ context.Context, m *wire.VaultCall) (*wire.VaultAnswer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var body []byte
	switch m.Op {
	case lease.OpTokenBegin:
		var call lease.BeginCall
		if err := wire.ParseBody(m.Body, &call); err != nil {
			return nil, err
		}
		b := &lease.Begin{}
		switch {
		case r.dead != wire.ConnectionLive:
			b.Dead = &lease.Dead{State: r.dead}
			r.begun++
		case call.Stale < r.record.Version: // another call was faster
			b.Current = &lease.SlotRecord{Record: *leasedOf(&r.record, r.record.Version)}
		default:
			b.Work = r.m.refresh(&r.record)
			r.begun++
		}
		sealed, err := lease.SealBegin(r.own, r.record.Connection, b)
		if err != nil {
			return nil, err
		}
		body = wire.AppendBody(nil, &lease.SealedAnswer{Sealed: sealed})
	case lease.OpTokenSave:
		var save lease.SaveCall
		if err := wire.ParseBody(m.Body, &save); err != nil {
			return nil, err
		}
		if save.Outcome == lease.OutcomeSaved {
			plain, err := r.cfg.Seal.Open(lease.PurposeVault, lease.SavePlace(save.Connection, save.Fence), save.Record)
			if err != nil {
				return nil, err
			}
			version := r.record.Version + 1
			r.record = lease.Record{}
			if err := wire.ParseBody(plain, &r.record); err != nil {
				return nil, err
			}
			r.record.Version = version
		}
		body = wire.AppendBody(nil, &lease.SaveAnswer{Version: r.record.Version})
	}
	return lease.SignAnswer(r.sign, m, body), nil
}

func (r *tokenRig) call(path string) *wire.Response {
	return r.do(&task{lease: r.g, request: wire.Request{Slot: "s", Method: "GET", Path: path}})
}

// end makes the tokens of the lease nearly over.
func (r *tokenRig) end() { r.g.tokens["s"].record.Expires = time.Now().Add(time.Second) }

func TestTokensAreRenewedAtUse(t *testing.T) {
	t.Parallel()
	r := newTokenRig(t, idpMethod(), quirk.Rotation)
	if a := r.call("/api/me"); a.Status != 200 || r.begun != 0 {
		t.Fatalf("a good token: %d %s, %d renewals", a.Status, a.Message, r.begun)
	}
	r.end()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if a := r.call("/api/me"); a.Status != 200 {
				t.Errorf("after its end: %d %s", a.Status, a.Message)
			}
		})
	}
	all.Wait()
	if c := r.m.s.Seen(); c.Refreshes != 1 || c.Reused != 0 || c.Expired != 0 || r.begun != 1 {
		t.Errorf("20 calls at once made %+v, %d renewals", c, r.begun)
	}
}

func TestRefusedTokensAreRenewedOnce(t *testing.T) {
	t.Parallel()
	r := newTokenRig(t, idpMethod(), quirk.Rotation)
	r.m.s.Forget()
	if a := r.call("/api/me"); a.Status != 200 || r.begun != 1 {
		t.Errorf("a refused token: %d %s, %d renewals", a.Status, a.Message, r.begun)
	}
	before := len(r.m.s.Noted())
	if a := r.call("/api/nothing?bad"); a.ErrorType == "" {
		t.Errorf("a path with a query: %d", a.Status)
	}
	r.record.Binding.Host = "eu.example.com"
	r.m.s.End()
	if a := r.call("/api/me"); a.Status != 401 || a.ErrorType != string(Auth) {
		t.Errorf("a grant that was taken back: %d %s", a.Status, a.ErrorType)
	}
	if n := len(r.m.s.Noted()) - before; n > 3 {
		t.Errorf("%d requests for one that is refused", n)
	}
}

func TestDeadConnectionsSayWhatToDo(t *testing.T) {
	t.Parallel()
	r := newTokenRig(t, idpMethod())
	r.end()
	r.dead = wire.ConnectionNeedsReconnect
	if a := r.call("/api/me"); a.ErrorType != string(Auth) || !strings.Contains(a.Message, "connected again") || a.Status != 0 || a.Definite {
		t.Errorf("got %+v", a)
	}
}

func TestTokensAreScrubbed(t *testing.T) {
	t.Parallel()
	r := newTokenRig(t, idpMethod(), quirk.Echo)
	for _, renew := range []bool{false, true} {
		if renew {
			r.end()
		}
		a := r.call("/api/echo")
		if a.Status != 200 || a.Scrubbed == 0 {
			t.Fatalf("got %d %s, %d places scrubbed", a.Status, a.Message, a.Scrubbed)
		}
		text := string(a.Body)
		for _, h := range a.Headers {
			text += h.Value
		}
		for _, s := range r.m.s.Secrets() {
			if strings.Contains(text, s) {
				t.Errorf("renewed %v: the answer holds %s", renew, s)
			}
		}
	}
}
