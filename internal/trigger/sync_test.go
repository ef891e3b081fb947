package trigger

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// fakeRunner takes executions and does with them what a test says.
type fakeRunner struct {
	r      *rig
	node   id.Node
	frames chan wire.Frame
}

func (r *rig) runner() *fakeRunner {
	f := &fakeRunner{r, id.NewNode(time.Now()), make(chan wire.Frame, 1024)}
	r.link.mu.Lock()
	r.link.frames = f.frames
	r.link.mu.Unlock()
	f.send(&wire.Want{Free: 100})
	return f
}

func (f *fakeRunner) send(m wire.Typed) {
	f.r.t.Helper()
	if err := f.r.e.Handle(context.Background(), wire.RoleRunner, f.node, wire.Frame{Type: m.FrameType(), Body: wire.AppendBody(nil, m)}); err != nil {
		f.r.t.Errorf("handle: %v", err)
	}
}

// dispatch waits for the next unit.
func (f *fakeRunner) dispatch() *wire.Dispatch {
	f.r.t.Helper()
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	for {
		select {
		case x := <-f.frames:
			if x.Type != wire.TypeDispatch {
				continue
			}
			m := &wire.Dispatch{}
			if err := x.Parse(m); err != nil {
				f.r.t.Fatal(err)
			}
			if len(m.Unit.Executions) > 0 {
				return m
			}
		case <-late.C:
			f.r.t.Fatal("nothing was dispatched")
		}
	}
}

// answer is what the worker of a respond step does with the event of a unit.
func (f *fakeRunner) answer(n instance, u *wire.UnitExecution, m *wire.ReplyBody) {
	f.r.t.Helper()
	e := f.r.event(n, u.Execution)
	var to struct {
		View id.View
		Key  []byte
	}
	b := must(json.Marshal(e["reply"]))
	if err := json.Unmarshal(b, &to); err != nil || len(to.Key) != seal.KeySize {
		f.r.t.Fatalf("the event says %s of its sender", b)
	}
	reply := &wire.Reply{View: to.View, Execution: u.Execution, Fence: u.Fence}
	reply.Sealed = must(seal.Seal(seal.PublicKey(to.Key), lease.PurposeView, reply.Place(), wire.AppendBody(nil, m)))
	f.send(reply)
}

func (f *fakeRunner) finish(u *wire.UnitExecution, s wire.Status) {
	f.r.t.Helper()
	f.send(&wire.Append{Execution: u.Execution, Fence: u.Fence, Finish: &wire.Finish{Status: s, Output: []byte("sealed")}})
}

func synchronous() flow.Webhook {
	w := open()
	w.Respond = flow.RespondSync
	return w
}

func TestASyncWebhookGetsTheAnswerOfItsFlow(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	n := r.deploy(webhook(synchronous()), "{}")
	url, f := r.hookURL(n), r.runner()
	done := make(chan response)
	for what, tt := range map[string]struct {
		act  func(u *wire.UnitExecution)
		want int
		body string
	}{
		"an answer": {func(u *wire.UnitExecution) {
			f.answer(n, u, &wire.ReplyBody{Status: 201, ContentType: "text/plain", Body: []byte("hello"), Headers: []wire.Pair{
				{Name: "X-Total", Value: "1"},
				{Name: "X-Total", Value: "2"},
				{Name: "Set-Cookie", Value: "a=b"},
				{Name: "connection", Value: "close"},
				{Name: "Content-Length", Value: "1"},
				{Name: "Strict-Transport-Security", Value: "max-age=0"},
				{Name: "Cache-Control", Value: "max-age=60"},
			}})
			f.finish(u, wire.StatusCompleted)
		}, 201, "hello"},
		"no answer":        {func(u *wire.UnitExecution) { f.finish(u, wire.StatusCompleted) }, 204, ""},
		"a fault before":   {func(u *wire.UnitExecution) { f.finish(u, wire.StatusFaulted) }, 500, "faulted"},
		"an unfit status":  {func(u *wire.UnitExecution) { f.answer(n, u, &wire.ReplyBody{Status: 101}) }, 500, "faulted"},
		"another's answer": {func(u *wire.UnitExecution) { f.forge(n, u); f.finish(u, wire.StatusCompleted) }, 204, ""},
	} {
		go func() { done <- r.post(url, "{}") }()
		d := f.dispatch()
		u := &d.Unit.Executions[0]
		if !u.Viewer.IsZero() {
			t.Errorf("%s: the worker is asked for pages", what)
		}
		tt.act(u)
		got := <-done
		if got.status != tt.want || !strings.Contains(got.body, tt.body) {
			t.Errorf("%s: %+v", what, got)
		}
		if what != "an answer" {
			continue
		}
		h := got.header
		if h.Get("Set-Cookie") != "" || h.Get("Connection") != "" || h.Get("Strict-Transport-Security") != "" || len(h["X-Total"]) != 2 ||
			h.Get("Cache-Control") != "max-age=60" || h.Get("Content-Type") != "text/plain" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("headers %v", h)
		}
	}
}

// forge sends an answer that was sealed to another key.
func (f *fakeRunner) forge(n instance, u *wire.UnitExecution) {
	f.r.t.Helper()
	view := f.r.event(n, u.Execution)["reply"].(map[string]any)["view"].(string)
	var v id.View
	if err := v.UnmarshalText([]byte(view)); err != nil {
		f.r.t.Fatal(err)
	}
	reply := &wire.Reply{View: v, Execution: u.Execution, Fence: u.Fence}
	key := must(seal.GenerateKey())
	reply.Sealed = must(seal.Seal(key.Public(), lease.PurposeView, reply.Place(), wire.AppendBody(nil, &wire.ReplyBody{Status: 200})))
	f.send(reply)
}

func TestASyncWebhookWaitsOnlySoLong(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.door.syncWait = 50 * time.Millisecond
	w := synchronous()
	w.Dedupe = value("${{ trigger.query.id }}")
	w.Verify = flow.Verify{Header: &flow.VerifyHeader{Name: "X-Key", Secret: "config.s"}}
	n := r.deploy(webhook(w), `{"s":"k"}`)
	url := r.hookURL(n) + "?id=1"
	const proof = "X-Key: k"
	x := r.post(url, "{}", proof).execution(t)
	if got := r.post(url, "{}", proof); got.status != http.StatusAccepted || got.execution(t) != x {
		t.Errorf("the duplicate of one that waits: %+v", got)
	}
	f := r.runner()
	f.finish(&f.dispatch().Unit.Executions[0], wire.StatusCompleted)
	until(t, func() bool { return r.post(url, "{}", proof).status == http.StatusNoContent })
	if got := r.door.waiting.count(); got != 0 {
		t.Errorf("%d requests wait", got)
	}
}

// until repeats a check until it holds.
func until(t *testing.T, ok func() bool) {
	t.Helper()
	end := time.NewTimer(20 * time.Second)
	defer end.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatal("it never held")
		}
	}
}

// Who has not proved who it is learns nothing of what another was answered by guessing the id
// of its delivery.
func TestAGuessedDeliveryGetsNoAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	r.door.syncWait = 50 * time.Millisecond
	w := synchronous()
	w.Dedupe = value("${{ trigger.query.id }}")
	n := r.deploy(webhook(w), "{}")
	url := r.hookURL(n) + "?id=1"
	x := r.post(url, "{}").execution(t)
	f := r.runner()
	f.finish(&f.dispatch().Unit.Executions[0], wire.StatusCompleted)
	until(t, func() bool {
		row, err := r.e.Execution(context.Background(), n.customer, x)
		return err == nil && row.Status.Ended()
	})
	if got := r.post(url, "{}"); got.execution(t) != x {
		t.Errorf("a guessed delivery: %+v", got)
	}
}
