package trigger

import (
	"container/list"
	"context"
	"sync"
)

// budget bounds the bytes of bodies that are in memory at a time. Requests wait for their
// share in order, so that a large one is not passed for ever.
type budget struct {
	mu      sync.Mutex
	free    int64
	waiting list.List // of *share
}

type share struct {
	size int64
	got  chan struct{} // closed when it is taken
}

func newBudget(size int64) *budget { return &budget{free: size} }

// take waits for size bytes, which must be no more than the whole budget.
func (b *budget) take(ctx context.Context, size int64) error {
	b.mu.Lock()
	if b.waiting.Len() == 0 && b.free >= size {
		b.free -= size
		b.mu.Unlock()
		return nil
	}
	s := &share{size, make(chan struct{})}
	at := b.waiting.PushBack(s)
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
		return ctx.Err()
	}
}

// give returns what was taken.
func (b *budget) give(size int64) {
	b.mu.Lock()
	b.free += size
	b.serve()
	b.mu.Unlock()
}

// serve gives those who wait their share, in order. Callers hold the mutex.
func (b *budget) serve() {
	for at := b.waiting.Front(); at != nil; at = b.waiting.Front() {
		s := at.Value.(*share) //nolint:forcetypeassert // the list holds nothing else
		if b.free < s.size {
			return
		}
		b.free -= s.size
		b.waiting.Remove(at)
		close(s.got)
	}
}
