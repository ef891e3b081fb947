// Package lease holds the permissions that roles sign for each other and the
// vault seals: identities, dispatches, and the two halves of a lease.
//
// The vault is the authority. It certifies an [Identity] for each process. A
// server that has work for a runner signs a [Dispatch]; the runner adds the key of
// the worker that will do it and its own signature ([Request]); the vault checks
// both and seals a [Worker] lease to that worker and an [Egress] lease to an egress
// node. A lease is for one worker and its one instance, and ends after at most
// [MaxLife]; until then the worker runs whatever executions of that instance it is
// given. Each lease is one leaf in the vault's log, written before the answer.
//
// Everything here is data with a layout, checks that depend on nothing but the
// data and the time, and no I/O. Values are immutable once made.
package lease

import (
	"errors"
	"time"
)

// MaxLife is the longest life of a lease.
const MaxLife = 5 * time.Minute

// MaxDispatchAge is how old a dispatch or a call may be when the vault sees it.
const MaxDispatchAge = time.Minute

// ErrRefused is wrapped by every refusal to accept a certificate, a dispatch or a
// request. The wrapped text names the reason and holds no secret.
var ErrRefused = errors.New("refused")

// Purposes separate the uses of keys from each other (HPKE info, or the domain of
// a signature).
const (
	PurposeIdentity    = "bulkhead identity v1"
	PurposeDispatch    = "bulkhead dispatch v1"
	PurposeRequest     = "bulkhead lease request v1"
	PurposeCall        = "bulkhead vault call v1"
	PurposeAnswer      = "bulkhead vault answer v1"
	PurposeWorkerLease = "bulkhead worker lease v1"
	PurposeEgressLease = "bulkhead egress lease v1"
	PurposePayload     = "bulkhead payload v1"   // sealed to a payload key
	PurposeVault       = "bulkhead to vault v1"  // entered by a user, for the vault only
	PurposeServer      = "bulkhead to server v1" // label values, for the blind index
	PurposeSandbox     = "bulkhead sandbox v1"   // worker and sandbox
	PurposeView        = "bulkhead view v1"      // a page for a viewer

	PurposeToken       = "bulkhead token v1"        // what the vault seals to an egress node for one connection
	PurposeTokenCall   = "bulkhead token call v1"   // a call of an egress node to the vault
	PurposeTicket      = "bulkhead ticket v1"       // a MAC of the vault, for itself
	PurposeOrder       = "bulkhead order v1"        // a server's word to an egress node and to the vault
	PurposeOrderBody   = "bulkhead order body v1"   // what an order carries, for its egress node only
	PurposeOrderAnswer = "bulkhead order answer v1" // what an egress node answers
	PurposeStatus      = "bulkhead status v1"       // what an egress node tells servers of a connection
)
