package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func TestEachRoleSendsItsOwnFramesOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	runner := map[wire.Type]wire.Typed{
		wire.TypeWant: &wire.Want{}, wire.TypeAppend: &wire.Append{}, wire.TypeReleased: &wire.Released{}, wire.TypeState: &wire.State{},
		wire.TypeProgress: &wire.Progress{}, wire.TypeView: &wire.View{}, wire.TypeReply: &wire.Reply{},
		wire.TypeBlobWrite: &wire.BlobWrite{}, wire.TypeBlobRead: &wire.BlobRead{},
		wire.TypeJournalGet: &wire.JournalGet{},
	}
	egress := map[wire.Type]bool{wire.TypeFlowRecord: true, wire.TypeBlobWrite: true, wire.TypeBlobRead: true}
	node := id.NewNode(time.Now())
	for typ := range wire.TypeJournalPage + 2 {
		body := []byte(nil)
		if m := runner[typ]; m != nil {
			body = wire.AppendBody(nil, m)
		} else if typ == wire.TypeFlowRecord {
			body = wire.AppendBody(nil, &wire.FlowRecord{})
		}
		for role, want := range map[wire.Role]bool{
			wire.RoleRunner: runner[typ] != nil, wire.RoleEgress: egress[typ], wire.RoleVault: false, wire.RoleServer: false, "": false,
		} {
			f := wire.Frame{Type: typ, Body: body}
			if err := b.e.Handle(context.Background(), role, node, f); (err == nil) != want {
				t.Errorf("%v frame from %q: %v, want taken=%v", typ, role, err, want)
			}
			if want {
				f.Body = append(body, 0)
				if err := b.e.Handle(context.Background(), role, node, f); !errors.Is(err, wire.ErrMalformed) {
					t.Errorf("malformed %v frame from %q: %v", typ, role, err)
				}
			}
		}
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(5)
	x := b.accept(n, "main", `{}`)
	u := r.dispatch()[0]
	do := func(op wire.StateOp, version uint64, value string) *wire.StateResult {
		r.send(&wire.State{Call: 7, Execution: x, Fence: u.Fence, Op: op, Name: [32]byte{1}, Version: version, Value: []byte(value)})
		got := next(r, &wire.StateResult{})
		if got.Call != 7 || got.Execution != x {
			t.Errorf("answer to another call: %+v", got)
		}
		return got
	}
	steps := []struct {
		op       wire.StateOp
		version  uint64
		value    string
		want     uint64
		content  string
		conflict bool
	}{
		{wire.StateGet, 0, "", 0, "", false},
		{wire.StateDelete, 3, "", 0, "", true},
		{wire.StatePut, 0, "one", 1, "one", false},
		{wire.StatePut, 0, "two", 1, "one", true},
		{wire.StatePut, 1, "two", 2, "two", false},
		{wire.StateGet, 0, "", 2, "two", false},
		{wire.StateDelete, 1, "", 2, "two", true},
		{wire.StateDelete, 2, "", 0, "", false},
		{wire.StateGet, 0, "", 0, "", false},
		{wire.StatePut, 1, "old", 0, "", true}, // a version never comes back
		{wire.StatePut, 0, "new", 4, "new", false},
	}
	for i, s := range steps {
		got := do(s.op, s.version, s.value)
		if got.Version != s.want || string(got.Value) != s.content || got.Conflict != s.conflict {
			t.Errorf("step %d: %+v, want %+v", i, got, s)
		}
	}
	r.send(&wire.State{Execution: x, Fence: u.Fence + 1, Op: wire.StatePut, Name: [32]byte{1}, Version: 4, Value: []byte("stale")})
	if m := next(r, &wire.Cancel{}); m.Execution != x || m.Fence != u.Fence+1 {
		t.Errorf("state change with a wrong fence: %+v", m)
	}
	if got := do(wire.StateGet, 0, ""); string(got.Value) != "new" {
		t.Errorf("a stale change was made: %q", got.Value)
	}
}

func TestBlobs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n, other := b.tenant("c1"), b.tenant("c2")
	r := b.runner()
	r.want(5)
	x := b.accept(n, "main", `{}`)
	u := r.dispatch()[0]
	egress := b.runner()
	egress.role = wire.RoleEgress
	name := id.NewBlob(time.Now())
	write := func(from *fakeRunner, x id.Execution, index uint32, last bool) string {
		from.send(&wire.BlobWrite{Call: uint64(index), Blob: name, Execution: x, Day: u.Day, Index: index, Last: last, Data: []byte{byte(index)}})
		return next(from, &wire.BlobChunk{}).Error
	}
	read := func(from *fakeRunner, x id.Execution, index uint32) *wire.BlobChunk {
		from.send(&wire.BlobRead{Call: 9, Blob: name, Execution: x, Index: index})
		return next(from, &wire.BlobChunk{})
	}
	for _, day := range []uint32{0, u.Day - 1, u.Day + 1, 1 << 31} {
		egress.send(&wire.BlobWrite{Blob: id.NewBlob(time.Now()), Execution: x, Day: day, Last: true, Data: []byte{1}})
		if code := next(egress, &wire.BlobChunk{}).Error; code != BlobInvalid {
			t.Errorf("a blob that expires on day %d instead of %d: %q, want %q", day, u.Day, code, BlobInvalid)
		}
	}
	if code := write(egress, x, 0, false) + write(egress, x, 1, false); code != "" {
		t.Errorf("write: %s", code)
	}
	if got := read(r, x, 0); got.Error != BlobNotFound {
		t.Errorf("read of a partial blob: %+v", got)
	}
	if code := write(egress, x, 2, true); code != "" {
		t.Errorf("last write: %s", code)
	}
	for i := range uint32(3) {
		for name, from := range map[string]*fakeRunner{"worker": r, "egress": egress} {
			if got := read(from, x, i); got.Error != "" || got.Data[0] != byte(i) || got.Last != (i == 2) || got.Call != 9 {
				t.Errorf("%s reads chunk %d: %+v", name, i, got)
			}
		}
	}
	if got := read(r, x, 3); got.Error != BlobNotFound {
		t.Errorf("chunk after the last: %+v", got)
	}
	if code := write(egress, x, 0, true); code != BlobOrder {
		t.Errorf("second write: %q", code)
	}
	y := b.accept(other, "main", `{}`)
	v := r.dispatch()[0]
	if got := read(r, y, 0); got.Error != BlobNotFound {
		t.Errorf("blob of another customer: %+v", got)
	}
	stranger := b.runner()
	if got := read(stranger, x, 0); got.Error != BlobNotFound {
		t.Errorf("runner that does not hold it: %+v", got)
	}
	r.finish(v)
	r.finish(u)
	if got := read(egress, x, 0); got.Error != BlobNotFound {
		t.Errorf("after the end: %+v", got)
	}
	row, err := b.opt.Store.Customer(context.Background(), n.customer).Blob(name)
	if err != nil || row.Chunks != 3 || row.Size != 3 || row.Execution != x || row.Day != u.Day {
		t.Errorf("row = %+v, %v", row, err)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	viewer := lease.Viewer{View: id.NewView(time.Now()), Key: mustKey(t).Public()}
	w, err := b.e.Watch(viewer)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := b.e.Watch(viewer); !errors.Is(err, ErrInvalid) {
		t.Errorf("second watch of a view: %v", err)
	}
	r := b.runner()
	r.want(5)
	ctx := context.Background()
	if _, err := b.e.Accept(ctx, &Event{Customer: n.customer, Instance: n.instance, Flow: "main", Body: []byte(`{}`), Viewer: viewer}); err != nil {
		t.Fatal(err)
	}
	u := r.dispatch()[0]
	if u.Viewer != viewer.View {
		t.Errorf("the unit names viewer %v", u.Viewer)
	}
	other := b.runner()
	forged := id.NewExecution(time.Now())
	other.send(&wire.View{View: viewer.View, Execution: u.Execution, Path: "forged"})
	r.send(&wire.View{View: viewer.View, Execution: forged, Path: "forged"})
	r.send(&wire.Progress{View: viewer.View, Execution: u.Execution, Path: "a", State: wire.StepStarted})
	r.send(&wire.View{View: viewer.View, Execution: u.Execution, Kind: wire.ViewOutput, Path: "a", Sealed: []byte("page")})
	r.send(&wire.Reply{View: viewer.View, Execution: u.Execution, Fence: u.Fence, Sealed: []byte("reply")})
	// A stay that ends with waiting is not the end, and the viewer stays.
	r.callback(u, "ask", "token", time.Now().Add(time.Hour))
	r.append(waiting(u, 0))
	if err := b.e.Wake(ctx, "token", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if u = r.untilUnit(t); u.Viewer != viewer.View {
		t.Errorf("after a wait the unit names viewer %v", u.Viewer)
	}
	r.finish(u)
	var got []string
	for {
		up, err := w.Next(ctx)
		if errors.Is(err, ErrWatchEnded) {
			break
		}
		switch {
		case err != nil:
			t.Fatal(err)
		case up.Progress != nil:
			got = append(got, "progress "+up.Progress.Path)
		case up.View != nil:
			got = append(got, "view "+up.View.Path)
		case up.Reply != nil:
			got = append(got, "reply "+string(up.Reply.Sealed))
		case up.Finished != nil:
			got = append(got, "finished "+string(up.Finished.Status)+" "+string(up.Finished.Output))
		}
	}
	want := []string{"progress a", "view a", "reply reply", "finished completed sealed output"}
	if len(got) != len(want) {
		t.Fatalf("updates = %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("update %d = %q, want %q", i, got[i], want[i])
		}
	}
}

func TestASlowViewerLosesPagesButNotTheEnd(t *testing.T) {
	t.Parallel()
	w := &Watch{wake: make(chan struct{}, 1)}
	for range maxUpdates + 10 {
		w.add(Update{Progress: &wire.Progress{}})
	}
	w.add(Update{Reply: &wire.Reply{}})
	w.add(Update{Finished: &Finished{Status: store.Completed}})
	w.add(Update{Progress: &wire.Progress{}})
	dropped, n := 0, 0
	var last Update
	for {
		u, err := w.Next(context.Background())
		if err != nil {
			break
		}
		n++
		dropped += u.Dropped
		last = u
	}
	if n != maxUpdates+2 || dropped != 10 || last.Finished == nil {
		t.Errorf("%d updates, %d dropped, the last is %+v", n, dropped, last)
	}
}

func TestFlowRecordsNameTheirNode(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	e := b.runner()
	e.role = wire.RoleEgress
	m := &wire.FlowRecord{
		Request: id.NewEvent(time.Now()), Time: time.Now(), Customer: n.customer, Instance: n.instance, Method: "POST",
		Host: "erp.example.com", Verdict: "ok", Node: id.NewNode(time.Now()),
	}
	e.send(m)
	m.Done, m.Status = true, 201
	e.send(m)
	e.send(m) // delivered twice
	ended := m.Request
	m.Done, m.Status, m.Request = false, 0, id.NewEvent(time.Now()) // one that does not end
	e.send(m)
	b.settle()
	b.e.storeFlows(time.Now())
	b.settle()
	list, err := b.opt.Store.Customer(context.Background(), n.customer).FlowRecords(time.Time{}, time.Now().Add(time.Hour), 10)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d records, %v", len(list), err)
	}
	for _, got := range list {
		if got.Done != (got.Request == ended) {
			t.Errorf("record = %+v", got)
		}
	}
	for _, got := range list {
		if got.Node != e.node || got.Host != "erp.example.com" {
			t.Errorf("record = %+v", got)
		}
	}
}

func TestDefinition(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	want, err := definition().Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.e.Definition(context.Background(), n.digest)
	if err != nil || string(got) != string(want) {
		t.Errorf("definition = %s, %v", got, err)
	}
	if _, err := b.e.Definition(context.Background(), [32]byte{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown digest: %v", err)
	}
	v, err := b.e.Publish(context.Background(), b.org, want)
	if err != nil || v.Number != 1 || v.Digest != n.digest {
		t.Errorf("publishing the same again: %+v, %v", v, err)
	}
	changed := definition()
	changed.Flows = changed.Flows[:1]
	canonical, err := changed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if v, err = b.e.Publish(context.Background(), b.org, canonical); err != nil || v.Number != 2 {
		t.Errorf("publishing another: %+v, %v", v, err)
	}
	if _, err := b.e.Publish(context.Background(), b.org, append(canonical, ' ')); !errors.Is(err, ErrInvalid) {
		t.Errorf("publishing what is not canonical: %v", err)
	}
}

func TestLargeStateFaults(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := b.tenant("c1")
	r := b.runner()
	r.want(5)
	x := b.accept(n, "main", `{}`)
	u := r.dispatch()[0]
	r.send(&wire.State{Call: 1, Execution: x, Fence: u.Fence, Op: wire.StatePut, Value: make([]byte, maxState)})
	if got := next(r, &wire.StateResult{}); got.Conflict || got.Version != 1 {
		t.Errorf("the largest value: %+v", got)
	}
	r.send(&wire.State{Call: 2, Execution: x, Fence: u.Fence, Op: wire.StatePut, Name: [32]byte{1}, Value: make([]byte, maxState+1)})
	next(r, &wire.Cancel{})
	if row := b.row(n, x); row.Status != store.Faulted || row.ErrorType != "limit" {
		t.Errorf("execution is %v with %q, want faulted with limit", row.Status, row.ErrorType)
	}
}
