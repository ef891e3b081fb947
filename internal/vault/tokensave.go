package vault

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// maxReason is the longest reason of a save in bytes.
const maxReason = 64

// unsureRetry is how soon an uncertain token is tried: some providers take a refresh token
// again for a little while, for this very case.
const unsureRetry = 5 * time.Second

// errKey is what a node has sealed to another key than this vault's. It is no refusal: the node
// may not have heard yet that the vault before this one has ended, and seals again.
var errKey = errors.New("sealed to another key, or for another place")

// keepRaw commits an answer of a provider before anybody has read it.
func (v *Vault) keepRaw(ctx context.Context, from id.Node, m *lease.RawCall) error {
	if len(m.Raw) > lease.MaxRaw+maxRecord {
		return fmt.Errorf("%w: an answer over %d bytes", ErrRefused, lease.MaxRaw)
	}
	plain, err := v.key.Open(lease.PurposeVault, lease.RawPlace(m.Connection, m.Fence, m.Step), m.Raw)
	if err != nil {
		return errKey
	}
	defer clear(plain)
	var raw lease.Raw
	if err := wire.ParseBody(plain, &raw); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return v.store.Write(ctx, func(tx *keystore.Tx) error {
		it, r, err := v.ownWork(ctx, tx, from, m.Connection, m.Fence)
		if err != nil {
			return err
		}
		switch step := int(m.Step); {
		case step < len(it.Raw):
			if !reflect.DeepEqual(it.Raw[step], raw) {
				return fmt.Errorf("%w: another answer was kept at this step", ErrRefused)
			}
			return nil // the answer to the call before was lost
		case step > len(it.Raw) || step >= lease.MaxRaws:
			return fmt.Errorf("%w: step %d after %d", ErrRefused, step, len(it.Raw))
		}
		it.Phase, it.Raw = phaseRaw, append(it.Raw, raw)
		if rawSize(it.Raw) > lease.MaxRaw {
			return fmt.Errorf("%w: answers over %d bytes", ErrRefused, lease.MaxRaw)
		}
		return v.putIntent(ctx, tx, r.Customer, m.Connection, it)
	})
}

// ownWork is the intent of a work that a node was granted and that has not ended, and the
// record it is about: of an exchange, the draft.
func (v *Vault) ownWork(ctx context.Context, tx *keystore.Tx, from id.Node, n id.Connection, fence uint64) (*intent, *lease.Record, error) {
	it, err := v.readIntent(ctx, tx, n)
	if err != nil {
		return nil, nil, err
	}
	if err := it.ended(from, fence); err != nil && !off(fencesChecked) {
		return nil, nil, fmt.Errorf("connection %s: %w", n, err)
	}
	known := tx.Version(keystore.KindConnection, n)
	if known.Gone || known.Number != it.Version && !off(fencesChecked) {
		return nil, nil, fmt.Errorf("connection %s: %w: it was changed meanwhile", n, ErrRefused)
	}
	if it.Draft != nil {
		return it, it.Draft, nil
	}
	r, err := v.readRecord(ctx, tx, n)
	return it, r, err
}

// saveToken ends a work.
func (v *Vault) saveToken(ctx context.Context, from id.Node, m *lease.SaveCall) (*lease.SaveAnswer, error) {
	if len(m.Record) > maxRecord || len(m.Reason) > maxReason {
		return nil, fmt.Errorf("%w: a record or a reason over its limit", ErrRefused)
	}
	var made *lease.Record
	if m.Outcome == lease.OutcomeSaved {
		plain, err := v.key.Open(lease.PurposeVault, lease.SavePlace(m.Connection, m.Fence), m.Record)
		if err != nil {
			return nil, errKey
		}
		defer clear(plain)
		made = &lease.Record{}
		if err := wire.ParseBody(plain, made); err != nil {
			return nil, fmt.Errorf("record: %w", err)
		}
	}
	var a *lease.SaveAnswer
	err := v.store.Write(ctx, func(tx *keystore.Tx) error {
		it, err := v.readIntent(ctx, tx, m.Connection)
		if err == nil && it.Phase == phaseIdle && it.Fence == m.Fence && it.Node == from && it.Done != nil {
			a = it.Done // the answer to the call before was lost
			return nil
		}
		it, r, err := v.ownWork(ctx, tx, from, m.Connection, m.Fence)
		if err != nil {
			return err
		}
		a, err = v.endWork(ctx, tx, &ending{from: from, call: m, it: it, record: r, made: made, now: v.now()})
		return err
	})
	return a, err
}

// ending is a work that is being ended.
type ending struct {
	from   id.Node
	call   *lease.SaveCall
	it     *intent
	record *lease.Record // as the work began: of an exchange, the draft
	made   *lease.Record // what the node made of it
	now    time.Time
}

// endWork changes the record as the outcome says, and makes the intent idle.
func (v *Vault) endWork(ctx context.Context, tx *keystore.Tx, e *ending) (*lease.SaveAnswer, error) {
	exchange := e.it.Draft != nil
	a := &lease.SaveAnswer{Version: e.it.Version, State: e.record.State}
	var err error
	switch e.call.Outcome {
	case lease.OutcomeSaved:
		err = v.saveMade(ctx, tx, e, a)
	case lease.OutcomeRefused:
		if !exchange {
			state := wire.ConnectionNeedsReconnect
			if e.it.Uncertain {
				state = wire.ConnectionLostAnswer
			}
			err = v.bury(ctx, tx, e, a, state)
		}
		e.it.heal(e.it.Saved)
	case lease.OutcomeRevoked:
		if !exchange {
			err = v.bury(ctx, tx, e, a, wire.ConnectionRevoked)
		}
		e.it.heal(e.it.Saved)
	case lease.OutcomeFailed, lease.OutcomeUnsure:
		err = v.failWork(ctx, tx, e, a, exchange)
	}
	if err != nil {
		return nil, err
	}
	use := &TokenUse{Connection: e.call.Connection, Version: a.Version, Fence: e.it.Fence, Grant: e.it.Grant, Outcome: e.call.Outcome, State: a.State}
	e.it.done(a)
	customer := e.record.Customer
	if err := v.putIntent(ctx, tx, customer, e.call.Connection, e.it); err != nil {
		return nil, err
	}
	return a, tx.Append(v.leaf(leafTokenSaved, customer, e.from, use))
}

// failWork counts a failure. After days of them the connection is dead.
func (v *Vault) failWork(ctx context.Context, tx *keystore.Tx, e *ending, a *lease.SaveAnswer, exchange bool) error {
	if exchange { // a person waits and will try again
		return nil
	}
	a.Retry = e.it.fail(e.now)
	if e.call.Outcome == lease.OutcomeUnsure && e.it.Grant == lease.GrantRefresh {
		if !e.it.Uncertain {
			a.Retry = unsureRetry
			e.it.Retry = e.now.Add(unsureRetry)
		}
		e.it.Uncertain = true
	}
	if e.now.Sub(e.it.Since) < lease.GiveUp {
		return nil
	}
	state := wire.ConnectionNeedsReconnect
	if e.it.Uncertain {
		state = wire.ConnectionLostAnswer
	}
	a.Retry = 0
	return v.bury(ctx, tx, e, a, state)
}

// bury keeps a record without its credential: only a person can help it.
func (v *Vault) bury(ctx context.Context, tx *keystore.Tx, e *ending, a *lease.SaveAnswer, state wire.ConnectionState) error {
	r := *e.record
	r.Keep(func(name string) bool { return name == lease.FieldAccount || name == lease.FieldAccountLabel })
	r.State, r.Expires = state, time.Time{}
	return v.putRecord(ctx, tx, &r, a)
}

// saveMade saves the record that a node made of tokens. It takes the fields, the expiry and a
// narrower binding from it, and everything else from the record that the work began with.
func (v *Vault) saveMade(ctx context.Context, tx *keystore.Tx, e *ending, a *lease.SaveAnswer) error {
	r := *e.record
	r.Fields, r.Expires, r.State = e.made.Fields, e.made.Expires, wire.ConnectionLive
	outer := r.Binding
	if slices.Contains(r.Hosts, e.made.Binding.Host) {
		outer.Host = e.made.Binding.Host // the one of them that the provider has chosen, for good
	}
	if !within(&outer, &e.made.Binding) && !off(clientsChecked) {
		return fmt.Errorf("%w: a binding that is wider than the one before", ErrRefused)
	}
	r.Binding, r.Hosts = e.made.Binding, nil
	if err := checkRecord(&r, &lease.ConnectionCall{Customer: r.Customer, Connection: r.Connection}); err != nil {
		return err
	}
	if e.it.Draft != nil {
		if err := v.checkReconnect(ctx, tx, &r, e.it.Reconnect); err != nil {
			return err
		}
		if e.it.Reconnect {
			if err := v.keepSharing(ctx, tx, &r); err != nil {
				return err
			}
		}
		if e.it.Reconnect && !e.it.Other && tx.Version(keystore.KindConnection, r.Connection).Number > 0 {
			before, err := v.readRecord(ctx, tx, r.Connection)
			if err != nil {
				return err
			}
			defer before.Wipe()
			if was := before.Field(lease.FieldAccount); len(was) > 0 && string(was) != string(r.Field(lease.FieldAccount)) {
				a.OtherAccount, a.State = true, before.State
				return nil
			}
		}
	}
	e.it.heal(e.now)
	return v.putRecord(ctx, tx, &r, a)
}

// putRecord saves a record as the next version.
func (v *Vault) putRecord(ctx context.Context, tx *keystore.Tx, r *lease.Record, a *lease.SaveAnswer) error {
	key, keyVersion, err := v.sealingKey(ctx, r.Customer)
	if err != nil {
		return err
	}
	r.Version = tx.Version(keystore.KindConnection, r.Connection).Number + 1
	body := wire.AppendBody(nil, r)
	defer clear(body)
	sealed, err := sealRow(key, body, place(r.Customer, tableConnection, r.Connection[:], r.Version))
	if err != nil {
		return err
	}
	a.Version, a.State = r.Version, r.State
	return errors.Join(
		tx.PutConnection(r.Connection, keystore.Sealed{Customer: r.Customer, KeyVersion: keyVersion, Version: r.Version, Data: sealed}),
		tx.SetVersion(keystore.KindConnection, r.Connection, keystore.Version{Number: r.Version}),
	)
}
