package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// Who watches when the server ends is told at once that nothing more comes, as is who begins to watch then.
func TestWatchesEndWithTheServer(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	next := func(w *Watch) error { _, err := w.Next(t.Context()); return err }
	first, err := b.e.Watch(lease.Viewer{View: id.NewView(time.Now())})
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan error)
	go func() { waits <- next(first) }()
	b.e.EndWatches()
	if err := <-waits; !errors.Is(err, ErrWatchEnded) {
		t.Errorf("who watches is told: %v", err)
	}
	second, err := b.e.Watch(lease.Viewer{View: id.NewView(time.Now())})
	if err != nil {
		t.Fatal(err)
	}
	if err := next(second); !errors.Is(err, ErrWatchEnded) {
		t.Errorf("who watches then is told: %v", err)
	}
}
