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

// phase is how far a work has come.
type phase byte

// The phases. Numbers are part of the format.
const (
	phaseIdle phase = iota // nobody is at it
	phaseSent              // a node was granted the work, and may have sent something
	phaseRaw               // and has committed an answer that is not read
)

// intent is what the keystore knows of the renewal of one connection: who is at it, what came
// back, and how often it failed. While it is not idle, its node has the connection for itself.
type intent struct {
	Fence   uint64 // of the newest work; counts up with the clock, also across restored copies
	Phase   phase
	Node    id.Node
	Attempt [16]byte
	Order   [16]byte // nonce of the order that the work rests on
	Begun   time.Time
	Grant   lease.Grant
	Version uint64 // of the record when the work began
	// Uncertain: the refresh token was sent before, and the answer is not known. It is what
	// the work was told, or what the next one will be.
	Uncertain bool
	Raw       []lease.Raw

	// Of an exchange.
	Draft       *lease.Record
	Verifier    string
	RedirectURI string
	Nonce       string
	Reconnect   bool
	Other       bool // it may be of another account

	// Of the works before.
	Saved    time.Time // zero: never
	Failures uint32    // since the last success
	Since    time.Time // of the first of them
	Retry    time.Time // not before this
	Done     *lease.SaveAnswer
}

// Walk implements [wire.Message].
func (m *intent) Walk(c *wire.Coder) {
	c.Uint(&m.Fence)
	c.Byte((*byte)(&m.Phase))
	c.Fixed(m.Node[:])
	c.Fixed(m.Attempt[:])
	c.Fixed(m.Order[:])
	c.Time(&m.Begun)
	c.Byte((*byte)(&m.Grant))
	c.Uint(&m.Version)
	c.Bool(&m.Uncertain)
	wire.List(c, &m.Raw)
	wire.Optional(c, &m.Draft)
	c.String(&m.Verifier)
	c.String(&m.RedirectURI)
	c.String(&m.Nonce)
	c.Bool(&m.Reconnect)
	c.Bool(&m.Other)
	c.Time(&m.Saved)
	c.Uint32(&m.Failures)
	c.Time(&m.Since)
	c.Time(&m.Retry)
	wire.Optional(c, &m.Done)
}

// readIntent opens the intent of a connection in a transaction. A connection that has none
// gets an empty one.
func (v *Vault) readIntent(ctx context.Context, tx *keystore.Tx, n id.Connection) (*intent, error) {
	known := tx.Version(keystore.KindIntent, n)
	s, err := tx.Intent(ctx, n)
	return v.openIntent(ctx, n, s, err, known)
}

// peekIntent is readIntent outside of one, of what is committed.
func (v *Vault) peekIntent(ctx context.Context, n id.Connection) (*intent, error) {
	known := v.store.Version(keystore.KindIntent, n)
	s, err := v.store.Intent(ctx, n)
	return v.openIntent(ctx, n, s, err, known)
}

func (v *Vault) openIntent(ctx context.Context, n id.Connection, s keystore.Sealed, err error, known keystore.Version) (*intent, error) {
	if notFound(err) && (known.Number == 0 || off(versionsChecked)) {
		return &intent{}, nil
	}
	if err == nil && s.Version != known.Number && !off(versionsChecked) {
		err = fmt.Errorf("%w: the row has version %d, the ledger %d", errChanged, s.Version, known.Number)
	}
	if err != nil {
		return nil, fmt.Errorf("intent of connection %s: %w", n, err)
	}
	plain, err := v.openSealed(ctx, s, tableIntent, n[:])
	if err != nil {
		return nil, fmt.Errorf("intent of connection %s: %w", n, err)
	}
	it := &intent{}
	if err := wire.ParseBody(plain, it); err != nil {
		return nil, fmt.Errorf("intent of connection %s: %w", n, err)
	}
	return it, nil
}

// putIntent seals an intent under its customer's key, as the next version.
func (v *Vault) putIntent(ctx context.Context, tx *keystore.Tx, c id.Customer, n id.Connection, it *intent) error {
	if err := checkCustomer(tx, c); err != nil {
		return err
	}
	a, keyVersion, err := v.sealingKey(ctx, c)
	if err != nil {
		return err
	}
	version := tx.Version(keystore.KindIntent, n).Number + 1
	body := wire.AppendBody(nil, it)
	defer clear(body)
	sealed, err := sealRow(a, body, place(c, tableIntent, n[:], version))
	if err != nil {
		return err
	}
	return errors.Join(
		tx.PutIntent(n, keystore.Sealed{Customer: c, KeyVersion: keyVersion, Version: version, Data: sealed}),
		tx.SetVersion(keystore.KindIntent, n, keystore.Version{Number: version}),
	)
}

// wait is how long a node has to wait for another one that is at it, 0 when none is. A node
// that has ended is not: its answer will never come.
func (v *Vault) wait(it *intent, now time.Time) time.Duration {
	if it.Phase == phaseIdle || off(oneIntent) {
		return 0
	}
	if _, live := v.Live(it.Node); !live {
		return 0
	}
	age := now.Sub(it.Begun)
	left := lease.IntentLife - age
	switch {
	case left <= 0 || age < 0:
		return max(0, min(-age, lease.IntentLife)) // the clock was put back
	case age < busyAge:
		return min(left, busySoon)
	default:
		return min(left, busyLater)
	}
}

// How soon a node that has to wait asks again.
const (
	busyAge   = 5 * time.Second
	busySoon  = 250 * time.Millisecond
	busyLater = 2 * time.Second
)

// done makes an intent idle, with the answer that ended it. What it carried is forgotten.
func (it *intent) done(a *lease.SaveAnswer) {
	for i := range it.Raw {
		clear(it.Raw[i].Body)
	}
	it.Phase, it.Raw, it.Draft, it.Verifier, it.RedirectURI, it.Nonce, it.Reconnect, it.Other = phaseIdle, nil, nil, "", "", "", false, false
	it.Done = a
}

// fail counts a failure and returns the pause after it.
func (it *intent) fail(now time.Time) time.Duration {
	if it.Failures == 0 {
		it.Since = now
	}
	pause := lease.CoolDown << min(it.Failures, 10)
	it.Failures++
	pause = min(pause, lease.MaxCoolDown)
	it.Retry = now.Add(pause)
	return pause
}

// heal forgets the failures.
func (it *intent) heal(now time.Time) {
	it.Saved, it.Failures, it.Since, it.Retry, it.Uncertain = now, 0, time.Time{}, time.Time{}, false
}

// TokenUse is the body of the leaves of tokens: who may renew what, or has.
type TokenUse struct {
	Connection id.Connection
	Version    uint64 // of the record before a begin, after a save
	Fence      uint64
	Grant      lease.Grant
	Outcome    lease.Outcome        // of a save
	State      wire.ConnectionState // after a save
	Server     id.Node              // whose order it rests on
	Lease      id.Lease             // or whose ticket
}

// Walk implements [wire.Message].
func (m *TokenUse) Walk(c *wire.Coder) {
	c.Fixed(m.Connection[:])
	c.Uint(&m.Version)
	c.Uint(&m.Fence)
	c.Byte((*byte)(&m.Grant))
	c.Byte((*byte)(&m.Outcome))
	c.Byte((*byte)(&m.State))
	c.Fixed(m.Server[:])
	c.Fixed(m.Lease[:])
}

// ticketKey derives the key of tickets from the authority's seed: any vault over the same
// keystore takes them.
func ticketKey(authority []byte) ([]byte, error) {
	return deriveKey(authority, lease.PurposeTicket)
}

// rawSize bounds the answers of one work together.
func rawSize(all []lease.Raw) int {
	n := 0
	for i := range all {
		n += len(all[i].Body)
		for _, h := range all[i].Headers {
			n += len(h.Name) + len(h.Value)
		}
	}
	return n
}

// ended reports whether the node of a work is another one, or the work is over.
func (it *intent) ended(from id.Node, fence uint64) error {
	if it.Phase == phaseIdle || it.Fence != fence || it.Node != from {
		return fmt.Errorf("%w: the work has ended, or is another node's", ErrRefused)
	}
	return nil
}
