package egress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Times and limits of a Renewer.
const (
	// endTime is how long a node tries to commit how a work ended, counted from before it
	// asked for it. It is shorter than lease.IntentLife, when the work is another node's.
	endTime = lease.IntentLife - 5*time.Second
	// orderTime bounds the wait for another node with an order: the bus lets an order be
	// answered for two minutes.
	orderTime = 20 * time.Second
	// tellEvery is how often servers are told of one connection that it is dead.
	tellEvery = 15 * time.Second
	// maxOrders is how many orders are served at a time; more are answered with busy.
	maxOrders = 64
)

// Minter does what a [lease.Work] is for: it talks to the provider.
type Minter interface {
	// Mint makes new tokens, or revokes the old ones. It gives each answer of the provider
	// to commit before it reads anything of it, and stops with [Made.Outcome]
	// lease.OutcomeUnsure when commit fails. Answers in w.Raw are read instead of sending.
	// callback is what the browser brought, of an exchange. The context ends when nothing may
	// be sent any more. It must not keep w.
	Mint(ctx context.Context, w *lease.Work, callback []wire.Pair, commit func(*lease.Raw) error) *Made
}

// Made is what a Minter has done.
type Made struct {
	Outcome lease.Outcome
	Record  *lease.Record // of lease.OutcomeSaved: the work's, with new fields, expiry and perhaps a narrower binding
	Refresh time.Time     // when to renew ahead of the expiry; zero: the server decides
	Account lease.Account // empty: the provider does not tell
	Scopes  string
	// Reason is a stable word such as invalid_grant, Message a text for the operator without
	// anything that the provider sent.
	Reason, Message string
	Denied          bool // of an exchange: the person said no
	// Undo gives up tokens that must not be kept. It may be nil.
	Undo func(ctx context.Context)
}

// RenewerConfig are the parts of a Renewer.
type RenewerConfig struct {
	Node   id.Node
	Sign   *seal.SignKey
	Seal   *seal.PrivateKey
	Vault  *TokenVault
	Minter Minter
	// Live finds the identities of servers.
	Live lease.Identities
	// Status sends a status to the servers. It must not block.
	Status func(*wire.ConnectionStatus)
	// Window is called with the time between an answer of a provider and its commit, in which
	// a crash loses it. Nil: nobody is told.
	Window func(time.Duration)
	Now    func() time.Time // nil: time.Now
	Log    *slog.Logger
}

// Renewer keeps tokens alive: on demand for leases, and as servers order. Over all processes
// one node at a time renews a credential, which the vault decides; within this one callers for
// the same connection wait for each other. Safe for concurrent use.
type Renewer struct {
	cfg    RenewerConfig
	orders chan struct{}
	// replaced takes the word that a credential was replaced, and says whether there was room for it; nil: nobody does.
	replaced func(c id.Connection, oldest uint64, now time.Time) bool

	mu      sync.Mutex
	flights map[id.Connection]*renewal
	told    map[id.Connection]time.Time // when servers were told that a connection is dead
}

// renewal is a renewal on demand that is under way.
type renewal struct {
	done   chan struct{}
	record *lease.Record // as it is leased
	err    error
}

// NewRenewer makes a Renewer.
func NewRenewer(cfg RenewerConfig) *Renewer {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Renewer{cfg: cfg, orders: make(chan struct{}, maxOrders), flights: map[id.Connection]*renewal{}, told: map[id.Connection]time.Time{}}
}

// TokenFault is why there are no newer tokens.
type TokenFault struct {
	State wire.ConnectionState // other than live: a person has to connect again
	Retry time.Duration        // not before this; 0: unknown
	cause error
}

// Error implements error. It holds nothing that a provider sent.
func (e *TokenFault) Error() string {
	switch {
	case e.State != wire.ConnectionLive:
		return "the connection has to be connected again: " + e.State.String()
	case e.cause != nil:
		return "the credential could not be renewed: " + e.cause.Error()
	default:
		return "the credential could not be renewed; it is tried again later"
	}
}

// Unwrap is the cause.
func (e *TokenFault) Unwrap() error { return e.cause }

// Renew brings a newer record than version stale of a leased connection, as it is leased. What
// is under way goes on when the context ends. Errors are [*TokenFault], or the context's.
func (r *Renewer) Renew(ctx context.Context, c id.Connection, ticket []byte, stale uint64) (*lease.Record, error) {
	r.mu.Lock()
	f := r.flights[c]
	if f == nil {
		f = &renewal{done: make(chan struct{})}
		r.flights[c] = f
		go func() {
			f.record, f.err = r.renew(c, ticket, stale)
			r.mu.Lock()
			delete(r.flights, c)
			r.mu.Unlock()
			close(f.done)
		}()
	}
	r.mu.Unlock()
	select {
	case <-f.done:
		return f.record, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *Renewer) renew(c id.Connection, ticket []byte, stale uint64) (*lease.Record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lease.WorkTime)
	defer cancel()
	for {
		began := r.cfg.Now()
		b, err := r.cfg.Vault.BeginTicket(ctx, c, ticket, stale)
		switch {
		case err != nil:
			return nil, &TokenFault{cause: err}
		case b.Current != nil:
			return &b.Current.Record, nil
		case b.Dead != nil:
			r.tell(c, b.Dead)
			return nil, &TokenFault{State: b.Dead.State}
		case b.Work != nil:
			done := r.work(began, b.Work, nil)
			r.status(done, b.Work)
			if done.err != nil || done.answer.State != wire.ConnectionLive || done.made.Outcome != lease.OutcomeSaved {
				return nil, done.fault()
			}
			return done.leased, nil
		case b.Busy.Cooling:
			return nil, &TokenFault{Retry: b.Busy.RetryAfter}
		}
		if err := rest(ctx, b.Busy.RetryAfter); err != nil {
			return nil, &TokenFault{Retry: b.Busy.RetryAfter, cause: err}
		}
	}
}

// rest waits for a moment.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// worked is how a work ended.
type worked struct {
	made   *Made
	answer *lease.SaveAnswer
	leased *lease.Record // what was saved, as it is leased
	err    error         // the end could not be committed
}

func (w *worked) fault() *TokenFault {
	f := &TokenFault{cause: w.err}
	if w.answer != nil {
		f.State, f.Retry = w.answer.State, w.answer.Retry
	}
	if w.err == nil && w.made.Reason != "" {
		f.cause = errors.New(w.made.Reason)
	}
	return f
}

// work does a work that was granted at or after began, and commits how it ended.
func (r *Renewer) work(began time.Time, w *lease.Work, callback []wire.Pair) *worked {
	defer w.Wipe()
	left := func(all time.Duration) time.Duration { return max(0, all-r.cfg.Now().Sub(began)) }
	ctx, cancel := context.WithTimeout(context.Background(), left(endTime))
	defer cancel()
	talk, stop := context.WithTimeout(ctx, left(lease.WorkTime))
	defer stop()
	step := uint32(len(w.Raw))
	made := r.mint(talk, w, callback, func(raw *lease.Raw) error {
		came := time.Now()
		err := r.cfg.Vault.Raw(ctx, w.Record.Connection, w.Fence, step, raw)
		if err == nil {
			step++
			if r.cfg.Window != nil {
				r.cfg.Window(time.Since(came))
			}
		}
		return err
	})
	if made.Outcome != lease.OutcomeSaved {
		made.Record = nil
	}
	answer, err := r.cfg.Vault.Save(ctx, w.Record.Connection, w.Fence, made.Outcome, made.Record, made.Reason)
	if err != nil {
		r.cfg.Log.Error("end of a renewal not committed", "connection", w.Record.Connection.String(), "grant", w.Grant.String(), "err", err)
		return &worked{made: made, err: err}
	}
	if made.Outcome != lease.OutcomeSaved {
		r.cfg.Log.Warn("credential not renewed", "connection", w.Record.Connection.String(), "grant", w.Grant.String(), "reason", made.Reason, "state", answer.State.String())
	}
	if answer.OtherAccount && made.Undo != nil {
		made.Undo(talk)
	}
	done := &worked{made: made, answer: answer}
	if made.Record != nil {
		done.leased = leasedOf(made.Record, answer.Version)
	}
	return done
}

// mint has the Minter do a work. A panic, which an answer of a provider may have caused, is the end of this work only: the
// node serves everybody. What had been sent is not known then.
func (r *Renewer) mint(ctx context.Context, w *lease.Work, callback []wire.Pair, commit func(*lease.Raw) error) (made *Made) {
	defer func() {
		if p := recover(); p != nil {
			r.cfg.Log.Error("renewal panicked", "connection", w.Record.Connection.String(), "kind", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			made = &Made{Outcome: lease.OutcomeUnsure, Reason: "internal", Message: "the renewal failed"}
		}
	}()
	return r.cfg.Minter.Mint(ctx, w, callback, commit)
}

// leasedOf is a record as it is leased, in memory of its own.
func leasedOf(r *lease.Record, version uint64) *lease.Record {
	out := *r
	out.Version, out.Fields = version, nil
	for _, f := range r.Fields {
		if lease.Leased(r.Kind, f.Name) {
			out.Fields = append(out.Fields, lease.Field{Name: f.Name, Secret: bytes.Clone(f.Secret)})
		}
	}
	return &out
}

// describe is the status of a connection after a work.
func (r *Renewer) describe(done *worked, w *lease.Work) *wire.ConnectionStatus {
	m := &wire.ConnectionStatus{Node: r.cfg.Node, At: r.cfg.Now(), Customer: w.Record.Customer, Connection: w.Record.Connection, Version: w.Record.Version, Error: done.made.Reason}
	if done.answer == nil {
		m.Error = "unsaved"
		return m
	}
	m.Version, m.State = done.answer.Version, done.answer.State
	if done.answer.Retry > 0 {
		m.Retry = m.At.Add(done.answer.Retry)
	}
	if done.made.Record != nil && !done.answer.OtherAccount {
		m.Expires, m.Refresh, m.Scopes = done.made.Record.Expires, done.made.Refresh, done.made.Scopes
	}
	return m
}

// tell tells the servers of a connection that is dead, now and then: what they were told when it
// died may have been lost.
func (r *Renewer) tell(c id.Connection, dead *lease.Dead) {
	now := r.cfg.Now()
	r.mu.Lock()
	at, known := r.told[c]
	soon := known && now.Sub(at) < tellEvery
	if !soon {
		maps.DeleteFunc(r.told, func(_ id.Connection, at time.Time) bool { return now.Sub(at) >= tellEvery })
		r.told[c] = now
	}
	r.mu.Unlock()
	if soon || r.cfg.Status == nil {
		return
	}
	m := &wire.ConnectionStatus{Node: r.cfg.Node, At: now, Customer: dead.Customer, Connection: c, Version: dead.Version, State: dead.State}
	lease.SignStatus(r.cfg.Sign, m)
	r.cfg.Status(m)
}

// status tells the servers how a connection does, after what no server has ordered.
func (r *Renewer) status(done *worked, w *lease.Work) {
	if r.cfg.Status == nil {
		return
	}
	m := r.describe(done, w)
	lease.SignStatus(r.cfg.Sign, m)
	r.cfg.Status(m)
}

// Order serves an order of a server, and returns the answer: a *wire.OrderAnswer, or a
// *wire.Error for what is no order to this node. It waits for the provider.
func (r *Renewer) Order(ctx context.Context, from id.Node, m *wire.Order) wire.Typed {
	o, err := lease.CheckOrder(m.Signed, r.cfg.Node, r.cfg.Live, r.cfg.Now())
	if err == nil && o.Server != from {
		err = fmt.Errorf("%w: an order in another server's name", lease.ErrRefused)
	}
	switch {
	case err != nil:
		return r.refuseOrder(from, err)
	case o.Op == lease.OrderReplaced: // it waits for no provider, nor for orders that do
		return lease.SignOrderResult(r.cfg.Sign, m, r.noteReplaced(o))
	}
	select {
	case r.orders <- struct{}{}:
		defer func() { <-r.orders }()
	default:
		return &wire.Error{Code: "busy", Message: "too many orders at a time"}
	}
	var x *lease.Exchange
	if o.Op == lease.OrderExchange {
		if x, err = lease.OpenExchange(r.cfg.Seal, o); err != nil {
			return r.refuseOrder(from, err)
		}
	}
	return lease.SignOrderResult(r.cfg.Sign, m, r.order(ctx, o, m, x))
}

// refuseOrder says that what came is no order to this node.
func (r *Renewer) refuseOrder(from id.Node, err error) wire.Typed {
	r.cfg.Log.Error("order refused", "from", from.String(), "err", err)
	return &wire.Error{Code: "refused", Message: "the order is refused"}
}

func (r *Renewer) order(ctx context.Context, o *lease.Order, m *wire.Order, x *lease.Exchange) *lease.OrderResult {
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	result := &lease.OrderResult{Status: wire.ConnectionStatus{Node: r.cfg.Node, At: r.cfg.Now(), Customer: o.Customer, Connection: o.Connection, Version: o.Version}}
	for {
		began := r.cfg.Now()
		b, err := r.cfg.Vault.BeginOrder(ctx, o, m, x)
		switch {
		case err != nil:
			result.Code, result.Message = lease.OrderFailed, "the vault does not answer"
			if vaultRefused(err) {
				result.Code, result.Message = lease.OrderRefused, "the vault refuses the order"
			}
			return result
		case b.Current != nil:
			result.Code = lease.OrderOK
			result.Status.Version, result.Status.Expires, result.Status.State = b.Current.Record.Version, b.Current.Record.Expires, b.Current.Record.State
			return result
		case b.Dead != nil:
			result.Code, result.Status.State, result.Message = lease.OrderDead, b.Dead.State, "it has to be connected again"
			result.Status.Version = b.Dead.Version
			return result
		case b.Work != nil:
			return r.ordered(began, o, b.Work, x)
		}
		result.Code, result.Retry, result.Message = lease.OrderBusy, b.Busy.RetryAfter, "another node is at it"
		if b.Busy.Cooling {
			result.Message = "it failed a moment ago"
			return result
		}
		if rest(ctx, b.Busy.RetryAfter) != nil {
			return result
		}
	}
}

// ordered does the work of an order.
func (r *Renewer) ordered(began time.Time, o *lease.Order, w *lease.Work, x *lease.Exchange) *lease.OrderResult {
	var callback []wire.Pair
	if x != nil {
		callback = x.Params
	}
	connection, grant := w.Record.Connection, w.Grant
	done := r.work(began, w, callback)
	result := &lease.OrderResult{Status: *r.describe(done, w), Message: done.made.Message}
	switch {
	case done.err != nil:
		result.Code, result.Message = lease.OrderUnsure, "the tokens could not be saved"
		return result
	case done.answer.OtherAccount:
		result.Code, result.Message = lease.OrderOtherAccount, "it is another account than before"
		r.tellAccount(o.Server, connection, &done.made.Account, result)
		return result
	case done.made.Denied:
		result.Code = lease.OrderDenied
	case done.answer.State != wire.ConnectionLive && grant != lease.GrantRevoke:
		result.Code = lease.OrderDead
	default:
		result.Code = map[lease.Outcome]string{
			lease.OutcomeSaved: lease.OrderOK, lease.OutcomeRevoked: lease.OrderOK, lease.OutcomeRefused: lease.OrderRefused,
			lease.OutcomeFailed: lease.OrderFailed, lease.OutcomeUnsure: lease.OrderUnsure,
		}[done.made.Outcome]
	}
	result.Retry = done.answer.Retry
	if done.made.Outcome == lease.OutcomeSaved {
		r.tellAccount(o.Server, connection, &done.made.Account, result)
	}
	return result
}

// tellAccount tells the server of an order, and nobody else, whose account it is.
func (r *Renewer) tellAccount(to id.Node, n id.Connection, a *lease.Account, result *lease.OrderResult) {
	server, ok := r.cfg.Live(to)
	if !ok || *a == (lease.Account{}) {
		return
	}
	sealed, err := lease.SealAccount(server, n, a)
	if err != nil {
		r.cfg.Log.Error("account not told", "connection", n.String(), "err", err)
	}
	result.Status.Account = sealed
}

// order serves an order on a goroutine of its own.
func (n *Node) order(from id.Node, f wire.Frame, answer func(wire.Typed)) error {
	var m wire.Order
	if err := f.Parse(&m); err != nil {
		return err
	}
	go func() { answer(n.cfg.Renewer.Order(context.Background(), from, &m)) }()
	return nil
}
