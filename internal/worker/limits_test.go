package worker

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func TestOnFault(t *testing.T) {
	t.Parallel()
	h := newHost(t, parse(t, `
bulkhead: 1
integration: test
connections: {api: {connector: http}}
flows:
  main:
    trigger: {manual: {}}
    on_fault: ops
    steps: [{id: a, uses: api.request, with: {path: /404}}]
  ops:
    trigger: {call: {}}
    on_fault: more
    steps: [{id: b, raise: {type: seen, message: "${{ error.type }} ${{ error.status }} ${{ trigger.body.flow }} ${{ trigger.body.error.step }} ${{ customer.timezone }}"}}]
  more: {trigger: {call: {}}, steps: [{id: x, set: 1}]}
`))
	h.egress = world()
	l := h.started()
	e := h.add("main", `{"body":1,"customer":{"timezone":"Europe/Vienna"}}`)
	if got := describe(t, h.finish(l, e)); got != "not-found@a: the service answered 404" {
		t.Fatal(got)
	}
	children := h.run(e).children
	if len(children) != 1 || children[0].Flow != "ops" || children[0].Await {
		t.Fatalf("children %+v", children)
	}
	child := children[0].Execution
	if got := describe(t, h.finish(l, child)); got != "seen@b: not-found 404 main a Europe/Vienna" {
		t.Error(got)
	}
	if n := len(h.run(child).children); n != 0 {
		t.Errorf("a flow started by on_fault started %d more", n)
	}
}

func TestCallsEndSomewhere(t *testing.T) {
	t.Parallel()
	h := newHost(t, parse(t, `
bulkhead: 1
integration: test
flows:
  main: {trigger: {call: {}}, steps: [{id: a, if: "${{ trigger.type == 'call' }}", call: {flow: main, with: {}, wait: true}}]}
`))
	h.customer = id.Customer{1}
	l := h.started()
	e := h.add("main", `{"body":{},"type":"call","depth":15}`)
	h.finish(l, e)
	child := h.run(e).children[0].Execution
	if got := describe(t, h.finish(l, child)); got != "limit@a: flows call each other more than 16 deep" {
		t.Error(got)
	}
	w := h.wake(e, "a", wire.WakeFaulted, child, "")
	h.run(e).unit.Wakes[w.Seq-1].Body = h.run(child).finish.Output
	if got := describe(t, h.finish(l, e)); got != "limit@a: flows call each other more than 16 deep" {
		t.Errorf("the caller: %s", got)
	}
}

// TestFiles reads a file by reference: its rows are streamed, it is sent on without passing the worker, and large answers are
// read from where egress put them, also after a crash.
func TestFiles(t *testing.T) {
	t.Parallel()
	h := hosted(t, `
      - {id: big, uses: api.request, with: {path: /big}}
      - {id: file, uses: api.request, with: {path: /file, response: file}}
      - {id: keep, set: {f: "${{ steps.file.body }}"}}
      - {id: up, uses: api.request, with: {method: PUT, path: /up, body: "${{ steps.keep.f }}"}}
      - {id: parts, uses: api.request, with: {method: POST, path: /parts, multipart: {doc: "${{ steps.file.body }}", n: 1}}}
      - {id: rows, for: {each: {rows: "${{ steps.file.body }}", format: csv, encoding: windows-1252}, batch: 1000}, steps: [{id: n, set: "${{ size(item) }}"}], result: "${{ [steps.n, last(item).name] }}"}
      - {id: out, return: {rows: "${{ steps.rows }}", file: "${{ steps.file.body }}", big: "${{ size(steps.big.body.l) }}"}}`)
	var text bytes.Buffer
	text.WriteString("id,name\n")
	for i := range 60_000 {
		fmt.Fprintf(&text, "%d,M\xfcller %d\n", i, i)
	}
	rows := h.putBlob(text.Bytes(), "text/csv")
	big := h.putBlob([]byte(`{"l":["`+strings.Repeat(`x","`, 200_000)+`"]}`), "application/json")
	h.egress = func(r *wire.Request) *wire.Response {
		switch r.Path {
		case "/big":
			return &wire.Response{Status: 200, Headers: []wire.Pair{{Name: "content-type", Value: "application/json"}}, Blob: big}
		case "/file":
			return &wire.Response{Status: 200, Blob: rows}
		}
		return &wire.Response{Status: 200}
	}
	h.cut = func(n int, _ *wire.Append) cutting {
		if n == 4 {
			return loseAck
		}
		return goOn
	}
	e := h.add("main", `{"body":1}`)
	h.drive(e)
	got := h.result(e).Output
	if !strings.HasPrefix(got, `{"rows":[[1000,"Müller 999"],`) || !strings.HasSuffix(got, `[1000,"Müller 59999"]],"file":{"name":"data","size":`+fmt.Sprint(text.Len())+`,"type":"text/csv"},"big":200001}`) {
		t.Errorf("output %.200s", got)
	}
	for _, r := range h.sent() {
		switch {
		case r.Path == "/up" && (r.BodyBlob == nil || r.BodyBlob.Blob != rows.Blob || len(r.Body) != 0):
			t.Errorf("the file is not sent by reference: %+v", r)
		case r.Path == "/parts" && (len(r.Parts) != 2 || r.Parts[0].Blob == nil || string(r.Parts[1].Data) != "1"):
			t.Errorf("the parts are %+v", r.Parts)
		}
	}
}

// TestLargeResults sends a large body by blob and keeps large results out of the journal.
func TestLargeResults(t *testing.T) {
	t.Parallel()
	h := hosted(t, `
      - {id: a, code: "export default () => 1"}
      - {id: b, uses: api.request, with: {method: POST, path: /b, body: "${{ steps.a }}"}}
      - {id: c, set: "${{ size(steps.a.s) }}"}`)
	h.egress = func(r *wire.Request) *wire.Response {
		if r.BodyBlob == nil || r.BodyBlob.Size < 2_000_000 || len(r.Body) != 0 {
			t.Errorf("the body is not by reference: %d bytes inline", len(r.Body))
		}
		return &wire.Response{Status: 204}
	}
	h.code = func(*wire.CodeCall) *wire.CodeResult {
		return &wire.CodeResult{Output: []byte(`{"s":"` + strings.Repeat("x", 2_000_000) + `"}`)}
	}
	h.cut = func(n int, a *wire.Append) cutting {
		for _, e := range a.Entries {
			if len(e.Body) > MaxInline {
				t.Errorf("entry %s has %d bytes", e.Path, len(e.Body))
			}
		}
		if n == 2 {
			return lose
		}
		return goOn
	}
	e := h.add("main", `{"body":1}`)
	h.drive(e)
	if got := h.result(e).Output; got != "2000000" || len(h.codes) != 1 {
		t.Errorf("output %s after %d runs of the code", got, len(h.codes))
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	h := newHost(t, parse(t, `
bulkhead: 1
integration: test
config: {a: {type: number, default: 1}, b: {type: string}, key: {type: secret}}
flows:
  main: {trigger: {manual: {}}, steps: [{id: x, set: "${{ config }}"}]}
`))
	h.config = `{"b":"given","key":"canary-secret","unknown":1}`
	if got := h.once("main", `{"body":1}`).Output; got != `{"a":1,"b":"given"}` {
		t.Errorf("config is %s", got)
	}
}

func TestBindRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(h *host){
		"another definition":   func(h *host) { h.grow = func(l *lease.Worker) { l.Definition[0] ^= 1 } },
		"an old config":        func(h *host) { h.grow = func(l *lease.Worker) { l.ConfigVersion++ } },
		"another instance key": func(h *host) { h.grow = func(l *lease.Worker) { l.InstanceKey = make([]byte, 32) } },
		"another instance":     func(h *host) { h.grow = func(l *lease.Worker) { l.Instance[0] ^= 1 } },
		"a broken definition": func(h *host) {
			h.definition = &flow.Integration{Format: 99}
		},
	} {
		h := hosted(t, `
      - {id: a, set: 1}`)
		change(h)
		l := h.connect()
		if m := <-l.bound; m.Error == "" {
			t.Errorf("%s: it binds", name)
		}
		if err := l.stop(); err == nil {
			t.Errorf("%s: Serve goes on", name)
		}
	}
}

// TestRenew replaces a lease that egress has forgotten while an execution is about to use it.
func TestRenew(t *testing.T) {
	t.Parallel()
	h := hosted(t, `
      - {id: a, uses: api.request, with: {path: /a}}
      - {id: b, set: "${{ steps.a.status }}"}`)
	h.grow = func(l *lease.Worker) { l.Expires = time.Now().Add(-time.Second) }
	l := h.started()
	e := h.add("main", `{"body":1}`)
	l.give(e)
	h.grow = nil
	fresh := h.newLease()
	fresh.Channel[0] ^= 1
	sealed, err := lease.SealWorker(l.worker, fresh)
	if err != nil {
		t.Fatal(err)
	}
	if l.channel, err = seal.NewChannel(fresh.Channel, seal.Callee); err != nil {
		t.Fatal(err)
	}
	_ = l.out.Write(&wire.Renew{Lease: sealed})
	h.released(e)
	if got := h.result(e).Output; got != "200" {
		t.Errorf("output %s", got)
	}
}

// TestRenewRefuses gives a bound worker leases that a breached runner could make: with a channel and a viewer of its own, for
// the right instance, but without the keys that only the vault has. The last one has them, and is taken.
func TestRenewRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(l *lease.Worker)
		want   error
	}{
		{"another instance", func(l *lease.Worker) { l.Instance[3] ^= 1 }, errOther},
		{"another customer", func(l *lease.Worker) { l.Customer[3] ^= 1 }, errOther},
		{"another definition", func(l *lease.Worker) { l.Definition[3] ^= 1 }, errOther},
		{"an invented instance key", func(l *lease.Worker) { l.InstanceKey = make([]byte, 32) }, errForged},
		{"an invented idempotency key", func(l *lease.Worker) { l.IdempotencyKey = []byte("0123456789abcdef0123456789abcdef") }, errForged},
		{"no keys", func(l *lease.Worker) { l.InstanceKey, l.IdempotencyKey = nil, nil }, errForged},
		{"the vault's own", func(*lease.Worker) {}, nil},
	} {
		h := hosted(t, `
      - {id: a, set: 1}`)
		l := h.start()
		other := h.newLease()
		c.change(other)
		sealed, err := lease.SealWorker(l.worker, other)
		if err != nil {
			t.Fatal(err)
		}
		_ = l.out.Write(&wire.Renew{Lease: sealed})
		if c.want == nil {
			if got := h.finish(l, h.add("main", `{"body":1}`)); got.Output != "1" {
				t.Errorf("%s: %+v", c.name, got)
			}
			if err := l.stop(); err != nil {
				t.Errorf("%s: Serve: %v", c.name, err)
			}
			continue
		}
		if err := <-l.served; !errors.Is(err, c.want) {
			t.Errorf("%s: Serve: %v", c.name, err)
		}
		_ = l.conn.Close()
	}
}

// TestPanic breaks the interpreter from inside: the execution faults, the log has no payload, and the worker goes on.
func TestPanic(t *testing.T) {
	t.Parallel()
	h := hosted(t, `
      - {id: l, for: {each: "${{ trigger.body }}", parallel: 2}, steps: [{id: a, set: "${{ item }}"}], result: "${{ steps.a }}"}`)
	var log bytes.Buffer
	s := &server{log: slog.New(slog.NewTextHandler(&log, nil)), held: map[id.Execution]*execution{}, ctx: t.Context()}
	s.in = &instance{definition: h.definition, scope: expr.NewScope()}
	x := newExecution(s, &wire.UnitExecution{Execution: id.Execution{1}})
	err := func() (err error) {
		defer func() { x.recovered(recover(), "l[1]", &err) }()
		panic("canary-payload")
	}()
	f, ok := err.(*fault) //nolint:errorlint // it is one or the test fails
	if !ok || f.Type != typeCode || !f.fatal || strings.Contains(f.Message, "canary") {
		t.Errorf("the fault is %+v", err)
	}
	if text := log.String(); strings.Contains(text, "canary") || !strings.Contains(text, "TestPanic") || !strings.Contains(text, "l[1]") {
		t.Errorf("the log says %s", text)
	}
}

func TestTooManyResults(t *testing.T) {
	t.Parallel()
	h := hosted(t, `
      - {id: l, for: {each: "${{ trigger.body }}"}, steps: [{id: a, set: 1}], result: "${{ item }}"}`)
	list := "[0" + strings.Repeat(",0", flow.MaxResults) + "]"
	if got := describe(t, h.once("main", `{"body":`+list+`}`)); got != "limit@l: a loop with result makes at most 10000 rounds" {
		t.Error(got)
	}
}

func TestLongRow(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"csv", "json-lines"} {
		h := hosted(t, `
      - {id: l, for: {each: {rows: "${{ trigger.body }}", format: `+format+`}}, steps: [{id: a, set: 1}]}`)
		got := describe(t, h.once("main", `{"body":"`+strings.Repeat("x", 3*MaxRow)+`"}`))
		if !strings.HasPrefix(got, "limit@l: row 1 is longer than") {
			t.Errorf("%s: %s", format, got)
		}
	}
}

// FuzzServe throws frames at a bound worker: it may end the link, and nothing else.
func FuzzServe(f *testing.F) {
	for seed := range uint64(12) {
		f.Add(seed)
	}
	i := steps(f, "      - {id: a, uses: api.request, with: {path: /a}, retry: {attempts: 3, delay: PT0.001S}}\n      - {id: b, code: \"export default () => 1\"}\n      - {id: c, wait: {callback: {timeout: PT1H}}}\n")
	f.Fuzz(func(t *testing.T, seed uint64) {
		h := newHost(t, i)
		h.egress, h.hostile = world(), true
		h.code = func(*wire.CodeCall) *wire.CodeResult { return &wire.CodeResult{Output: []byte("1")} }
		l := h.connect()
		<-l.bound
		r := rand.New(rand.NewPCG(seed, 1))
		e := h.add("main", `{"body":1}`)
		l.give(e)
		for range 1 + r.IntN(20) {
			_, _ = l.conn.Write(randomFrame(r, e))
		}
		_ = l.conn.Close()
		select {
		case <-l.served:
		case <-time.After(30 * time.Second):
			t.Fatal("Serve does not end")
		}
	})
}

// randomFrame is a frame that is more or less what a runner might send.
func randomFrame(r *rand.Rand, e id.Execution) []byte {
	noise := make([]byte, r.IntN(80))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	n := r.Uint64N(6)
	var m wire.Typed
	switch r.IntN(12) {
	case 0:
		m = &wire.Appended{Execution: e, Fence: 1, Seq: uint32(n), Stale: n == 5}
	case 1:
		m = &wire.Answer{Call: n, Sealed: noise}
	case 2:
		m = &wire.Answer{Call: n, Error: "gone"}
	case 3:
		m = &wire.Wake{Execution: e, Fence: 1, Entry: wire.Entry{Kind: wire.EntryWake, Path: "c", Epoch: uint32(n), Body: noise}}
	case 4:
		m = &wire.SandboxReady{Execution: e, Fence: 1, Key: seal.PublicKey(sha256.Sum256(noise))}
	case 5:
		m = &wire.SandboxResult{Execution: e, Fence: 1, Call: n, Sealed: noise}
	case 6:
		m = &wire.SandboxGone{Execution: e, Fence: 1, Exit: string(noise)}
	case 7:
		m = &wire.Cancel{Execution: e, Fence: n}
	case 8:
		m = &wire.Unit{Executions: []wire.UnitExecution{{Execution: e, Fence: n, Flow: "main", Event: noise, Journal: []wire.Entry{{Kind: wire.EntryResult, Path: "a", Body: noise}}}}}
	case 9:
		m = &wire.BlobChunk{Call: n, Data: noise}
	case 10:
		m = &wire.Renew{Lease: noise}
	default:
		return wire.AppendRaw(nil, wire.Frame{Type: wire.Type(r.IntN(60)), Body: noise})
	}
	return wire.AppendFrame(nil, m)
}

// TestFramesFit makes everything as large as it may be: nothing leaves the worker that a reader would refuse.
func TestFramesFit(t *testing.T) {
	t.Parallel()
	h := hosted(t, `
      - {id: s, code: "export default () => 1"}
      - {id: l, for: {each: "${{ trigger.body }}", parallel: 16, on_error: continue}, steps: [{id: a, uses: api.request, with: {method: POST, path: /a, body: "${{ steps.s }}"}}]}
      - {id: big, try: [{id: h, uses: api.request, with: {path: /h, headers: {x-big: "${{ steps.s.s + steps.s.s + steps.s.s }}"}}}], catch: {steps: [{id: c, set: "${{ error.type }}"}]}}
      - {id: out, return: "${{ [steps.big, steps.s] }}"}`[1:])
	big := `{"s":"` + strings.Repeat("x", 1_900_000) + `"}`
	h.code = func(*wire.CodeCall) *wire.CodeResult { return &wire.CodeResult{Output: []byte(big)} }
	h.egress = func(*wire.Request) *wire.Response {
		return jsonAnswer(200, `"`+strings.Repeat("y", MaxInline-100)+`"`)
	}
	h.cut = func(_ int, a *wire.Append) cutting {
		if n := len(wire.AppendFrame(nil, a)); n > wire.MaxFrame {
			t.Errorf("an append of %d bytes", n)
		}
		return goOn
	}
	if got := h.once("main", `{"body":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}`); !strings.HasPrefix(got.Output, `["limit",{"s":"xx`) {
		t.Errorf("%d %s %.200s", got.Status, got.Type, got.Output)
	}
	if got := describe(t, h.once("main", `{"body":[],"headers":"`+strings.Repeat("z", 100)+`"}`)); !strings.HasPrefix(got, `["limit"`) {
		t.Errorf("%.200s", got)
	}
}
