package sandbox

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// A peer is the worker's end of a sandbox's pipe.
type peer struct {
	t         *testing.T
	conn      net.Conn
	frames    *wire.Reader
	channel   *seal.Channel
	execution id.Execution
	fence     uint64
	calls     uint64
	served    chan error // what Serve returned
}

// newPeer starts a sandbox and opens the channel to it.
func newPeer(t *testing.T, o Options) *peer {
	t.Helper()
	here, there := net.Pipe()
	p := &peer{t: t, conn: here, frames: wire.NewReader(here), execution: id.Execution{1}, fence: 7, served: make(chan error, 1)}
	go func() {
		p.served <- Serve(there, o)
		there.Close()
	}()
	t.Cleanup(func() { here.Close() })
	var hello wire.SandboxHello
	p.receive(&hello)
	channel, encapsulation, err := seal.Connect(hello.Key, lease.PurposeSandbox)
	if err != nil {
		t.Fatal(err)
	}
	p.channel = channel
	p.send(&wire.SandboxOpen{Execution: p.execution, Fence: p.fence, Encapsulation: encapsulation})
	return p
}

func (p *peer) send(m wire.Typed) {
	p.t.Helper()
	if _, err := p.conn.Write(wire.AppendFrame(nil, m)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) receive(m wire.Typed) {
	p.t.Helper()
	frame, err := p.frames.Read()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := frame.Parse(m); err != nil {
		p.t.Fatal(err)
	}
}

// request is the frame of a call.
func (p *peer) request(call *wire.CodeCall) *wire.SandboxRun {
	p.calls++
	m := &wire.SandboxRun{Execution: p.execution, Fence: p.fence, Call: p.calls}
	m.Sealed = p.channel.Seal(nil, m.Place(), wire.AppendBody(nil, call))
	return m
}

// call runs one code step.
func (p *peer) call(call *wire.CodeCall) wire.CodeResult {
	p.t.Helper()
	p.send(p.request(call))
	var m wire.SandboxResult
	p.receive(&m)
	if m.Execution != p.execution || m.Fence != p.fence || m.Call != p.calls {
		p.t.Fatalf("the answer is to call %d of %v, want %d of %v", m.Call, m.Execution, p.calls, p.execution)
	}
	plain, err := p.channel.Open(nil, m.Place(), m.Sealed)
	if err != nil {
		p.t.Fatal(err)
	}
	var result wire.CodeResult
	if err := wire.ParseBody(plain, &result); err != nil {
		p.t.Fatal(err)
	}
	return result
}

// ended waits for Serve to return.
func (p *peer) ended() error { return <-p.served }

func TestServe(t *testing.T) {
	p := newPeer(t, Options{})
	got := p.call(&wire.CodeCall{
		Source: "export default ({a}) => { console.warn('w'); return {a: a + 1, now: Date.now(), random: Math.random()} }",
		Input:  []byte(`{"a": 1}`), Now: recorded, Seed: [16]byte{7: 1, 15: 2}, Timeout: time.Second,
	})
	want := wire.CodeResult{
		Output: []byte(`{"a":2,"now":1700000000123,"random":0.7693732693650721}`),
		Logs:   []wire.CodeLog{{Level: "warn", Text: "w"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("first call (-want +got)\n%s", diff)
	}
	got = p.call(&wire.CodeCall{Source: "const f = () => { throw new Error('e') };\nexport default () => f()", Name: "score", Input: []byte("1")})
	want = wire.CodeResult{
		ErrorKind: "throw", Message: "Error: e", Line: 1, Column: 25,
		Stack: "at f (score:1:25)\nat default (score:2:23)\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("second call (-want +got)\n%s", diff)
	}
	p.send(&wire.SandboxClose{Execution: p.execution, Fence: p.fence})
	if err := p.ended(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestServeKeepsNothing proves that a code step leaves nothing to the next one of the same execution, whether it is the
// same program or another.
func TestServeKeepsNothing(t *testing.T) {
	p := newPeer(t, Options{})
	source := `
		let count = 0;
		export default () => {
			const seen = [count++, globalThis.left, {}.polluted, [].map.tainted, JSON.parse.tainted, typeof leaked];
			globalThis.left = 1;
			Object.prototype.polluted = 1;
			Array.prototype.map.tainted = 1;
			JSON.parse.tainted = 1;
			JSON.stringify = () => "tainted";
			(0, function () { this.leaked = 1 }).call(globalThis);
			return seen.map(String);
		}`
	want := `["0","undefined","undefined","undefined","undefined","undefined"]`
	for i, s := range []string{source, source, source + " // another program"} {
		got := p.call(&wire.CodeCall{Source: s, Input: []byte("1"), Timeout: time.Second})
		if string(got.Output) != want {
			t.Errorf("call %d: got %s %s, want %s", i, got.Output, got.Message, want)
		}
	}
}

func TestServeRefuses(t *testing.T) {
	call := &wire.CodeCall{Source: "export default () => 1", Input: []byte("1")}
	for name, misbehave := range map[string]func(p *peer){
		"a second channel": func(p *peer) {
			p.send(&wire.SandboxOpen{Execution: p.execution, Fence: p.fence, Encapsulation: make([]byte, 32)})
		},
		"a call of another execution": func(p *peer) {
			m := p.request(call)
			m.Execution[0]++
			p.send(m)
		},
		"a call of another fence": func(p *peer) {
			m := p.request(call)
			m.Fence++
			p.send(m)
		},
		"a call under another number": func(p *peer) {
			m := p.request(call)
			m.Call++
			p.send(m)
		},
		"a replayed call": func(p *peer) {
			m := p.request(call)
			p.send(m)
			p.receive(&wire.SandboxResult{})
			p.send(m)
		},
		"a forged call": func(p *peer) {
			m := p.request(call)
			m.Sealed[len(m.Sealed)-1]++
			p.send(m)
		},
		"a sealed body that is no call": func(p *peer) {
			m := &wire.SandboxRun{Execution: p.execution, Fence: p.fence, Call: 1}
			m.Sealed = p.channel.Seal(nil, m.Place(), []byte("?"))
			p.send(m)
		},
		"a frame for someone else": func(p *peer) { p.send(&wire.Error{Code: "x"}) },
		"a frame that is none":     func(p *peer) { _, _ = p.conn.Write([]byte("GET / HTTP/1.1\r\n")) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, Options{})
			misbehave(p)
			if err := p.ended(); err == nil {
				t.Error("the sandbox went on")
			}
		})
	}
}

func TestServeBeforeOpen(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	served := make(chan error, 1)
	go func() { served <- Serve(there, Options{}) }()
	if _, err := wire.NewReader(here).Read(); err != nil {
		t.Fatal(err)
	}
	if _, err := here.Write(wire.AppendFrame(nil, &wire.SandboxRun{})); err != nil {
		t.Fatal(err)
	}
	if err := <-served; !errors.Is(err, errOutOfOrder) {
		t.Errorf("got %v, want %v", err, errOutOfOrder)
	}
}

// TestServeEndsAbandoned proves that a sandbox whose engine does not stop answers first and then serves no more.
func TestServeEndsAbandoned(t *testing.T) {
	if !alone(t) {
		return
	}
	p := newPeer(t, Options{})
	got := p.call(&wire.CodeCall{
		Source: `export default () => /(a+)+b\1/.test("a".repeat(40))`, Input: []byte("1"), Timeout: 50 * time.Millisecond,
	})
	if got.ErrorKind != string(KindTimeout) || !strings.Contains(got.Message, "50ms") {
		t.Errorf("got %q %q, want a timeout", got.ErrorKind, got.Message)
	}
	if err := p.ended(); err != nil {
		t.Errorf("serve: %v", err)
	}
	if _, err := p.frames.Read(); !errors.Is(err, io.EOF) {
		t.Errorf("read after the end: %v", err)
	}
}

// TestServeChecks proves that a call without input compiles and runs nothing.
func TestServeChecks(t *testing.T) {
	p := newPeer(t, Options{})
	got := p.call(&wire.CodeCall{Source: "throw new Error('it ran');\nexport default () => 1"})
	if diff := cmp.Diff(wire.CodeResult{}, got); diff != "" {
		t.Errorf("good code (-want +got)\n%s", diff)
	}
	got = p.call(&wire.CodeCall{Source: "export default () => { let x = ; }"})
	want := wire.CodeResult{ErrorKind: "syntax", Message: "Unexpected token ;", Line: 1, Column: 32}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("bad code (-want +got)\n%s", diff)
	}
}

// TestServeBudget proves that a call cannot have more memory than the process.
func TestServeBudget(t *testing.T) {
	s := &server{memory: 64 << 20}
	for asked, want := range map[uint64]int64{0: 48 << 20, 1 << 20: 1 << 20, 1 << 63: 48 << 20} {
		if got := s.budget(asked); got != want {
			t.Errorf("budget(%d) = %d, want %d", asked, got, want)
		}
	}
}
