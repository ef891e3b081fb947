package engine

import (
	"context"

	"github.com/bulkheadhq/bulkhead/internal/store"
)

// submit writes and waits for the commit. When the context ends before that the write may
// still happen. After it, with the mutex held, committed is called when it succeeded, which
// may be nil, and then each of the others with whether it did: all of that happens also
// when nobody waits any more.
func (e *Engine) submit(ctx context.Context, write func(*store.Tx) error, committed func(), after ...func(bool)) error {
	result := make(chan error, 1)
	e.db.Submit(write, func(err error) {
		e.mu.Lock()
		if err == nil && committed != nil {
			committed()
		}
		for _, f := range after {
			f(err == nil)
		}
		e.mu.Unlock()
		result <- err
	})
	select {
	case err := <-result:
		return notFound(err)
	case <-ctx.Done():
		return ctx.Err()
	}
}
