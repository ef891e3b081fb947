package vault

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// maxRedirect is the longest redirect URI in bytes.
const maxRedirect = 2048

// pending is an authorization that has begun, as the keystore seals it.
type pending struct {
	Record      lease.Record // the draft
	RedirectURI string
	Browser     [32]byte
	Reconnect   bool
	Other       bool
	Verifier    string
	Nonce       string
}

// Walk implements [wire.Message].
func (m *pending) Walk(c *wire.Coder) {
	m.Record.Walk(c)
	c.String(&m.RedirectURI)
	c.Fixed(m.Browser[:])
	c.Bool(&m.Reconnect)
	c.Bool(&m.Other)
	c.String(&m.Verifier)
	c.String(&m.Nonce)
}

// token256 is 256 random bits as text that a URL takes as it is.
func token256() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// start begins an authorization: it keeps the draft and the verifier, and gives out what the
// authorize URL needs.
func (v *Vault) start(ctx context.Context, from id.Node, m *lease.StartCall) (*lease.StartAnswer, error) {
	r, err := v.openDraft(m)
	if err != nil {
		return nil, err
	}
	defer r.Wipe()
	p := &pending{
		Record: *r, RedirectURI: m.RedirectURI, Browser: m.Browser, Reconnect: m.Reconnect, Other: m.OtherAccount,
		Verifier: token256(), Nonce: token256(),
	}
	challenge := sha256.Sum256([]byte(p.Verifier))
	a := &lease.StartAnswer{State: token256(), Challenge: base64.RawURLEncoding.EncodeToString(challenge[:]), Nonce: p.Nonce}
	key, keyVersion, err := v.sealingKey(ctx, m.Customer)
	if err != nil {
		return nil, err
	}
	state := sha256.Sum256([]byte(a.State))
	body := wire.AppendBody(nil, p)
	defer clear(body)
	sealed, err := sealRow(key, body, place(m.Customer, tablePending, state[:], 0))
	if err != nil {
		return nil, err
	}
	row := &keystore.Pending{
		State: state, Connection: m.Connection, Expires: v.now().Add(lease.MaxPending),
		Sealed: keystore.Sealed{Customer: m.Customer, KeyVersion: keyVersion, Data: sealed},
	}
	err = v.store.Write(ctx, func(tx *keystore.Tx) error { return v.commitStart(ctx, tx, from, m, r, row) })
	if err != nil {
		return nil, err
	}
	return a, nil
}

// openDraft opens the record of a start, which has everything but tokens.
func (v *Vault) openDraft(m *lease.StartCall) (*lease.Record, error) {
	if len(m.Draft) > maxRecord || m.Browser == [32]byte{} {
		return nil, fmt.Errorf("%w: a draft over %d bytes, or no browser", ErrRefused, maxRecord)
	}
	if u, err := url.Parse(m.RedirectURI); err != nil || len(m.RedirectURI) > maxRedirect || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("%w: a redirect URI that is no address of ours", ErrRefused)
	}
	plain, err := v.key.Open(lease.PurposeVault, lease.ConnectionPlace(m.Customer, m.Connection), m.Draft)
	if err != nil {
		return nil, fmt.Errorf("draft: %w", err)
	}
	r := &lease.Record{}
	if err := wire.ParseBody(plain, r); err != nil {
		clear(plain)
		return nil, fmt.Errorf("draft: %w", err)
	}
	err = checkRecord(r, &lease.ConnectionCall{Customer: m.Customer, Connection: m.Connection})
	for _, f := range r.Fields {
		if lease.Leased(r.Kind, f.Name) || f.Name == lease.FieldRefreshToken || f.Name == lease.FieldIDToken || f.Name == lease.FieldAccount || f.Name == lease.FieldAccountLabel {
			err = errors.Join(err, fmt.Errorf("%w: a draft with a token", ErrRefused))
		}
	}
	if err == nil && (r.Kind != lease.KindOAuth2 || r.Client != m.Client) {
		err = fmt.Errorf("%w: a draft of another kind or client", ErrRefused)
	}
	if err != nil {
		r.Wipe()
		return nil, err
	}
	return r, nil
}

func (v *Vault) commitStart(ctx context.Context, tx *keystore.Tx, from id.Node, m *lease.StartCall, r *lease.Record, row *keystore.Pending) error {
	if err := errors.Join(checkCustomer(tx, m.Customer), v.checkReconnect(ctx, tx, r, m.Reconnect)); err != nil {
		return err
	}
	client, err := v.openClient(ctx, tx, r)
	if err != nil {
		return err
	}
	if client != nil {
		client.Wipe()
	}
	open, err := tx.OpenPendings(m.Customer, v.now())
	if err != nil {
		return err
	}
	if open >= lease.MaxPendings && !off(limitsKept) {
		return fmt.Errorf("customer %s: %w: %d authorizations are open", m.Customer, ErrBusy, open)
	}
	return errors.Join(
		tx.PutPending(row),
		tx.SetVersion(keystore.KindPending, keystore.PendingSubject(row.State), keystore.Version{Number: 1}),
		tx.Append(v.leaf(leafStart, m.Customer, from, &TokenUse{Connection: m.Connection, Version: tx.Version(keystore.KindConnection, m.Connection).Number, Grant: lease.GrantExchange})),
	)
}

// checkReconnect refuses a draft for a connection that is gone or another customer's, one that
// would replace a record without saying so. One that says so where there is none is taken: an older keystore may be back.
func (v *Vault) checkReconnect(ctx context.Context, tx *keystore.Tx, r *lease.Record, reconnect bool) error {
	known := tx.Version(keystore.KindConnection, r.Connection)
	switch {
	case known.Gone:
		return fmt.Errorf("connection %s: %w", r.Connection, errUnknown)
	case known.Number != 0 && !reconnect:
		return fmt.Errorf("connection %s: %w: it is connected", r.Connection, ErrRefused)
	}
	return v.checkOwner(ctx, tx, &lease.ConnectionCall{Customer: r.Customer, Connection: r.Connection})
}

// takePending opens the authorization of a state for the browser that began it, and uses it
// up. A state of another connection, customer or browser, a used one and one that was put back
// are refused alike.
func (v *Vault) takePending(ctx context.Context, tx *keystore.Tx, a *asked) (*pending, error) {
	state := sha256.Sum256([]byte(a.call.State))
	row, err := tx.Pending(ctx, state)
	if err != nil {
		return nil, err
	}
	known := tx.Version(keystore.KindPending, keystore.PendingSubject(state))
	if (known.Number == 0 || known.Gone) && !off(stateOnce) || len(row.Sealed.Data) == 0 {
		return nil, fmt.Errorf("%w: the state was used, or is not one of ours", ErrRefused)
	}
	if !a.now.Before(row.Expires) {
		return nil, fmt.Errorf("%w: the state has expired", ErrRefused)
	}
	plain, err := v.openSealed(ctx, row.Sealed, tablePending, state[:])
	if err != nil {
		return nil, err
	}
	p := &pending{}
	if err := wire.ParseBody(plain, p); err != nil {
		return nil, err
	}
	if !off(ownersChecked) && (p.Record.Connection != a.order.Connection || p.Record.Customer != a.order.Customer) {
		return nil, fmt.Errorf("%w: the state is of another connection", ErrRefused)
	}
	if subtle.ConstantTimeCompare(p.Browser[:], a.call.Browser[:]) != 1 && !off(browserBound) {
		return nil, fmt.Errorf("%w: the state is another browser's", ErrRefused)
	}
	if err := v.checkReconnect(ctx, tx, &p.Record, p.Reconnect); err != nil {
		return nil, err
	}
	if off(stateOnce) {
		return p, nil
	}
	return p, errors.Join(tx.UsePending(state), tx.SetVersion(keystore.KindPending, keystore.PendingSubject(state), keystore.Version{Number: 1, Gone: true}))
}
