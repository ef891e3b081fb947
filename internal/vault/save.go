package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Limits of what is saved, in bytes.
const (
	maxConfig = 256 << 10
	maxRecord = 160 << 10
)

// saveInstance makes the instance's key when it has none, counts its config version
// up and seals the config under the key.
func (v *Vault) saveInstance(ctx context.Context, from id.Node, m *lease.InstanceCall) (uint64, []byte, error) {
	if len(m.Config) > maxConfig || m.Instance.IsZero() {
		return 0, nil, fmt.Errorf("%w: no instance, or a config over %d bytes", ErrRefused, maxConfig)
	}
	config, err := v.key.Open(lease.PurposeVault, lease.ConfigPlace(m.Customer, m.Instance, 0), m.Config)
	if err != nil {
		return 0, nil, fmt.Errorf("config: %w", err)
	}
	defer clear(config)
	a, keyVersion, err := v.sealingKey(ctx, m.Customer)
	if err != nil {
		return 0, nil, err
	}
	var version uint64
	var sealed []byte
	err = v.store.Write(ctx, func(tx *keystore.Tx) error {
		if err := checkCustomer(tx, m.Customer); err != nil {
			return err
		}
		k, err := v.instanceKey(ctx, tx, m, a, keyVersion)
		if err != nil {
			return err
		}
		defer clear(k.Bytes())
		version = tx.Version(keystore.KindInstance, m.Instance).Number + 1
		sealed = k.Seal(nil, lease.ConfigPlace(m.Customer, m.Instance, version), config)
		return errors.Join(
			tx.SetVersion(keystore.KindInstance, m.Instance, keystore.Version{Number: version}),
			tx.Append(v.leaf(leafInstance, m.Customer, from, &Change{m.Instance, version})),
		)
	})
	return version, sealed, err
}

// instanceKey opens the key of an instance, or makes it. A destroyed one never comes back.
func (v *Vault) instanceKey(ctx context.Context, tx *keystore.Tx, m *lease.InstanceCall, a tink.AEAD, keyVersion uint64) (*seal.Key, error) {
	known := tx.Version(keystore.KindInstance, m.Instance)
	if known.Gone {
		return nil, fmt.Errorf("instance %s: %w", m.Instance, errUnknown)
	}
	s, err := tx.Instance(ctx, m.Instance)
	if err == nil {
		return v.readInstance(ctx, s, m.Customer, m.Instance)
	}
	if !notFound(err) {
		return nil, err
	}
	if known.Number != 0 {
		return nil, fmt.Errorf("instance %s: %w: its key is missing", m.Instance, keystore.ErrDamaged)
	}
	k, err := seal.RandomKey()
	if err != nil {
		return nil, err
	}
	sealed, err := sealRow(a, k.Bytes(), place(m.Customer, tableInstance, m.Instance[:], 0))
	if err != nil {
		return nil, err
	}
	return k, tx.PutInstance(m.Instance, keystore.Sealed{Customer: m.Customer, KeyVersion: keyVersion, Data: sealed})
}

// readInstance opens an instance's key for its customer.
func (v *Vault) readInstance(ctx context.Context, s keystore.Sealed, c id.Customer, i id.Instance) (*seal.Key, error) {
	if !off(ownersChecked) && s.Customer != c {
		return nil, fmt.Errorf("instance %s: %w: it is another customer's", i, ErrRefused)
	}
	raw, err := v.openSealed(ctx, s, tableInstance, i[:])
	if err != nil {
		return nil, fmt.Errorf("instance %s: %w", i, err)
	}
	defer clear(raw)
	return seal.NewKey(raw)
}

func (v *Vault) destroyInstance(ctx context.Context, from id.Node, m *lease.InstanceCall) error {
	return v.store.Write(ctx, func(tx *keystore.Tx) error {
		known := tx.Version(keystore.KindInstance, m.Instance)
		s, err := tx.Instance(ctx, m.Instance)
		if known.Gone {
			return nil // a removal that was interrupted asks again
		}
		if err != nil || known.Number == 0 {
			return fmt.Errorf("instance %s: %w", m.Instance, errUnknown)
		}
		if !off(ownersChecked) && s.Customer != m.Customer {
			return fmt.Errorf("instance %s: %w: it is another customer's", m.Instance, ErrRefused)
		}
		return errors.Join(
			tx.DestroyInstance(m.Instance),
			tx.SetVersion(keystore.KindInstance, m.Instance, keystore.Version{Number: known.Number, Gone: true}),
			tx.Append(v.leaf(leafInstanceDestroyed, m.Customer, from, &Change{m.Instance, known.Number})),
		)
	})
}

// saveConnection opens a record that a user entered, gives it the next version and
// seals it under the customer's key.
func (v *Vault) saveConnection(ctx context.Context, from id.Node, m *lease.ConnectionCall) (uint64, error) {
	if len(m.Record) > maxRecord {
		return 0, fmt.Errorf("%w: a record over %d bytes", ErrRefused, maxRecord)
	}
	plain, err := v.key.Open(lease.PurposeVault, lease.ConnectionPlace(m.Customer, m.Connection), m.Record)
	if err != nil {
		return 0, fmt.Errorf("record: %w", err)
	}
	defer clear(plain)
	var r lease.Record
	if err := wire.ParseBody(plain, &r); err != nil {
		return 0, fmt.Errorf("record: %w", err)
	}
	if err := checkRecord(&r, m); err != nil {
		return 0, err
	}
	a, keyVersion, err := v.sealingKey(ctx, m.Customer)
	if err != nil {
		return 0, err
	}
	err = v.store.Write(ctx, func(tx *keystore.Tx) error {
		known := tx.Version(keystore.KindConnection, m.Connection)
		if known.Gone { // whoever carried its record could bring it back, in any customer's name
			return fmt.Errorf("connection %s: %w", m.Connection, errUnknown)
		}
		if err := errors.Join(checkCustomer(tx, m.Customer), v.checkOwner(ctx, tx, m)); err != nil {
			return err
		}
		if c, err := v.openClient(ctx, tx, &r); err != nil {
			return err
		} else if c != nil {
			c.Wipe()
		}
		if m.KeepSharing {
			if err := v.keepSharing(ctx, tx, &r); err != nil {
				return err
			}
		}
		if err := v.supersede(ctx, tx, m); err != nil {
			return err
		}
		r.Version = known.Number + 1
		body := wire.AppendBody(nil, &r)
		defer clear(body)
		sealed, err := sealRow(a, body, place(m.Customer, tableConnection, m.Connection[:], r.Version))
		if err != nil {
			return err
		}
		return errors.Join(
			tx.PutConnection(m.Connection, keystore.Sealed{Customer: m.Customer, KeyVersion: keyVersion, Version: r.Version, Data: sealed}),
			tx.SetVersion(keystore.KindConnection, m.Connection, keystore.Version{Number: r.Version}),
			tx.Append(v.leaf(leafConnection, m.Customer, from, &Change{m.Connection, r.Version})),
		)
	})
	return r.Version, err
}

// keepSharing makes a record shared as the one is that it replaces. Where there is none, as behind the restore of an older
// keystore, it is its owner's alone until somebody shares it again: nothing is known of what it was.
func (v *Vault) keepSharing(ctx context.Context, tx *keystore.Tx, r *lease.Record) error {
	if off(sharingKept) {
		return nil
	}
	if tx.Version(keystore.KindConnection, r.Connection).Number == 0 {
		r.SharedWith = nil
		return nil
	}
	before, err := v.readRecord(ctx, tx, r.Connection)
	if err != nil {
		return err
	}
	before.Wipe()
	r.SharedWith, r.SharedFor = before.SharedWith, before.SharedFor
	return nil
}

// checkOwner refuses to replace another customer's record. Who owns a record is what
// it opens under, not what its row says.
func (v *Vault) checkOwner(ctx context.Context, tx *keystore.Tx, m *lease.ConnectionCall) error {
	s, err := tx.Connection(ctx, m.Connection)
	if notFound(err) || off(ownersChecked) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.Customer != m.Customer {
		return fmt.Errorf("connection %s: %w: it is another customer's", m.Connection, ErrRefused)
	}
	return nil
}

func (v *Vault) destroyConnection(ctx context.Context, from id.Node, m *lease.ConnectionCall) error {
	return v.store.Write(ctx, func(tx *keystore.Tx) error {
		known := tx.Version(keystore.KindConnection, m.Connection)
		if known.Gone {
			return nil // a deletion that was interrupted asks again
		}
		begun, err := tx.DestroyPendings(m.Connection, m.Customer)
		if err != nil {
			return err
		}
		it, err := tx.Intent(ctx, m.Connection)
		if err != nil && !notFound(err) {
			return err
		}
		if known.Number == 0 && begun == 0 && (err != nil || it.Customer != m.Customer) {
			return fmt.Errorf("connection %s: %w", m.Connection, errUnknown)
		}
		if err := v.checkOwner(ctx, tx, m); err != nil {
			return err
		}
		known.Number = max(known.Number, 1) // it was never connected
		return errors.Join(
			tx.DestroyIntent(m.Connection),
			tx.SetVersion(keystore.KindIntent, m.Connection, keystore.Version{}),
			tx.DestroyConnection(m.Connection),
			tx.SetVersion(keystore.KindConnection, m.Connection, keystore.Version{Number: known.Number, Gone: true}),
			tx.Append(v.leaf(leafConnectionDestroyed, m.Customer, from, &Change{m.Connection, known.Number})),
		)
	})
}

// supersede ends what is under way for a connection whose record is replaced: whoever renews
// the one before finds that its work has ended.
func (v *Vault) supersede(ctx context.Context, tx *keystore.Tx, m *lease.ConnectionCall) error {
	it, err := v.readIntent(ctx, tx, m.Connection)
	if err != nil || it.Fence == 0 {
		return err
	}
	it.done(nil)
	it.heal(it.Saved)
	return v.putIntent(ctx, tx, m.Customer, m.Connection, it)
}
