package egress

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// askPause is the pause before a question to the vault is asked again.
	askPause = 100 * time.Millisecond
	// askTime is how long an answer is waited for. A question may be lost without a word: when
	// the bus has not noticed yet that the vault has ended.
	askTime = 5 * time.Second
	// maxOpen is for how many connections attempts without an answer are remembered, and
	// maxOpenOfOne how many of one: a renewal on demand and one that is ordered, a few times.
	maxOpen      = 10_000
	maxOpenOfOne = 8
)

// TokenVaultConfig are the parts of a TokenVault.
type TokenVaultConfig struct {
	Node      id.Node
	Sign      *seal.SignKey
	Seal      *seal.PrivateKey // answers with credentials are sealed to it
	Authority seal.VerifyKey   // signs every answer
	// Key is the key of the vault that runs now; ok is false while none does.
	Key func() (k seal.PublicKey, ok bool)
	// Ask sends a call to the vault and waits for its answer, as (*bus.Conn).Ask does.
	Ask func(ctx context.Context, m *wire.VaultCall) (*wire.VaultAnswer, error)
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// TokenVault asks the vault for what the renewal of tokens takes, in the name of one egress
// node. Every call may be made again when its answer was lost, and is, until its context ends:
// the vault takes each step once. Safe for concurrent use.
type TokenVault struct {
	cfg TokenVaultConfig

	mu sync.Mutex
	// open are the attempts of begins that ended without an answer: the vault may have granted
	// one. The next begins for the connection go on with them, the oldest first.
	open map[id.Connection][]attempt
}

// attempt is a begin that the vault can tell from others.
type attempt struct {
	id    [16]byte
	asked time.Time
}

// NewTokenVault makes a TokenVault.
func NewTokenVault(cfg TokenVaultConfig) *TokenVault {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &TokenVault{cfg: cfg, open: map[id.Connection][]attempt{}}
}

// BeginTicket asks with the ticket of a lease; stale is the version that is too old or refused.
func (t *TokenVault) BeginTicket(ctx context.Context, c id.Connection, ticket []byte, stale uint64) (*lease.Begin, error) {
	return t.beginAnew(ctx, &lease.BeginCall{Connection: c, Ticket: ticket, Stale: stale})
}

// BeginOrder asks with an order o that [lease.CheckOrder] has read from order. x is the body of
// an exchange, nil otherwise.
func (t *TokenVault) BeginOrder(ctx context.Context, o *lease.Order, order *wire.Order, x *lease.Exchange) (*lease.Begin, error) {
	m := &lease.BeginCall{Connection: o.Connection, Order: order.Signed}
	if o.Op == lease.OrderRefresh {
		return t.beginAnew(ctx, m)
	}
	if x != nil {
		m.State, m.Browser = x.State, x.Browser
	}
	m.Attempt = randomAttempt()
	return t.begin(ctx, m)
}

// beginAnew is begin of a renewal. It goes on with an attempt that nobody knows the answer of, so
// that a grant whose answer was lost is not kept from everybody until it ends.
func (t *TokenVault) beginAnew(ctx context.Context, m *lease.BeginCall) (*lease.Begin, error) {
	m.Attempt = t.takeOpen(m.Connection)
	b, err := t.begin(ctx, m)
	if err != nil {
		t.leaveOpen(m.Connection, m.Attempt)
	}
	return b, err
}

// takeOpen is the attempt that was left open for a connection, which nobody else gets then, or a new one.
func (t *TokenVault) takeOpen(c id.Connection) [16]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.open[c]
	if len(list) == 0 {
		return randomAttempt()
	}
	if t.open[c] = list[1:]; len(list) == 1 {
		delete(t.open, c)
	}
	return list[0].id
}

func (t *TokenVault) leaveOpen(c id.Connection, n [16]byte) {
	now := t.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.open) >= maxOpen { // the vault has let go of old ones
		maps.DeleteFunc(t.open, func(_ id.Connection, list []attempt) bool {
			return now.Sub(list[len(list)-1].asked) >= lease.IntentLife
		})
	}
	list := t.open[c]
	if len(list) == 0 && len(t.open) >= maxOpen {
		return
	}
	if len(list) == maxOpenOfOne { // the oldest was granted the least likely: others were asked for since
		list = list[1:]
	}
	t.open[c] = append(list, attempt{n, now})
}

func randomAttempt() (n [16]byte) {
	_, _ = rand.Read(n[:]) // never fails since Go 1.24
	return n
}

func (t *TokenVault) begin(ctx context.Context, m *lease.BeginCall) (*lease.Begin, error) {
	var a lease.SealedAnswer
	err := t.call(ctx, lease.OpTokenBegin, func(seal.PublicKey) (wire.Message, error) { return m, nil }, &a)
	if err != nil {
		return nil, err
	}
	return lease.OpenBegin(t.cfg.Seal, t.cfg.Node, m.Connection, a.Sealed)
}

// Raw commits an answer of a provider. It has to return before the answer is read.
func (t *TokenVault) Raw(ctx context.Context, c id.Connection, fence uint64, step uint32, raw *lease.Raw) error {
	body := wire.AppendBody(nil, raw)
	defer clear(body)
	return t.call(ctx, lease.OpTokenRaw, func(k seal.PublicKey) (wire.Message, error) {
		sealed, err := seal.Seal(k, lease.PurposeVault, lease.RawPlace(c, fence, step), body)
		return &lease.RawCall{Connection: c, Fence: fence, Step: step, Raw: sealed}, err
	}, nil)
}

// Save ends a work. made is nil unless the outcome is [lease.OutcomeSaved].
func (t *TokenVault) Save(ctx context.Context, c id.Connection, fence uint64, outcome lease.Outcome, made *lease.Record, reason string) (*lease.SaveAnswer, error) {
	var body []byte
	if made != nil {
		body = wire.AppendBody(nil, made)
		defer clear(body)
	}
	a := &lease.SaveAnswer{}
	return a, t.call(ctx, lease.OpTokenSave, func(k seal.PublicKey) (wire.Message, error) {
		m := &lease.SaveCall{Connection: c, Fence: fence, Outcome: outcome, Reason: reason}
		if body == nil {
			return m, nil
		}
		var err error
		m.Record, err = seal.Seal(k, lease.PurposeVault, lease.SavePlace(c, fence), body)
		return m, err
	}, a)
}

var (
	// errNoVault means that no vault runs.
	errNoVault = errors.New("no vault is there")
	// errNoAnswer means that none came in askTime.
	errNoAnswer = errors.New("the vault does not answer")
)

// call asks until there is an answer or the vault refuses. Each time the call is made anew: the
// vault may be another one, with another key.
func (t *TokenVault) call(ctx context.Context, op string, make func(vault seal.PublicKey) (wire.Message, error), answer wire.Message) error {
	for {
		err := t.once(ctx, op, make, answer)
		if err == nil || !repeats(err) {
			return err
		}
		pause := time.NewTimer(askPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return fmt.Errorf("%w; %w", err, ctx.Err())
		}
	}
}

func (t *TokenVault) once(ctx context.Context, op string, make func(vault seal.PublicKey) (wire.Message, error), answer wire.Message) error {
	key, ok := t.cfg.Key()
	if !ok {
		return errNoVault
	}
	m, err := make(key)
	if err != nil {
		return fmt.Errorf("seal for vault: %w", err)
	}
	call := lease.SignTokenCall(t.cfg.Sign, op, wire.AppendBody(nil, m), t.cfg.Now())
	asking, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	a, err := t.cfg.Ask(asking, call)
	if err != nil && asking.Err() != nil && ctx.Err() == nil {
		return errNoAnswer
	}
	if err != nil {
		return fmt.Errorf("ask vault for %s: %w", op, err)
	}
	if err := lease.CheckAnswer(t.cfg.Authority, call, a); err != nil {
		return err
	}
	if answer == nil {
		return nil
	}
	return wire.ParseBody(a.Body, answer)
}

// coded is an error that the other side answered with.
type coded interface {
	error
	ErrorCode() string
}

// vaultRefused reports whether the vault has refused for good.
func vaultRefused(err error) bool {
	c, ok := errors.AsType[coded](err)
	return ok && c.ErrorCode() == "refused"
}

// repeats reports whether a call may bring something when it is made again.
func repeats(err error) bool {
	return !vaultRefused(err) && !errors.Is(err, lease.ErrRefused) && !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, seal.ErrOpen) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}
