package egress

import "github.com/bulkheadhq/bulkhead/internal/id"

// leaveFree is how many times what it leaves free one connection may have of what its customer has: of the calls that run,
// of those that wait, and of the bytes of both. One connection alone can have three quarters; of several whose other side
// does not answer, each takes three quarters of what the ones before it left, so that there is always something for the next.
const leaveFree = 3

// share is what one customer has of a node. Guarded by the node.
type share struct {
	flying  int // calls that run or are in the node's queue
	waiting int
	bytes   int
	lines   []*line // that have calls that wait, in the order of their turns
}

// line is what one connection of a customer has of its share, over all leases. It is there while a lease or a call needs it.
// Guarded by the node.
type line struct {
	key     lineKey
	leases  int
	flying  int
	bytes   int
	waiting []*task
}

type lineKey struct {
	customer   id.Customer
	connection id.Connection
}

// within says whether a connection that has so much may have more, while so much is free.
func within(has, free int) bool { return has < leaveFree*free || off(connectionShare) && free > 0 }

// mayRun says whether a call of a connection may run.
func (s *share) mayRun(l *line) bool { return within(l.flying, MaxInFlightOfCustomer-s.flying) }

// pick takes the next call that may run out of those that wait: of each connection in its turn.
func (s *share) pick() *task {
	for i, l := range s.lines {
		if !s.mayRun(l) {
			continue
		}
		t := l.waiting[0]
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
		s.waiting--
		copy(s.lines[i:], s.lines[i+1:])
		s.lines[len(s.lines)-1] = l
		if len(l.waiting) == 0 {
			l.waiting = nil
			s.lines[len(s.lines)-1] = nil
			s.lines = s.lines[:len(s.lines)-1]
		}
		return t
	}
	return nil
}

// park lets a call wait.
func (s *share) park(t *task) {
	if len(t.line.waiting) == 0 {
		s.lines = append(s.lines, t.line)
	}
	t.line.waiting = append(t.line.waiting, t)
	s.waiting++
}

// fits says whether there is room for the bytes of a call. One whose customer has no other is let through.
func (n *Node) fits(t *task) bool {
	s, l := t.share, t.line
	return s.flying == 0 ||
		n.bytes+t.size <= maxBytes && s.bytes+t.size <= maxBytesOfCustomer && (l.bytes == 0 || within(l.bytes, maxBytesOfCustomer-s.bytes-t.size))
}

// admit starts a task or lets it wait, unless that is too much.
func (n *Node) admit(t *task) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.shares[t.lease.Customer]
	if s == nil {
		s = &share{}
		n.shares[t.lease.Customer] = s
	}
	t.share = s
	switch {
	case !n.fits(t):
		return false
	case len(t.line.waiting) == 0 && s.mayRun(t.line):
		n.run(t)
		n.start(t)
	case within(len(t.line.waiting), maxWaitingOfCustomer-s.waiting):
		s.park(t)
	default:
		return false
	}
	n.bytes += t.size
	s.bytes += t.size
	t.line.bytes += t.size
	t.lease.open++
	return true
}

// run counts a call among those that run. The caller holds mu.
func (n *Node) run(t *task) {
	t.share.flying++
	t.line.flying++
}

// next ends a task and gives one that waited; the caller that gets none is idle.
func (n *Node) next(done *task) *task {
	n.mu.Lock()
	defer n.mu.Unlock()
	s, l, g := done.share, done.line, done.lease
	n.bytes -= done.size
	s.bytes -= done.size
	l.bytes -= done.size
	s.flying--
	l.flying--
	g.open--
	g.left = g.left || done.left
	if g.left && g.open == 0 && n.leases[g.Lease] == g { // replacing a credential again and again must not fill the node with leases
		n.end(g)
	}
	n.unused(l)
	if t := s.pick(); t != nil {
		n.run(t)
		n.queue = append(n.queue, t)
	}
	if s.flying == 0 {
		delete(n.shares, g.Customer)
	}
	var first *task
	if len(n.queue) > 0 {
		first = n.queue[0]
		n.queue = n.queue[1:]
	} else {
		n.idle++
	}
	for t := s.pick(); t != nil; t = s.pick() { // another connection's end has let more than one run
		n.run(t)
		n.start(t)
	}
	return first
}

// lend makes the lines of a lease. The caller holds mu.
func (n *Node) lend(g *granted) {
	g.lines = make(map[string]*line, len(g.Slots))
	for i := range g.Slots {
		key := lineKey{g.Customer, g.Slots[i].Record.Connection}
		l := n.lines[key]
		if l == nil {
			l = &line{key: key}
			n.lines[key] = l
		}
		l.leases++
		g.lines[g.Slots[i].Slot] = l
	}
	n.leases[g.Lease] = g
}

// forget ends a lease. The caller holds mu.
func (n *Node) forget(g *granted) {
	delete(n.leases, g.Lease)
	for _, l := range g.lines {
		l.leases--
		n.unused(l)
	}
}

// unused forgets a line that nobody needs. A call may come as its lease ends, with a line in whose place the next lease has put another:
// that one stays. The caller holds mu.
func (n *Node) unused(l *line) {
	if l.leases == 0 && l.flying == 0 && len(l.waiting) == 0 && n.lines[l.key] == l {
		delete(n.lines, l.key)
	}
}
