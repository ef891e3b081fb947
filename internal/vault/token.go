package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// minTokenAge is how old tokens are before a ticket is good for newer ones: a provider that
// refuses what it gave a moment ago would be asked for more with every request.
const minTokenAge = 10 * time.Second

// ServeToken serves an operation of tokens for an egress node, whose call came by the bus: it
// must be signed by the sender, a moment old, and new. The answer is signed by the authority.
func (v *Vault) ServeToken(ctx context.Context, from id.Node, m *wire.VaultCall) (*wire.VaultAnswer, error) {
	i, err := v.checkTokenCall(from, m)
	if err == nil {
		err = v.allow(from)
	}
	if err != nil {
		return nil, v.refuse(ctx, "token call", from, err)
	}
	answer, err := v.serveToken(ctx, i, m.Op, m.Body)
	if err != nil {
		return nil, v.refuse(ctx, known(m.Op), from, err)
	}
	var body []byte
	if answer != nil {
		body = wire.AppendBody(nil, answer)
	}
	return lease.SignAnswer(v.authority, m, body), nil
}

func (v *Vault) checkTokenCall(from id.Node, m *wire.VaultCall) (*lease.Identity, error) {
	node, ok := v.member(from)
	if !ok {
		return nil, fmt.Errorf("%w: the sender is not live", ErrRefused)
	}
	if off(callsSigned) {
		return node.identity, nil
	}
	now := v.now()
	if err := lease.CheckTokenCall(node.identity, m, now); err != nil {
		return nil, err
	}
	if m.Issued.Before(v.born.Truncate(time.Microsecond)) {
		return nil, errBefore // it waited while no vault ran; made anew it is served
	}
	return node.identity, node.calls.take(m.Nonce, now)
}

func (v *Vault) serveToken(ctx context.Context, from *lease.Identity, op string, body []byte) (wire.Message, error) {
	switch op {
	case lease.OpTokenBegin:
		m, a := &lease.BeginCall{}, &lease.SealedAnswer{}
		return a, do(body, m, func() (err error) {
			a.Sealed, err = v.begin(ctx, from, m)
			return err
		})
	case lease.OpTokenRaw:
		m := &lease.RawCall{}
		return nil, do(body, m, func() error { return v.keepRaw(ctx, from.Node, m) })
	case lease.OpTokenSave:
		m := &lease.SaveCall{}
		if err := wire.ParseBody(body, m); err != nil {
			return nil, err
		}
		return v.saveToken(ctx, from.Node, m)
	}
	return nil, fmt.Errorf("%w: unknown operation", ErrRefused)
}

// errBefore is a call from before this vault was started: the one before may have served it,
// and what that remembered is gone. It is no refusal: the node makes the call anew.
var errBefore = errors.New("a call from before this vault was started")

// asked is a begin that is being served. Exactly one of ticket and order is set.
type asked struct {
	from   *lease.Identity
	call   *lease.BeginCall
	ticket *lease.Ticket
	order  *lease.Order
	now    time.Time
}

// op is what the order says; a ticket is good for a refresh.
func (a *asked) op() lease.OrderOp {
	if a.order != nil {
		return a.order.Op
	}
	return lease.OrderRefresh
}

// stale is the version that is to be renewed, 0 for any.
func (a *asked) stale() uint64 {
	if a.order != nil {
		return a.order.Version
	}
	return a.call.Stale
}

// may refuses who may not renew the credential of a record.
func (a *asked) may(r *lease.Record) error {
	switch {
	case off(ownersChecked):
	case a.order != nil && r.Customer != a.order.Customer:
		return fmt.Errorf("%w: it is another customer's", ErrRefused)
	case a.ticket != nil && !r.SharedTo(a.ticket.Customer):
		return fmt.Errorf("%w: it is another customer's and not shared", ErrRefused)
	case !r.Kind.Changes():
		return fmt.Errorf("%w: a credential of the kind %s never changes", ErrRefused, r.Kind)
	}
	return nil
}

// before reports whether an order is from before a vault was started: the one before may have
// served it, and what that remembered is gone.
func (a *asked) before(born time.Time) bool {
	return a.order != nil && a.order.Issued.Before(born.Truncate(time.Microsecond))
}

// authorise checks what a begin rests on.
func (v *Vault) authorise(a *asked) (err error) {
	switch {
	case (len(a.call.Ticket) > 0) == (len(a.call.Order) > 0):
		return fmt.Errorf("%w: neither a ticket nor an order, or both", ErrRefused)
	case len(a.call.Ticket) > 0:
		a.ticket, err = v.checkTicket(a)
		return err
	}
	if a.order, err = lease.CheckOrder(a.call.Order, a.from.Node, v.Live, a.now); err != nil {
		return err
	}
	if a.order.Connection != a.call.Connection {
		return fmt.Errorf("%w: an order for another connection", ErrRefused)
	}
	if a.order.Op == lease.OrderReplaced {
		return fmt.Errorf("%w: an order that is good for nothing here", ErrRefused)
	}
	return nil
}

func (v *Vault) checkTicket(a *asked) (*lease.Ticket, error) {
	if off(ticketsChecked) {
		k := &lease.Ticket{}
		return k, wire.ParseBody(a.call.Ticket, k)
	}
	return lease.CheckTicket(v.tickets, a.call.Ticket, a.from.Node, a.call.Connection, a.now)
}

// begin answers a node that wants to renew a credential, sealed to it.
func (v *Vault) begin(ctx context.Context, from *lease.Identity, m *lease.BeginCall) ([]byte, error) {
	a := &asked{from: from, call: m, now: v.now()}
	if err := v.authorise(a); err != nil {
		return nil, err
	}
	b, err := v.peek(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("connection %s: %w", m.Connection, err)
	}
	if b == nil {
		if err := v.store.Write(ctx, func(tx *keystore.Tx) (err error) {
			b, err = v.decide(ctx, tx, a)
			return err
		}); err != nil {
			return nil, fmt.Errorf("connection %s: %w", m.Connection, err)
		}
	}
	sealed, err := lease.SealBegin(from, m.Connection, b)
	if b.Work != nil {
		b.Work.Wipe()
	}
	if b.Current != nil {
		b.Current.Record.Wipe()
	}
	return sealed, err
}

// peek answers a node that has to wait, without a transaction.
func (v *Vault) peek(ctx context.Context, a *asked) (*lease.Begin, error) {
	if a.op() == lease.OrderExchange {
		return nil, nil //nolint:nilnil // decide looks
	}
	it, err := v.peekIntent(ctx, a.call.Connection)
	if err != nil || a.again(it) {
		return nil, nil //nolint:nilerr,nilnil // decide looks again
	}
	if s, err := v.store.Connection(ctx, a.call.Connection); err != nil || a.stale() != 0 && s.Version > a.stale() {
		return nil, nil //nolint:nilerr,nilnil // decide looks again
	}
	if wait := v.wait(it, a.now); wait > 0 {
		return &lease.Begin{Busy: &lease.Busy{RetryAfter: wait}}, nil
	}
	return nil, nil //nolint:nilnil // decide looks
}

// again reports whether the node asks for the work that it was granted, because the answer did
// not come: perhaps with another ticket or order, as the server of the first may have ended. What
// a revocation or an exchange was granted is for the same order only.
func (a *asked) again(it *intent) bool {
	return it.Phase != phaseIdle && it.Node == a.from.Node && it.Attempt == a.call.Attempt && a.call.Attempt != [16]byte{} &&
		a.now.Sub(it.Begun) < lease.IntentLife && (a.op() == lease.OrderRefresh || it.Order == a.order.Nonce)
}

// regrant answers a node that asks again. The work counts from now.
func (v *Vault) regrant(ctx context.Context, tx *keystore.Tx, a *asked, it *intent, r *lease.Record) (*lease.Begin, error) {
	if a.order != nil && it.Order != a.order.Nonce {
		if err := a.take(v); err != nil {
			return nil, err
		}
		it.Order = a.order.Nonce
	}
	it.Begun = a.now
	return v.give(ctx, tx, a, it, r)
}

// give commits an intent, makes its work, and writes down whose authority it rests on.
func (v *Vault) give(ctx context.Context, tx *keystore.Tx, a *asked, it *intent, r *lease.Record) (*lease.Begin, error) {
	b, err := v.work(ctx, tx, it, r)
	if err != nil || b.Work == nil {
		return b, err
	}
	if err := v.putIntent(ctx, tx, r.Customer, r.Connection, it); err != nil || off(leafFirst) {
		return b, err
	}
	use := &TokenUse{Connection: r.Connection, Version: it.Version, Fence: it.Fence, Grant: it.Grant}
	if a.order != nil {
		use.Server = a.order.Server
	} else {
		use.Lease = a.ticket.Lease
	}
	return b, tx.Append(v.leaf(leafTokenWork, r.Customer, a.from.Node, use))
}

// decide answers a begin in the transaction of what it changes.
func (v *Vault) decide(ctx context.Context, tx *keystore.Tx, a *asked) (*lease.Begin, error) {
	n := a.call.Connection
	known := tx.Version(keystore.KindConnection, n)
	if known.Gone {
		return nil, errUnknown
	}
	it, err := v.readIntent(ctx, tx, n)
	if err != nil {
		return nil, err
	}
	if a.op() == lease.OrderExchange && !a.again(it) {
		if a.before(v.born) {
			return nil, fmt.Errorf("%w: an order from before this vault was started", ErrRefused)
		}
		return v.decideExchange(ctx, tx, a, it)
	}
	r, err := v.subject(ctx, tx, a, it, known)
	if err != nil {
		return nil, err
	}
	switch {
	case a.again(it):
		return v.regrant(ctx, tx, a, it, r)
	case a.before(v.born):
		return &lease.Begin{Busy: &lease.Busy{RetryAfter: time.Second, Cooling: true}}, nil // the server orders it anew
	case r.State != wire.ConnectionLive && (a.op() != lease.OrderRevoke || r.State == wire.ConnectionRevoked):
		return &lease.Begin{Dead: deadOf(r, r.State)}, a.take(v)
	case a.stale() != 0 && r.Version > a.stale() && a.op() == lease.OrderRefresh:
		return v.current(tx, a, r)
	}
	if wait := v.wait(it, a.now); wait > 0 {
		return &lease.Begin{Busy: &lease.Busy{RetryAfter: wait}}, nil
	}
	if a.op() == lease.OrderRevoke {
		return v.grantWork(ctx, tx, a, it, r, lease.GrantRevoke)
	}
	if left := it.Retry.Sub(a.now); left > 0 {
		return &lease.Begin{Busy: &lease.Busy{RetryAfter: min(left, lease.MaxCoolDown), Cooling: true}}, nil
	}
	good := r.Expires.IsZero() || a.now.Before(r.Expires)
	if a.ticket != nil && good && it.Phase == phaseIdle && a.now.Sub(it.Saved) < minTokenAge && !a.now.Before(it.Saved) && it.Version+1 == r.Version {
		return v.current(tx, a, r)
	}
	g := lease.GrantMint
	if len(r.Field(lease.FieldRefreshToken)) > 0 {
		g = lease.GrantRefresh
	}
	return v.grantWork(ctx, tx, a, it, r, g)
}

// subject is the record that a begin is about: that of the connection, or the draft of an
// exchange whose answer was committed and not read.
func (v *Vault) subject(ctx context.Context, tx *keystore.Tx, a *asked, it *intent, known keystore.Version) (*lease.Record, error) {
	if it.Draft != nil && it.Phase != phaseIdle && (it.Phase == phaseRaw || a.again(it)) && it.Version == known.Number {
		r := *it.Draft
		return &r, a.may(&r)
	}
	r, err := v.readRecord(ctx, tx, a.call.Connection)
	if err != nil {
		return nil, err
	}
	return r, a.may(r)
}

// readRecord opens the newest record of a connection in a transaction.
func (v *Vault) readRecord(ctx context.Context, tx *keystore.Tx, n id.Connection) (*lease.Record, error) {
	known := tx.Version(keystore.KindConnection, n)
	if known.Number == 0 || known.Gone {
		return nil, fmt.Errorf("connection %s: %w", n, errUnknown)
	}
	s, err := tx.Connection(ctx, n)
	if err != nil {
		return nil, err
	}
	if s.Version != known.Number && !off(versionsChecked) {
		return nil, fmt.Errorf("connection %s: %w: the row has version %d, the ledger %d", n, errChanged, s.Version, known.Number)
	}
	return v.openRecordRow(ctx, s, n)
}

// openClient opens the client record that a record names, if it does, and checks that the
// record may be used with it.
func (v *Vault) openClient(ctx context.Context, tx *keystore.Tx, r *lease.Record) (*lease.Record, error) {
	if r.Client.IsZero() {
		return nil, nil //nolint:nilnil // none is needed
	}
	c, err := v.readRecord(ctx, tx, r.Client)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if err := checkClient(c, r); err != nil && !off(clientsChecked) {
		c.Wipe()
		return nil, fmt.Errorf("client %s: %w", r.Client, err)
	}
	return c, nil
}

// take accepts the order of a begin once.
func (a *asked) take(v *Vault) error {
	if a.order == nil || off(ordersOnce) {
		return nil
	}
	server, ok := v.member(a.order.Server)
	if !ok {
		return fmt.Errorf("%w: the server of the order is not live", ErrRefused)
	}
	return server.calls.take(a.order.Nonce, a.now)
}

// current answers with what is newest. To an order, which is no lease, that is without fields.
func (v *Vault) current(tx *keystore.Tx, a *asked, r *lease.Record) (*lease.Begin, error) {
	r.Keep(func(name string) bool { return a.ticket != nil && lease.Leased(r.Kind, name) })
	b := &lease.Begin{Current: &lease.SlotRecord{Record: *r}}
	if a.ticket == nil {
		return b, a.take(v)
	}
	use := &TokenUse{Connection: r.Connection, Version: r.Version, Lease: a.ticket.Lease}
	return b, tx.Append(v.leaf(leafTokenGiven, r.Customer, a.from.Node, use))
}

// decideExchange grants the exchange of a code. The state is used up with it.
func (v *Vault) decideExchange(ctx context.Context, tx *keystore.Tx, a *asked, it *intent) (*lease.Begin, error) {
	if wait := v.wait(it, a.now); wait > 0 {
		return &lease.Begin{Busy: &lease.Busy{RetryAfter: wait}}, nil
	}
	p, err := v.takePending(ctx, tx, a)
	if err != nil {
		return nil, err
	}
	next := *it
	next.done(nil) // what an exchange before has left
	next.Uncertain = false
	next.Draft, next.Verifier, next.RedirectURI, next.Nonce, next.Reconnect, next.Other = &p.Record, p.Verifier, p.RedirectURI, p.Nonce, p.Reconnect, p.Other
	return v.grantWork(ctx, tx, a, &next, &p.Record, lease.GrantExchange)
}

// grantWork commits the intent and makes the work.
func (v *Vault) grantWork(ctx context.Context, tx *keystore.Tx, a *asked, before *intent, r *lease.Record, g lease.Grant) (*lease.Begin, error) {
	if err := a.take(v); err != nil {
		return nil, err
	}
	it := *before
	known := tx.Version(keystore.KindConnection, a.call.Connection).Number
	same := before.Version == known && before.Phase != phaseIdle
	it.Fence, it.Node, it.Attempt, it.Begun, it.Version, it.Done = max(before.Fence+1, uint64(max(a.now.UnixMicro(), 0))), a.from.Node, a.call.Attempt, a.now, known, nil
	it.Order = [16]byte{}
	if a.order != nil {
		it.Order = a.order.Nonce
	}
	switch {
	case same && before.Phase == phaseRaw && g != lease.GrantRevoke: // what came back is read first
		it.Phase = phaseRaw
	case g == lease.GrantExchange:
		it.Phase, it.Grant = phaseSent, g
	default:
		lost := same && before.Phase == phaseSent && before.Grant == lease.GrantRefresh || before.Uncertain && before.Version == known
		it.done(nil)
		it.Phase, it.Grant, it.Uncertain = phaseSent, g, lost && g == lease.GrantRefresh
	}
	return v.give(ctx, tx, a, &it, r)
}

func deadOf(r *lease.Record, state wire.ConnectionState) *lease.Dead {
	return &lease.Dead{State: state, Customer: r.Customer, Version: r.Version}
}

// work is what the node of an intent gets. A connection whose client is gone is dead.
func (v *Vault) work(ctx context.Context, tx *keystore.Tx, it *intent, r *lease.Record) (*lease.Begin, error) {
	client, err := v.openClient(ctx, tx, r)
	if errors.Is(err, errUnknown) {
		return &lease.Begin{Dead: deadOf(r, wire.ConnectionNeedsReconnect)}, nil
	}
	if err != nil {
		return nil, err
	}
	w := &lease.Work{Fence: it.Fence, Grant: it.Grant, Record: *r, Client: client, Uncertain: it.Uncertain, Raw: it.Raw}
	if it.Grant == lease.GrantExchange {
		w.Verifier, w.RedirectURI, w.Nonce = it.Verifier, it.RedirectURI, it.Nonce
	}
	return &lease.Begin{Work: w}, nil
}
