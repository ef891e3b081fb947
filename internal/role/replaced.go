package role

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// replacedTime is how long whoever replaces a credential waits for egress nodes that do not answer.
	replacedTime = 5 * time.Second
	// replacedAsk bounds one question to a node, which answers at once.
	replacedAsk = 2 * time.Second
	// replacedPause is the rest before the next one; it doubles up to replacedMaxPause.
	replacedPause    = 250 * time.Millisecond
	replacedMaxPause = 5 * time.Second
)

// replacer tells egress nodes what was replaced. Safe for concurrent use.
type replacer struct {
	nodes func() []*lease.Identity // that live, of all pools: which of them hold leases of a connection the server does not know
	ask   func(ctx context.Context, to *lease.Identity, m lease.Order) error
	log   *slog.Logger

	mu   sync.Mutex
	late map[id.Node]int // what a node has not answered in time, and is still told
}

// Replaced implements engine.Replacer.
func (o *providers) Replaced(ctx context.Context, c id.Customer, n id.Connection, oldest uint64) {
	o.replaced.tell(ctx, lease.Order{Op: lease.OrderReplaced, Customer: c, Connection: n, Version: oldest})
}

func (o *providers) askReplaced(ctx context.Context, to *lease.Identity, m lease.Order) error {
	result, err := o.give(ctx, to, &m, nil)
	if err == nil && result.Code != lease.OrderOK {
		err = fmt.Errorf("egress node: %s: %s", result.Code, result.Message)
	}
	return err
}

// tell returns when all nodes have answered, but for those that are late: with this, or with what they were told before. A
// node that is still silent when its last lease from before has ended by itself is given up.
func (r *replacer) tell(ctx context.Context, m lease.Order) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lease.MaxLife)
	var nodes, prompt sync.WaitGroup
	for _, to := range r.nodes() {
		done := func() {}
		if !r.isLate(to.Node) {
			prompt.Add(1)
			done = sync.OnceFunc(prompt.Done)
		}
		nodes.Go(func() {
			defer done()
			r.tellNode(ctx, to, m, done)
		})
	}
	go func() {
		nodes.Wait()
		cancel()
	}()
	prompt.Wait()
}

// tellNode tells a node until it has answered or is gone. late is called when that takes long.
func (r *replacer) tellNode(ctx context.Context, to *lease.Identity, m lease.Order, late func()) {
	began, isLate := time.Now(), false
	for pause := replacedPause; ; pause = min(2*pause, replacedMaxPause) {
		asking, cancel := context.WithTimeout(ctx, replacedAsk)
		err := r.ask(asking, to, m)
		cancel()
		if err == nil || !r.lives(to.Node) { // its leases go with it
			break
		}
		if !isLate && time.Since(began)+pause > replacedTime-replacedAsk {
			isLate = true
			r.count(to.Node, 1)
			late()
			r.log.Error("an egress node does not answer that a credential was replaced: its calls may use the one before until it does, for five minutes at most",
				"node", to.Node.String(), "connection", m.Connection.String(), "err", err)
		}
		if rested(ctx, pause) != nil {
			break
		}
	}
	if isLate {
		r.count(to.Node, -1)
	}
}

// rested waits for a moment.
func rested(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *replacer) lives(n id.Node) bool {
	for _, i := range r.nodes() {
		if i.Node == n {
			return true
		}
	}
	return false
}

func (r *replacer) isLate(n id.Node) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.late[n] > 0
}

func (r *replacer) count(n id.Node, by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.late == nil {
		r.late = map[id.Node]int{}
	}
	if r.late[n] += by; r.late[n] == 0 {
		delete(r.late, n)
	}
}

// newProviders makes the providers of a server, whose engine is set later.
func newProviders(p *process, l *link, db *store.Store) *providers {
	o := &providers{p: p, link: l, db: db}
	o.replaced = &replacer{nodes: func() []*lease.Identity { return p.nodes(wire.RoleEgress) }, ask: o.askReplaced, log: p.log}
	return o
}
