package vault

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func refusedBy(t *testing.T, name string, err error) {
	t.Helper()
	if !errors.Is(err, ErrRefused) {
		t.Errorf("%s: %v, want ErrRefused", name, err)
	}
}

func TestAuthorizationIsExchangedAndSaved(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	s := a.start(a.draft(n))
	if len(s.State) != 43 || len(s.Nonce) != 43 {
		t.Errorf("state %q, nonce %q: want 256 bits each", s.State, s.Nonce)
	}
	w := a.mustWork(a.egress, a.exchanged(a.order(lease.OrderExchange, n, a.egress), s.State))
	challenge := sha256.Sum256([]byte(w.Verifier))
	if w.Grant != lease.GrantExchange || w.Nonce != s.Nonce || base64.RawURLEncoding.EncodeToString(challenge[:]) != s.Challenge {
		t.Errorf("work %+v does not belong to the start", w)
	}
	if w.Client == nil || string(w.Client.Field(lease.FieldClientSecret)) != "app-1-of-the-organization" {
		t.Error("the work has no client")
	}
	narrow := tokens(w.Record, "1", "acme")
	narrow.Binding.Host, narrow.Binding.BasePath, narrow.Expires = "eu7.crm.example", "/api/v2", a.clock.now().Add(time.Hour)
	got, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, narrow)
	if err != nil || got.Version != 1 || got.State != wire.ConnectionLive {
		t.Fatalf("%+v, %v\n%s", got, err, a.log)
	}
	again, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, narrow)
	if err != nil || *again != *got {
		t.Errorf("saved again because the answer was lost: %+v, %v, want %+v", again, err, got)
	}
	slot, ticket := a.ticket(n)
	if len(ticket) == 0 || slot.Record.Binding.Host != "eu7.crm.example" || !slot.Record.Expires.Equal(narrow.Expires) {
		t.Errorf("leased %+v", slot)
	}
}

// What a worker's egress node gets renews nothing.
func TestLeaseOfTokensHoldsAccessTokensOnly(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	a.connect(n)
	slot, _ := a.ticket(n)
	for _, f := range slot.Record.Fields {
		if f.Name != lease.FieldAccessToken && f.Name != "kept.realm_id" {
			t.Errorf("the lease holds %s", f.Name)
		}
	}
	if string(slot.Record.Field(lease.FieldAccessToken)) != "access-1" {
		t.Error("the lease has no access token")
	}
	d := a.dispatch(a.tenantOf(n))
	d.Slots[0].Connection = a.client
	_, err := a.tryLease(d)
	refusedBy(t, "a lease of the client", err)
}

func TestOneNodeRenewsAtATime(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	v := a.connect(n)
	other := a.enroll(wire.RoleEgress, "default")
	a.clock.add(time.Minute)
	o := a.order(lease.OrderRefresh, n, a.egress)
	o.Version = v
	first := a.ordered(o)
	first.Attempt = [16]byte{1}
	w := a.mustWork(a.egress, first)
	if w.Grant != lease.GrantRefresh || w.Uncertain || string(w.Record.Field(lease.FieldRefreshToken)) != "refresh-1" {
		t.Errorf("work %+v", w)
	}
	if same := a.mustWork(a.egress, first); same.Fence != w.Fence {
		t.Errorf("asked again with the same attempt: fence %d, want %d", same.Fence, w.Fence)
	}
	b, err := a.begin(other, a.ordered(a.order(lease.OrderRefresh, n, other)))
	if err != nil || b.Busy == nil || b.Busy.RetryAfter <= 0 || b.Busy.Cooling {
		t.Fatalf("another node meanwhile: %+v, %v, want Busy", b, err)
	}
	if _, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, tokens(w.Record, "2", "acme")); err != nil {
		t.Fatal(err)
	}
	o = a.order(lease.OrderRefresh, n, other)
	o.Version = v
	b, err = a.begin(other, a.ordered(o))
	if err != nil || b.Current == nil || b.Current.Record.Version != v+1 || len(b.Current.Record.Fields) != 0 {
		t.Fatalf("an order for the version before: %+v, %v, want Current without fields", b, err)
	}
}

// A grant whose answer was lost is not kept from everybody until it ends: the node gets it with
// whatever it asks next, also when the server whose order it was is gone, and when it rests on an
// answer of the node before.
func TestLostGrantsAreGivenAgain(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	a.connect(n)
	a.clock.add(time.Minute)
	slot, ticket := a.ticket(n)
	first := a.ordered(a.order(lease.OrderRefresh, n, a.egress))
	first.Attempt = [16]byte{1}
	w := a.mustWork(a.egress, first) // and the answer is lost
	if err := a.vault.Retire(t.Context(), a.server.node); err != nil {
		t.Fatal(err)
	}
	_, err := a.begin(a.egress, first)
	refusedBy(t, "asked again with an order of a server that has ended", err)
	a.server = a.enroll(wire.RoleServer, "")
	for name, m := range map[string]*lease.BeginCall{
		"another attempt": {Connection: n, Ticket: ticket, Stale: slot.Record.Version, Attempt: [16]byte{2}},
		"a revocation":    a.ordered(a.order(lease.OrderRevoke, n, a.egress)),
	} {
		if m.Order != nil {
			m.Attempt = [16]byte{1}
		}
		if b, err := a.begin(a.egress, m); err != nil || b.Busy == nil {
			t.Errorf("%s: %+v, %v, want Busy", name, b, err)
		}
	}
	a.clock.add(lease.IntentLife - time.Second)
	if same := a.mustWork(a.egress, &lease.BeginCall{Connection: n, Ticket: ticket, Stale: slot.Record.Version, Attempt: [16]byte{1}}); same.Fence != w.Fence || same.Uncertain {
		t.Errorf("with a ticket: %+v, want fence %d again", same, w.Fence)
	}
	if leaves, err := a.vault.store.Leaves(t.Context(), 0, 1000); err != nil {
		t.Error(err)
	} else if l := leaves[len(leaves)-1]; l.Kind != leafTokenWork {
		t.Errorf("the last leaf is %d, want one of the work", l.Kind)
	} else if use := (TokenUse{}); wire.ParseBody(l.Body, &use) != nil || use.Lease.IsZero() || use.Fence != w.Fence {
		t.Errorf("the leaf of the work does not say what it rests on: %+v", use)
	}
	other := a.enroll(wire.RoleEgress, "default")
	a.clock.add(lease.IntentLife - time.Second)
	if b, err := a.begin(other, a.ordered(a.order(lease.OrderRefresh, n, other))); err != nil || b.Busy == nil {
		t.Errorf("another node: %+v, %v: the work counts from when it was given again", b, err)
	}
	next := a.ordered(a.order(lease.OrderRefresh, n, a.egress))
	next.Attempt = [16]byte{1}
	if same := a.mustWork(a.egress, next); same.Fence != w.Fence {
		t.Errorf("with another order: fence %d, want %d", same.Fence, w.Fence)
	}
	if err := a.raw(a.egress, n, w.Fence, 0, "answer"); err != nil {
		t.Fatal(err)
	}
	if err := a.vault.Retire(t.Context(), a.egress.node); err != nil {
		t.Fatal(err)
	}
	last := a.ordered(a.order(lease.OrderRefresh, n, other))
	last.Attempt = [16]byte{3}
	w = a.mustWork(other, last)
	if same := a.mustWork(other, last); same.Fence != w.Fence || len(same.Raw) != 1 {
		t.Errorf("what rests on a committed answer: %+v, want fence %d again", same, w.Fence)
	}
	if _, err := a.save(other, n, w.Fence, lease.OutcomeSaved, tokens(w.Record, "2", "acme")); err != nil {
		t.Fatal(err)
	}
	_, err = a.begin(other, last)
	refusedBy(t, "an order that was served", err)
}

func TestTicketGetsNewerTokens(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	v := a.connect(n)
	slot, ticket := a.ticket(n)
	m := &lease.BeginCall{Connection: n, Ticket: ticket, Stale: slot.Record.Version}
	if b, err := a.begin(a.egress, m); err != nil || b.Current == nil || b.Current.Record.Version != v {
		t.Fatalf("a moment after they were made: %+v, %v, want the same tokens", b, err)
	}
	a.clock.add(minTokenAge)
	w := a.mustWork(a.egress, m)
	if _, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, tokens(w.Record, "2", "acme")); err != nil {
		t.Fatal(err)
	}
	b, err := a.begin(a.egress, m)
	if err != nil || b.Current == nil || string(b.Current.Record.Field(lease.FieldAccessToken)) != "access-2" || b.Current.Record.Field(lease.FieldRefreshToken) != nil {
		t.Errorf("%+v, %v, want the newer access token and no more", b, err)
	}
}

func TestForeignTicketsAreRefused(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n, m := id.NewConnection(a.clock.now()), id.NewConnection(a.clock.now())
	a.connect(n)
	a.connect(m)
	other := a.enroll(wire.RoleEgress, "default")
	a.clock.add(time.Minute)
	_, ticket := a.ticket(n)
	_, err := a.begin(other, &lease.BeginCall{Connection: n, Ticket: ticket, Stale: 1})
	refusedBy(t, "by another node", err)
	_, err = a.begin(a.egress, &lease.BeginCall{Connection: m, Ticket: ticket, Stale: 1})
	refusedBy(t, "for another connection", err)
	forged := &lease.Ticket{Lease: id.NewLease(a.clock.now()), Egress: a.egress.node, Customer: a.customer, Connection: n, Expires: a.clock.now().Add(time.Hour)}
	_, err = a.begin(a.egress, &lease.BeginCall{Connection: n, Ticket: lease.MakeTicket(make([]byte, 32), forged), Stale: 1})
	refusedBy(t, "of another vault", err)
	a.clock.add(lease.MaxLife)
	_, err = a.begin(a.egress, &lease.BeginCall{Connection: n, Ticket: ticket, Stale: 1})
	refusedBy(t, "of a lease that has ended", err)
}

func TestTicketsOfSharedConnectionsEndWithTheSharing(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	a.connect(n)
	stranger := a.customer
	a.customer = a.world.customer()
	a.customer, stranger = stranger, a.customer
	k := lease.MakeTicket(a.vault.tickets, &lease.Ticket{Lease: id.NewLease(a.clock.now()), Egress: a.egress.node, Customer: stranger, Connection: n, Expires: a.clock.now().Add(time.Minute)})
	_, err := a.begin(a.egress, &lease.BeginCall{Connection: n, Ticket: k, Stale: 1})
	refusedBy(t, "a ticket of a customer with whom it is not shared", err)
	o := a.order(lease.OrderRefresh, n, a.egress)
	o.Customer = stranger
	_, err = a.begin(a.egress, a.ordered(o))
	refusedBy(t, "an order in another customer's name", err)
}

func TestOrdersAreServedOnce(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	a.connect(n)
	m := a.ordered(a.order(lease.OrderRefresh, n, a.egress))
	w := a.mustWork(a.egress, m)
	if _, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, tokens(w.Record, "2", "acme")); err != nil {
		t.Fatal(err)
	}
	_, err := a.begin(a.egress, m)
	refusedBy(t, "an order that was served", err)
}

func TestForeignOrdersAreRefused(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	a.connect(n)
	other := a.enroll(wire.RoleEgress, "default")
	_, err := a.begin(other, a.ordered(a.order(lease.OrderRefresh, n, a.egress)))
	refusedBy(t, "to another node", err)
	m := a.ordered(a.order(lease.OrderRefresh, n, a.egress))
	m.Connection = id.NewConnection(a.clock.now())
	_, err = a.begin(a.egress, m)
	refusedBy(t, "for another connection", err)
	_, err = a.begin(a.egress, &lease.BeginCall{Connection: n, Order: lease.SignOrder(a.egress.sign, a.order(lease.OrderRefresh, n, a.egress)).Signed})
	refusedBy(t, "signed by the node itself", err)
	_, err = a.begin(a.egress, &lease.BeginCall{Connection: n})
	refusedBy(t, "on nothing", err)
	replaced := a.order(lease.OrderReplaced, n, a.egress)
	replaced.Version = 1
	_, err = a.begin(a.egress, a.ordered(replaced))
	refusedBy(t, "on the word that it was replaced", err)
}

func TestTokenCallsAreOfLiveEgressNodes(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	a.connect(n)
	m := a.ordered(a.order(lease.OrderRefresh, n, a.server))
	refusedBy(t, "a server", a.ask(a.server, lease.OpTokenBegin, m, &lease.SealedAnswer{}))
	refusedBy(t, "a runner", a.ask(a.runner, lease.OpTokenBegin, m, &lease.SealedAnswer{}))
	refusedBy(t, "the server's operation", a.ask(a.egress, lease.OpConnectionDelete, &lease.ConnectionCall{Customer: a.customer, Connection: n}, nil))
	refusedBy(t, "an egress node on the server's road", a.try(lease.OpTokenBegin, m, &lease.SealedAnswer{}))
	call := lease.SignTokenCall(a.egress.sign, lease.OpTokenBegin, wire.AppendBody(nil, a.ordered(a.order(lease.OrderRefresh, n, a.egress))), a.clock.now())
	if _, err := a.vault.ServeToken(t.Context(), a.egress.node, call); err != nil {
		t.Fatal(err)
	}
	_, err := a.vault.ServeToken(t.Context(), a.egress.node, call)
	refusedBy(t, "a call that came before", err)
	if err := a.vault.Retire(t.Context(), a.egress.node); err != nil {
		t.Fatal(err)
	}
	refusedBy(t, "a node that has ended", a.ask(a.egress, lease.OpTokenBegin, a.ordered(a.order(lease.OrderRefresh, n, a.egress)), &lease.SealedAnswer{}))
}

// Whoever was too late finds that the work has ended.
func TestStaleFencesSaveNothing(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	v := a.connect(n)
	other := a.enroll(wire.RoleEgress, "default")
	late := a.mustWork(a.egress, a.ordered(a.order(lease.OrderRefresh, n, a.egress)))
	refusedBy(t, "an answer kept by another node", a.raw(other, n, late.Fence, 0, "{}"))
	_, err := a.save(other, n, late.Fence, lease.OutcomeRefused, nil)
	refusedBy(t, "saved by another node", err)
	a.clock.add(lease.IntentLife)
	w := a.mustWork(other, a.ordered(a.order(lease.OrderRefresh, n, other)))
	if !w.Uncertain || w.Fence <= late.Fence {
		t.Errorf("work %+v after one that lapsed: want it uncertain and newer", w)
	}
	refusedBy(t, "an answer kept too late", a.raw(a.egress, n, late.Fence, 0, "{}"))
	_, err = a.save(a.egress, n, late.Fence, lease.OutcomeSaved, tokens(late.Record, "late", "acme"))
	refusedBy(t, "saved too late", err)
	if got, err := a.save(other, n, w.Fence, lease.OutcomeRefused, nil); err != nil || got.State != wire.ConnectionLostAnswer || got.Version != v+1 {
		t.Errorf("refused after a lost answer: %+v, %v, want lost_answer", got, err)
	}
	b, err := a.begin(a.egress, a.ordered(a.order(lease.OrderRefresh, n, a.egress)))
	if err != nil || b.Dead == nil || b.Dead.State != wire.ConnectionLostAnswer {
		t.Errorf("begin of a dead connection: %+v, %v", b, err)
	}
}

// A record that a user enters meanwhile is not overwritten by tokens of the one before.
func TestEnteredRecordEndsTheWork(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	a.connect(n)
	w := a.mustWork(a.egress, a.ordered(a.order(lease.OrderRefresh, n, a.egress)))
	a.saveConnection(tokens(*a.draft(n), "entered", "acme"))
	_, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, tokens(w.Record, "2", "acme"))
	refusedBy(t, "saved over a newer record", err)
}

func TestCommittedAnswerIsReadByTheNextNode(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	a.connect(n)
	other := a.enroll(wire.RoleEgress, "default")
	w := a.mustWork(a.egress, a.ordered(a.order(lease.OrderRefresh, n, a.egress)))
	for _, step := range []uint32{0, 0, 1} {
		if err := a.raw(a.egress, n, w.Fence, step, "answer"); err != nil {
			t.Fatal(err)
		}
	}
	refusedBy(t, "another answer at the same step", a.raw(a.egress, n, w.Fence, 0, "other"))
	refusedBy(t, "a step too far", a.raw(a.egress, n, w.Fence, 3, "answer"))
	if err := a.vault.Retire(t.Context(), a.egress.node); err != nil { // it died
		t.Fatal(err)
	}
	next := a.mustWork(other, a.ordered(a.order(lease.OrderRefresh, n, other)))
	if len(next.Raw) != 2 || string(next.Raw[0].Body) != "answer" || next.Uncertain || next.Grant != lease.GrantRefresh {
		t.Errorf("work %+v, want the two answers, and no doubt", next)
	}
	if _, err := a.save(other, n, next.Fence, lease.OutcomeSaved, tokens(next.Record, "2", "acme")); err != nil {
		t.Fatal(err)
	}
}

func TestFailuresCoolDownAndAreGivenUp(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	a.connect(n)
	var pauses []time.Duration
	began := a.clock.now()
	for {
		a.enrollAgain()
		w := a.mustWork(a.egress, a.ordered(a.order(lease.OrderRefresh, n, a.egress)))
		if w.Uncertain {
			t.Fatal("a failure before anything was sent makes the next work uncertain")
		}
		got, err := a.save(a.egress, n, w.Fence, lease.OutcomeFailed, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.State != wire.ConnectionLive {
			if got.State != wire.ConnectionNeedsReconnect || a.clock.now().Sub(began) < lease.GiveUp {
				t.Errorf("%v after %v", got.State, a.clock.now().Sub(began))
			}
			break
		}
		b, err := a.begin(a.egress, a.ordered(a.order(lease.OrderRefresh, n, a.egress)))
		if err != nil || b.Busy == nil || !b.Busy.Cooling {
			t.Fatalf("while it cools down: %+v, %v", b, err)
		}
		if pauses = append(pauses, got.Retry); len(pauses) > 1000 {
			t.Fatal("it is never given up")
		}
		a.clock.add(got.Retry)
	}
	if pauses[0] != lease.CoolDown || pauses[1] != 2*lease.CoolDown || pauses[len(pauses)-1] != lease.MaxCoolDown {
		t.Errorf("pauses %v … %v", pauses[:3], pauses[len(pauses)-1])
	}
}

// enrollAgain renews what the clock has let expire.
func (a *app) enrollAgain() {
	a.tb.Helper()
	for p, role := range map[*process]wire.Role{a.server: wire.RoleServer, a.egress: wire.RoleEgress} {
		pool := ""
		if role == wire.RoleEgress {
			pool = "default"
		}
		e, err := a.vault.Enroll(a.tb.Context(), &wire.Enroll{Role: string(role), Pool: pool, Sign: p.sign.Public(), Seal: p.seal.Public()})
		if err != nil {
			a.tb.Fatal(err)
		}
		p.node = e.Node
	}
}

func TestUnsureIsTriedOnceSoon(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	a.connect(n)
	w := a.mustWork(a.egress, a.ordered(a.order(lease.OrderRefresh, n, a.egress)))
	got, err := a.save(a.egress, n, w.Fence, lease.OutcomeUnsure, nil)
	if err != nil || got.State != wire.ConnectionLive || got.Retry != unsureRetry {
		t.Fatalf("%+v, %v", got, err)
	}
	a.clock.add(unsureRetry)
	w = a.mustWork(a.egress, a.ordered(a.order(lease.OrderRefresh, n, a.egress)))
	if !w.Uncertain {
		t.Error("the next work does not know of the doubt")
	}
	if _, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, tokens(w.Record, "2", "acme")); err != nil {
		t.Fatal(err)
	}
	if w = a.mustWork(a.egress, a.ordered(a.order(lease.OrderRefresh, n, a.egress))); w.Uncertain {
		t.Error("the doubt outlives a success")
	}
	if got, err := a.save(a.egress, n, w.Fence, lease.OutcomeRefused, nil); err != nil || got.State != wire.ConnectionNeedsReconnect {
		t.Errorf("refused without a doubt: %+v, %v, want needs_reconnect", got, err)
	}
	slot, _ := a.ticket(n)
	if len(slot.Record.Fields) != 0 || slot.Record.State != wire.ConnectionNeedsReconnect {
		t.Errorf("a dead connection is leased with %+v", slot.Record)
	}
}

// Deleting a connection destroys everything that the keystore has of it, in every phase.
func TestDeletionDestroysEverythingOfAConnection(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n, never := id.NewConnection(a.clock.now()), id.NewConnection(a.clock.now())
	a.connect(n)
	s := &lease.StartAnswer{}
	m := a.startCall(a.draft(n))
	m.Reconnect = true
	a.call(lease.OpOAuthStart, m, s)
	begun := a.start(a.draft(never))
	w := a.mustWork(a.egress, a.ordered(a.order(lease.OrderRefresh, n, a.egress)))
	if err := a.raw(a.egress, n, w.Fence, 0, "answer"); err != nil {
		t.Fatal(err)
	}
	_, ticket := a.ticket(n)
	secrets := map[string][]byte{}
	for _, table := range []string{"pending", "intent", "credential"} {
		for i, row := range a.thief().copy(table).rows {
			sealed, _ := row[len(row)-1].([]byte)
			if of, _ := row[0].([]byte); !bytes.Equal(of, a.client[:]) && len(sealed) > 0 { // a state was used
				secrets[table+string(rune('0'+i))] = sealed
			}
		}
	}
	for _, c := range []id.Connection{n, never, n} {
		a.call(lease.OpConnectionDelete, &lease.ConnectionCall{Customer: a.customer, Connection: c}, nil)
	}
	if looked, found := a.hits(secrets); found != 0 {
		t.Errorf("%d of %d looks found destroyed ciphertext", found, looked)
	}
	for _, table := range []string{"pending", "intent"} {
		if rows := a.thief().copy(table).rows; len(rows) != 0 {
			t.Errorf("%d rows of %s are still there", len(rows), table)
		}
	}
	_, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, tokens(w.Record, "2", "acme"))
	refusedBy(t, "tokens that came too late", err)
	_, err = a.begin(a.egress, &lease.BeginCall{Connection: n, Ticket: ticket})
	refusedBy(t, "its ticket", err)
	_, err = a.begin(a.egress, a.exchanged(a.order(lease.OrderExchange, never, a.egress), begun.State))
	refusedBy(t, "the state of one that was never connected", err)
	refusedBy(t, "a new start", a.try(lease.OpOAuthStart, a.startCall(a.draft(never)), nil))
	refusedBy(t, "one that nobody knows", a.try(lease.OpConnectionDelete, &lease.ConnectionCall{Customer: a.customer, Connection: id.NewConnection(a.clock.now())}, nil))
}

func TestRevokeEndsTheGrant(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	v := a.connect(n)
	w := a.mustWork(a.egress, a.ordered(a.order(lease.OrderRevoke, n, a.egress)))
	if w.Grant != lease.GrantRevoke || w.Client == nil || len(w.Record.Field(lease.FieldRefreshToken)) == 0 {
		t.Errorf("work %+v", w)
	}
	if got, err := a.save(a.egress, n, w.Fence, lease.OutcomeRevoked, nil); err != nil || got.State != wire.ConnectionRevoked || got.Version != v+1 {
		t.Errorf("%+v, %v", got, err)
	}
	b, err := a.begin(a.egress, a.ordered(a.order(lease.OrderRevoke, n, a.egress)))
	if err != nil || b.Dead == nil || b.Dead.State != wire.ConnectionRevoked {
		t.Errorf("revoked again: %+v, %v", b, err)
	}
}

// Keys may be exchanged while works are open.
func TestTokensSurviveNewKeys(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n, m := id.NewConnection(a.clock.now()), id.NewConnection(a.clock.now())
	a.connect(n)
	s := a.start(a.draft(m))
	w := a.mustWork(a.egress, a.ordered(a.order(lease.OrderRefresh, n, a.egress)))
	for _, c := range []id.Customer{a.customer, a.owner} {
		if _, err := a.vault.Rotate(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	a.rotateRoot()
	if err := a.raw(a.egress, n, w.Fence, 0, "{}"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, tokens(w.Record, "2", "acme")); err != nil {
		t.Fatal(err)
	}
	a.mustWork(a.egress, a.exchanged(a.order(lease.OrderExchange, m, a.egress), s.State))
}

// Every step that gives something out or changes it is a leaf, which names who.
func TestTokenLeaves(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	before, _ := a.vault.Head()
	a.connect(n)
	_, ticket := a.ticket(n)
	if _, err := a.begin(a.egress, &lease.BeginCall{Connection: n, Ticket: ticket, Stale: 1}); err != nil {
		t.Fatal(err)
	}
	leaves, err := a.vault.store.Leaves(t.Context(), before, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range leaves {
		name := map[byte]string{leafStart: "start", leafTokenWork: "work", leafTokenSaved: "saved", leafTokenGiven: "given"}[l.Kind]
		if name == "" {
			continue
		}
		var use TokenUse
		if err := wire.ParseBody(l.Body, &use); err != nil || use.Connection != n || l.Customer != a.customer {
			t.Errorf("leaf %s: %+v, %v", name, use, err)
		}
		if name == "work" && use.Server != a.server.node || name == "given" && use.Lease.IsZero() {
			t.Errorf("leaf %s does not say what it rests on: %+v", name, use)
		}
		got = append(got, name)
	}
	if s := strings.Join(got, " "); s != "start work saved given" {
		t.Errorf("leaves %q", s)
	}
}

// What a node asked of the vault before, or sealed to its key, is no refusal: the answer of a
// provider may hang on it, and the node asks again.
func TestCallsToTheVaultBeforeAreAskedAgain(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	n := id.NewConnection(a.clock.now())
	v := a.connect(n)
	w := a.mustWork(a.egress, a.ordered(a.order(lease.OrderRefresh, n, a.egress)))
	sealed := a.sealToVault(lease.RawPlace(n, w.Fence, 0), wire.AppendBody(nil, &lease.Raw{Status: 200}))
	order := a.ordered(a.order(lease.OrderRefresh, n, a.egress))
	early := lease.SignTokenCall(a.egress.sign, lease.OpTokenBegin, wire.AppendBody(nil, order), a.clock.now())
	a.clock.add(time.Second)
	a.reopen()
	if _, err := a.vault.ServeToken(t.Context(), a.egress.node, early); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a call from before: %v, want ErrUnavailable", err)
	}
	if err := a.ask(a.egress, lease.OpTokenRaw, &lease.RawCall{Connection: n, Fence: w.Fence, Raw: sealed}, nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("an answer sealed to the key before: %v, want ErrUnavailable", err)
	}
	if err := a.raw(a.egress, n, w.Fence, 0, "{}"); err != nil {
		t.Errorf("the answer, sealed again: %v", err)
	}
	if got, err := a.save(a.egress, n, w.Fence, lease.OutcomeSaved, tokens(w.Record, "2", "acme")); err != nil || got.Version != v+1 {
		t.Errorf("%+v, %v", got, err)
	}
	if b, err := a.begin(a.egress, order); err != nil || b.Busy == nil || !b.Busy.Cooling {
		t.Errorf("an order from before: %+v, %v, want it to be given anew", b, err)
	}
}
