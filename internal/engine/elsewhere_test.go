package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// A server that does not schedule a customer counts what the database has of it.
func TestBoundsHoldOnEveryServer(t *testing.T) {
	t.Parallel()
	const most = 5
	one := newBench(t, func(o *Options) { o.Pending = Pending{Events: most} })
	n, other := one.tenant("c1"), one.tenant("c2")
	two := one.beside()
	offer := func(b *bench) error {
		_, err := b.e.Accept(context.Background(), &Event{Customer: n.customer, Instance: n.instance, Flow: "main", Body: []byte(`{}`)})
		return err
	}
	for i := range most {
		on := two
		if i == 0 {
			on = one
		}
		if err := offer(on); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
	}
	if err := offer(two); !errors.Is(err, ErrBusy) {
		t.Errorf("event %d on the server without the shard: %v, want %v", most+1, err, ErrBusy)
	}
	one.eventually("the first server knows of what the second accepted", func() bool {
		one.e.mu.Lock()
		defer one.e.mu.Unlock()
		return one.e.backlog.customers[n.customer].events == most
	})
	if err := offer(one); !errors.Is(err, ErrBusy) {
		t.Errorf("event %d on the server with the shard: %v, want %v", most+1, err, ErrBusy)
	}
	two.accept(other, "main", `{}`) // another customer has room

	// Room on the first is room on the second.
	r := one.runner()
	r.want(most)
	for begun := 0; begun < most; {
		begun += len(r.untilUnits(t))
	}
	two.eventually("the second server has room again", func() bool { return offer(two) == nil })
}

func TestTheBoundOfAllCountsOtherServers(t *testing.T) {
	t.Parallel()
	one := newBench(t, func(o *Options) { o.Pending = Pending{Events: 1000, AllEvents: 4} })
	n := one.tenant("c1")
	two := one.beside()
	for range 4 {
		one.accept(n, "main", `{}`)
	}
	two.eventually("the second server counts what the first has", func() bool {
		two.e.mu.Lock()
		defer two.e.mu.Unlock()
		return two.e.elsewhere.all.events == 4
	})
	late := one.tenant("c2")
	_, err := two.e.Accept(context.Background(), &Event{Customer: late.customer, Instance: late.instance, Flow: "main", Body: []byte(`{}`)})
	if busy, ok := errors.AsType[*BusyError](err); !ok || !busy.All {
		t.Errorf("an event of another customer over the bound of all: %v", err)
	}
}

// The answer of a flow comes to the server where its sender waits, whichever gave it out.
func TestAReplyComesToTheServerThatWaits(t *testing.T) {
	t.Parallel()
	one := newBench(t)
	n := one.tenant("c1")
	two := one.beside()
	v := id.NewView(time.Now())
	w, err := two.e.Watch(lease.Viewer{View: v})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	got, err := two.e.Accept(context.Background(), &Event{
		Customer: n.customer, Instance: n.instance, Flow: "main", Body: []byte(`{}`), Viewer: lease.Viewer{View: v},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := one.runner()
	r.want(1)
	u := r.untilUnit(t)
	if u.Execution != got.Execution {
		t.Fatalf("given out: %v, want %v", u.Execution, got.Execution)
	}
	at := &fakeRunner{b: two, node: r.node, frames: r.frames, role: r.role, patience: r.patience}
	// What is of another execution is nobody's here, and so are pages, which are not sealed to one request.
	at.send(&wire.Reply{View: v, Execution: id.NewExecution(time.Now()), Fence: u.Fence, Sealed: []byte("other")})
	at.send(&wire.View{View: v, Execution: u.Execution, Sealed: []byte("page")})
	at.send(&wire.Reply{View: v, Execution: u.Execution, Fence: u.Fence, Sealed: []byte("sealed")})
	ctx, cancel := context.WithTimeout(context.Background(), r.patience)
	defer cancel()
	x, err := w.Next(ctx)
	if err != nil || x.Reply == nil || string(x.Reply.Sealed) != "sealed" {
		t.Fatalf("update %+v, %v, want the reply", x, err)
	}
	r.finish(u)
	if x, err = w.Next(ctx); err != nil || x.Finished == nil {
		t.Errorf("update %+v, %v, want the end", x, err)
	}
}

// Many retries at once are bounded like new events.
func TestRetriesAreBounded(t *testing.T) {
	t.Parallel()
	const most = 3
	b := newBench(t, func(o *Options) { o.Pending = Pending{Events: most} })
	n := b.tenant("c1")
	r := b.runner()
	var faulted []id.Execution
	for range most + 1 {
		r.want(1)
		x := b.accept(n, "main", `{}`)
		u := r.untilUnit(t)
		r.faulted(u)
		faulted = append(faulted, x)
	}
	r.want(0)
	ctx := context.Background()
	for i, x := range faulted {
		err := b.e.Retry(ctx, n.customer, x)
		if want := i < most; (err == nil) != want || err != nil && !errors.Is(err, ErrBusy) {
			t.Errorf("retry %d: %v", i, err)
		}
	}
	if err := b.e.Retry(ctx, n.customer, faulted[0]); !errors.Is(err, ErrConflict) && !errors.Is(err, ErrBusy) {
		t.Errorf("a second retry: %v", err)
	}
	r.want(1)
	u := r.untilUnit(t)
	r.finish(u)
	if err := b.e.Retry(ctx, n.customer, faulted[most]); err != nil {
		t.Errorf("a retry when there is room: %v", err)
	}
}
