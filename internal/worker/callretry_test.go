package worker

import (
	"slices"
	"sync/atomic"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// A later try of a call waits for the child that it started, not for the end of the
// first one, which it has seen; and pauses between tries although a child has ended.
func TestCallIsRetried(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]bool{"in one stay": false, "in a new worker each time": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, steps(t, `
      - {id: sub, call: {flow: other, with: {n: 1}, wait: true}, retry: {attempts: 4, delay: PT0.001S}}
      - {id: out, return: "${{ steps.sub.status }}"}
  other: {trigger: {call: {}}, steps: [{id: x, uses: api.request, with: {method: POST, path: /x}}]}
`[1:]))
			var calls atomic.Int32
			h.egress = func(*wire.Request) *wire.Response {
				if calls.Add(1) < 3 {
					return refusal("upstream", 500)
				}
				return jsonAnswer(201, `{}`)
			}
			e := h.add("main", `{"body":{}}`)
			l := h.start()
			for range 12 {
				l.give(e)
				if r := h.released(e); r.Fault != "" {
					t.Fatalf("released with %q", r.Fault)
				}
				if fin := h.run(e).finish; fin.Status != wire.StatusWaiting {
					break
				}
				for _, c := range h.run(e).children {
					if h.wokenBy(e, c.Execution) {
						continue
					}
					l.give(c.Execution)
					h.released(c.Execution)
					got := h.run(c.Execution).finish
					w := h.wake(e, c.Path, wire.WakeOf(got.Status), c.Execution, "")
					h.mu.Lock()
					h.runs[e].unit.Wakes[w.Seq-1].Body = got.Output
					h.mu.Unlock()
				}
				if again {
					_ = l.stop()
					l = h.start()
				}
			}
			_ = l.stop()
			if got := h.result(e); got.Output != "201" || len(h.run(e).children) != 3 || calls.Load() != 3 {
				t.Errorf("%+v after %d children and %d requests, want 201 after 3 and 3", got, len(h.run(e).children), calls.Load())
			}
		})
	}
}

func (h *host) wokenBy(e, child id.Execution) bool {
	return slices.ContainsFunc(h.run(e).unit.Wakes, func(w wire.Entry) bool { return w.Child() == child })
}
