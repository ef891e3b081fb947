package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
)

// maxAhead is how far ahead the expiry day of a payload pair may lie: ten years.
const maxAhead lease.Day = 3653

// errDay is a day that has ended or lies too far ahead.
var errDay = errors.New("the day has ended or is too far ahead")

func today(now time.Time) lease.Day { return lease.DayOf(now) }

// firstDay is the first day whose payload pairs may be opened: today, or the first
// that was not destroyed yet when the clock was put back.
func (v *Vault) firstDay(destroyed keystore.Version) lease.Day {
	return max(today(v.now()), lease.Day(destroyed.Number))
}

func (v *Vault) checkDay(d lease.Day, destroyed keystore.Version) error {
	if first := v.firstDay(destroyed); !off(daysChecked) && (d < first || d-first > maxAhead) {
		return fmt.Errorf("day %d: %w", d, errDay)
	}
	return nil
}

// makeCustomer makes the first version of a customer's key. It is idempotent.
func (v *Vault) makeCustomer(ctx context.Context, from id.Node, c id.Customer) error {
	if c.IsZero() {
		return fmt.Errorf("%w: no customer", ErrRefused)
	}
	if n := v.store.Version(keystore.KindCustomer, c); n.Number != 0 && !n.Gone {
		return nil
	}
	return v.store.Write(ctx, func(tx *keystore.Tx) error {
		n := tx.Version(keystore.KindCustomer, c)
		if n.Gone {
			return fmt.Errorf("customer %s: %w", c, errUnknown)
		}
		if n.Number != 0 {
			return nil
		}
		return v.addCustomerKey(tx, from, keyID{c, 1}, leafCustomer)
	})
}

func (v *Vault) addCustomerKey(tx *keystore.Tx, from id.Node, k keyID, kind byte) error {
	wrapped, err := v.newCustomerKey(k)
	if err != nil {
		return err
	}
	return errors.Join(
		tx.PutCustomerKey(k.customer, k.version, wrapped),
		tx.SetVersion(keystore.KindCustomer, k.customer, keystore.Version{Number: k.version}),
		tx.Append(v.leaf(kind, k.customer, from, &Change{k.customer, k.version})),
	)
}

func dayRow(d lease.Day) []byte { return seal.Uint(uint64(d)) }

// payloadKey is the public half of a payload pair, which is made when it does not
// exist. It is derived from the private half every time: a public half read from the
// keystore could be anyone's.
func (v *Vault) payloadKey(ctx context.Context, from id.Node, c id.Customer, d lease.Day) (pub seal.PublicKey, err error) {
	if err := v.checkDay(d, v.store.Version(keystore.KindDay, keystore.Subject{})); err != nil {
		return pub, err
	}
	if v.store.Version(keystore.KindCustomer, c).Gone && !off(versionsChecked) {
		return pub, fmt.Errorf("customer %s: %w", c, errUnknown) // a pair that was put back seals nothing
	}
	stored, err := v.store.Payload(ctx, c, uint32(d))
	if err == nil {
		return v.publicHalf(ctx, stored, d)
	}
	if !notFound(err) {
		return pub, err
	}
	err = v.store.Write(ctx, func(tx *keystore.Tx) error {
		if err := v.checkDay(d, tx.Version(keystore.KindDay, keystore.Subject{})); err != nil {
			return err
		}
		stored, err := tx.Payload(ctx, c, uint32(d))
		if err == nil {
			pub, err = v.publicHalf(ctx, stored, d)
			return err
		}
		if !notFound(err) {
			return err
		}
		pub, err = v.makePayload(ctx, tx, from, c, d)
		return err
	})
	return pub, err
}

func (v *Vault) makePayload(ctx context.Context, tx *keystore.Tx, from id.Node, c id.Customer, d lease.Day) (seal.PublicKey, error) {
	k, err := seal.GenerateKey()
	if err != nil {
		return seal.PublicKey{}, err
	}
	defer clear(k.Bytes())
	a, version, err := v.sealingKey(ctx, c)
	if err == nil {
		err = checkCustomer(tx, c)
	}
	if err != nil {
		return seal.PublicKey{}, err
	}
	sealed, err := sealRow(a, k.Bytes(), place(c, tablePayload, dayRow(d), 0))
	if err != nil {
		return seal.PublicKey{}, err
	}
	return k.Public(), errors.Join(
		tx.PutPayload(uint32(d), keystore.Sealed{Customer: c, KeyVersion: version, Data: sealed}),
		tx.Append(v.leaf(leafPayload, c, from, &Change{c, uint64(d)})),
	)
}

func (v *Vault) publicHalf(ctx context.Context, s keystore.Sealed, d lease.Day) (pub seal.PublicKey, err error) {
	raw, err := v.privateHalf(ctx, s, d)
	if err != nil {
		return pub, err
	}
	defer clear(raw)
	k, err := seal.NewPrivateKey(raw)
	if err != nil {
		return pub, fmt.Errorf("payload pair: %w", err)
	}
	defer clear(k.Bytes())
	return k.Public(), nil
}

// privateHalf opens the private half of a payload pair. The caller wipes it.
func (v *Vault) privateHalf(ctx context.Context, s keystore.Sealed, d lease.Day) ([]byte, error) {
	raw, err := v.openSealed(ctx, s, tablePayload, dayRow(d))
	if err != nil {
		return nil, fmt.Errorf("payload pair: %w", err)
	}
	return raw, nil
}

// Sweep destroys the payload pairs whose day has ended, which is what retention
// means, and forgets expired identities. It returns the number of pairs.
func (v *Vault) Sweep(ctx context.Context) (destroyed int, err error) {
	err = v.store.Write(ctx, func(tx *keystore.Tx) error {
		if _, err := tx.SweepPendings(v.now()); err != nil {
			return err
		}
		before := tx.Version(keystore.KindDay, keystore.Subject{})
		first := v.firstDay(before)
		if destroyed, err = tx.DestroyPayloads(uint32(first)); err != nil {
			return err
		}
		if lease.Day(before.Number) == first && destroyed == 0 {
			return nil
		}
		return errors.Join(
			tx.SetVersion(keystore.KindDay, keystore.Subject{}, keystore.Version{Number: uint64(first)}),
			tx.Append(v.leaf(leafPayloadsDestroyed, id.Customer{}, id.Node{}, &Change{Number: uint64(first)})),
		)
	})
	if err != nil {
		return 0, fmt.Errorf("sweep vault: %w", err)
	}
	if err := v.macFlush(ctx, v.now()); err != nil {
		return destroyed, fmt.Errorf("sweep vault: %w", err)
	}
	if err := v.retire(ctx, v.expired()); err != nil {
		return destroyed, fmt.Errorf("sweep vault: %w", err)
	}
	return destroyed, nil
}

// expired are the identities that ended so long ago that nobody renews them.
func (v *Vault) expired() (all []id.Node) {
	now := v.now().Add(-lateRenewal)
	v.mu.RLock()
	defer v.mu.RUnlock()
	for n, m := range v.members {
		if !now.Before(m.identity.Expires) {
			all = append(all, n)
		}
	}
	return all
}

const (
	// sweepEvery is how often Run sweeps.
	sweepEvery = 10 * time.Minute
	// lateRenewal is how long an identity that has ended is kept to be renewed.
	lateRenewal = 7 * 24 * time.Hour
)

// Run sweeps now and then until ctx ends. Errors are logged: what is not swept is
// refused all the same.
func (v *Vault) Run(ctx context.Context) error {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		n, err := v.Sweep(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			v.log.ErrorContext(ctx, "sweep failed", "error", err)
		case n > 0:
			v.log.InfoContext(ctx, "payload keys destroyed", "count", n)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}
