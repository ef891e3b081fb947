package wire

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
)

// Messages between the supervisor and the roles it starts, over the inherited control socket.

// Hello is the first frame of a role: its identity keys, made in the process.
type Hello struct {
	Sign seal.VerifyKey
	Seal seal.PublicKey
}

// Walk implements [Message].
func (m *Hello) Walk(c *Coder) {
	c.Fixed(m.Sign[:])
	c.Fixed(m.Seal[:])
}

// FrameType implements [Typed].
func (*Hello) FrameType() Type { return TypeHello }

// VaultStart gives the vault its root secret, once, and where its keystore is.
type VaultStart struct {
	Root      []byte        // the root secret; destroyed after use
	Dir       string        // directory of the keystore
	Temporary bool          // the directory is deleted at the end: no need to survive a power failure
	Live      []LiveNode    // processes that run on from before; every other identity is retired
	Life      time.Duration // of identities; 0 is the vault's default
	Requests  uint64        // budget of a lease; 0 is the vault's, and it is never more
	Bytes     uint64        // the same
}

// Walk implements [Message].
func (m *VaultStart) Walk(c *Coder) {
	c.Bytes(&m.Root)
	c.String(&m.Dir)
	c.Bool(&m.Temporary)
	List(c, &m.Live)
	c.Duration(&m.Life)
	c.Uint(&m.Requests)
	c.Uint(&m.Bytes)
}

// FrameType implements [Typed].
func (*VaultStart) FrameType() Type { return TypeVaultStart }

// VaultReady says that the keystore is open, and what the others must know to trust the
// vault.
type VaultReady struct {
	Authority seal.VerifyKey // the instance CA
	Operator  string         // NATS operator JWT
	Account   string         // NATS account JWT
}

// Walk implements [Message].
func (m *VaultReady) Walk(c *Coder) {
	c.Fixed(m.Authority[:])
	c.String(&m.Operator)
	c.String(&m.Account)
}

// FrameType implements [Typed].
func (*VaultReady) FrameType() Type { return TypeVaultReady }

// Enroll asks the vault to certify a role that the supervisor has started.
type Enroll struct {
	Role string
	Pool string // egress pool or runner pool
	Sign seal.VerifyKey
	Seal seal.PublicKey
}

// Walk implements [Message].
func (m *Enroll) Walk(c *Coder) {
	c.String(&m.Role)
	c.String(&m.Pool)
	c.Fixed(m.Sign[:])
	c.Fixed(m.Seal[:])
}

// FrameType implements [Typed].
func (*Enroll) FrameType() Type { return TypeEnroll }

// Enrolled is the certificate.
type Enrolled struct {
	Node        id.Node
	Certificate []byte
	UserJWT     string
}

// Walk implements [Message].
func (m *Enrolled) Walk(c *Coder) {
	c.Fixed(m.Node[:])
	c.Bytes(&m.Certificate)
	c.String(&m.UserJWT)
}

// FrameType implements [Typed].
func (*Enrolled) FrameType() Type { return TypeEnrolled }

// PeerCertificate is an identity certified by the vault.
type PeerCertificate struct {
	Certificate []byte
}

// Walk implements [Message].
func (m *PeerCertificate) Walk(c *Coder) {
	c.Bytes(&m.Certificate)
}

// Start tells a role everything it needs. Settings are the role's own flags.
type Start struct {
	Node        id.Node
	Certificate []byte
	UserJWT     string
	Authority   seal.VerifyKey
	Peers       []PeerCertificate // identities known at start
	Bus         string            // address; for the bus itself the address to listen on
	BusPin      [32]byte          // SHA-256 of the bus's certificate
	Operator    string            // for the bus
	Account     string            // for the bus
	Settings    []Pair
}

// Walk implements [Message].
func (m *Start) Walk(c *Coder) {
	c.Fixed(m.Node[:])
	c.Bytes(&m.Certificate)
	c.String(&m.UserJWT)
	c.Fixed(m.Authority[:])
	List(c, &m.Peers)
	c.String(&m.Bus)
	c.Fixed(m.BusPin[:])
	c.String(&m.Operator)
	c.String(&m.Account)
	List(c, &m.Settings)
}

// FrameType implements [Typed].
func (*Start) FrameType() Type { return TypeStart }

// Layer is one wall around a process and its state.
type Layer struct {
	Name   string
	State  string // on, missing
	Detail string
}

// Walk implements [Message].
func (m *Layer) Walk(c *Coder) {
	c.String(&m.Name)
	c.String(&m.State)
	c.String(&m.Detail)
}

// Ready says that the role serves and is locked down.
type Ready struct {
	Address string   // where it listens, if anywhere
	Pin     [32]byte // of the bus's certificate
	Layers  []Layer
}

// Walk implements [Message].
func (m *Ready) Walk(c *Coder) {
	c.String(&m.Address)
	c.Fixed(m.Pin[:])
	List(c, &m.Layers)
}

// FrameType implements [Typed].
func (*Ready) FrameType() Type { return TypeReady }

// Stop asks a role to drain and exit.
type Stop struct {
	Grace time.Duration
}

// Walk implements [Message].
func (m *Stop) Walk(c *Coder) {
	c.Duration(&m.Grace)
}

// FrameType implements [Typed].
func (*Stop) FrameType() Type { return TypeStop }
