package worker

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// chat is what an integration carries of a connector with buttons.
const chat = `{"slot":"chat","connector":"chat","version":"1.0.0","digest":"00","triggers":[
	{"name":"interaction","type":"app","app":{"account":"body:team.id"},"input":[{"name":"action_id","in":"body","type":"string"},{"name":"kind","in":"body","type":"string","default":"button"},{"name":"types","in":"body","type":"array"}],
		"match":[{"from":"body:actions[0].action_id","input":"action_id"},{"from":"body:kind","input":"kind"},{"from":"body:type","input":"types"}]},
	{"name":"listed","type":"poll","poll":{"action":"list","key":"id"}}]}`

// chats is a host whose integration waits for the event that is written.
func chats(t *testing.T, event string) *host {
	t.Helper()
	i := parse(t, "bulkhead: 1\nintegration: test\nconnections:\n  chat: {connector: chat}\nflows:\n  main:\n    trigger: {manual: {}}\n    steps:\n"+
		"      - {id: button, wait: {event: "+event+"}}\n      - {id: out, return: {who: \"${{ steps.button.body.user }}\"}}\n")
	var l connector.Lock
	if err := json.Unmarshal([]byte(chat), &l); err != nil {
		t.Fatal(err)
	}
	i.Locks = []connector.Lock{l}
	return newHost(t, i)
}

// listened is what a wait listens for, as the server reads it.
func (h *host) listened(e id.Execution, w *wire.Wait) (m wire.Listen) {
	h.t.Helper()
	plain, err := seal.NewOpener(h.server, lease.PurposeServer).Open(nil, lease.ListenPlace(h.customer, e, w.Path), w.Listen)
	if err == nil {
		err = wire.ParseBody(plain, &m)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

// A wait for an event tells the server what is waited for, sealed, frees the worker, and has the event as its output.
func TestAWaitForAnEvent(t *testing.T) {
	t.Parallel()
	h := chats(t, `{uses: chat.interaction, with: {action_id: "${{ execution.id }}", types: [pressed]}, match: {"user.id": "${{ trigger.body.n }}", "header:X-Retry": true}, timeout: P2D}`)
	l := h.started()
	e := h.add("main", `{"body":{"n":17}}`)
	if got := h.finish(l, e); got.Status != wire.StatusWaiting {
		t.Fatalf("it does not wait: %+v", got)
	}
	r := h.run(e)
	if len(r.waits) != 1 || r.waits[0].Kind != wire.WaitEvent || r.waits[0].Key != [32]byte{} || r.waits[0].Path != "button" {
		t.Fatalf("waits %+v", r.waits)
	}
	if left := time.Until(r.waits[0].At); left < 47*time.Hour || left > 48*time.Hour {
		t.Errorf("the wait ends in %v, want two days", left)
	}
	want := fmt.Sprintf("{chat interaction [{body:actions[0].action_id %s} {body:kind button} {body:type pressed} {body:user.id 17} {header:X-Retry true}]}", e)
	if got := fmt.Sprint(h.listened(e, &r.waits[0])); got != want {
		t.Errorf("it listens for %s, want %s", got, want)
	}
	h.wake(e, "button", wire.WakeAnswer, [16]byte{}, `{"body":{"user":"ann"},"headers":{},"query":{},"time":"2026-01-01T00:00:00Z"}`)
	if got := h.finish(l, e); got.Output != `{"who":"ann"}` {
		t.Errorf("it ends as %+v", got)
	}
	if n := len(h.run(e).waits); n != 1 {
		t.Errorf("it began to wait %d times", n)
	}
}

func TestAWaitForAnEventEndsInTime(t *testing.T) {
	t.Parallel()
	h := chats(t, `{uses: chat.interaction, timeout: P2D}`)
	l := h.started()
	e := h.add("main", `{"body":{}}`)
	if got := h.finish(l, e); got.Status != wire.StatusWaiting {
		t.Fatalf("it does not wait: %+v", got)
	}
	if m := h.listened(e, &h.run(e).waits[0]); len(m.Terms) != 1 {
		t.Errorf("it listens for %+v", m)
	}
	h.wake(e, "button", wire.WakeTimeout, [16]byte{}, "")
	if got := h.finish(l, e); got.Status != wire.StatusFaulted || got.Type != typeTimeout || got.Step != "button" {
		t.Errorf("it ends as %+v", got)
	}
}

// What cannot be compared, or can never match, is a fault and no wait for whatever comes.
func TestWaitsForEventsThatCannotMatch(t *testing.T) {
	t.Parallel()
	for event, want := range map[string]string{
		`{uses: chat.interaction, match: {a: "${{ trigger.body.missing }}"}, timeout: PT1H}`:                     "match.a is null",
		`{uses: chat.interaction, match: {a: [1, 2]}, timeout: PT1H}`:                                            "match.a is list",
		`{uses: chat.interaction, with: {types: [a, b]}, timeout: PT1H}`:                                         "with.types is list",
		`{uses: chat.interaction, match: {"a..b": 1}, timeout: PT1H}`:                                            "no place in an event",
		`{uses: chat.interaction, with: {action_id: a}, match: {action_id: b}, timeout: PT1H}`:                   "no event can have two values at body:actions[0].action_id",
		`{uses: chat.interaction, match: {a: "` + strings.Repeat("x", wire.MaxTermText+1) + `"}, timeout: PT1H}`: "match.a is longer",
		`{uses: chat.listed, timeout: PT1H}`:                                                                     "sends no events",
		`{uses: chat.unknown, timeout: PT1H}`:                                                                    "sends no events",
	} {
		h := chats(t, event)
		l := h.started()
		e := h.add("main", `{"body":{"missing":null}}`)
		got := h.finish(l, e)
		if got.Status != wire.StatusFaulted || !strings.Contains(got.Output, want) || len(h.run(e).waits) != 0 {
			t.Errorf("%s ends as %+v, want %q", event, got, want)
		}
	}
}
