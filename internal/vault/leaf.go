package vault

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/keystore"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// The kinds of leaves in the vault's log. Numbers are part of the format. A body is
// a [Change], except for leases (a [Grant]), views (a [View]) and checks of
// senders (a [MacUse]).
const (
	leafCreated = 1 + iota
	leafEnrolled
	leafRetired
	leafCustomer
	leafPayload
	leafPayloadsDestroyed
	leafInstance
	leafInstanceDestroyed
	leafConnection
	leafConnectionDestroyed
	leafBlindKey
	leafLease
	leafView
	leafCustomerRotated
	leafRootRotated
	leafMac    // the secrets of an instance are open to the checks of a server, a [MacUse]
	leafMacUse // how they were used until they were closed, a [MacUse]
	leafStart  // an authorization has begun, a [TokenUse]; as what follows
	leafTokenWork
	leafTokenSaved
	leafTokenGiven // newer tokens of a lease
	leafCustomerDestroyed
	leafAccount // a server was told what an account is called, a [TokenUse]
)

// Change says what was changed: the subject and its version or day.
type Change struct {
	Subject [16]byte
	Number  uint64
}

// Walk implements [wire.Message].
func (m *Change) Walk(c *wire.Coder) {
	c.Fixed(m.Subject[:])
	c.Uint(&m.Number)
}

// Grant is the body of a lease's leaf: who may use what until when.
type Grant struct {
	Lease         id.Lease
	Server        id.Node
	Egress        id.Node
	Instance      id.Instance
	Definition    [32]byte
	ConfigVersion uint64
	Connections   []Change // id and version of each credential record
	Days          []lease.Day
	Executions    []Change // ids
	Expires       time.Time
}

// Walk implements [wire.Message].
func (m *Grant) Walk(c *wire.Coder) {
	c.Fixed(m.Lease[:])
	c.Fixed(m.Server[:])
	c.Fixed(m.Egress[:])
	c.Fixed(m.Instance[:])
	c.Fixed(m.Definition[:])
	c.Uint(&m.ConfigVersion)
	wire.List(c, &m.Connections)
	wire.List(c, &m.Days)
	wire.List(c, &m.Executions)
	c.Time(&m.Expires)
}

// View is the body of a view's leaf: who may be shown what the lease can read. The last
// group is of reads of what is stored only.
type View struct {
	View     id.View
	Lease    id.Lease
	Server   id.Node
	Instance id.Instance

	Execution id.Execution // zero for what is of the instance
	Kind      wire.ReadKind
	Class     wire.Class
	Who       string
}

// Walk implements [wire.Message].
func (m *View) Walk(c *wire.Coder) {
	c.Fixed(m.View[:])
	c.Fixed(m.Lease[:])
	c.Fixed(m.Server[:])
	c.Fixed(m.Instance[:])
	c.Fixed(m.Execution[:])
	c.Byte((*byte)(&m.Kind))
	c.Byte((*byte)(&m.Class))
	c.String(&m.Who)
}

// MacUse is the body of the leaves of checks of senders. One check is not a leaf: there may
// be thousands in a second. The opening of the secrets is, before the first check, and so is
// the number of checks until they are closed.
type MacUse struct {
	Server        id.Node
	Instance      id.Instance
	ConfigVersion uint64
	Until         time.Time     // when they are closed; zero: they were
	Checks        uint64        // since the opening before
	Failed        uint64        // of them, those that did not match
	Client        id.Connection // whose secrets they are, instead of the instance's
}

// Walk implements [wire.Message].
func (m *MacUse) Walk(c *wire.Coder) {
	c.Fixed(m.Server[:])
	c.Fixed(m.Instance[:])
	c.Uint(&m.ConfigVersion)
	c.Time(&m.Until)
	c.Uint(&m.Checks)
	c.Uint(&m.Failed)
	c.Fixed(m.Client[:])
}

func (v *Vault) leaf(kind byte, c id.Customer, requester id.Node, body wire.Message) *keystore.Leaf {
	l := &keystore.Leaf{Time: v.now(), Kind: kind, Customer: c, Requester: requester}
	if body != nil {
		l.Body = wire.AppendBody(nil, body)
	}
	return l
}
