package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// maxUpdates bounds what waits for a viewer that does not read. More progress and pages
// are dropped and counted; the reply and the end never are.
const maxUpdates = 4096

// ErrWatchEnded is returned by Next after the last update, or after Close or [Engine.EndWatches].
var ErrWatchEnded = errors.New("watch has ended")

// Update is one thing that a viewer sees. Exactly one field but Dropped is set.
type Update struct {
	Progress *wire.Progress
	View     *wire.View
	Reply    *wire.Reply
	Finished *Finished // the last update
	Dropped  int       // updates lost before this one, because the viewer was slow
}

// Finished is the end of a watched execution.
type Finished struct {
	Execution id.Execution
	Status    store.Status
	ErrorType string
	ErrorStep string
	Output    []byte // sealed to the payload key, at lease.OutputPlace
}

// Watch is what a viewer sees of one execution. It is safe for concurrent use.
type Watch struct {
	engine *Engine
	viewer lease.Viewer

	customer  id.Customer  // guarded by the engine's mutex
	execution id.Execution // guarded by the engine's mutex

	mu      sync.Mutex
	updates []Update
	dropped int
	ended   bool
	wake    chan struct{} // has room for one; never closed
}

// isPermitted reports whether a viewer is in the permission of the unit: one without a key
// gets no pages.
func isPermitted(v lease.Viewer) bool { return v.Key != (seal.PublicKey{}) }

// Watch registers a viewer, whose key workers seal pages to. Name the same viewer in the
// event that is accepted next. A viewer without a key gets no page and no progress, only the
// reply, sealed to the key that the event names, and the end. Close the watch when it is not needed any more.
func (e *Engine) Watch(v lease.Viewer) (*Watch, error) {
	if v.View.IsZero() {
		return nil, fmt.Errorf("watch: %w: no view", ErrInvalid)
	}
	w := &Watch{engine: e, viewer: v, wake: make(chan struct{}, 1)}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.views[v.View] != nil {
		return nil, fmt.Errorf("watch: %w: the view is being watched", ErrInvalid)
	}
	e.views[v.View], w.ended = w, e.unwatched
	return w, nil
}

// EndWatches ends every watch, and those that begin from now on: before the server ends. Who waits learns what there was to
// see until now, and that nothing more comes.
func (e *Engine) EndWatches() {
	e.mu.Lock()
	e.unwatched = true
	var open []*Watch
	for _, w := range e.views {
		open = append(open, w)
	}
	e.mu.Unlock()
	for _, w := range open {
		w.Close()
	}
}

// Next waits for the next update. After Finished it returns ErrWatchEnded.
func (w *Watch) Next(ctx context.Context) (Update, error) {
	for {
		w.mu.Lock()
		if len(w.updates) > 0 {
			u := w.updates[0]
			w.updates = w.updates[1:]
			u.Dropped, w.dropped = w.dropped, 0
			w.mu.Unlock()
			return u, nil
		}
		ended := w.ended
		w.mu.Unlock()
		if ended {
			return Update{}, ErrWatchEnded
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return Update{}, fmt.Errorf("watch: %w", ctx.Err())
		}
	}
}

// Close ends the watch.
func (w *Watch) Close() {
	w.engine.mu.Lock()
	if w.engine.views[w.viewer.View] == w {
		delete(w.engine.views, w.viewer.View)
		delete(w.engine.watched, w.execution)
	}
	w.engine.mu.Unlock()
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.signal()
}

func (w *Watch) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// add appends an update. The reply and the end are kept whatever waits.
func (w *Watch) add(u Update) {
	w.mu.Lock()
	switch {
	case w.ended:
	case len(w.updates) >= maxUpdates && u.Reply == nil && u.Finished == nil:
		w.dropped++
	default:
		w.updates = append(w.updates, u)
		w.ended = u.Finished != nil
	}
	w.mu.Unlock()
	w.signal()
}

// watchStarted joins a new execution to its viewer. Callers hold the engine's mutex.
func (e *Engine) watchStarted(j *job) {
	if w := e.views[j.viewer.View]; w != nil && w.execution.IsZero() {
		w.customer, w.execution = j.customer, j.execution
		e.watched[j.execution] = w
	}
}

// watchEnded tells who watches an execution that it has ended. Callers hold the engine's mutex.
func (e *Engine) watchEnded(x id.Execution, s store.Status, f *wire.Finish) {
	if w := e.watched[x]; w != nil {
		w.add(Update{Finished: &Finished{x, s, f.ErrorType, f.ErrorStep, f.Output}})
		delete(e.watched, x)
	}
}

// viewerOf is who watches an execution, or zero. Callers hold the engine's mutex.
func (e *Engine) viewerOf(x id.Execution) lease.Viewer {
	if w := e.watched[x]; w != nil {
		return w.viewer
	}
	return lease.Viewer{}
}

// show passes an update to a viewer, if it comes from the node that runs the execution
// that it watches. A reply is sealed to its one reader, by somebody who knows the event: it may
// come from a runner to which another server gave the execution.
func (e *Engine) show(from id.Node, v id.View, x id.Execution, u Update) {
	e.mu.Lock()
	w := e.views[v]
	j := e.jobs[x]
	ok := w != nil && w.execution == x && (u.Reply != nil && !e.holds(w.customer) || j != nil && j.runner != nil && j.runner.node == from)
	e.mu.Unlock()
	if ok {
		w.add(u)
	}
}
