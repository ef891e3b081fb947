package engine

import (
	"context"
	"sync"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Blob work goes through lanes, so that a slow disk does not hold up other frames. All
// work on one blob goes through one lane, in order. What a lane holds is bounded; what comes
// on top is refused, because waiting would hold up every frame behind it.
const (
	blobLanes = 4
	laneItems = 4096
	laneBytes = 16 << 20
)

// lane is work in order. It is safe for concurrent use.
type lane struct {
	ready chan struct{} // has room for one; never closed

	mu    sync.Mutex
	work  []laneWork
	bytes int
}

type laneWork struct {
	do   func()
	size int
}

// add queues work that holds some bytes. False means that the lane is full.
func (l *lane) add(size int, do func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.work) >= laneItems || len(l.work) > 0 && l.bytes+size > laneBytes {
		return false
	}
	l.work, l.bytes = append(l.work, laneWork{do, size}), l.bytes+size
	select {
	case l.ready <- struct{}{}:
	default:
	}
	return true
}

// take is everything that is queued. It goes on counting until it is done.
func (l *lane) take() []laneWork {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.work
	l.work = nil
	return list
}

func (l *lane) done(size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes -= size
}

// run works until the context ends.
func (l *lane) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.ready:
		}
		for _, w := range l.take() {
			if ctx.Err() != nil {
				return
			}
			w.do()
			l.done(w.size)
		}
	}
}

// inLane queues work on a blob that holds some bytes, or refuses it.
func (e *Engine) inLane(b id.Blob, size int, work, refuse func()) {
	if !e.lanes[b[len(b)-1]%blobLanes].add(size, work) {
		refuse()
	}
}
