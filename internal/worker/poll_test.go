package worker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// polling makes a host whose flow polls a list, which answer gives.
func polling(t *testing.T, extra string, answer func(path string) string) *host {
	t.Helper()
	h := newHost(t, parse(t, `
bulkhead: 1
integration: polls
connections: {api: {connector: http}}
flows:
  main:
    trigger:
      poll:
        uses: api.request
        with: {method: GET, path: /invoices, query: {since: "${{ orElse(cursor, 0) }}"}}
        every: PT5M
        items: "${{ result.body.items }}"
        key: "${{ item.id }}"
`+extra+`
    steps:
      - {id: a, set: "${{ trigger.body.id }}"}
`))
	h.egress = func(r *wire.Request) *wire.Response { return jsonAnswer(200, answer(r.Path+"?"+fmt.Sprint(r.Query))) }
	return h
}

// children are what an execution started, by what their events say of the item, and what it noted.
func (h *host) children(t *testing.T, x id.Execution) (started []string, noted int, keys map[[32]byte]bool) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	keys = map[[32]byte]bool{}
	for _, c := range h.runs[x].children {
		keys[c.Key] = true
		if c.Noted {
			noted++
			continue
		}
		plain, err := seal.NewOpener(h.payload, lease.PurposePayload).Open(nil, lease.EventPlace(h.customer, id.Event(c.Execution), h.day), c.Event)
		if err != nil {
			t.Fatal(err)
		}
		started = append(started, string(plain))
	}
	return started, noted, keys
}

func TestAPollStartsAFlowForEachItem(t *testing.T) {
	t.Parallel()
	answer := `{"items":[{"id":1,"at":5},{"id":2,"at":9},{"id":3,"at":7}]}`
	asked := ""
	h := polling(t, `        cursor: "${{ item.at }}"
        start: beginning`, func(path string) string { asked = path; return answer })
	x := h.add("main", `{"poll":true}`)
	l := h.started()
	if got := h.finish(l, x); got.Status != wire.StatusCompleted || got.Output != `{"items":3,"cursor":9}` {
		t.Fatalf("%+v", got)
	}
	started, noted, keys := h.children(t, x)
	if len(started) != 3 || noted != 0 || len(keys) != 3 || keys[[32]byte{}] {
		t.Errorf("started %v, noted %d, %d keys", started, noted, len(keys))
	}
	for _, part := range []string{`"body":{"id":1,"at":5}`, `"type":"poll"`} {
		if !strings.Contains(started[0], part) {
			t.Errorf("event %s lacks %s", started[0], part)
		}
	}
	// The next poll sees the greatest cursor, and names known items by the same keys.
	answer = `{"items":[{"id":3,"at":7}]}`
	y := h.add("main", `{"poll":true}`)
	if got := h.finish(l, y); got.Status != wire.StatusCompleted {
		t.Fatalf("%+v", got)
	}
	if !strings.Contains(asked, "9") {
		t.Errorf("asked %s", asked)
	}
	if _, _, again := h.children(t, y); len(again) != 1 || !keys[[32]byte(h.run(y).children[0].Key)] {
		t.Errorf("keys %v", again)
	}
	// An event that is no poll runs the flow.
	if got := h.finish(l, h.add("main", `{"body":{"id":4}}`)); got.Output != "4" {
		t.Errorf("%+v", got)
	}
}

func TestTheFirstPollOnlyNotesWhatIsThere(t *testing.T) {
	t.Parallel()
	h := polling(t, "", func(string) string { return `{"items":[{"id":"a"},{"id":"b"}]}` })
	l := h.started()
	for poll, want := range [][2]int{{0, 2}, {2, 0}} {
		x := h.add("main", `{"poll":true}`)
		if got := h.finish(l, x); got.Status != wire.StatusCompleted {
			t.Fatalf("%+v", got)
		}
		if started, noted, _ := h.children(t, x); len(started) != want[0] || noted != want[1] {
			t.Errorf("poll %d started %d and noted %d, want %v", poll, len(started), noted, want)
		}
	}
}

func TestALongListIsStartedInParts(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, `,{"id":%d}`, i)
	}
	h := polling(t, `        start: beginning`, func(string) string { return `{"items":[` + b.String()[1:] + `]}` })
	// It is interrupted after each of its commits, and every item is named in the end.
	h.cut = func(n int, _ *wire.Append) cutting {
		if n%3 == 2 {
			return loseAck
		}
		return goOn
	}
	x := h.add("main", `{"poll":true}`)
	for range 12 {
		if h.finish(h.start(), x).Status == wire.StatusCompleted {
			break
		}
	}
	if _, _, keys := h.children(t, x); len(keys) != 1000 {
		t.Errorf("%d items", len(keys))
	}
}

func TestPollsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{
		`{"items":{"a":1}}`:        "invalid-input",
		`{"items":[{"id":""}]}`:    "invalid-input",
		`{"items":[{"name":"x"}]}`: "expression",
		`{}`:                       "expression",
	} {
		h := polling(t, `        start: beginning`, func(string) string { return answer })
		x := h.add("main", `{"poll":true}`)
		got := h.finish(h.started(), x)
		if got.Status != wire.StatusFaulted || !strings.Contains(got.Output, want) {
			t.Errorf("%s: %+v", answer, got)
		}
		if started, noted, _ := h.children(t, x); len(started)+noted != 0 {
			t.Errorf("%s started %d", answer, len(started))
		}
	}
	h := polling(t, "", func(string) string { return `{"items":null}` })
	if got := h.once("main", `{"poll":true}`); got.Status != wire.StatusCompleted {
		t.Errorf("no items: %+v", got)
	}
}
