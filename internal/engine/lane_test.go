package engine

import (
	"context"
	"slices"
	"testing"
)

// A full lane refuses and does not wait; what it took is done in order.
func TestLanesAreBounded(t *testing.T) {
	t.Parallel()
	l := &lane{ready: make(chan struct{}, 1)}
	var got []int
	for i := range laneItems {
		if !l.add(1, func() { got = append(got, i) }) {
			t.Fatalf("item %d is refused", i)
		}
	}
	if l.add(1, func() {}) {
		t.Error("one item more is taken")
	}
	ctx, cancel := context.WithCancel(context.Background())
	full := l.take()
	l.bytes, l.work = 0, append(full, laneWork{do: cancel})
	l.run(ctx)
	if len(got) != laneItems || !slices.IsSorted(got) {
		t.Errorf("%d items were done, in order: %v", len(got), slices.IsSorted(got))
	}
	bytes := &lane{ready: make(chan struct{}, 1)}
	if !bytes.add(2*laneBytes, func() {}) || bytes.add(1, func() {}) {
		t.Error("the first item is refused, or one behind more bytes than the bound is taken")
	}
}
