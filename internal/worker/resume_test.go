package worker

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// everything is a flow with every kind of step that writes to the journal, some of them in parallel.
const everything = `
      - {id: when, set: {at: "${{ now() }}", id: "${{ uuid() }}"}}
      - {id: first, uses: api.request, with: {method: POST, path: /first, body: "${{ steps.when }}"}}
      - {id: flaky, uses: api.request, with: {method: POST, path: /flaky/1}, retry: {attempts: 5, delay: PT0.001S}}
      - id: both
        fork:
          branches:
            x:
              - {id: x1, uses: api.request, with: {method: POST, path: /x1}}
              - {id: x2, uses: api.request, with: {method: POST, path: /x2, body: "${{ steps.x1.body.key }}"}}
            y:
              - {id: y1, code: "export default (x) => x", with: {n: 1}}
              - {id: y2, state: {increment: n, by: "${{ steps.y1.n }}"}}
      - id: safe
        try: [{id: missing, uses: api.request, with: {method: POST, path: /404}}]
        catch: {steps: [{id: caught, set: "${{ error.status }}"}]}
      - id: lines
        for: {each: [1, 2, 3, 4], parallel: 2, on_error: continue}
        steps:
          - {id: sent, uses: api.request, with: {method: POST, path: "/line/${{ item }}", body: {at: "${{ now() }}", u: "${{ uuid() }}"}}}
          - {id: odd, if: "${{ item == 3 }}", uses: api.request, with: {method: POST, path: /500}}
        result: "${{ {'n': steps.sent.body.path, 't': now()} }}"
      - {id: all, for: {each: {uses: api.request, with: {path: /pages}}, batch: 4}, steps: [{id: put, uses: api.request, with: {method: POST, path: /batch, body: "${{ item }}"}}], result: "${{ sum(item.map(i, i.n)) }}"}
      - {id: sub, call: {flow: other, with: {x: 1}, wait: true}}
      - {id: ask, wait: {callback: {timeout: PT1H, notify: [{id: told, uses: api.request, with: {method: POST, path: /told, body: "${{ callback.url }}"}}]}}}
      - {id: pause, wait: {for: PT1H}}
      - {id: total, state: {get: n, default: 0}}
      - {id: last, uses: api.request, with: {method: POST, path: /last, body: "${{ steps.ask.body }}"}}
      - {id: out, return: {first: "${{ steps.first.body.key }}", both: "${{ steps.both.x.body.path }}", n: "${{ steps.total }}", lines: "${{ steps.lines.map(l, orElse(l, {'n': 'fault'}).n) }}", all: "${{ steps.all }}", caught: "${{ steps.safe }}", sub: "${{ steps.sub }}", ask: "${{ steps.ask.body }}", id: "${{ steps.when.id }}"}}
  other: {trigger: {call: {}}, steps: [{id: x, set: "${{ trigger.body.x + 1 }}"}]}
`

// keyed answers like world, but by idempotency key: the same key gets the same answer, as a provider would do. It counts how
// often an effect happened and fails when one key comes with two bodies.
type keyed struct {
	t     testing.TB
	mu    sync.Mutex
	known map[string]string // key → path and body
}

func (k *keyed) answer(r *wire.Request) *wire.Response {
	if r.Path == "/pages" {
		return page(r)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.IdempotencyKey == "" {
		k.t.Errorf("%s %s has no idempotency key", r.Method, r.Path)
	}
	what := r.Path + " " + string(r.Body)
	if old, ok := k.known[r.IdempotencyKey]; ok && old != what {
		k.t.Errorf("one key came with %q and %q", old, what)
	}
	k.known[r.IdempotencyKey] = what
	switch {
	case strings.HasPrefix(r.Path, "/flaky/"):
		if k.count("/flaky/") < 3 {
			return refusal("upstream", 500)
		}
	case r.Path == "/404":
		return refusal("not-found", 404)
	case r.Path == "/500":
		return refusal("upstream", 500)
	}
	return jsonAnswer(200, fmt.Sprintf(`{"path":%q,"key":%q}`, r.Path, shortHash(r.Path)))
}

func (k *keyed) count(path string) int {
	n := 0
	for _, what := range k.known {
		if strings.HasPrefix(what, path) {
			n++
		}
	}
	return n
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}

// journey is everything about a run that must not depend on how often it was interrupted.
type journey struct {
	Output  string
	Effects []string // path and key of every effect, sorted
	Tokens  int      // different callback addresses that anyone heard of
	State   int      // versions of the state
}

// journeyOf runs the flow to its end, through every crash that cut causes and every wait.
func journeyOf(t *testing.T, cut func(n int, a *wire.Append) cutting) (journey, int) {
	t.Helper()
	return journeyPaged(t, 0, cut)
}

// journeyPaged is journeyOf with a journal that comes in pages of so many entries, or with the unit.
func journeyPaged(t *testing.T, paged int, cut func(n int, a *wire.Append) cutting) (journey, int) {
	t.Helper()
	h := newHost(t, steps(t, strings.TrimPrefix(everything, "\n")))
	h.paged = paged
	world := &keyed{t: t, known: map[string]string{}}
	h.egress, h.cut = world.answer, cut
	h.code = func(c *wire.CodeCall) *wire.CodeResult { return &wire.CodeResult{Output: c.Input} }
	e := id.Execution{1, 2, 3}
	ev := id.Event{4, 5, 6}
	h.customer, h.instance = id.Customer{7}, id.Instance{8}
	h.enroll(e, ev, "main", h.sealEvent(ev, `{"body":{}}`))
	h.drive(e)
	out := journey{Output: h.result(e).Output, State: int(h.stateVersions())}
	for key, what := range world.known {
		path, _, _ := strings.Cut(what, " ")
		out.Effects = append(out.Effects, path+" "+key)
	}
	slices.Sort(out.Effects)
	out.Tokens = world.count("/told")
	return out, h.appends
}

func (h *host) stateVersions() (n uint64) {
	for _, c := range h.state {
		n += c.version
	}
	return n
}

// drive runs an execution until it ends: it starts a worker whenever there is none, and answers every wait.
func (h *host) drive(e id.Execution) {
	h.t.Helper()
	for range 200 {
		l := h.start()
		for alive := true; alive; {
			l.give(e)
			alive = h.released(e).Fault == ""
			fin := h.run(e).finish
			switch {
			case fin == nil && alive:
				h.t.Fatal("the execution was released without a finish")
			case fin == nil:
			case fin.Status != wire.StatusWaiting:
				_ = l.stop()
				return
			default:
				alive = h.answerWaits(l, e) && alive
			}
		}
		_ = l.stop()
	}
	h.t.Fatal("the execution does not end")
}

// answerWaits does what the world and the server would do for an execution that waits. It reports whether the worker lives.
func (h *host) answerWaits(l *link, e id.Execution) bool {
	r := h.run(e)
	for _, c := range r.children {
		if !c.Await || h.woken(e, c.Path) {
			continue
		}
		l.give(c.Execution)
		alive := h.released(c.Execution).Fault == ""
		if got := h.run(c.Execution).finish; got != nil {
			w := h.wake(e, c.Path, wire.WakeOf(got.Status), c.Execution, "")
			h.mu.Lock()
			r.unit.Wakes[w.Seq-1].Body = got.Output
			h.mu.Unlock()
		}
		return alive
	}
	for _, w := range r.waits {
		if h.woken(e, w.Path) {
			continue
		}
		if w.Kind == wire.WaitTimer {
			h.wake(e, w.Path, wire.WakeTimer, [16]byte{}, "")
		} else {
			h.wake(e, w.Path, wire.WakeAnswer, [16]byte{}, `{"body":{"yes":true},"headers":{},"query":{},"time":"2026-01-01T00:00:00Z"}`)
		}
		return true
	}
	h.t.Fatal("the execution waits for nothing")
	return false
}

func (h *host) woken(e id.Execution, path string) bool {
	return slices.ContainsFunc(h.run(e).unit.Wakes, func(w wire.Entry) bool { return w.Path == path })
}

// TestResume cuts a run at every append, once with the append lost and once with its answer lost, and compares what comes out
// with the run that nobody interrupted: output, effects, keys, addresses, state.
func TestResume(t *testing.T) {
	t.Parallel()
	want, appends := journeyOf(t, nil)
	if want.Output == "" || !strings.Contains(want.Output, `"n":1`) || want.State != 1 || want.Tokens != 1 {
		t.Fatalf("the plain run is not what the test is about: %+v", want)
	}
	t.Logf("%d appends, %d effects, output %s", appends, len(want.Effects), want.Output)
	var tried sync.Map
	for _, how := range []cutting{lose, loseAck} {
		for n := 1; n <= appends; n++ {
			t.Run(fmt.Sprintf("%d/%d", how, n), func(t *testing.T) {
				t.Parallel()
				got, _ := journeyOf(t, func(at int, _ *wire.Append) cutting {
					if at == n {
						tried.Store([2]int{int(how), n}, true)
						return how
					}
					return goOn
				})
				compareJourneys(t, want, got, how == lose)
			})
		}
	}
}

// compareJourneys allows one difference: a callback address that was lost before it was committed was never told to anyone, so
// how many exist does not change, but which one it is does.
func compareJourneys(t *testing.T, want, got journey, _ bool) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestResumeTwice cuts a run at every append after the one it was cut at before.
func TestResumeTwice(t *testing.T) {
	t.Parallel()
	want, _ := journeyOf(t, nil)
	for _, step := range []int{2, 3, 5} {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			t.Parallel()
			got, _ := journeyOf(t, func(at int, _ *wire.Append) cutting {
				switch at % (2 * step) {
				case step:
					return lose
				case 0:
					return loseAck
				}
				return goOn
			})
			compareJourneys(t, want, got, true)
		})
	}
}
