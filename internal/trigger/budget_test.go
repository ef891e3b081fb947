package trigger

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// over is a context that is over: what it takes is there at once or not at all.
func over() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// flood has a customer's senders hold all that they can get and wait for more.
func flood(t *testing.T, b *budget, owner id.Customer) {
	t.Helper()
	for b.take(over(), owner, MaxBody) == nil {
	}
	waiting, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	for range 20 {
		go func() { _ = b.take(waiting, owner, MaxBody) }()
	}
	for queued := 0; queued < 20; {
		b.mu.Lock()
		queued = b.waiting.Len()
		b.mu.Unlock()
	}
}

func TestSlowSendersOfOneCustomerKeepNoOtherOut(t *testing.T) {
	t.Parallel()
	slow, other := id.NewCustomer(time.Now()), id.NewCustomer(time.Now())
	b := newBudget(DefaultBudget)
	flood(t, b, slow)
	if err := b.take(over(), other, MaxBody); err != nil {
		t.Errorf("another customer's body: %v", err)
	}
	// Its red twin: one share for all.
	b = newBudget(DefaultBudget)
	b.each = DefaultBudget
	flood(t, b, slow)
	if err := b.take(over(), other, MaxBody); !errors.Is(err, errNoRoom) {
		t.Errorf("without shares: %v, want no room", err)
	}
}

func TestSharesComeBack(t *testing.T) {
	t.Parallel()
	a := id.NewCustomer(time.Now())
	b := newBudget(MaxBody)
	p := &part{b: b, owner: a}
	body := &growing{ReadCloser: io.NopCloser(bytes.NewReader(make([]byte, 2*unknownBody))), ctx: context.Background(), part: p, left: unknownBody}
	if err := p.grow(context.Background(), unknownBody); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(body, make([]byte, unknownBody)); err != nil || p.size != unknownBody {
		t.Errorf("a short body has %d of the budget, %v", p.size, err)
	}
	if n, err := io.Copy(io.Discard, body); n != unknownBody || err != nil || p.size != MaxBody {
		t.Errorf("read %d, %v; it has %d of the budget", n, err, p.size)
	}
	p.release()
	p.release()
	if b.free != MaxBody || len(b.held) > 0 {
		t.Errorf("%d are free, %v held", b.free, b.held)
	}
}
