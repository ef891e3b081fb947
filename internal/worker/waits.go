package worker

import (
	"context"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// waits counts the branches of an execution that are doing something, and knows those that wait. When none is doing anything
// and no timer is near, it suspends the execution.
type waits struct {
	x *execution

	mu         sync.Mutex
	active     int
	suspending bool
	wakes      []*wire.Entry
	seen       uint32
	blocked    map[string]*waiter // by path
}

// waiter is one branch that waits.
type waiter struct {
	nth   int          // how many answers at its path it waits for
	after uint32       // of the wakes with a higher number
	child id.Execution // whose end it waits for, or zero: for anything but the end of a child
	at    time.Time
	wake  *wire.Entry
	done  chan struct{} // closed by whoever gives the wake
}

func (w *waits) init(x *execution, wakes []wire.Entry) {
	w.x, w.active = x, 1
	w.seen = uint32(len(wakes))
	for i := range wakes {
		w.wakes = append(w.wakes, &wakes[i])
	}
}

// count is how many wakes were seen when the execution was suspended, or so far.
func (w *waits) count() uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// deliver takes a wake. One that comes when the execution is leaving is not seen: the server gives it out again.
func (w *waits) deliver(e *wire.Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.suspending {
		return
	}
	w.seen++
	w.wakes = append(w.wakes, e)
	b := w.blocked[e.Path]
	if b == nil {
		return
	}
	if b.wake = w.find(e.Path, b); b.wake != nil {
		delete(w.blocked, e.Path)
		w.active++
		close(b.done)
	}
}

// find returns the nth wake at a path, counted from 1: of the end of one child, or of anything else. A step that is tried
// again has both at its path, and the ends of several children.
func (w *waits) find(path string, b *waiter) *wire.Entry {
	nth := b.nth
	for _, e := range w.wakes {
		if e.Path != path || e.Seq <= b.after {
			continue
		}
		if wire.WakeReason(e.Epoch).Status() == 0 != b.child.IsZero() || !b.child.IsZero() && e.Child() != b.child {
			continue
		}
		if nth--; nth == 0 {
			return e
		}
	}
	return nil
}

// block waits for the nth wake at a path, or until a time if one is given. Without a wake it returns nil: the time has come.
func (w *waits) block(ctx context.Context, path string, nth int, at time.Time) (*wire.Entry, error) {
	return w.await(ctx, path, &waiter{nth: nth, at: at})
}

// answer waits for the answer to a wait that began after a number of wakes, or until a time.
func (w *waits) answer(ctx context.Context, path string, after uint32, at time.Time) (*wire.Entry, error) {
	return w.await(ctx, path, &waiter{nth: 1, after: after, at: at})
}

// end waits for the end of a child that was started at a path.
func (w *waits) end(ctx context.Context, path string, child id.Execution) (*wire.Entry, error) {
	return w.await(ctx, path, &waiter{nth: 1, child: child})
}

func (w *waits) await(ctx context.Context, path string, b *waiter) (*wire.Entry, error) {
	w.mu.Lock()
	if e := w.find(path, b); e != nil {
		w.mu.Unlock()
		return e, nil
	}
	if !b.at.IsZero() && !time.Now().Before(b.at) {
		w.mu.Unlock()
		return nil, nil
	}
	if w.suspending {
		w.mu.Unlock()
		return nil, errSuspended
	}
	at := b.at
	b.done = make(chan struct{})
	if w.blocked == nil {
		w.blocked = map[string]*waiter{}
	}
	w.blocked[path] = b
	w.active--
	w.settle()
	w.mu.Unlock()
	if err := w.x.journal.kick(); err != nil {
		return nil, err
	}
	var fires <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		fires = timer.C
	}
	select {
	case <-b.done:
		return b.wake, nil
	case <-fires:
		return w.unblock(path, b, nil)
	case <-ctx.Done():
		return w.unblock(path, b, context.Cause(ctx))
	}
}

// unblock takes a branch out of the waiting ones: its time has come, or it ends with err.
func (w *waits) unblock(path string, b *waiter, err error) (*wire.Entry, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.blocked[path] == b {
		delete(w.blocked, path)
		w.active++
	}
	if w.suspending {
		return nil, errSuspended
	}
	return b.wake, err
}

// enter adds branches.
func (w *waits) enter(n int) {
	w.mu.Lock()
	w.active += n
	w.mu.Unlock()
}

// leave ends one of several branches. The last one leaves its count to who started them.
func (w *waits) leave(left *int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if *left--; *left > 0 {
		w.active--
		w.settle()
	}
}

// settle suspends the execution when nothing moves. The caller holds mu.
func (w *waits) settle() {
	if w.active > 0 || w.suspending || len(w.blocked) == 0 {
		return
	}
	soon := time.Now().Add(nap)
	for _, b := range w.blocked {
		if !b.at.IsZero() && b.at.Before(soon) {
			return
		}
	}
	w.suspending = true
	w.x.cancel(errSuspended)
}
