package worker

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// hosted makes a host for a list of steps.
func hosted(t testing.TB, list string) *host {
	t.Helper()
	h := newHost(t, steps(t, strings.TrimPrefix(list, "\n")+"\n"))
	h.egress = world()
	return h
}

// started makes a worker that is stopped with the test.
func (h *host) started() *link {
	h.t.Helper()
	l := h.start()
	h.t.Cleanup(func() {
		if err := l.stop(); err != nil {
			h.t.Errorf("Serve: %v", err)
		}
	})
	return l
}

func TestPureTailNeedsOneAppend(t *testing.T) {
	t.Parallel()
	h := hosted(t, `
      - {id: a, set: "${{ trigger.body }}"}
      - {id: b, uses: api.request, with: {method: POST, path: /x, body: "${{ steps.a }}"}}
      - {id: c, set: "${{ steps.b.status }}"}`)
	if got := h.once("main", `{"body":1}`); got.Output != "200" {
		t.Errorf("output %+v", got)
	}
	if h.appends != 1 {
		t.Errorf("%d appends, want 1: the last result and the finish travel together", h.appends)
	}
}

func TestApproveRefund(t *testing.T) {
	t.Parallel()
	h := newHost(t, parseFile(t, "testdata/approve-refund.yaml"))
	h.egress = world()
	h.cut = func(_ int, a *wire.Append) cutting {
		if a.Finish == nil && len(a.Waits) > 0 {
			h.mu.Lock()
			defer h.mu.Unlock()
			if len(h.requests) > 0 {
				t.Error("somebody was told of the address before it was registered")
			}
		}
		return goOn
	}
	l := h.started()
	e := h.add("refund", `{"body":{"order":"o 1","amount":5},"headers":{"x-delivery-id":"1"}}`)
	if got := h.finish(l, e); got.Status != wire.StatusWaiting {
		t.Fatalf("it does not wait: %+v", got)
	}
	r := h.run(e)
	var asked struct {
		AnswerAt string `json:"answer_at"`
	}
	if err := json.Unmarshal(h.sent()[0].Body, &asked); err != nil {
		t.Fatal(err)
	}
	token, ok := strings.CutPrefix(asked.AnswerAt, "https://hooks.example/c/")
	if !ok || len(r.waits) != 1 || r.waits[0].Key != sha256.Sum256([]byte(token)) || r.waits[0].Kind != wire.WaitCallback {
		t.Errorf("address %q is not that of the wait %+v", asked.AnswerAt, r.waits)
	}
	if left := time.Until(r.waits[0].At); left < 47*time.Hour || left > 48*time.Hour {
		t.Errorf("the wait ends in %v, want two days", left)
	}
	if len(r.labels) != 1 || r.labels[0].Name != "order" {
		t.Fatalf("labels %+v", r.labels)
	}
	place := lease.LabelPlace(h.customer, e, "order")
	for _, c := range []struct {
		key     *seal.PrivateKey
		purpose string
		sealed  []byte
	}{{h.payload, lease.PurposePayload, r.labels[0].Sealed}, {h.server, lease.PurposeServer, r.labels[0].Value}} {
		if plain, err := seal.NewOpener(c.key, c.purpose).Open(nil, place, c.sealed); err != nil || string(plain) != "o 1" {
			t.Errorf("label of %s: %q, %v", c.purpose, plain, err)
		}
	}
	h.wake(e, "decision", wire.WakeAnswer, [16]byte{}, `{"body":{"approved":true},"headers":{},"query":{},"time":"2026-01-01T00:00:00Z"}`)
	if got := h.finish(l, e); got.Output != `{"refunded":true}` {
		t.Errorf("output %+v", got)
	}
	if n := len(r.labels); n != 1 {
		t.Errorf("%d labels after the resume, want the one of the first append", n)
	}
	sent := h.sent()
	if len(sent) != 2 || sent[1].Path != "/orders/o%201/refund" {
		t.Errorf("requests %+v", sent)
	}
}

func TestCallbackTimesOut(t *testing.T) {
	t.Parallel()
	h := hosted(t, `
      - {id: w, wait: {callback: {timeout: PT1H}}}`)
	l := h.started()
	e := h.add("main", `{"body":1}`)
	if got := h.finish(l, e); got.Status != wire.StatusWaiting || h.run(e).finish.Wakes != 0 {
		t.Fatalf("%+v", got)
	}
	h.wake(e, "w", wire.WakeTimeout, [16]byte{}, "")
	if got := describe(t, h.finish(l, e)); got != "timeout@w: nobody answered in time" {
		t.Error(got)
	}
}

// TestWakeWhileRunning wakes one branch while another one is busy: nothing is suspended, and the count of wakes is right.
func TestWakeWhileRunning(t *testing.T) {
	t.Parallel()
	h := hosted(t, `
      - id: f
        fork:
          branches:
            a: [{id: w, wait: {callback: {timeout: PT1H}}}, {id: x, set: "${{ steps.w.body }}"}]
            b: [{id: slow, uses: api.request, with: {path: /slow}}, {id: w2, wait: {callback: {timeout: PT1H}}}]`)
	registered, hold := make(chan struct{}), make(chan struct{})
	h.egress = func(*wire.Request) *wire.Response { <-hold; return jsonAnswer(200, "1") }
	h.cut = func(_ int, a *wire.Append) cutting {
		if len(a.Waits) > 0 && a.Waits[0].Path == "w" {
			close(registered)
		}
		return goOn
	}
	l := h.started()
	e := h.add("main", `{"body":1}`)
	l.give(e)
	<-registered
	w := h.wake(e, "w", wire.WakeAnswer, [16]byte{}, `{"body":"yes"}`)
	_ = l.out.Write(&wire.Wake{Execution: e, Fence: 1, Entry: w})
	close(hold)
	h.released(e)
	fin := h.run(e).finish
	if fin == nil || fin.Status != wire.StatusWaiting || fin.Wakes != 1 {
		t.Fatalf("finish %+v, want waiting with one wake seen", fin)
	}
	h.wake(e, "w2", wire.WakeAnswer, [16]byte{}, `{"body":"too"}`)
	if got := h.finish(l, e).Output; got != `{"a":"yes","b":{"body":"too"}}` {
		t.Error(got)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	h := hosted(t, `
      - {id: a, try: [{id: b, uses: api.request, with: {path: /a}}], catch: {steps: [{id: c, uses: api.request, with: {path: /caught}}]}}`)
	asked := make(chan struct{}, 1)
	h.noAnswer = func(*wire.Request) bool { asked <- struct{}{}; return true }
	l := h.started()
	e := h.add("main", `{"body":1}`)
	l.give(e)
	<-asked
	_ = l.out.Write(&wire.Cancel{Execution: e, Fence: 7}) // not this fence: nothing happens
	_ = l.out.Write(&wire.Cancel{Execution: e, Fence: 1})
	h.released(e)
	if got := h.result(e); got.Status != wire.StatusCancelled || len(h.sent()) != 1 {
		t.Errorf("%+v after %d requests", got, len(h.sent()))
	}
}

func TestStaleAppendDropsTheExecution(t *testing.T) {
	t.Parallel()
	h := hosted(t, `
      - {id: a, uses: api.request, with: {path: /a}}
      - {id: b, try: [{id: c, uses: api.request, with: {method: POST, path: /b}}], catch: {steps: [{id: d, set: 1}]}}`)
	h.cut = func(int, *wire.Append) cutting { return answerOld }
	l := h.started()
	e := h.add("main", `{"body":1}`)
	l.give(e)
	if r := h.released(e); r.Fault != "" || h.run(e).finish != nil || h.appends != 1 || len(h.sent()) != 1 {
		t.Errorf("released %+v after %d appends and %d requests", r, h.appends, len(h.sent()))
	}
}

// TestMismatch changes what an interrupted step is given: the execution must end, and no catch may hold that.
func TestMismatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, step string }{
		{"action", `{id: x, uses: api.request, with: {path: "/${{ trigger.body }}"}}`},
		{"code", `{id: x, code: "export default (x) => x", with: {a: "${{ trigger.body }}"}}`},
		{"state", `{id: x, state: {put: k, value: "${{ trigger.body }}"}}`},
		{"call", `{id: x, call: {flow: main, with: "${{ trigger.body }}", wait: false}}`},
		{"wait", `{id: x, wait: {for: "PT${{ trigger.body }}S"}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, parse(t, `
bulkhead: 1
integration: test
connections: {api: {connector: http}}
flows:
  main:
    trigger: {call: {}}
    steps:
      - {id: a, try: [`+c.step+`], catch: {steps: [{id: y, set: 1}]}}
      - {id: z, wait: {for: PT1H}}
`))
			h.egress = world()
			h.code = func(c *wire.CodeCall) *wire.CodeResult { return &wire.CodeResult{Output: c.Input} }
			l := h.started()
			e := h.add("main", `{"body":3600}`)
			if got := h.finish(l, e); got.Status != wire.StatusWaiting {
				t.Fatalf("%+v", got)
			}
			r := h.run(e)
			r.unit.Event = h.sealEvent(r.unit.EventID, `{"body":3601}`)
			got := describe(t, h.finish(l, e))
			if want := "journal-mismatch@x: the step's input is not what it was before the execution was interrupted"; got != want {
				t.Errorf("got %s", got)
			}
		})
	}
}

// TestOnce interrupts a step with once between its intent and its result.
func TestOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ once, want string }{
		{"true", "interrupted@a: the step was interrupted and may run only once"},
		{"false", `200`},
	} {
		h := hosted(t, `
      - {id: a, once: `+c.once+`, uses: api.request, with: {method: POST, path: /a}}
      - {id: b, set: "${{ steps.a.status }}"}`)
		h.cut = func(_ int, a *wire.Append) cutting {
			if a.Finish != nil && len(h.sent()) == 1 && a.Finish.Status == wire.StatusCompleted {
				return lose
			}
			return goOn
		}
		e := h.add("main", `{"body":1}`)
		h.drive(e)
		if got := describe(t, h.result(e)); got != c.want {
			t.Errorf("once %s: got %s", c.once, got)
		}
	}
}

// TestIdempotencyKey looks at the keys of tries: the same until a definite answer, another one after it, none without effect.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	h := hosted(t, `
      - {id: a, uses: api.request, with: {method: POST, path: /a}, retry: {attempts: 4, delay: PT0.001S}}
      - {id: b, uses: api.request, with: {path: /a}}
      - {id: c, uses: api.request, with: {method: POST, path: /a}}`)
	n := 0
	h.egress = func(r *wire.Request) *wire.Response {
		n++
		switch n {
		case 1, 3: // nobody knows what happened
			return &wire.Response{ErrorType: "timeout", Message: "late"}
		case 2:
			return refusal("upstream", 500)
		}
		return jsonAnswer(200, "1")
	}
	h.once("main", `{"body":1}`)
	var keys []string
	for _, r := range h.sent() {
		keys = append(keys, r.IdempotencyKey)
	}
	if len(keys) != 6 || keys[0] == "" || keys[0] != keys[1] || keys[1] == keys[2] || keys[2] != keys[3] || keys[4] != "" || keys[5] == keys[3] {
		t.Errorf("keys %q", keys)
	}
	for _, e := range h.runs {
		for _, k := range keys {
			if strings.Contains(k, e.unit.Execution.String()) {
				t.Error("a key shows an id")
			}
		}
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	h := hosted(t, `
      - {id: a, uses: api.request, with: {path: /a}, retry: {attempts: 2, delay: PT0.001S}}
      - {id: b, set: "${{ steps.a.body }}"}`)
	n := 0
	h.egress = func(*wire.Request) *wire.Response {
		if n++; n == 1 {
			r := refusal("rate-limited", 429)
			r.RetryAfter = time.Hour
			return r
		}
		return jsonAnswer(200, `"ok"`)
	}
	l := h.started()
	e := h.add("main", `{"body":1}`)
	if got := h.finish(l, e); got.Status != wire.StatusWaiting {
		t.Fatalf("an hour is not slept in memory: %+v", got)
	}
	waits := h.run(e).waits
	if len(waits) != 1 || waits[0].Kind != wire.WaitTimer || time.Until(waits[0].At) < 59*time.Minute {
		t.Fatalf("waits %+v", waits)
	}
	h.wake(e, "a.retry", wire.WakeTimer, [16]byte{}, "")
	if got := h.finish(l, e); got.Output != `"ok"` || n != 2 {
		t.Errorf("%+v after %d tries", got, n)
	}
}

func TestScoreLead(t *testing.T) {
	t.Parallel()
	h := newHost(t, parseFile(t, "testdata/score-lead.yaml"))
	h.egress = func(r *wire.Request) *wire.Response {
		if len(r.Query) != 1 || r.Query[0].Value != "nowhere.example" {
			t.Errorf("query %+v", r.Query)
		}
		return refusal("not-found", 404)
	}
	h.code = func(c *wire.CodeCall) *wire.CodeResult {
		want := `{"lead":{"email":"a@nowhere.example","title":"CTO"},"company":{"employees":0,"country":"unknown"}}`
		if string(c.Input) != want {
			t.Errorf("input %s", c.Input)
		}
		return &wire.CodeResult{Output: []byte(`{"points":35,"grade":"C"}`), Logs: []wire.CodeLog{{Level: "info", Text: "hi"}}}
	}
	l := h.started()
	e := h.add("score", `{"body":{"email":"a@nowhere.example","title":"CTO"}}`)
	h.run(e).unit.Viewer = h.view
	if got := h.finish(l, e); got.Output != `{"status":200}` {
		t.Errorf("%+v", got)
	}
	want := []wire.ReplyBody{{Status: 200, ContentType: "application/json", Body: []byte(`{"grade":"C","points":35}`)}}
	if diff := cmp.Diff(want, h.replies); diff != "" {
		t.Error(diff)
	}
	h.checkView(t, e)
	if len(l.box) != 0 {
		t.Error("the sandbox is not closed")
	}
}

// checkView opens what the viewer of score-lead got.
func (h *host) checkView(t *testing.T, e id.Execution) {
	t.Helper()
	var got []string
	for _, v := range h.views {
		plain, err := h.viewerKey.Open(lease.PurposeView, lease.ViewPlace(h.view, e, v.Kind, v.Path), v.Sealed)
		if err != nil {
			t.Fatalf("page %d of %s: %v", v.Kind, v.Path, err)
		}
		got = append(got, string(rune('0'+v.Kind))+" "+v.Path+" "+string(plain))
	}
	for _, want := range []string{
		`1 lookup {"method":"GET","path":"/companies","query":{"domain":"nowhere.example"}}`,
		`3 lookup {"type":"not-found","message":"the service answered 404","step":"lookup","attempts":1,"status":404}`,
		`4 score {"level":"info","text":"hi"}`, `2 score {"points":35,"grade":"C"}`, `5  {"status":200}`,
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no page %s in:\n%s", want, strings.Join(got, "\n"))
		}
	}
	states := map[string][]wire.StepState{}
	for _, p := range h.progress {
		states[p.Path] = append(states[p.Path], p.State)
	}
	want := map[string][]wire.StepState{
		"company": {wire.StepStarted, wire.StepDone}, "lookup": {wire.StepStarted, wire.StepFailed}, "unknown": {wire.StepStarted, wire.StepDone},
		"score": {wire.StepStarted, wire.StepDone}, "answer": {wire.StepStarted, wire.StepDone},
	}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Error(diff)
	}
}

func TestNobodyWatches(t *testing.T) {
	t.Parallel()
	for name, view := range map[string]id.View{"no viewer": {}, "a viewer that the lease does not list": {1}} {
		h := newHost(t, parseFile(t, "testdata/score-lead.yaml"))
		h.egress = world()
		h.code = func(*wire.CodeCall) *wire.CodeResult {
			return &wire.CodeResult{Output: []byte(`{"points":1,"grade":"C"}`)}
		}
		l := h.started()
		e := h.add("score", `{"body":{"email":"a@b"}}`)
		h.run(e).unit.Viewer = view
		if got := h.finish(l, e); got.Status != wire.StatusCompleted || len(h.views)+len(h.progress)+len(h.replies) != 0 {
			t.Errorf("%s: %+v, %d pages, %d steps, %d replies", name, got, len(h.views), len(h.progress), len(h.replies))
		}
	}
}

func TestCodeFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		result *wire.CodeResult
		want   string
	}{
		{&wire.CodeResult{ErrorKind: "throw", Message: "no such thing", Line: 2, Column: 3}, "code@a: no such thing (line 2, column 3)"},
		{&wire.CodeResult{ErrorKind: "timeout", Message: "too long"}, "timeout@a: too long"},
		{&wire.CodeResult{ErrorKind: "memory", Message: "too much"}, "limit@a: too much"},
		{&wire.CodeResult{Output: []byte("{")}, "code@a: the result is not JSON: invalid JSON at byte 1: expected a key in double quotes"},
		{nil, "limit@a: the code needed more memory than its limit"},
	} {
		h := hosted(t, `
      - {id: a, code: "export default () => 1"}`)
		h.code = func(*wire.CodeCall) *wire.CodeResult { return c.result }
		if got := describe(t, h.once("main", `{"body":1}`)); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// TestOneSandbox runs code steps of parallel branches: they share one sandbox, and get another one after it died.
func TestOneSandbox(t *testing.T) {
	t.Parallel()
	h := hosted(t, `
      - {id: l, for: {each: [1, 2, 3, 4], parallel: 4, on_error: continue}, steps: [{id: a, code: "export default (n) => n", with: {n: "${{ item }}"}}], result: "${{ steps.a.n }}"}`)
	n := 0
	h.code = func(c *wire.CodeCall) *wire.CodeResult {
		if n++; n == 3 {
			return nil
		}
		return &wire.CodeResult{Output: c.Input}
	}
	got := h.once("main", `{"body":1}`)
	var list []any
	if err := json.Unmarshal([]byte(got.Output), &list); err != nil || len(list) != 4 {
		t.Fatalf("%+v", got)
	}
	if h.boxes != 2 {
		t.Errorf("%d sandboxes, want 2", h.boxes)
	}
	seeds := map[[16]byte]bool{}
	for _, c := range h.codes {
		seeds[c.Seed] = true
	}
	if len(seeds) != 4 {
		t.Errorf("%d seeds for 4 steps", len(seeds))
	}
}

// TestEndOfTime lets a flow run out of its own time, and an execution out of its life, while an answer does not come. No catch
// holds either.
func TestEndOfTime(t *testing.T) {
	t.Parallel()
	text := `
bulkhead: 1
integration: test
connections: {api: {connector: http}}
flows:
  main:
    trigger: {manual: {}}
    timeout: %s
    steps: [{id: a, try: [{id: b, uses: api.request, with: {path: /a}}], catch: {steps: [{id: c, set: 1}]}}]
`
	for _, c := range []struct{ timeout, want string }{
		{"PT0.02S", "timeout@: the flow ran longer than 20ms"},
		{"PT1H", "timeout@: the execution expired"},
	} {
		h := newHost(t, parse(t, strings.Replace(text, "%s", c.timeout, 1)))
		h.noAnswer = func(*wire.Request) bool { return true }
		l := h.started()
		e := h.add("main", `{"body":1}`)
		h.run(e).unit.Expires = time.Now().Add(100 * time.Millisecond)
		if got := describe(t, h.finish(l, e)); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

// TestNewFence gives an execution out again while it is still here: the older stay ends without a word that counts.
func TestNewFence(t *testing.T) {
	t.Parallel()
	h := hosted(t, `
      - {id: a, uses: api.request, with: {method: POST, path: /a}}
      - {id: b, set: "${{ steps.a.status }}"}`)
	asked := make(chan struct{}, 2)
	n := 0
	h.noAnswer = func(*wire.Request) bool { asked <- struct{}{}; n++; return n == 1 }
	l := h.started()
	e := h.add("main", `{"body":1}`)
	l.give(e)
	<-asked
	if got := h.finish(l, e); got.Output != "200" {
		t.Errorf("%+v", got)
	}
	sent := h.sent()
	if len(sent) != 2 || sent[0].IdempotencyKey != sent[1].IdempotencyKey {
		t.Errorf("requests %+v", sent)
	}
}

// TestWaitIsRetried lets the steps that tell of an address fault: every later try, in this stay or another one, tells of the
// same address, because that is the one that is registered.
func TestWaitIsRetried(t *testing.T) {
	t.Parallel()
	for _, delay := range []string{"PT1H", "PT0.001S"} {
		retryWait(t, delay)
	}
}

func retryWait(t *testing.T, delay string) {
	t.Helper()
	h := hosted(t, `
      - {id: w, wait: {callback: {timeout: PT1H, notify: [{id: told, uses: api.request, with: {method: POST, path: /told, body: "${{ callback.url }}"}}]}}, retry: {attempts: 5, delay: `+delay+`}}
      - {id: out, return: "${{ steps.w.body }}"}`)
	n := 0
	h.egress = func(*wire.Request) *wire.Response {
		if n++; n < 4 {
			return refusal("upstream", 500)
		}
		return jsonAnswer(200, "1")
	}
	l := h.started()
	e := h.add("main", `{"body":1}`)
	for range 6 {
		if got := h.finish(l, e); got.Status != wire.StatusWaiting {
			break
		}
		if n < 4 {
			h.wake(e, "w.retry", wire.WakeTimer, [16]byte{}, "")
		} else {
			h.wake(e, "w", wire.WakeAnswer, [16]byte{}, `{"body":"yes"}`)
		}
	}
	if got := h.result(e); got.Output != `"yes"` || n != 4 {
		t.Errorf("delay %s: %+v after %d tries", delay, got, n)
	}
	told := map[string]bool{}
	for _, r := range h.sent() {
		told[string(r.Body)] = true
	}
	if len(told) != 1 {
		t.Errorf("delay %s: %d addresses were told of, one is registered", delay, len(told))
	}
}
