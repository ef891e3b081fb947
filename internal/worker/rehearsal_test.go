package worker

import (
	"strings"
	"testing"
	"time"
)

func TestRehearsal(t *testing.T) {
	t.Parallel()
	const list = `
      - {id: when, set: ["${{ now() }}", "${{ execution.started }}", "${{ trigger.time }}"]}
      - {id: pause, wait: {for: PT0.2S}}
      - {id: who, set: "${{ uuid() }}"}
      - {id: all, set: ["${{ steps.when }}", "${{ steps.who }}"]}`
	const event = `{"body":1,"test":{"now":"2026-01-31T09:00:00Z","seed":"7","hurry":true}}`
	run := func(test bool) (string, time.Duration) {
		h := hosted(t, list)
		l := h.started()
		e := h.add("main", event)
		h.run(e).unit.Test = test
		began := time.Now()
		return h.finish(l, e).Output, time.Since(began)
	}
	first, _ := run(true)
	if n := strings.Count(first, "2026-01-31T09:00:00Z"); n != 3 {
		t.Errorf("output %s, want the fixed time three times", first)
	}
	if second, _ := run(true); second != first {
		t.Errorf("two runs differ: %s and %s", first, second)
	}
	other, took := run(false)
	if strings.Contains(other, "2026-01-31T09:00:00Z") {
		t.Errorf("output %s: an event that is no test has fixed the time", other)
	}
	if took < 200*time.Millisecond {
		t.Errorf("the wait of an execution that is no test took %v", took)
	}
}

func TestRehearsalWaitsFromItsOwnTime(t *testing.T) {
	t.Parallel()
	h := hosted(t, `
      - {id: pause, wait: {until: "2126-01-31T09:00:01Z"}}
      - {id: done, set: 1}`)
	l := h.started()
	e := h.add("main", `{"body":1,"test":{"now":"2126-01-31T09:00:00Z","hurry":true}}`)
	h.run(e).unit.Test = true
	if got := h.finish(l, e); got.Output != "1" {
		t.Errorf("a wait of one second, a hundred years ahead = %+v, want it to end", got)
	}
}
