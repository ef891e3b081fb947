package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func TestRoom(t *testing.T) {
	t.Parallel()
	r := newRoom(400)
	ctx := context.Background()
	give, err := r.take(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan func(), 2)
	var order []int64
	var mu sync.Mutex
	for _, n := range []int64{1 << 40, 10} { // the first wants more than there is, the second would fit
		before := r.waiters()
		go func() {
			give, err := r.take(ctx, n)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			order = append(order, n)
			mu.Unlock()
			got <- give
		}()
		for r.waiters() == before { //nolint:revive // it is about to ask
		}
	}
	late, cancel := context.WithCancelCause(ctx)
	cancel(errClosed)
	if _, err := r.take(late, 1); !errors.Is(err, errClosed) {
		t.Errorf("who has left gets %v", err)
	}
	give()
	(<-got)()
	(<-got)()
	if len(order) != 2 || order[0] != 1<<40 {
		t.Errorf("the order is %v: the small one passed the large one", order)
	}
	if r.free != r.size || r.waiters() != 0 {
		t.Errorf("%d of %d are free, %d wait", r.free, r.size, r.waiters())
	}
}

func (r *room) waiters() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting)
}

// TestLargeEventsTakeTurns gives a worker many large events at once: it opens as many as it has room for.
func TestLargeEventsTakeTurns(t *testing.T) {
	t.Parallel()
	h := newHost(t, steps(t, `
      - {id: put, uses: api.request, with: {method: POST, path: /put, body: "${{ size(trigger.body) }}"}}
`))
	const size, events = 9 << 20, 6 // the room of a worker is 16 MiB
	var mu sync.Mutex
	now, most := 0, 0
	l := h.start()
	h.egress = func(*wire.Request) *wire.Response {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		h.mu.Lock() // everything else that the worker does goes on meanwhile
		n := len(h.requests)
		h.mu.Unlock()
		mu.Lock()
		now--
		mu.Unlock()
		return jsonAnswer(200, fmt.Sprint(n))
	}
	event := `{"body":"` + strings.Repeat("x", size) + `"}`
	list := make([]id.Execution, events)
	for i := range list {
		list[i], _ = h.addStored("main", event)
	}
	for _, e := range list {
		l.give(e)
	}
	for _, e := range list {
		h.released(e)
		if got := h.result(e); got.Status != wire.StatusCompleted {
			t.Errorf("it ends as %+v", got)
		}
	}
	if most != 1 {
		t.Errorf("%d large events were open at once", most)
	}
	if err := l.stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
}
