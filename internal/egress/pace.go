package egress

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// maxPaced is how many calls of one connection wait for its provider's limits on one node; more are refused, and told when
	// to come again.
	maxPaced = 64
	// maxGates bounds the connections whose limits a node remembers.
	maxGates = 100_000
	// gateAge is how long a connection's limits are remembered without a call.
	gateAge = 10 * time.Minute
	// maxPacedBody is the largest body in which a limit is looked for.
	maxPacedBody = 64 << 10
)

// pacer keeps each connection within the limits of its provider. The limits are those of the sealed record; a node's share
// of them is by the number of egress nodes. When the provider asks to be called later, nobody calls until then, and the other
// nodes are told.
//
// Calls of a connection go in the order in which they came. Safe for concurrent use.
type pacer struct {
	now  func() time.Time
	tell func(*wire.Pause) // nil: nobody is told

	mu    sync.Mutex
	nodes int // that share the limits, at least one
	gates map[paceKey]*gate
	swept time.Time
}

// paceKey names what has limits: a connection, or one action of it that has limits of its own.
type paceKey struct {
	connection id.Connection
	action     string
}

// gate is the limits of one connection, or of one action of it. Guarded by the pacer.
type gate struct {
	rate    credential.Rate
	flying  int
	tokens  float64 // requests that may be made at once
	filled  time.Time
	closed  time.Time // nobody calls before
	waiting []*paced
	timer   *time.Timer
	used    time.Time
}

// paced is a call that waits.
type paced struct {
	ready chan struct{} // closed when it may go
	gone  bool          // it gave up
	let   bool          // it may go, and counts as flying
}

func newPacer(tell func(*wire.Pause)) *pacer {
	return &pacer{now: time.Now, tell: tell, nodes: 1, gates: map[paceKey]*gate{}}
}

// share sets among how many nodes limits are divided.
func (p *pacer) share(nodes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nodes = max(1, nodes)
}

// enter waits until a call of an action of a connection may be made. The fault says when to come again, where that is after
// the end of ctx. After the call, leave must be called. An action with limits of its own waits for these first: it does not
// stand in the way of others then.
func (p *pacer) enter(ctx context.Context, c id.Connection, action string, r *credential.Rate) *Fault {
	own, has := r.Actions[action]
	if has {
		if f := p.pass(ctx, paceKey{c, action}, &credential.Rate{Concurrent: own.Concurrent, PerSecond: own.PerSecond, Burst: own.Burst}); f != nil {
			return f
		}
	}
	f := p.pass(ctx, paceKey{connection: c}, r)
	if f != nil && has {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.left(paceKey{c, action}, p.gate(paceKey{c, action}))
	}
	return f
}

// pass waits until one gate lets a call go.
func (p *pacer) pass(ctx context.Context, c paceKey, r *credential.Rate) *Fault {
	p.mu.Lock()
	g := p.gate(c)
	g.rate = *r
	now := p.now()
	g.used = now
	if len(g.waiting) == 0 && g.take(now, p.nodes) {
		p.mu.Unlock()
		return nil
	}
	wait := g.soonest(now, p.nodes)
	if deadline, ok := ctx.Deadline(); len(g.waiting) >= maxPaced || ok && now.Add(wait).After(deadline) {
		p.mu.Unlock()
		return slower(wait)
	}
	w := &paced{ready: make(chan struct{})}
	g.waiting = append(g.waiting, w)
	p.arm(c, g, now)
	p.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.let { // it may go, but it is too late
		p.left(c, g)
	}
	w.gone = true
	return slower(g.soonest(p.now(), p.nodes))
}

// slower is the fault of a call that would have to wait longer than it can.
func slower(wait time.Duration) *Fault {
	return &Fault{Type: RateLimited, Outcome: NotSent, RetryAfter: max(wait, credential.DefaultRetryAfter), Message: "the provider's limits for this connection are used up"}
}

// gate finds or makes the gate of a connection. The caller holds mu.
func (p *pacer) gate(c paceKey) *gate {
	g := p.gates[c]
	if g != nil {
		return g
	}
	now := p.now()
	if len(p.gates) >= maxGates || now.Sub(p.swept) > gateAge {
		p.swept = now
		for other, g := range p.gates {
			if g.flying == 0 && len(g.waiting) == 0 && now.Sub(g.used) > gateAge && now.After(g.closed) {
				delete(p.gates, other)
			}
		}
	}
	g = &gate{tokens: -1}
	p.gates[c] = g
	return g
}

// leave ends a call, with what its answer says about the limits; status is zero without one.
func (p *pacer) leave(c id.Connection, action string, r *credential.Rate, status int, header http.Header, body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.gate(paceKey{connection: c})
	now := p.now()
	var wait time.Duration
	if status > 0 {
		if wait = g.rate.Wait(status, header.Get, now); wait == 0 && g.limitedBody(body) {
			wait = max(credential.DefaultRetryAfter, g.rate.Refused(header.Get, now))
		}
	}
	if until := now.Add(wait); wait > 0 && until.After(g.closed) {
		g.closed = until
		if p.tell != nil {
			p.tell(&wire.Pause{Connection: c, For: wait})
		}
	}
	p.left(paceKey{connection: c}, g)
	if _, has := r.Actions[action]; has {
		p.left(paceKey{c, action}, p.gate(paceKey{c, action}))
	}
}

// pause closes a connection for a time, because another node was asked to.
func (p *pacer) pause(m *wire.Pause) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := paceKey{connection: m.Connection}
	g := p.gate(c)
	now := p.now()
	g.used = now
	if until := now.Add(min(max(m.For, 0), credential.MaxRetryAfter)); until.After(g.closed) {
		g.closed = until
	}
	p.arm(c, g, now)
}

// left counts a call as ended, and lets others go. The caller holds mu.
func (p *pacer) left(c paceKey, g *gate) {
	g.flying = max(0, g.flying-1)
	p.pump(c, g)
}

// pump lets those go that may. The caller holds mu.
func (p *pacer) pump(c paceKey, g *gate) {
	now := p.now()
	for len(g.waiting) > 0 {
		w := g.waiting[0]
		if !w.gone {
			if !g.take(now, p.nodes) {
				break
			}
			w.let = true
			close(w.ready)
		}
		g.waiting = g.waiting[1:]
	}
	p.arm(c, g, now)
}

// arm sets the timer for the first who waits. The caller holds mu.
func (p *pacer) arm(c paceKey, g *gate, now time.Time) {
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
	if len(g.waiting) == 0 {
		return
	}
	wait := g.soonest(now, p.nodes)
	if wait <= 0 {
		return // a call that ends lets it go
	}
	g.timer = time.AfterFunc(wait, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.pump(c, g)
	})
}

// take lets one call go, if the limits allow it now.
func (g *gate) take(now time.Time, nodes int) bool {
	if now.Before(g.closed) || g.full(nodes) {
		return false
	}
	if g.rate.PerSecond > 0 {
		g.fill(now, nodes)
		if g.tokens < 1-1e-6 {
			return false
		}
		g.tokens--
	}
	g.flying++
	return true
}

// full says whether as many calls are on their way as may be.
func (g *gate) full(nodes int) bool {
	return g.rate.Concurrent > 0 && g.flying >= max(1, g.rate.Concurrent/nodes)
}

// fill adds the requests of the time that passed.
func (g *gate) fill(now time.Time, nodes int) {
	most := max(1, g.burst()/float64(nodes))
	if g.tokens < 0 {
		g.tokens = most
	} else if d := now.Sub(g.filled); d > 0 {
		g.tokens += d.Seconds() * g.rate.PerSecond / float64(nodes)
	}
	g.tokens, g.filled = min(g.tokens, most), now
}

func (g *gate) burst() float64 {
	if g.rate.Burst > 0 {
		return float64(g.rate.Burst)
	}
	return max(1, g.rate.PerSecond)
}

// soonest is how long the next call must wait at least, as far as a clock can tell.
func (g *gate) soonest(now time.Time, nodes int) time.Duration {
	wait := max(0, g.closed.Sub(now))
	if g.rate.PerSecond > 0 {
		g.fill(now, nodes)
		if g.tokens < 1 {
			wait = max(wait, time.Duration((1-g.tokens)*float64(nodes)/g.rate.PerSecond*float64(time.Second))+time.Microsecond)
		}
	}
	return wait
}

// limitedBody says whether the body of an answer says that there were too many calls.
func (g *gate) limitedBody(body []byte) bool {
	if g.rate.Path == "" || len(body) == 0 || len(body) > maxPacedBody {
		return false
	}
	var v any
	if json.Unmarshal(body, &v) != nil {
		return false
	}
	for name := range strings.SplitSeq(g.rate.Path, ".") {
		name, index, indexed := strings.Cut(strings.TrimSuffix(name, "]"), "[")
		m, _ := v.(map[string]any)
		if v = m[name]; indexed {
			list, _ := v.([]any)
			i, err := strconv.Atoi(index)
			if err != nil || i < 0 || i >= len(list) {
				return false
			}
			v = list[i]
		}
	}
	var s string
	switch x := v.(type) {
	case string:
		s = x
	case float64:
		s = strconv.FormatFloat(x, 'f', -1, 64)
	default:
		return false
	}
	for _, one := range g.rate.Values {
		if s == one {
			return true
		}
	}
	return false
}
