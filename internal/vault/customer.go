package vault

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
)

// destroyCustomer destroys a customer's keys and everything under them: payload pairs,
// instance keys and credentials. What they sealed is unreadable from then on, in the
// database and in every backup of it, as are backups of the keystore once these are gone.
// The ledger remembers each of them as gone, so that none comes back. It is idempotent.
func (v *Vault) destroyCustomer(ctx context.Context, from id.Node, c id.Customer) error {
	err := v.store.Write(ctx, func(tx *keystore.Tx) error {
		known := tx.Version(keystore.KindCustomer, c)
		if known.Gone || known.Number == 0 {
			return nil // a deletion that was interrupted asks again; of an unknown one there is nothing
		}
		had, err := tx.Belongings(c)
		if err != nil {
			return err
		}
		errs := []error{tx.DestroyCustomer(c)}
		for _, i := range had.Instances {
			n := tx.Version(keystore.KindInstance, i)
			errs = append(errs, tx.SetVersion(keystore.KindInstance, i, keystore.Version{Number: max(n.Number, 1), Gone: true}))
		}
		for _, n := range had.Connections {
			version := tx.Version(keystore.KindConnection, n)
			errs = append(errs,
				tx.SetVersion(keystore.KindIntent, n, keystore.Version{}),
				tx.SetVersion(keystore.KindConnection, n, keystore.Version{Number: max(version.Number, 1), Gone: true}))
		}
		return errors.Join(append(
			errs,
			tx.SetVersion(keystore.KindCustomer, c, keystore.Version{Number: known.Number, Gone: true}),
			tx.Append(v.leaf(leafCustomerDestroyed, c, from, &Change{c, known.Number})),
		)...)
	})
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	maps.DeleteFunc(v.cached, func(k keyID, _ tink.AEAD) bool { return k.customer == c })
	return nil
}

// checkCustomer refuses to seal anything more under the key of a customer that is gone,
// whoever holds the key from before.
func checkCustomer(tx *keystore.Tx, c id.Customer) error {
	if n := tx.Version(keystore.KindCustomer, c); (n.Number == 0 || n.Gone) && !off(versionsChecked) {
		return fmt.Errorf("customer %s: %w", c, errUnknown)
	}
	return nil
}
