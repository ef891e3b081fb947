package wire

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Messages between the supervisor and roles that run, over the inherited control socket,
// and what roles tell runners when messages were lost.

// LiveNode names a process that runs.
type LiveNode struct{ Node id.Node }

// Walk implements [Message].
func (m *LiveNode) Walk(c *Coder) { c.Fixed(m.Node[:]) }

// Peers tells a role who has come and gone since it was told last, and where the bus is.
// A certificate of a node that is known renews it.
type Peers struct {
	Joined []PeerCertificate
	Left   []LiveNode
	Bus    string   // address; empty: as before
	BusPin [32]byte // with Bus
}

// Walk implements [Message].
func (m *Peers) Walk(c *Coder) {
	List(c, &m.Joined)
	List(c, &m.Left)
	c.String(&m.Bus)
	c.Fixed(m.BusPin[:])
}

// FrameType implements [Typed].
func (*Peers) FrameType() Type { return TypePeers }

// Retire tells the vault that a process has ended.
type Retire struct{ Node id.Node }

// Walk implements [Message].
func (m *Retire) Walk(c *Coder) { c.Fixed(m.Node[:]) }

// FrameType implements [Typed].
func (*Retire) FrameType() Type { return TypeRetire }

// Drain asks the server to accept nothing new: it is about to be stopped.
type Drain struct{}

// Walk implements [Message].
func (*Drain) Walk(*Coder) {}

// FrameType implements [Typed].
func (*Drain) FrameType() Type { return TypeDrain }

// RoleHealth is how one role does.
type RoleHealth struct {
	Name     string
	State    string    // up, starting, down, sealed
	Restarts uint64    // since the supervisor started
	Since    time.Time // of State
	Memory   uint64    // resident bytes of the process and what it started; 0: unknown
}

// Walk implements [Message].
func (m *RoleHealth) Walk(c *Coder) {
	c.String(&m.Name)
	c.String(&m.State)
	c.Uint(&m.Restarts)
	c.Time(&m.Since)
	c.Uint(&m.Memory)
}

// Health tells the server how every role does, every few seconds and on change.
type Health struct {
	Roles   []RoleHealth
	Missing []string // layers that this host does not offer
}

// Walk implements [Message].
func (m *Health) Walk(c *Coder) {
	List(c, &m.Roles)
	c.Strings(&m.Missing)
}

// FrameType implements [Typed].
func (*Health) FrameType() Type { return TypeHealth }

// Unseal gives the supervisor the secret from which the root key is made, over its own
// socket. It is answered by Ready, or by an Error.
type Unseal struct{ Secret []byte }

// Walk implements [Message].
func (m *Unseal) Walk(c *Coder) { c.Bytes(&m.Secret) }

// FrameType implements [Typed].
func (*Unseal) FrameType() Type { return TypeUnseal }

// Lost tells a runner that messages between it and the sender may have been lost: what is
// open between the two is to be begun again.
type Lost struct{}

// Walk implements [Message].
func (*Lost) Walk(*Coder) {}

// FrameType implements [Typed].
func (*Lost) FrameType() Type { return TypeLost }
