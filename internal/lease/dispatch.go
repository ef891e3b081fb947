package lease

import (
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Slot fills one connection slot of an instance.
type Slot struct {
	Name       string
	Connection id.Connection
}

// Walk implements [wire.Message].
func (m *Slot) Walk(c *wire.Coder) {
	c.String(&m.Name)
	c.Fixed(m.Connection[:])
}

// Viewer is a key to which a worker may seal pages of one view: what a step got
// and gave, log lines, the result. The vault writes a leaf for each.
type Viewer struct {
	View id.View
	Key  seal.PublicKey
}

// Walk implements [wire.Message].
func (m *Viewer) Walk(c *wire.Coder) {
	c.Fixed(m.View[:])
	c.Fixed(m.Key[:])
}

// Dispatch is a server's word that a runner may run executions of an instance. It
// is what the vault needs to see to grant a lease.
type Dispatch struct {
	Server        id.Node
	Runner        id.Node
	Customer      id.Customer
	Instance      id.Instance
	Definition    [32]byte // digest of the published integration
	ConfigVersion uint64
	Slots         []Slot
	Days          []Day          // expiry days of the payload keys that are needed
	Executions    []id.Execution // the first ones, for the vault's log
	Viewers       []Viewer
	EgressPool    string
	CallbackBase  string // URL prefix of callbacks, signed so that nobody can send answers elsewhere
	Issued        time.Time
	Read          *Read // set: a permission to read and for nothing else, without connections and egress
}

// Day is an expiry day of a payload key: days since 1970-01-01, UTC. The key is
// destroyed when that day has ended.
type Day uint32

// DayOf is the day that holds t.
func DayOf(t time.Time) Day { return Day(t.Unix() / 86400) }

// Walk implements [wire.Message].
func (d *Day) Walk(c *wire.Coder) { c.Uint32((*uint32)(d)) }

type executionID id.Execution

// Walk implements [wire.Message].
func (e *executionID) Walk(c *wire.Coder) { c.Fixed(e[:]) }

// Walk implements [wire.Message].
func (m *Dispatch) Walk(c *wire.Coder) {
	c.Fixed(m.Server[:])
	c.Fixed(m.Runner[:])
	c.Fixed(m.Customer[:])
	c.Fixed(m.Instance[:])
	c.Fixed(m.Definition[:])
	c.Uint(&m.ConfigVersion)
	wire.List(c, &m.Slots)
	wire.List(c, &m.Days)
	executions := make([]executionID, len(m.Executions))
	for i, e := range m.Executions {
		executions[i] = executionID(e)
	}
	wire.List(c, &executions)
	if c.Reading() {
		m.Executions = nil
		for _, e := range executions {
			m.Executions = append(m.Executions, id.Execution(e))
		}
	}
	wire.List(c, &m.Viewers)
	c.String(&m.EgressPool)
	c.String(&m.CallbackBase)
	c.Time(&m.Issued)
	wire.Optional(c, &m.Read)
}

// SignDispatch encodes and signs a dispatch as the server named in it.
func SignDispatch(server *seal.SignKey, d *Dispatch) []byte { return sign(server, PurposeDispatch, d) }

// PeekDispatch reads a signed dispatch without checking who signed it: a runner
// uses it to see what it is given, the vault is who must not be deceived.
func PeekDispatch(dispatch []byte) (*Dispatch, error) {
	var s signed
	d := &Dispatch{}
	if err := wire.ParseBody(dispatch, &s); err != nil {
		return nil, fmt.Errorf("read dispatch: %w", err)
	}
	if err := wire.ParseBody(s.Body, d); err != nil {
		return nil, fmt.Errorf("read dispatch: %w", err)
	}
	return d, nil
}

// SignRequest asks for the leases of a worker, as the runner that will run it.
func SignRequest(runner *seal.SignKey, node id.Node, dispatch []byte, worker seal.PublicKey, egress id.Node) *wire.LeaseRequest {
	m := &wire.LeaseRequest{Signed: dispatch, Worker: worker, Egress: egress, Runner: node}
	m.Signature = runner.Sign(PurposeRequest, requestTuple(m))
	return m
}

func requestTuple(m *wire.LeaseRequest) []byte {
	return seal.Tuple(nil, m.Signed, m.Worker[:], m.Egress[:], m.Runner[:])
}

// Identities finds the identity of a live node. ok is false for unknown ones.
type Identities func(id.Node) (i *Identity, ok bool)

// CheckRequest verifies both signatures of a request: that a live server gave this
// work to this live runner a moment ago, and that this runner asks. It returns the
// dispatch and the egress node that will act for it, which is nil for a read.
func CheckRequest(m *wire.LeaseRequest, live Identities, now time.Time) (*Dispatch, *Identity, error) {
	var s signed
	d := &Dispatch{}
	if err := wire.ParseBody(m.Signed, &s); err != nil {
		return nil, nil, fmt.Errorf("%w: dispatch: %w", ErrRefused, err)
	}
	if err := wire.ParseBody(s.Body, d); err != nil {
		return nil, nil, fmt.Errorf("%w: dispatch: %w", ErrRefused, err)
	}
	server, ok := live(d.Server)
	if !ok || server.Role != wire.RoleServer || !server.Sign.Verify(PurposeDispatch, s.Body, s.Signature) {
		return nil, nil, fmt.Errorf("%w: dispatch is not signed by a live server", ErrRefused)
	}
	if age := now.Sub(d.Issued); age > MaxDispatchAge || age < -MaxDispatchAge {
		return nil, nil, fmt.Errorf("%w: dispatch is %v old", ErrRefused, age)
	}
	runner, ok := live(m.Runner)
	if !ok || runner.Role != wire.RoleRunner || m.Runner != d.Runner {
		return nil, nil, fmt.Errorf("%w: request is not by the runner of the dispatch", ErrRefused)
	}
	if !runner.Sign.Verify(PurposeRequest, requestTuple(m), m.Signature) {
		return nil, nil, fmt.Errorf("%w: request is not signed by its runner", ErrRefused)
	}
	if d.Read != nil {
		return d, nil, checkRead(d, m, server)
	}
	egress, ok := live(m.Egress)
	if !ok || egress.Role != wire.RoleEgress || egress.Pool != d.EgressPool {
		return nil, nil, fmt.Errorf("%w: egress node is not of pool %q", ErrRefused, d.EgressPool)
	}
	return d, egress, nil
}
