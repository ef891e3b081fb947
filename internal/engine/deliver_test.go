package engine

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// An event that nobody proves is for tests: it answers the wait of the one execution that it is for, when it is one of the
// trigger that the step waits for and matches. An execution that is no test takes none, and none is resumed by that of another.
func TestDeliver(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := t.Context()
	n := b.tenant("c1")
	i := definition()
	i.Name, i.Connections = "chat", []flow.Slot{{Name: "chat", Connector: "chatter@1.0.0"}}
	press := connector.Trigger{Name: "press", Type: connector.TriggerApp, Match: []connector.Match{{From: "body:type", Values: []string{"button"}}}}
	i.Locks = []connector.Lock{{Slot: "chat", Name: "chatter", Version: "1.0.0", Triggers: []connector.Trigger{press}}}
	main := i.Flow("main")
	main.Steps = append(main.Steps, flow.Step{ID: "wait", Wait: &flow.Wait{Event: &flow.Await{Uses: "chat.press", Timeout: flow.Duration(time.Hour)}}})
	canonical, err := i.Encode()
	if err != nil {
		t.Fatal(err)
	}
	v, err := b.e.Publish(ctx, b.org, canonical)
	if err != nil {
		t.Fatal(err)
	}
	con := id.NewConnection(time.Now())
	if err := b.e.PutConnection(ctx, &Credential{
		Connection: store.Connection{ID: con, Customer: n.customer, Name: "chat"},
		Record:     &lease.Record{Connector: "http", Kind: lease.KindNone, Binding: lease.Binding{Scheme: "https", Host: "chat.example.com", Port: 443}},
	}); err != nil {
		t.Fatal(err)
	}
	x, err := b.e.Deploy(ctx, &Deployment{Customer: n.customer, Digest: v.Digest, Slots: []store.Slot{{Name: "chat", Connection: con}}})
	if err != nil {
		t.Fatal(err)
	}
	r := b.runner()
	r.want(20)
	if _, err := b.e.keys.blindKey(ctx); err != nil {
		t.Fatal(err)
	}
	waits := func(test bool) id.Execution {
		got, err := b.e.Accept(ctx, &Event{Customer: n.customer, Instance: x.ID, Flow: "main", Body: []byte("{}"), Test: test})
		if err != nil {
			t.Fatal(err)
		}
		u := r.untilUnit(t)
		a := waiting(u, 0)
		a.Waits = []wire.Wait{b.listens(n, u.Execution, "wait", time.Now().Add(time.Hour), wire.Listen{
			Slot: "chat", Trigger: "press", Terms: []wire.Term{{Place: "body:action", Text: "yes"}},
		})}
		r.appended(a)
		return got.Execution
	}
	event := func(text string) *connector.Delivery {
		body, err := expr.ParseJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		none := func(string) string { return "" }
		return &connector.Delivery{Method: "POST", Header: none, Query: none, Body: body}
	}
	const pressed = `{"type":"button","action":"yes"}`
	first, second, live := waits(true), waits(true), waits(false)
	for _, c := range []struct {
		execution   id.Execution
		path, event string
		size        int
		want        error
	}{
		{live, "wait", pressed, 2, ErrInvalid},
		{first, "elsewhere", pressed, 2, ErrInvalid},
		{first, "wait", `{"type":"dialog","action":"yes"}`, 2, ErrInvalid},
		{first, "wait", `{"type":"button","action":"no"}`, 2, ErrNotFound},
		{first, "wait", pressed, MaxCallback + 1, ErrTooLarge},
		{first, "wait[1]", pressed, 2, ErrNotFound},
		{id.NewExecution(time.Now()), "wait", pressed, 2, ErrNotFound},
		{first, "wait", pressed, 2, nil},
		{first, "wait", pressed, 2, ErrNotFound},
	} {
		if err := b.e.Deliver(ctx, n.customer, c.execution, c.path, event(c.event), []byte(strings.Repeat("7", c.size))); !errors.Is(err, c.want) {
			t.Errorf("%s to %s: %v, want %v", c.event, c.path, err, c.want)
		}
	}
	again := r.untilUnit(t)
	if again.Execution != first || len(again.Wakes) != 1 {
		t.Fatalf("given out: %v with %+v", again.Execution, again.Wakes)
	}
	w := again.Wakes[0]
	if got := b.open(n.customer, again.Day, lease.EntryPlace(n.customer, first, &wire.Entry{Kind: wire.EntryWake, Path: w.Path, Epoch: w.Epoch}), w.Body); got != "77" || wire.WakeReason(w.Epoch) != wire.WakeAnswer {
		t.Errorf("the answer is %s", got)
	}
	for _, other := range []id.Execution{second, live} {
		if got := b.row(n, other).Status; got != store.Waiting {
			t.Errorf("another execution is %v", got)
		}
	}
}
