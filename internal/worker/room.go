package worker

import (
	"context"
	"slices"
	"sync"
)

// eventShare is the part of a worker's memory that large events may take: the rest is for what flows make of them.
const eventShare = 4

// room bounds the bytes of large events that a worker has in memory. Executions get theirs in the order in which they ask; one
// that is larger than all of the room has it alone. It is safe for concurrent use.
type room struct {
	size int64

	mu      sync.Mutex
	free    int64
	waiting []*share
}

// share is what one execution asks for.
type share struct {
	size int64
	got  chan struct{} // closed when it has it
}

func newRoom(memory int64) *room {
	size := max(memory/eventShare, 1)
	return &room{size: size, free: size}
}

// take waits for n bytes and returns what gives them back.
func (r *room) take(ctx context.Context, n int64) (give func(), err error) {
	n = min(max(n, 0), r.size)
	give = func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.free += n
		r.serve()
	}
	s := &share{n, make(chan struct{})}
	r.mu.Lock()
	r.waiting = append(r.waiting, s)
	r.serve()
	r.mu.Unlock()
	select {
	case <-s.got:
		return give, nil
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.waiting, s); i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
	} else {
		r.free += n // it came at the same moment
	}
	r.serve()
	return nil, context.Cause(ctx)
}

// serve gives those who wait their share, in order. The caller holds mu.
func (r *room) serve() {
	for len(r.waiting) > 0 && r.waiting[0].size <= r.free {
		r.free -= r.waiting[0].size
		close(r.waiting[0].got)
		r.waiting = r.waiting[1:]
	}
}
