package role

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/bus"
	"github.com/bulkheadhq/bulkhead/internal/connect"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// orderTime bounds how long a server waits for what becomes of an order: a little more than
// an egress node takes at most.
const orderTime = 75 * time.Second

// providers asks providers through egress nodes, as a server.
type providers struct {
	p    *process
	link *link
	e    *engine.Engine
	db   *store.Store
	// replaced tells egress nodes what was replaced.
	replaced *replacer
}

var (
	_ connect.Providers = (*providers)(nil)
	_ engine.Refresher  = (*providers)(nil)
	_ engine.Replacer   = (*providers)(nil)
)

// Start implements connect.Providers.
func (o *providers) Start(ctx context.Context, m *lease.StartCall) (*lease.StartAnswer, error) {
	body, err := o.link.Call(ctx, lease.OpOAuthStart, wire.AppendBody(nil, m))
	if err != nil {
		return nil, err
	}
	a := &lease.StartAnswer{}
	if err := wire.ParseBody(body, a); err != nil {
		return nil, fmt.Errorf("read answer of vault: %w", err)
	}
	return a, nil
}

// Order implements connect.Providers. An order that nobody took is given to another node;
// one whose answer is lost is not, for what it did is not known.
func (o *providers) Order(ctx context.Context, op lease.OrderOp, c id.Customer, n id.Connection, x *lease.Exchange) (*lease.OrderResult, *lease.Account, error) {
	result, err := o.order(ctx, &lease.Order{Op: op, Customer: c, Connection: n}, x)
	if err != nil {
		return nil, nil, err
	}
	if op == lease.OrderExchange && result.Code == lease.OrderOK && result.Status.Version > 1 {
		o.Replaced(ctx, c, n, result.Status.Version)
	}
	return result, o.account(result, n), nil
}

// Refresh implements engine.Refresher.
func (o *providers) Refresh(ctx context.Context, c id.Customer, n id.Connection, version uint64) (*lease.OrderResult, error) {
	return o.order(ctx, &lease.Order{Op: lease.OrderRefresh, Customer: c, Connection: n, Version: version}, nil)
}

// order gives an order, whose other fields are set here, to one node of the connection's pool after the other until one takes it.
func (o *providers) order(ctx context.Context, m *lease.Order, x *lease.Exchange) (*lease.OrderResult, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	pool, err := poolOf(ctx, o.db, m.Customer, m.Connection)
	if err != nil {
		return nil, err
	}
	nodes, err := inPool(o.p.nodes(wire.RoleEgress), pool)
	if err != nil {
		return nil, fmt.Errorf("order of %s: %w", m.Op, err)
	}
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] }) // #nosec G404 -- spreads work
	for _, to := range nodes {
		var result *lease.OrderResult
		if result, err = o.give(ctx, to, m, x); err == nil {
			return result, nil
		}
		if !errors.Is(err, bus.ErrAbsent) {
			break
		}
	}
	return nil, fmt.Errorf("order of %s: %w", m.Op, err)
}

func (o *providers) give(ctx context.Context, to *lease.Identity, m *lease.Order, x *lease.Exchange) (*lease.OrderResult, error) {
	m.Server, m.Egress, m.Issued, m.Nonce = o.p.start.Node, to.Node, time.Now(), id.NewLease(time.Now())
	if x != nil {
		if err := lease.SealExchange(to, m, x); err != nil {
			return nil, err
		}
	}
	signed := lease.SignOrder(o.p.sign, m)
	var a wire.OrderAnswer
	if err := o.link.AskNode(ctx, wire.RoleEgress, to.Node, wire.TopicOrder, signed, &a); err != nil {
		return nil, err
	}
	return lease.CheckOrderResult(to, signed, &a)
}

// account opens whose account a connection is; nil when the provider does not tell.
func (o *providers) account(r *lease.OrderResult, n id.Connection) *lease.Account {
	if len(r.Status.Account) == 0 {
		return nil
	}
	a, err := lease.OpenAccount(o.p.seal, o.p.start.Node, n, r.Status.Account)
	if err != nil {
		o.p.log.Error("account cannot be read", "connection", n.String(), "err", err)
		return nil
	}
	return a
}

// Account implements connect.Providers.
func (o *providers) Account(ctx context.Context, c id.Customer, n id.Connection) (string, error) {
	body, err := o.link.Call(ctx, lease.OpAccount, wire.AppendBody(nil, &lease.AccountCall{Customer: c, Connection: n}))
	if err != nil {
		return "", err
	}
	var sealed lease.SealedAnswer
	if err := wire.ParseBody(body, &sealed); err != nil {
		return "", fmt.Errorf("read answer of vault: %w", err)
	}
	a, err := lease.OpenAccount(o.p.seal, o.p.start.Node, n, sealed.Sealed)
	if err != nil {
		return "", err
	}
	return a.Label, nil
}

// AccountIndex implements connect.Providers.
func (o *providers) AccountIndex(ctx context.Context, connector, account string) ([32]byte, error) {
	return o.e.MAC(ctx, "account/1", []byte(connector), []byte(account))
}
