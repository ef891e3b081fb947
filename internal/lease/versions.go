package lease

import (
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// OpVersions asks which versions the keystore remembers: VersionsCall → VersionsAnswer. A
// server compares them with its database, which may have been restored.
const OpVersions = "versions"

// MaxVersions is the most instances, and the most connections, of one call.
const MaxVersions = 512

// VersionsCall names instances and connections that the server knows.
type VersionsCall struct {
	Instances   []id.Instance
	Connections []id.Connection
}

type (
	walkInstance   id.Instance
	walkConnection id.Connection
)

// Walk implements [wire.Message].
func (m *walkInstance) Walk(c *wire.Coder) { c.Fixed(m[:]) }

// Walk implements [wire.Message].
func (m *walkConnection) Walk(c *wire.Coder) { c.Fixed(m[:]) }

// Walk implements [wire.Message].
func (m *VersionsCall) Walk(c *wire.Coder) {
	instances, connections := make([]walkInstance, len(m.Instances)), make([]walkConnection, len(m.Connections))
	for i, n := range m.Instances {
		instances[i] = walkInstance(n)
	}
	for i, n := range m.Connections {
		connections[i] = walkConnection(n)
	}
	wire.List(c, &instances)
	wire.List(c, &connections)
	if !c.Reading() {
		return
	}
	m.Instances, m.Connections = nil, nil
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
}

// Walk implements [wire.Message].
func (m *VersionsAnswer) Walk(c *wire.Coder) {
	wire.List(c, &m.Instances)
	wire.List(c, &m.Connections)
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
