package lease

import (
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// OpVersions asks which versions the keystore remembers: VersionsCall → VersionsAnswer. A
// server compares them with its database, which may have been restored.
const OpVersions = "versions"

// MaxVersions is the most instances, the most connections and the most customers of one call.
const MaxVersions = 512

// VersionsCall names instances, connections and customers that the server knows.
type VersionsCall struct {
	Instances   []id.Instance
	Connections []id.Connection
	Customers   []id.Customer
}

type (
	walkInstance   id.Instance
	walkConnection id.Connection
	walkCustomer   id.Customer
)

// Walk implements [wire.Message].
func (m *walkInstance) Walk(c *wire.Coder) { c.Fixed(m[:]) }

// Walk implements [wire.Message].
func (m *walkConnection) Walk(c *wire.Coder) { c.Fixed(m[:]) }

// Walk implements [wire.Message].
func (m *walkCustomer) Walk(c *wire.Coder) { c.Fixed(m[:]) }

// Walk implements [wire.Message].
func (m *VersionsCall) Walk(c *wire.Coder) {
	instances, connections := make([]walkInstance, len(m.Instances)), make([]walkConnection, len(m.Connections))
	for i, n := range m.Instances {
		instances[i] = walkInstance(n)
	}
	for i, n := range m.Connections {
		connections[i] = walkConnection(n)
	}
	customers := make([]walkCustomer, len(m.Customers))
	for i, n := range m.Customers {
		customers[i] = walkCustomer(n)
	}
	wire.List(c, &instances)
	wire.List(c, &connections)
	wire.List(c, &customers)
	if !c.Reading() {
		return
	}
	m.Instances, m.Connections, m.Customers = nil, nil, nil
	for _, n := range customers {
		m.Customers = append(m.Customers, id.Customer(n))
	}
	for _, n := range instances {
		m.Instances = append(m.Instances, id.Instance(n))
	}
	for _, n := range connections {
		m.Connections = append(m.Connections, id.Connection(n))
	}
}

// VersionsAnswer has a version for each, in the order of the call.
type VersionsAnswer struct {
	Instances   []Version // of the config
	Connections []Version // of the credential record
	Customers   []Version // of the key
}

// Walk implements [wire.Message].
func (m *VersionsAnswer) Walk(c *wire.Coder) {
	wire.List(c, &m.Instances)
	wire.List(c, &m.Connections)
	wire.List(c, &m.Customers)
}

// Version is what the keystore remembers of a subject.
type Version struct {
	Number uint64 // 0: the keystore does not know it
	Gone   bool   // it was destroyed, and does not come back
}

// Walk implements [wire.Message].
func (m *Version) Walk(c *wire.Coder) {
	c.Uint(&m.Number)
	c.Bool(&m.Gone)
}
