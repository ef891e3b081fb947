package worker

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// retry does what the server does when an execution is retried by hand.
func (h *host) retry(e id.Execution) {
	h.mu.Lock()
	defer h.mu.Unlock()
	u := &h.runs[e].unit
	u.Journal = append(u.Journal, wire.Entry{
		Seq: uint32(len(u.Journal) + 1), Kind: wire.EntryRetry, Path: h.runs[e].finish.ErrorStep, Epoch: uint32(len(u.Wakes)),
	})
}

// broken fails at named paths until it is repaired, and remembers every request.
type broken struct {
	mu   sync.Mutex
	down map[string]*wire.Response
	seen []string // path and key
}

func (b *broken) answer(r *wire.Request) *wire.Response {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, r.Path+" "+r.IdempotencyKey)
	if no := b.down[r.Path]; no != nil {
		return no
	}
	return jsonAnswer(201, fmt.Sprintf(`{"path":%q}`, r.Path))
}

// keys are the keys that came with a path, in order.
func (b *broken) keys(path string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []string
	for _, s := range b.seen {
		if p, key, _ := strings.Cut(s, " "); p == path {
			list = append(list, key)
		}
	}
	return list
}

func distinct(list []string) int {
	list = slices.Clone(list)
	slices.Sort(list)
	return len(slices.Compact(list))
}

// unfinished is a flow in which many things went wrong before the one that ended it, and a fork of which two branches fault.
const unfinished = `
      - {id: first, uses: api.request, with: {method: POST, path: /first}}
      - id: safe
        try: [{id: missing, uses: api.request, with: {method: POST, path: /404}}]
        catch: {when: "${{ error.status == 404 }}", steps: [{id: caught, uses: api.request, with: {method: POST, path: /caught}}]}
      - id: lines
        for: {each: [1, 2, 3], on_error: continue}
        steps: [{id: sent, uses: api.request, with: {method: POST, path: "/line/${{ item }}"}}]
      - id: tried
        try: [{id: bad, uses: api.request, with: {method: POST, path: /bad}, retry: {attempts: 2, delay: PT0.001S}}]
        catch: {when: "${{ error.status == 404 }}", steps: [{id: never, set: 1}]}
      - id: both
        fork:
          branches:
            a: [{id: fa, uses: api.request, with: {method: POST, path: /a}}]
            b: [{id: fb, uses: api.request, with: {method: POST, path: /b}}]
            c: [{id: settled, fork: {settle: true, branches: {d: [{id: fd, uses: api.request, with: {method: POST, path: /d}}]}}}]
      - {id: last, uses: api.request, with: {method: POST, path: /last, body: "${{ steps.lines }}"}}
      - {id: out, return: "${{ steps.last.status }}"}
`

// A retry by hand keeps everything that is finished, also the faults that steps around
// them held, and runs what ended the execution again: with a new key after a definite
// answer, with the same when nobody knows. It makes no difference where a worker dies.
func TestRetryByHandRunsWhatFaultedAgain(t *testing.T) {
	t.Parallel()
	unknown := &wire.Response{ErrorType: "timeout", Message: "no answer"}
	for name, definite := range map[string]bool{"definite": true, "unknown": false} {
		for _, every := range []int{0, 1, 2, 3} {
			t.Run(fmt.Sprint(name, every), func(t *testing.T) {
				t.Parallel()
				h := newHost(t, steps(t, unfinished[1:]))
				no := unknown
				if definite {
					no = refusal("upstream", 500)
				}
				h.paged = every // the journal comes in pages where the worker dies, too
				world := &broken{down: map[string]*wire.Response{
					"/404": refusal("not-found", 404), "/line/2": refusal("upstream", 500), "/d": refusal("upstream", 500), "/bad": no, "/a": no, "/b": no,
				}}
				h.egress = world.answer
				if every > 0 {
					h.cut = func(n int, _ *wire.Append) cutting {
						if n%(every+1) == every {
							return loseAck
						}
						return goOn
					}
				}
				e := h.add("main", `{"body":{}}`)
				for _, repaired := range []string{"", "/bad", "/a", "/b"} {
					h.drive(e)
					if got := h.result(e); got.Status != wire.StatusFaulted {
						t.Fatalf("with %s repaired it ended with %+v", repaired, got)
					}
					world.mu.Lock()
					switch repaired {
					case "": // the first retry changes nothing
					default:
						delete(world.down, repaired)
					}
					world.mu.Unlock()
					h.retry(e)
				}
				h.drive(e)
				if got := h.result(e); got.Output != "201" {
					t.Fatalf("it ended with %+v", got)
				}
				for _, path := range []string{"/first", "/404", "/caught", "/line/1", "/line/2", "/line/3", "/d", "/last"} {
					if got := world.keys(path); distinct(got) != 1 || every == 0 && len(got) != 1 {
						t.Errorf("%s was called with the keys %v", path, got)
					}
				}
				tries := map[string]int{"/bad": 5, "/a": 2, "/b": 3}
				for path, want := range tries {
					got := world.keys(path)
					if every == 0 && len(got) != want {
						t.Errorf("%s was called %d times, want %d", path, len(got), want)
					}
					if !definite {
						want = 1
					}
					if distinct(got) != want {
						t.Errorf("%s was called with the keys %v, want %d different ones", path, got, want)
					}
				}
			})
		}
	}
}

// A wait that nobody answered in time, a call whose flow faulted and a step with once
// begin anew when they are retried by hand.
func TestRetryByHandWaitsAgain(t *testing.T) {
	t.Parallel()
	h := newHost(t, steps(t, `
      - {id: ask, wait: {callback: {timeout: PT1H, notify: [{id: told, uses: api.request, with: {method: POST, path: /told, body: "${{ callback.url }}"}}]}}}
      - {id: sub, call: {flow: other, with: {n: 1}, wait: true}}
      - {id: only, once: true, uses: api.request, with: {method: POST, path: /only}}
      - {id: out, return: "${{ [steps.ask.body.yes, steps.sub.status, steps.only.status] }}"}
  other: {trigger: {call: {}}, steps: [{id: x, uses: api.request, with: {method: POST, path: /x}}]}
`[1:]))
	no := refusal("upstream", 500)
	world := &broken{down: map[string]*wire.Response{"/x": no, "/only": no}}
	h.egress = world.answer
	e := h.add("main", `{"body":{}}`)
	l := h.start()
	stay := func() *wire.Finish {
		l.give(e)
		if r := h.released(e); r.Fault != "" {
			t.Fatalf("released with %q", r.Fault)
		}
		return h.run(e).finish
	}
	faulted := func(step string) {
		t.Helper()
		if f := stay(); f.Status != wire.StatusFaulted || f.ErrorStep != step {
			t.Fatalf("ended with %+v, want a fault of %s", f, step)
		}
		h.retry(e)
		_ = l.stop()
		l = h.start()
	}
	defer func() { _ = l.stop() }()
	stay()
	h.wake(e, "ask", wire.WakeTimeout, [16]byte{}, "")
	faulted("ask")
	if f := stay(); f.Status != wire.StatusWaiting || len(world.keys("/told")) != 2 {
		t.Fatalf("after the retry: %+v, told %d times, want 2 and waiting", f, len(world.keys("/told")))
	}
	h.wake(e, "ask", wire.WakeAnswer, [16]byte{}, `{"body":{"yes":true},"headers":{},"query":{},"time":"2026-01-01T00:00:00Z"}`)
	for range 2 {
		if f := stay(); f.Status != wire.StatusWaiting {
			t.Fatalf("it does not wait for the called flow: %+v", f)
		}
		children := h.run(e).children
		c := children[len(children)-1]
		l.give(c.Execution)
		h.released(c.Execution)
		got := h.run(c.Execution).finish
		w := h.wake(e, c.Path, wire.WakeOf(got.Status), c.Execution, "")
		h.mu.Lock()
		h.runs[e].unit.Wakes[w.Seq-1].Body = got.Output
		h.mu.Unlock()
		if got.Status == wire.StatusFaulted {
			faulted("sub")
			world.mu.Lock()
			delete(world.down, "/x")
			world.mu.Unlock()
		}
	}
	faulted("only")
	world.mu.Lock()
	delete(world.down, "/only")
	world.mu.Unlock()
	stay()
	if got := h.result(e); got.Output != "[true,201,201]" || len(h.run(e).children) != 2 || distinct(world.keys("/only")) != 2 {
		t.Errorf("it ended with %+v after %d calls", got, len(h.run(e).children))
	}
}
