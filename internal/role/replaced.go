package role

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// replacedTime is how long whoever replaces a credential waits for egress nodes that do not answer.
	replacedTime = 5 * time.Second
	// replacedAsk bounds one question to a node, which answers at once.
	replacedAsk = 2 * time.Second
	// replacedPause is the rest before the next one.
	replacedPause = 500 * time.Millisecond
)

// Replaced implements engine.Replacer. Nodes of all pools are told: which of them hold leases of the connection the server does
// not know. One that is still silent when its last lease from before has ended by itself is given up.
func (o *providers) Replaced(ctx context.Context, c id.Customer, n id.Connection, oldest uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lease.MaxLife)
	var nodes sync.WaitGroup
	for _, to := range o.p.nodes(wire.RoleEgress) {
		nodes.Go(func() {
			o.tellReplaced(ctx, to, lease.Order{Op: lease.OrderReplaced, Customer: c, Connection: n, Version: oldest})
		})
	}
	told := make(chan struct{})
	go func() {
		nodes.Wait()
		cancel()
		close(told)
	}()
	late := time.NewTimer(replacedTime)
	defer late.Stop()
	select {
	case <-told:
	case <-late.C:
		o.p.log.Error("an egress node does not answer that a credential was replaced; calls may use the one before until they are told, five minutes at most", "connection", n.String())
	}
}

// tellReplaced tells one node until it has answered or is gone.
func (o *providers) tellReplaced(ctx context.Context, to *lease.Identity, m lease.Order) {
	for {
		err := o.askReplaced(ctx, to, m)
		if err == nil {
			return
		}
		pause := time.NewTimer(replacedPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			o.p.log.Error("egress node not told that a credential was replaced", "node", to.Node.String(), "connection", m.Connection.String(), "err", err)
			return
		}
		if _, live := o.p.peer(to.Node); !live {
			return // and its leases with it
		}
	}
}

func (o *providers) askReplaced(ctx context.Context, to *lease.Identity, m lease.Order) error {
	ctx, cancel := context.WithTimeout(ctx, replacedAsk)
	defer cancel()
	result, err := o.give(ctx, to, &m, nil)
	if err == nil && result.Code != lease.OrderOK {
		err = fmt.Errorf("egress node: %s: %s", result.Code, result.Message)
	}
	return err
}
