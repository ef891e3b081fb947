package vault

import (
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// versions says what the ledger remembers of subjects that the server names. It opens
// nothing and lists nothing, so it leaves no leaf.
func (v *Vault) versions(m *lease.VersionsCall, a *lease.VersionsAnswer) error {
	if len(m.Instances) > lease.MaxVersions || len(m.Connections) > lease.MaxVersions || len(m.Customers) > lease.MaxVersions {
		return fmt.Errorf("%w: too many subjects", ErrRefused)
	}
	for _, i := range m.Instances {
		n := v.store.Version(keystore.KindInstance, i)
		a.Instances = append(a.Instances, lease.Version{Number: n.Number, Gone: n.Gone})
	}
	for _, c := range m.Connections {
		n := v.store.Version(keystore.KindConnection, c)
		a.Connections = append(a.Connections, lease.Version{Number: n.Number, Gone: n.Gone})
	}
	for _, c := range m.Customers {
		n := v.store.Version(keystore.KindCustomer, c)
		a.Customers = append(a.Customers, lease.Version{Number: n.Number, Gone: n.Gone})
	}
	return nil
}
