package trigger

import (
	"container/list"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

const (
	// shares is into how many parts the budget is divided of which one customer has at most
	// one: slow senders of one customer keep no other out.
	shares = 4
	// unknownBody is what a body whose length is not known has of the budget at first. A
	// longer one takes the rest of MaxBody when it comes so far.
	unknownBody = 1 << 20
)

// errNoRoom means that no share of the budget came free in time.
var errNoRoom = errors.New("too many large bodies at once")

// budget bounds the bytes of bodies that are in memory at a time, in all and of each
// customer. Requests wait for their share in order, so that a large one is not passed for
// ever; those of a customer that has its share are passed by others.
type budget struct {
	mu      sync.Mutex
	free    int64
	each    int64 // most of one customer
	held    map[id.Customer]int64
	waiting list.List // of *share
}

type share struct {
	owner id.Customer
	size  int64
	got   chan struct{} // closed when it is taken
}

func newBudget(size int64) *budget {
	return &budget{free: size, each: max(size/shares, MaxBody), held: map[id.Customer]int64{}}
}

// takeNow takes size bytes if nobody has to wait for any.
func (b *budget) takeNow(owner id.Customer, size int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	ok := b.waiting.Len() == 0 && b.fits(owner, size)
	if ok {
		b.keep(owner, size)
	}
	return ok
}

// take waits for size bytes, which must be no more than one customer may have.
func (b *budget) take(ctx context.Context, owner id.Customer, size int64) error {
	b.mu.Lock()
	if b.waiting.Len() == 0 && b.fits(owner, size) {
		b.keep(owner, size)
		b.mu.Unlock()
		return nil
	}
	s := &share{owner, size, make(chan struct{})}
	at := b.waiting.PushBack(s)
	b.serve()
	b.mu.Unlock()
	select {
	case <-s.got:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-s.got: // it came at the same moment
		return nil
	default:
		b.waiting.Remove(at)
		b.serve()
		return errNoRoom
	}
}

// give returns what was taken.
func (b *budget) give(owner id.Customer, size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += size
	if b.held[owner] -= size; b.held[owner] == 0 {
		delete(b.held, owner)
	}
	b.serve()
}

// serve gives those who wait their share, in order. Callers hold the mutex.
func (b *budget) serve() {
	for at := b.waiting.Front(); at != nil; {
		s := at.Value.(*share) //nolint:forcetypeassert // the list holds nothing else
		next := at.Next()
		switch {
		case b.fits(s.owner, s.size):
			b.keep(s.owner, s.size)
			b.waiting.Remove(at)
			close(s.got)
		case b.held[s.owner]+s.size <= b.each:
			return // it is its turn, and it is large
		}
		at = next
	}
}

func (b *budget) fits(owner id.Customer, size int64) bool {
	return b.free >= size && b.held[owner]+size <= b.each
}

func (b *budget) keep(owner id.Customer, size int64) {
	b.free -= size
	b.held[owner] += size
}

// part is what one request has of a budget. It is not safe for concurrent use.
type part struct {
	b     *budget
	owner id.Customer
	size  int64
}

// grow takes more.
func (p *part) grow(ctx context.Context, size int64) error {
	if p.b.takeNow(p.owner, size) {
		p.size += size
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, bodyWait)
	defer cancel()
	err := p.b.take(ctx, p.owner, size)
	if err == nil {
		p.size += size
	}
	return err
}

// release gives everything back. It may be called again.
func (p *part) release() {
	if p.size > 0 {
		p.b.give(p.owner, p.size)
		p.size = 0
	}
}

// growing is a body whose length is not known: before it is longer than what it has of the
// budget, it takes what the longest has.
type growing struct {
	io.ReadCloser
	ctx  context.Context //nolint:containedctx // of the request whose body it is
	part *part
	left int64 // bytes that may be read before it grows
	full bool
}

// Read implements io.Reader.
func (g *growing) Read(p []byte) (int, error) {
	if g.left == 0 && !g.full {
		if err := g.part.grow(g.ctx, MaxBody-unknownBody); err != nil {
			return 0, err
		}
		g.full = true
	}
	if !g.full && int64(len(p)) > g.left {
		p = p[:g.left]
	}
	n, err := g.ReadCloser.Read(p)
	g.left -= int64(n)
	return n, err
}
