package worker

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// lines are the log lines of an execution as the server has them, opened.
func (h *host) lines(e id.Execution) (out []string) {
	h.t.Helper()
	r := h.run(e)
	next := uint32(1)
	for _, g := range r.logs {
		plain, err := seal.NewOpener(h.payload, lease.PurposePayload).Open(nil, lease.EntryPlace(h.customer, e, g.Entry()), g.Body)
		if err != nil {
			h.t.Fatal(err)
		}
		var page wire.LogPage
		if err := wire.ParseBody(plain, &page); err != nil {
			h.t.Fatal(err)
		}
		if g.Number != next || int(g.Lines) != len(page.Lines) {
			h.t.Errorf("lines %d to %d, want %d from %d", g.Number, g.Number+g.Lines-1, len(page.Lines), next)
		}
		next += g.Lines
		for _, line := range page.Lines {
			if line.Time.IsZero() {
				h.t.Error("a line without a time")
			}
			out = append(out, g.Path+" "+line.Level+" "+line.Text)
		}
	}
	return out
}

func TestLogsAreKept(t *testing.T) {
	t.Parallel()
	h := newHost(t, steps(t, `
      - {id: one, code: "export default (i) => i"}
      - {id: safe, try: [{id: bad, set: "${{ trigger.body.missing }}"}], catch: {steps: [{id: fine, set: 1}]}}
      - {id: two, code: "export default (i) => i"}
`))
	n := 0
	h.code = func(*wire.CodeCall) *wire.CodeResult {
		n++
		return &wire.CodeResult{Output: []byte("1"), Truncated: n == 2, Logs: []wire.CodeLog{{Level: "info", Text: "line " + strconv.Itoa(n)}}}
	}
	l := h.start()
	t.Cleanup(func() { _ = l.stop() })
	e := h.add("main", `{"body":{}}`)
	if got := h.finish(l, e); got.Status != wire.StatusCompleted {
		t.Fatalf("it ended as %+v", got)
	}
	got := h.lines(e)
	if len(got) == 4 && strings.HasPrefix(got[1], "bad error the step faulted: expression: ") {
		got[1] = "bad"
	}
	if diff := cmp.Diff([]string{"one info line 1", "bad", "two info line 2", "two warn more lines were left out"}, got); diff != "" {
		t.Error(diff)
	}
	v := l.viewing(wire.ReadLogs, e, wire.ClassOperator)
	for _, g := range h.run(e).logs {
		x := *g.Entry()
		x.Seq, x.Body = g.Number, g.Body
		v.read.Rows = append(v.read.Rows, wire.Sealed{Entry: x})
	}
	shown := v.shown()
	if len(shown) != 4 || !strings.Contains(shown[0], `"level":"info","text":"line 1"`) {
		t.Errorf("a viewer sees %q", shown)
	}
}

func TestNoLogsWriteNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t, steps(t, `
      - {id: one, code: "export default (i) => i"}
`))
	h.code = func(*wire.CodeCall) *wire.CodeResult { return &wire.CodeResult{Output: []byte("1")} }
	h.cut = func(_ int, a *wire.Append) cutting {
		if a.Logs != nil {
			t.Errorf("an append has %d groups of lines", len(a.Logs))
		}
		return goOn
	}
	h.once("main", `{"body":{}}`)
}

// TestLogsAreBounded prints more than an execution keeps, over two stays.
func TestLogsAreBounded(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text string
		each int
		most int
	}{
		"many lines": {"x", 600, wire.MaxLogLines},
		"long lines": {strings.Repeat("y", 9<<10), 80, wire.MaxLogBytes / (4 << 10)},
	} {
		h := newHost(t, steps(t, `
      - {id: one, code: "export default (i) => i"}
      - {id: pause, wait: {for: PT1H}}
      - {id: two, code: "export default (i) => i"}
`))
		h.code = func(*wire.CodeCall) *wire.CodeResult {
			r := &wire.CodeResult{Output: []byte("1")}
			for range tt.each {
				r.Logs = append(r.Logs, wire.CodeLog{Level: "info", Text: tt.text})
			}
			return r
		}
		l := h.start()
		e := h.add("main", `{"body":{}}`)
		if got := h.finish(l, e); got.Status != wire.StatusWaiting {
			t.Fatalf("it ended as %+v", got)
		}
		h.wake(e, "pause", wire.WakeTimer, [16]byte{}, "")
		if got := h.finish(l, e); got.Status != wire.StatusCompleted {
			t.Fatalf("it ended as %+v", got)
		}
		got := h.lines(e)
		last := got[len(got)-1]
		if len(got) > tt.most+2 || len(got) < tt.most-10 || !strings.Contains(last, "were left out: the log of an execution has at most 1000 lines and 256 KiB") {
			t.Errorf("%s: %d lines, the last is %q", name, len(got), last)
		}
		if err := l.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}
