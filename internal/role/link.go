package role

import (
	"context"
	"errors"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/bus"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// link is the bus as the engine uses it.
type link struct {
	*bus.Conn
	sign      *seal.SignKey
	authority seal.VerifyKey
}

// Send implements engine.Link.
func (l *link) Send(to wire.Role, node id.Node, frames ...wire.Typed) {
	topic := wire.TopicUnit
	if to == wire.RoleEgress {
		topic = wire.TopicBlob
	}
	for _, f := range frames {
		l.Conn.Send(to, node, topic, f)
	}
}

// Call implements engine.Vault. Nothing but an answer that the vault signed for this
// call is believed. A call that reads is made again when it or its answer was lost; of
// one that changes something nobody knows then what became of it.
func (l *link) Call(ctx context.Context, op string, body []byte) ([]byte, error) {
	for {
		answer, err := l.call(ctx, op, body)
		if !errors.Is(err, bus.ErrLost) || !repeatable(op) || ctx.Err() != nil {
			return answer, err
		}
	}
}

func (l *link) call(ctx context.Context, op string, body []byte) ([]byte, error) {
	m := lease.SignCall(l.sign, op, body, time.Now())
	var a wire.VaultAnswer
	if err := l.Ask(ctx, wire.RoleVault, wire.TopicVault, m, &a); err != nil {
		return nil, err
	}
	if err := lease.CheckAnswer(l.authority, m, &a); err != nil {
		return nil, err
	}
	return a.Body, nil
}

// repeatable reports whether an operation of the vault may be done twice.
func repeatable(op string) bool {
	switch op {
	case lease.OpCustomer, lease.OpCustomerDelete, lease.OpPayloadKey, lease.OpBlindKey, lease.OpPeers, lease.OpMac:
		return true
	}
	return false
}

// serverPeers follows who comes and goes: what an ended runner held is given out again at
// once, and what users enter is sealed to the vault that runs.
func (p *process) serverPeers(e *engine.Engine) func([]id.Node) {
	known := false
	return func(left []id.Node) {
		if !known {
			known = true
			runners := map[id.Node]bool{}
			for _, i := range p.live(wire.RoleRunner) {
				runners[i.Node] = true
			}
			e.KeepRunners(func(n id.Node) bool { return runners[n] })
			servers := map[id.Node]bool{}
			for _, i := range p.live(wire.RoleServer) {
				servers[i.Node] = true
			}
			e.KeepServers(servers)
		}
		for _, n := range left {
			e.RunnerGone(n)
		}
		e.ServersGone(left...)
		for _, i := range p.live(wire.RoleVault) {
			e.SetVaultKey(i.Seal)
		}
	}
}
