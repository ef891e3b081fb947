package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// dayAfter is noon of the day after an execution's day.
func dayAfter(x *store.Execution) time.Time {
	return time.Unix((int64(x.Day)+1)*86400+43200, 0)
}

// kept says which of its rows an execution still has.
func (b *bench) kept(n tenant, x *store.Execution) (entries, wakes int, event, output bool) {
	b.t.Helper()
	rows := b.opt.Store.Customer(context.Background(), n.customer)
	journal, err1 := rows.Journal(x.ID)
	woken, err2 := rows.Wakes(x.ID)
	_, err3 := rows.Event(x.Event)
	if errors.Is(err3, store.ErrNotFound) {
		err3 = nil
	} else {
		event = true
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		b.t.Fatal(err)
	}
	return len(journal), len(woken), event, b.row(n, x.ID).Output != nil
}

func TestRetention(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(5)
	// One that ends, large, with a wake, a label's row and a blob.
	x := b.accept(n, "short", `{}`)
	u := r.dispatch()[0]
	many := make([]wire.Entry, 3*retainRowsOf/2)
	for i := range many {
		many[i] = wire.Entry{Kind: wire.EntryResult, Path: "s", Body: []byte("sealed")}
	}
	r.append(&wire.Append{Execution: x, Fence: u.Fence, Entries: many})
	r.callback(u, "ask", "token", time.Now().Add(time.Minute))
	if err := b.e.Wake(context.Background(), "token", []byte(`1`)); err != nil {
		t.Fatal(err)
	}
	next(r, &wire.Wake{})
	file := id.NewBlob(time.Now())
	r.send(&wire.BlobWrite{Call: 1, Blob: file, Execution: x, Day: b.row(n, x).Day, Last: true, Data: []byte("sealed")})
	if got := next(r, &wire.BlobChunk{}); got.Error != "" {
		t.Fatalf("blob: %s", got.Error)
	}
	r.finish(u)
	// One that ends and is kept longer, and one that has not ended.
	long := b.accept(n, "main", `{}`)
	r.finish(r.dispatch()[0])
	open := b.accept(n, "short", `{}`)
	r.dispatch()

	short := b.row(n, x)
	retain := func(now time.Time) Purged {
		t.Helper()
		p, err := b.e.retain(context.Background(), now)
		if err := errors.Join(err, b.e.dropLapsed(context.Background(), now)); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := retain(dayAfter(short).Add(-24 * time.Hour)); p != (Purged{}) {
		t.Errorf("on its day: %+v", p)
	}
	if entries, wakes, event, output := b.kept(n, short); entries != len(many)+1 || wakes != 1 || !event || !output {
		t.Errorf("on its day: %d entries, %d wakes, event %v, output %v", entries, wakes, event, output)
	}
	if p := retain(dayAfter(short)); p != (Purged{Emptied: 1, Blobs: 1, BlobDays: 1}) {
		t.Errorf("the day after: %+v", p)
	}
	if entries, wakes, event, output := b.kept(n, short); entries+wakes > 0 || event || output {
		t.Errorf("the day after: %d entries, %d wakes, event %v, output %v", entries, wakes, event, output)
	}
	if row := b.row(n, x); row.Status != store.Completed || row.Finished.IsZero() {
		t.Errorf("its metadata is %+v", row)
	}
	if _, err := b.opt.Store.Customer(context.Background(), n.customer).Blob(file); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("its blob: %v", err)
	}
	if p := retain(dayAfter(short)); p != (Purged{}) {
		t.Errorf("again: %+v", p)
	}
	for _, other := range []id.Execution{long, open} {
		if entries, _, event, _ := b.kept(n, b.row(n, other)); !event || other == long && entries == 0 {
			t.Errorf("%s lost its rows", other)
		}
	}

	late := short.Finished.Add(DefaultMetadata + time.Hour)
	for range 2 { // empties the long one, then forgets
		retain(late)
	}
	for _, gone := range []id.Execution{x, long} {
		if _, err := b.e.Execution(context.Background(), n.customer, gone); !errors.Is(err, ErrNotFound) {
			t.Errorf("after the time of metadata: %v", err)
		}
	}
	if row := b.row(n, open); row.Finished != (time.Time{}) {
		t.Errorf("the open one is %+v", row)
	}
}

// Rows whose time is over go in batches; others stay.
func TestLapsedRows(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	ctx, now := context.Background(), time.Now()
	deliver := func(k byte, i int, until time.Time) (seen bool) {
		t.Helper()
		err := b.opt.Store.Write(ctx, func(tx *store.Tx) (err error) {
			_, seen, err = tx.Customer(n.customer).Deduplicate(n.instance, "main", [32]byte{k, byte(i), byte(i >> 8)}, id.NewExecution(now), now, until)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return seen
	}
	const old = retainRows + 50
	for i := range old {
		deliver(1, i, now.Add(time.Minute+time.Duration(i)*time.Microsecond))
	}
	deliver(2, 0, now.Add(time.Hour))
	for i := range old {
		request := &wire.FlowRecord{Request: id.NewEvent(now), Customer: n.customer, Instance: n.instance, Time: now.Add(time.Duration(i))}
		if err := b.opt.Store.Write(ctx, func(tx *store.Tx) error { return tx.Customer(n.customer).PutFlowRecord(request) }); err != nil {
			t.Fatal(err)
		}
	}
	later := now.Add(30 * time.Minute)
	if err := b.e.dropLapsed(ctx, later); err != nil {
		t.Fatal(err)
	}
	if deliver(1, 7, now.Add(time.Hour)) || !deliver(2, 0, now.Add(time.Hour)) {
		t.Error("a delivery id whose time was over is known, or one is not whose time was not")
	}
	if _, err := b.e.retain(ctx, now.Add(DefaultMetadata-time.Hour)); err != nil {
		t.Fatal(err)
	}
	records := func() int {
		t.Helper()
		list, err := b.opt.Store.Customer(ctx, n.customer).FlowRecords(now.Add(-time.Hour), now.Add(time.Hour), 2*old)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if got := records(); got != old {
		t.Errorf("%d flow records before their time", got)
	}
	if _, err := b.e.retain(ctx, now.Add(DefaultMetadata+time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := records(); got != 0 {
		t.Errorf("%d flow records after their time", got)
	}
}
