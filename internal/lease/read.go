package lease

import (
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// MaxWho is the longest name of who reads, in bytes.
const MaxWho = 200

// Read is the permission to read one kind of thing that is stored, of one execution or of
// the instance, sealed to one viewer. The server signs it in a [Dispatch], the vault
// writes a leaf for it, and the worker gets it in its lease: nobody between them can
// change the viewer, what is read, or what is masked.
type Read struct {
	Viewer
	Who       string       // who reads, as the server knows them; for the vault's log
	Execution id.Execution // zero for what is of the instance
	Kind      wire.ReadKind
	Class     wire.Class
}

// Walk implements [wire.Message].
func (m *Read) Walk(c *wire.Coder) {
	m.Viewer.Walk(c)
	c.String(&m.Who)
	c.Fixed(m.Execution[:])
	c.Byte((*byte)(&m.Kind))
	c.Byte((*byte)(&m.Class))
}

// checkRead checks that a dispatch for a read permits nothing else. What the server reads
// for itself is sealed to its certified key.
func checkRead(d *Dispatch, m *wire.LeaseRequest, server *Identity) error {
	r := d.Read
	switch {
	case len(d.Slots) > 0 || len(d.Executions) > 0 || len(d.Viewers) > 0 || d.EgressPool != "" || !m.Egress.IsZero():
		return fmt.Errorf("%w: a read that names a connection, an execution to run or an egress node", ErrRefused)
	case r.View.IsZero() || r.Key == seal.PublicKey{} || r.Who == "" || len(r.Who) > MaxWho || r.Kind.String() == "":
		return fmt.Errorf("%w: a read without a viewer, or of nothing", ErrRefused)
	}
	own := r.Kind == wire.ReadReply || r.Kind == wire.ReadResolve
	switch r.Class {
	case wire.ClassCustomer, wire.ClassOperator:
		if own {
			return fmt.Errorf("%w: a read that only a server may make", ErrRefused)
		}
	case wire.ClassServer:
		if !own || r.Key != server.Seal {
			return fmt.Errorf("%w: a read for the server that is not its own", ErrRefused)
		}
	default:
		return fmt.Errorf("%w: a read of an unknown class", ErrRefused)
	}
	return nil
}

// ReadPlace is the place of one page of a read: it belongs to this view and cursor, and
// shows this kind of this execution or instance.
func ReadPlace(v id.View, i id.Instance, e id.Execution, kind wire.ReadKind, cursor uint64) []byte {
	return seal.Tuple(nil, []byte("read/1"), v[:], i[:], e[:], []byte{byte(kind)}, seal.Uint(cursor))
}

// ProfilePlace is the place of a customer's description on its way to a worker that
// resolves an instance.
func ProfilePlace(c id.Customer, i id.Instance) []byte { return place("profile/1", c, i[:]) }
