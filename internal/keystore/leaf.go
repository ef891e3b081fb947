package keystore

import (
	"crypto/sha256"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
)

// Leaf is one entry of the vault's log. Body is the vault's own layout and holds ids
// and numbers, never a secret. Its hash covers everything here and the hash before.
type Leaf struct {
	Seq       uint64 // set by [Tx.Append], counts up from 1
	Time      time.Time
	Kind      byte
	Customer  id.Customer
	Requester id.Node
	Body      []byte
	Hash      [32]byte // set by [Tx.Append]
}

func (l *Leaf) digest(before [32]byte) [32]byte {
	return sha256.Sum256(seal.Tuple(nil, []byte("leaf/1"), before[:], seal.Uint(l.Seq), seal.Uint(uint64(l.Time.UnixMicro())),
		[]byte{l.Kind}, l.Customer[:], l.Requester[:], l.Body))
}

// headState is what the head's MAC covers.
func headState(seq uint64, hash, ledger [32]byte) []byte {
	return seal.Tuple(nil, []byte("head/1"), seal.Uint(seq), hash[:], ledger[:])
}
