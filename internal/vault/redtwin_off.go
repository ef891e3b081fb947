//go:build !redtwin

package vault

import (
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// believe stands in for the check of signatures in a red twin only.
func believe(*wire.LeaseRequest, lease.Identities) (*lease.Dispatch, *lease.Identity, error) {
	return nil, nil, ErrRefused
}
