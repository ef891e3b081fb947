package egress

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// tokenDesk is a renewer with vault, servers and provider played.
type tokenDesk struct {
	t         *testing.T
	authority *seal.SignKey
	server    *lease.Identity
	signs     *seal.SignKey // of the server
	sign      *seal.SignKey
	seal      *seal.PrivateKey
	node      id.Node
	renewer   *Renewer

	mu       sync.Mutex
	answer   func(call *wire.VaultCall) (wire.Message, error) // of the vault
	asked    []string
	minted   int
	hold     chan struct{} // not nil: each mint waits for one
	panics   bool          // each mint ends in a panic
	statuses []*wire.ConnectionStatus
}

func newTokenDesk(t *testing.T) *tokenDesk {
	t.Helper()
	keys := make([]*seal.SignKey, 3)
	for i := range keys {
		k, err := seal.GenerateSignKey()
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = k
	}
	k, err := seal.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	d := &tokenDesk{t: t, authority: keys[0], signs: keys[1], sign: keys[2], seal: k, node: id.NewNode(time.Now())}
	d.server = &lease.Identity{Node: id.NewNode(time.Now()), Role: wire.RoleServer, Sign: d.signs.Public(), Seal: k.Public()}
	vault := NewTokenVault(TokenVaultConfig{
		Node: d.node, Sign: d.sign, Seal: k, Authority: d.authority.Public(), Ask: d.ask,
		Key: func() (seal.PublicKey, bool) { return k.Public(), true },
	})
	d.renewer = NewRenewer(RenewerConfig{
		Node: d.node, Sign: d.sign, Seal: k, Vault: vault, Minter: d, Log: slog.New(slog.DiscardHandler),
		Live: func(n id.Node) (*lease.Identity, bool) { return d.server, n == d.server.Node },
		Status: func(m *wire.ConnectionStatus) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.statuses = append(d.statuses, m)
		},
	})
	return d
}

func (d *tokenDesk) ask(_ context.Context, m *wire.VaultCall) (*wire.VaultAnswer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, m.Op)
	a, err := d.answer(m)
	if err != nil {
		return nil, err
	}
	var body []byte
	if a != nil {
		body = wire.AppendBody(nil, a)
	}
	return lease.SignAnswer(d.authority, m, body), nil
}

// Mint implements Minter.
func (d *tokenDesk) Mint(_ context.Context, w *lease.Work, _ []wire.Pair, commit func(*lease.Raw) error) *Made {
	d.mu.Lock()
	d.minted++
	hold, panics := d.hold, d.panics
	d.mu.Unlock()
	if panics {
		panic("an answer that nobody has thought of")
	}
	if hold != nil {
		<-hold
	}
	if err := commit(&lease.Raw{Status: 200}); err != nil {
		return &Made{Outcome: lease.OutcomeUnsure}
	}
	r := w.Record
	r.Fields = []lease.Field{{Name: lease.FieldAccessToken, Secret: []byte("new")}, {Name: lease.FieldRefreshToken, Secret: []byte("next")}}
	return &Made{Outcome: lease.OutcomeSaved, Record: &r}
}

// begin seals an answer to a begin.
func (d *tokenDesk) begin(c id.Connection, b *lease.Begin) wire.Message {
	sealed, err := lease.SealBegin(&lease.Identity{Node: d.node, Seal: d.seal.Public()}, c, b)
	if err != nil {
		d.t.Error(err)
	}
	return &lease.SealedAnswer{Sealed: sealed}
}

// grants answers as a vault that grants every begin.
func (d *tokenDesk) grants(c id.Connection) func(*wire.VaultCall) (wire.Message, error) {
	return func(m *wire.VaultCall) (wire.Message, error) {
		switch m.Op {
		case lease.OpTokenBegin:
			return d.begin(c, &lease.Begin{Work: &lease.Work{Fence: 5, Grant: lease.GrantRefresh, Record: lease.Record{Connection: c, Kind: lease.KindOAuth2, Version: 3}}}), nil
		case lease.OpTokenSave:
			return &lease.SaveAnswer{Version: 4}, nil
		}
		return nil, nil
	}
}

func TestCallersForOneConnectionShareARenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, c := newTokenDesk(t), id.NewConnection(time.Now())
		d.answer, d.hold = d.grants(c), make(chan struct{})
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				r, err := d.renewer.Renew(t.Context(), c, []byte("ticket"), 3)
				if err != nil || r.Version != 4 || string(r.Field(lease.FieldAccessToken)) != "new" || r.Field(lease.FieldRefreshToken) != nil {
					t.Errorf("%+v, %v", r, err)
				}
			})
		}
		synctest.Wait() // all of them wait
		impatient, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := d.renewer.Renew(impatient, c, []byte("ticket"), 3); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that does not wait: %v", err)
		}
		close(d.hold)
		callers.Wait()
		if d.minted != 1 {
			t.Errorf("%d renewals for 9 callers", d.minted)
		}
	})
}

// answerCode is what the vault answers instead of serving a call.
type answerCode string

func (e answerCode) Error() string     { return string(e) }
func (e answerCode) ErrorCode() string { return string(e) }

// The answer of a provider is committed before anything else, however often the vault is gone.
func TestLostAnswersOfTheVaultAreAskedForAgain(t *testing.T) {
	t.Parallel()
	d, c := newTokenDesk(t), id.NewConnection(time.Now())
	grants, tries := d.grants(c), map[string]int{}
	nonces := map[[16]byte]bool{}
	d.answer = func(m *wire.VaultCall) (wire.Message, error) {
		if nonces[m.Nonce] {
			t.Error("a call is sent twice, which the vault refuses")
		}
		nonces[m.Nonce] = true
		if tries[m.Op]++; tries[m.Op] < 3 {
			return nil, []error{errors.New("lost"), answerCode("unavailable")}[tries[m.Op]-1]
		}
		return grants(m)
	}
	if r, err := d.renewer.Renew(t.Context(), c, []byte("ticket"), 3); err != nil || r.Version != 4 || d.minted != 1 {
		t.Errorf("%+v, %v after %d mints", r, err, d.minted)
	}
	if tries[lease.OpTokenRaw] != 3 || tries[lease.OpTokenSave] != 3 {
		t.Errorf("asked %v", d.asked)
	}
}

// What the vault may have granted is asked for again under the same attempt by whoever comes next:
// nobody else gets the connection meanwhile.
func TestAttemptsWithoutAnAnswerAreGoneOnWith(t *testing.T) {
	t.Parallel()
	d, c := newTokenDesk(t), id.NewConnection(time.Now())
	grants, attempts := d.grants(c), [][16]byte{}
	answers := []error{errors.New("lost"), answerCode("refused")} // the server of the order ended meanwhile
	d.answer = func(m *wire.VaultCall) (wire.Message, error) {
		if m.Op == lease.OpTokenBegin {
			var call lease.BeginCall
			if err := wire.ParseBody(m.Body, &call); err != nil {
				t.Error(err)
			}
			attempts = append(attempts, call.Attempt)
			if len(answers) > 0 {
				err := answers[0]
				answers = answers[1:]
				return nil, err
			}
		}
		return grants(m)
	}
	order := func(op lease.OrderOp) {
		o := &lease.Order{Server: d.server.Node, Egress: d.node, Op: op, Connection: c, Issued: time.Now()}
		if _, ok := d.renewer.Order(t.Context(), d.server.Node, lease.SignOrder(d.signs, o)).(*wire.OrderAnswer); !ok {
			t.Error("the order is refused")
		}
	}
	order(lease.OrderRefresh) // asked twice
	order(lease.OrderRevoke)
	for range 2 {
		if _, err := d.renewer.Renew(t.Context(), c, []byte("ticket"), 3); err != nil {
			t.Fatal(err)
		}
	}
	if len(attempts) != 5 || attempts[0] == [16]byte{} || attempts[1] != attempts[0] || attempts[2] == attempts[0] || attempts[3] != attempts[0] || attempts[4] == attempts[0] {
		t.Errorf("attempts %x: want the first again, another for the revocation, the first for the next renewal, and then another", attempts)
	}
	// Of two that ended without an answer either may have been granted.
	v := d.renewer.cfg.Vault
	for n := range byte(maxOpenOfOne + 2) {
		v.leaveOpen(c, [16]byte{n + 1})
	}
	for n := range byte(maxOpenOfOne) {
		if got := v.takeOpen(c); got != [16]byte{n + 3} {
			t.Errorf("open attempt %d is %x", n, got)
		}
	}
	if len(v.open) != 0 {
		t.Errorf("%d connections have open attempts", len(v.open))
	}
}

func TestRefusalsOfTheVaultAreFinal(t *testing.T) {
	t.Parallel()
	d, c := newTokenDesk(t), id.NewConnection(time.Now())
	d.answer = func(*wire.VaultCall) (wire.Message, error) { return nil, answerCode("refused") }
	if _, err := d.renewer.Renew(t.Context(), c, []byte("ticket"), 3); err == nil || len(d.asked) != 1 || d.minted != 0 {
		t.Errorf("%v after %v and %d mints", err, d.asked, d.minted)
	}
	other, err := seal.GenerateSignKey()
	if err != nil {
		t.Fatal(err)
	}
	d.answer = d.grants(c)
	d.authority = other // an answer that another has signed
	if _, err := d.renewer.Renew(t.Context(), c, []byte("ticket"), 3); !errors.Is(err, lease.ErrRefused) || d.minted != 0 {
		t.Errorf("a forged answer: %v after %d mints", err, d.minted)
	}
}

func TestServersAreToldOfDeadConnections(t *testing.T) {
	t.Parallel()
	d, c, owner := newTokenDesk(t), id.NewConnection(time.Now()), id.NewCustomer(time.Now())
	d.answer = func(*wire.VaultCall) (wire.Message, error) {
		return d.begin(c, &lease.Begin{Dead: &lease.Dead{State: wire.ConnectionLostAnswer, Customer: owner, Version: 9}}), nil
	}
	for range 3 {
		_, err := d.renewer.Renew(t.Context(), c, []byte("ticket"), 3)
		if f, ok := errors.AsType[*TokenFault](err); !ok || f.State != wire.ConnectionLostAnswer {
			t.Fatalf("%v", err)
		}
	}
	if len(d.statuses) != 1 || d.statuses[0].Customer != owner || d.statuses[0].Version != 9 || d.statuses[0].State != wire.ConnectionLostAnswer {
		t.Fatalf("told %+v, want it once", d.statuses)
	}
	live := func(id.Node) (*lease.Identity, bool) {
		return &lease.Identity{Role: wire.RoleEgress, Sign: d.sign.Public()}, true
	}
	if err := lease.CheckStatus(d.node, d.statuses[0], live, time.Now()); err != nil {
		t.Error(err)
	}
}

func TestOrdersAreOfTheServerThatSendsThem(t *testing.T) {
	t.Parallel()
	d, c := newTokenDesk(t), id.NewConnection(time.Now())
	d.answer = d.grants(c)
	order := func(change func(*lease.Order), sign *seal.SignKey) *wire.Order {
		o := &lease.Order{Server: d.server.Node, Egress: d.node, Op: lease.OrderRefresh, Connection: c, Issued: time.Now()}
		change(o)
		return lease.SignOrder(sign, o)
	}
	good := order(func(*lease.Order) {}, d.signs)
	a, ok := d.renewer.Order(t.Context(), d.server.Node, good).(*wire.OrderAnswer)
	if !ok {
		t.Fatal("the order is refused")
	}
	r, err := lease.CheckOrderResult(&lease.Identity{Role: wire.RoleEgress, Sign: d.sign.Public()}, good, a)
	if err != nil || r.Code != lease.OrderOK || r.Status.Version != 4 {
		t.Errorf("%+v, %v", r, err)
	}
	minted := d.minted
	for name, m := range map[string]*wire.Order{
		"to another node":      order(func(o *lease.Order) { o.Egress = id.NewNode(time.Now()) }, d.signs),
		"signed by another":    order(func(*lease.Order) {}, d.sign),
		"an old one":           order(func(o *lease.Order) { o.Issued = time.Now().Add(-time.Hour) }, d.signs),
		"an unreadable body":   order(func(o *lease.Order) { o.Op, o.Body = lease.OrderExchange, []byte("x") }, d.signs),
		"of an unknown server": order(func(o *lease.Order) { o.Server = id.NewNode(time.Now()) }, d.signs),
	} {
		if e, ok := d.renewer.Order(t.Context(), d.server.Node, m).(*wire.Error); !ok || e.Code != "refused" {
			t.Errorf("%s is served", name)
		}
	}
	if e, ok := d.renewer.Order(t.Context(), id.NewNode(time.Now()), good).(*wire.Error); !ok || e.Code != "refused" {
		t.Error("an order that another server has sent on is served")
	}
	if d.minted != minted {
		t.Errorf("%d mints for refused orders", d.minted-minted)
	}
}

// A node serves everybody: what the answer of one provider brings down is one renewal.
func TestPanicsEndOneRenewal(t *testing.T) {
	t.Parallel()
	d := newTokenDesk(t)
	c := id.NewConnection(time.Now())
	d.answer, d.panics = d.grants(c), true
	if _, err := d.renewer.Renew(t.Context(), c, []byte("ticket"), 3); err == nil {
		t.Error("a renewal that panicked brought tokens")
	}
	d.mu.Lock()
	d.panics = false
	d.mu.Unlock()
	if r, err := d.renewer.Renew(t.Context(), c, []byte("ticket"), 3); err != nil || r.Version != 4 {
		t.Errorf("the next renewal: %v", err)
	}
	if !slices.Contains(d.asked, lease.OpTokenSave) {
		t.Error("the vault was not told that the work has ended")
	}
}
