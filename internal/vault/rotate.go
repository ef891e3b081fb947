package vault

import (
	"context"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// Rotate makes a new version of a customer's key. It seals from now on; what older
// versions sealed still opens.
func (v *Vault) Rotate(ctx context.Context, c id.Customer) (version uint64, err error) {
	err = v.store.Write(ctx, func(tx *keystore.Tx) error {
		n := tx.Version(keystore.KindCustomer, c)
		if n.Number == 0 || n.Gone {
			return fmt.Errorf("customer %s: %w", c, errUnknown)
		}
		version = n.Number + 1
		return v.addCustomerKey(tx, id.Node{}, keyID{c, version}, leafCustomerRotated)
	})
	if err != nil {
		return 0, fmt.Errorf("rotate customer key: %w", err)
	}
	return version, nil
}

// RotateRoot wraps everything that the root key wraps under another one, in one
// transaction. It takes next over and destroys it. Keep both keys until it returns:
// after an error the old one is right, after nil the new one.
func (v *Vault) RotateRoot(ctx context.Context, next secret.Value) error {
	defer next.Destroy()
	fresh, err := deriveRoot(next.Reveal())
	if err != nil {
		return fmt.Errorf("rotate root key: %w", err)
	}
	v.rotating.Lock()
	defer v.rotating.Unlock()
	v.mu.Lock()
	old := v.root
	v.next = fresh // rows that are read between the commit and the exchange
	v.mu.Unlock()
	err = v.store.WriteAlone(ctx, func(tx *keystore.Tx) error {
		if err := tx.Rewrap(fresh.mac, old.rewrapSeed(fresh), old.rewrapCustomer(fresh)); err != nil {
			return err
		}
		check, err := sealRow(fresh.wrap, []byte(rootCheck), rootPlace())
		if err != nil {
			return err
		}
		if err := tx.PutRoot(check); err != nil {
			return err
		}
		return tx.Append(v.leaf(leafRootRotated, id.Customer{}, id.Node{}, nil))
	}, func() {
		v.mu.Lock()
		v.root = fresh
		v.mu.Unlock()
	})
	v.mu.Lock()
	defer v.mu.Unlock()
	v.next = nil
	if err != nil {
		return fmt.Errorf("rotate root key: %w", err)
	}
	clear(old.head)
	return nil
}

func (r *rootKeys) rewrapSeed(next *rootKeys) func(string, []byte) ([]byte, error) {
	return func(name string, sealed []byte) ([]byte, error) {
		raw, err := openRow(r.wrap, sealed, seedPlace(name))
		if err != nil {
			return nil, fmt.Errorf("seed %s: %w", name, err)
		}
		defer clear(raw)
		return sealRow(next.wrap, raw, seedPlace(name))
	}
}

func (r *rootKeys) rewrapCustomer(next *rootKeys) func(id.Customer, uint64, []byte) ([]byte, error) {
	return func(c id.Customer, version uint64, sealed []byte) ([]byte, error) {
		h, err := r.unwrapKeyset(sealed, keyID{c, version})
		if err != nil {
			return nil, err
		}
		return next.wrapKeyset(h, keyID{c, version})
	}
}
