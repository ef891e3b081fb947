package lease

import (
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// The operations that a server asks of the vault in a [wire.VaultCall], each with
// the message of its body and of its answer. None gives out a key or a credential,
// and none lists what the vault holds.
const (
	OpCustomer         = "customer"          // CustomerCall → nothing: makes the customer's keys, idempotent
	OpCustomerDelete   = "customer-delete"   // CustomerCall → nothing: destroys the customer's keys and all under them, idempotent
	OpPayloadKey       = "payload-key"       // PayloadKeyCall → PayloadKeyAnswer
	OpInstance         = "instance"          // InstanceCall → InstanceAnswer: makes the instance key, seals its config
	OpInstanceDelete   = "instance-delete"   // InstanceCall → nothing: destroys the instance key
	OpConnection       = "connection"        // ConnectionCall → ConnectionAnswer
	OpConnectionDelete = "connection-delete" // ConnectionCall → nothing
	OpBlindKey         = "blind-key"         // nothing → SealedAnswer, to the server's key
	OpPeers            = "peers"             // nothing → PeersAnswer: certificates of live nodes
)

// CustomerCall names a customer.
type CustomerCall struct{ Customer id.Customer }

// Walk implements [wire.Message].
func (m *CustomerCall) Walk(c *wire.Coder) { c.Fixed(m.Customer[:]) }

// PayloadKeyCall asks for the public half of a customer's payload key of a day. It
// is made when it does not exist and the day has not ended.
type PayloadKeyCall struct {
	Customer id.Customer
	Day      Day
}

// Walk implements [wire.Message].
func (m *PayloadKeyCall) Walk(c *wire.Coder) {
	c.Fixed(m.Customer[:])
	m.Day.Walk(c)
}

// PayloadKeyAnswer is the public half.
type PayloadKeyAnswer struct{ Key seal.PublicKey }

// Walk implements [wire.Message].
func (m *PayloadKeyAnswer) Walk(c *wire.Coder) { c.Fixed(m.Key[:]) }

// InstanceCall saves the config values of an instance. Config is JSON, sealed to
// the vault's key with [PurposeVault] and [ConfigPlace] of version 0.
type InstanceCall struct {
	Customer id.Customer
	Instance id.Instance
	Config   []byte
}

// Walk implements [wire.Message].
func (m *InstanceCall) Walk(c *wire.Coder) {
	c.Fixed(m.Customer[:])
	c.Fixed(m.Instance[:])
	c.Bytes(&m.Config)
}

// InstanceAnswer is the config sealed under the instance key at [ConfigPlace] of
// its version, which the keystore remembers.
type InstanceAnswer struct {
	Version uint64
	Config  []byte
}

// Walk implements [wire.Message].
func (m *InstanceAnswer) Walk(c *wire.Coder) {
	c.Uint(&m.Version)
	c.Bytes(&m.Config)
}

// ConnectionCall saves a credential. Record is an encoded [Record] sealed to the
// vault's key with [PurposeVault] and [ConnectionPlace]; empty for a deletion.
type ConnectionCall struct {
	Customer   id.Customer
	Connection id.Connection
	Record     []byte
	// KeepSharing makes the record shared as the one is that it replaces, whatever it says itself: who connects again does not
	// decide on that, nor does a database in which it is written down.
	KeepSharing bool
}

// Walk implements [wire.Message].
func (m *ConnectionCall) Walk(c *wire.Coder) {
	c.Fixed(m.Customer[:])
	c.Fixed(m.Connection[:])
	c.Bytes(&m.Record)
	c.Bool(&m.KeepSharing)
}

// ConnectionPlace binds a record on its way to the vault to its connection.
func ConnectionPlace(c id.Customer, n id.Connection) []byte { return place("connection/1", c, n[:]) }

// ConnectionAnswer is the version of the saved record.
type ConnectionAnswer struct{ Version uint64 }

// Walk implements [wire.Message].
func (m *ConnectionAnswer) Walk(c *wire.Coder) { c.Uint(&m.Version) }

// SealedAnswer is a value sealed to the asking server with [PurposeServer].
type SealedAnswer struct{ Sealed []byte }

// Walk implements [wire.Message].
func (m *SealedAnswer) Walk(c *wire.Coder) { c.Bytes(&m.Sealed) }

// PeersAnswer holds the certificates of live nodes.
type PeersAnswer struct{ Peers []wire.PeerCertificate }

// Walk implements [wire.Message].
func (m *PeersAnswer) Walk(c *wire.Coder) { wire.List(c, &m.Peers) }
