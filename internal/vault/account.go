package vault

import (
	"context"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// accountLabel tells a server what the account of a connection is called at the provider, sealed
// to it. Each reading is a leaf, which is committed first: a server that collects names is
// seen. The name is empty where the provider tells none, and nothing else of the record leaves.
func (v *Vault) accountLabel(ctx context.Context, from *lease.Identity, m *lease.AccountCall) ([]byte, error) {
	var label string
	err := v.store.Write(ctx, func(tx *keystore.Tx) error {
		r, err := v.readRecord(ctx, tx, m.Connection)
		if err != nil {
			return err
		}
		defer r.Wipe()
		if r.Customer != m.Customer && !off(ownersChecked) || !r.Kind.Changes() {
			return fmt.Errorf("connection %s: %w: it is another customer's, or has no account", m.Connection, ErrRefused)
		}
		label = string(r.Field(lease.FieldAccountLabel))
		if off(leafFirst) {
			return nil
		}
		return tx.Append(v.leaf(leafAccount, r.Customer, from.Node, &TokenUse{Connection: r.Connection, Version: r.Version, Server: from.Node}))
	})
	if err != nil {
		return nil, err
	}
	return lease.SealAccount(from, m.Connection, &lease.Account{Label: label})
}
