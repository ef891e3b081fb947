package role

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/dial"
	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// runEgress calls the outside for workers. It keeps the network and what name
// resolution reads.
func runEgress(ctx context.Context, p *process) error {
	if err := p.begin(); err != nil {
		return err
	}
	var policy dial.Policy
	for name, value := range p.set {
		if strings.HasPrefix(name, "allow-net.") {
			prefix, err := netip.ParsePrefix(value)
			if err != nil {
				return fmt.Errorf("read allowed network: %w", err)
			}
			policy.Allow = append(policy.Allow, prefix)
		}
	}
	late := &lateBus{}
	client, err := egress.New(egress.Options{Dialer: dial.New(policy), Recorder: egress.RecordTo(late, p.start.Node)})
	if err != nil {
		return err
	}
	defer client.Close()
	node := egress.NewNode(egress.NodeConfig{
		Node: p.start.Node, Seal: p.seal, Authority: p.start.Authority, Client: client, Bus: late, Renewer: p.renewer(client, late), Log: p.log,
	})
	conn, err := p.connect(ctx, wire.RoleEgress, node.Handle, func() {
		for _, r := range p.nodes(wire.RoleRunner) {
			late.Send(wire.RoleRunner, r.Node, wire.TopicAnswer, &wire.Lost{})
		}
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	late.Conn = conn
	p.onPeers(func(left []id.Node) {
		for _, n := range left {
			node.RunnerGone(n)
		}
		node.SetPeers(p.samePool())
	})
	profile := jail.Role(jail.RoleConfig{
		Name: "egress", AnyConnect: true,
		ReadOnly: []string{"?/etc/resolv.conf", "?/etc/hosts", "?/etc/nsswitch.conf", "?/etc/services"},
	})
	if err := p.ready(profile, &wire.Ready{}); err != nil {
		return err
	}
	return p.until(ctx, node.Run)
}

// samePool are the other live nodes of this egress node's pool. The caller holds mu.
func (p *process) samePool() []id.Node {
	own, err := lease.ParseIdentity(p.start.Authority, p.start.Certificate, time.Time{})
	if err != nil {
		return nil
	}
	var others []id.Node
	for _, i := range p.live(wire.RoleEgress) {
		if i.Node != own.Node && i.Pool == own.Pool {
			others = append(others, i.Node)
		}
	}
	return others
}

// peer finds a live peer.
func (p *process) peer(n id.Node) (*lease.Identity, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, ok := p.peers[n]
	return i, ok
}

// vaultKey is the key of the vault that has come last: the one before may not have left yet.
func (p *process) vaultKey() (k seal.PublicKey, ok bool) {
	var newest id.Node
	for _, i := range p.nodes(wire.RoleVault) {
		if !ok || bytes.Compare(i.Node[:], newest[:]) > 0 { // ids sort by time
			k, newest, ok = i.Seal, i.Node, true
		}
	}
	return k, ok
}

// renewer makes what renews the tokens of connections.
func (p *process) renewer(client *egress.Client, late *lateBus) *egress.Renewer {
	vault := egress.NewTokenVault(egress.TokenVaultConfig{
		Node: p.start.Node, Sign: p.sign, Seal: p.seal, Authority: p.start.Authority,
		Key: p.vaultKey,
		Ask: func(ctx context.Context, m *wire.VaultCall) (*wire.VaultAnswer, error) {
			a := &wire.VaultAnswer{}
			return a, late.Conn.Ask(ctx, wire.RoleVault, wire.TopicToken, m, a) // a lost one is asked anew, with another signature
		},
	})
	return egress.NewRenewer(egress.RenewerConfig{
		Node: p.start.Node, Sign: p.sign, Seal: p.seal, Vault: vault, Minter: egress.NewEngine(client), Live: p.peer,
		Status: func(m *wire.ConnectionStatus) { late.Send(wire.RoleServer, id.Node{}, wire.TopicFlow, m) }, Log: p.log,
	})
}
