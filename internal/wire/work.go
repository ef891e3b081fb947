package wire

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
)

// Messages between server and runner, and with the vault.

// Held is one execution that a runner holds.
type Held struct {
	Execution id.Execution
	Fence     uint64
}

// Walk implements [Message].
func (m *Held) Walk(c *Coder) {
	c.Fixed(m.Execution[:])
	c.Uint(&m.Fence)
}

// BoundInstance is an instance with a warm worker.
type BoundInstance struct {
	Instance   id.Instance
	Definition [32]byte
	Renew      bool // its lease ends soon: dispatch it again, with an empty unit if need be
}

// Walk implements [Message].
func (m *BoundInstance) Walk(c *Coder) {
	c.Fixed(m.Instance[:])
	c.Fixed(m.Definition[:])
	c.Bool(&m.Renew)
}

// Want is a runner's heartbeat: what it holds, and how many executions it can take.
type Want struct {
	Free     uint32
	Held     []Held
	Bound    []BoundInstance // workers that are warm
	Draining bool
}

// Walk implements [Message].
func (m *Want) Walk(c *Coder) {
	c.Uint32(&m.Free)
	List(c, &m.Held)
	List(c, &m.Bound)
	c.Bool(&m.Draining)
}

// FrameType implements [Typed].
func (*Want) FrameType() Type { return TypeWant }

// Dispatch gives a runner a unit of one instance with the signed permission to ask the
// vault for its lease.
type Dispatch struct {
	Customer      id.Customer
	Instance      id.Instance
	Definition    [32]byte // digest
	Config        []byte   // sealed under the instance key
	ConfigVersion uint64
	Signed        []byte // a signed lease.Dispatch
	Unit          Unit
}

// Walk implements [Message].
func (m *Dispatch) Walk(c *Coder) {
	c.Fixed(m.Customer[:])
	c.Fixed(m.Instance[:])
	c.Fixed(m.Definition[:])
	c.Bytes(&m.Config)
	c.Uint(&m.ConfigVersion)
	c.Bytes(&m.Signed)
	m.Unit.Walk(c)
}

// FrameType implements [Typed].
func (*Dispatch) FrameType() Type { return TypeDispatch }

// DefinitionGet asks the server for a published integration.
type DefinitionGet struct {
	Digest [32]byte
}

// Walk implements [Message].
func (m *DefinitionGet) Walk(c *Coder) {
	c.Fixed(m.Digest[:])
}

// FrameType implements [Typed].
func (*DefinitionGet) FrameType() Type { return TypeDefinitionGet }

// Definition answers a DefinitionGet.
type Definition struct {
	Digest [32]byte
	JSON   []byte
}

// Walk implements [Message].
func (m *Definition) Walk(c *Coder) {
	c.Fixed(m.Digest[:])
	c.Bytes(&m.JSON)
}

// FrameType implements [Typed].
func (*Definition) FrameType() Type { return TypeDefinition }

// LeaseRequest asks the vault for the leases of a worker: the server's signed dispatch,
// and the runner's signature over it, the worker's key and the egress node.
type LeaseRequest struct {
	Signed    []byte         // a signed lease.Dispatch
	Worker    seal.PublicKey // the worker's key
	Egress    id.Node
	Runner    id.Node
	Signature []byte
}

// Walk implements [Message].
func (m *LeaseRequest) Walk(c *Coder) {
	c.Bytes(&m.Signed)
	c.Fixed(m.Worker[:])
	c.Fixed(m.Egress[:])
	c.Fixed(m.Runner[:])
	c.Bytes(&m.Signature)
}

// FrameType implements [Typed].
func (*LeaseRequest) FrameType() Type { return TypeLeaseRequest }

// LeaseGrant answers a LeaseRequest.
type LeaseGrant struct {
	Lease   id.Lease
	Expires time.Time
	Worker  []byte // sealed to the worker
	Egress  []byte // sealed to the egress node, which gets it from the runner
}

// Walk implements [Message].
func (m *LeaseGrant) Walk(c *Coder) {
	c.Fixed(m.Lease[:])
	c.Time(&m.Expires)
	c.Bytes(&m.Worker)
	c.Bytes(&m.Egress)
}

// FrameType implements [Typed].
func (*LeaseGrant) FrameType() Type { return TypeLeaseGrant }

// VaultCall is an operation that the server asks of the vault, signed by it (see
// lease.SignCall). Body is the operation's own message.
type VaultCall struct {
	Op        string
	Body      []byte
	Issued    time.Time
	Nonce     [16]byte
	Signature []byte
}

// Walk implements [Message].
func (m *VaultCall) Walk(c *Coder) {
	c.String(&m.Op)
	c.Bytes(&m.Body)
	c.Time(&m.Issued)
	c.Fixed(m.Nonce[:])
	c.Bytes(&m.Signature)
}

// FrameType implements [Typed].
func (*VaultCall) FrameType() Type { return TypeVaultCall }

// VaultAnswer answers a VaultCall, signed by the vault (see lease.SignAnswer).
type VaultAnswer struct {
	Body      []byte
	Signature []byte
}

// Walk implements [Message].
func (m *VaultAnswer) Walk(c *Coder) {
	c.Bytes(&m.Body)
	c.Bytes(&m.Signature)
}

// FrameType implements [Typed].
func (*VaultAnswer) FrameType() Type { return TypeVaultAnswer }
