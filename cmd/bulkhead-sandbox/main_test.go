//go:build linux && (amd64 || arm64)

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func build(t testing.TB) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "bulkhead-sandbox")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	image, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func spawner(t testing.TB) *jail.Spawner {
	t.Helper()
	s, _, err := jail.NewSpawner(jail.SpawnerConfig{Sandbox: build(t)})
	if err != nil {
		t.Skipf("no jail on this host: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// once starts a sandbox, runs one code step in it and tells how both ended.
func once(s *jail.Spawner, call *wire.CodeCall) (result wire.CodeResult, exit jail.Exit, err error) {
	p, err := s.Start(context.Background(), jail.KindSandbox)
	if err != nil {
		return result, exit, fmt.Errorf("start: %w", err)
	}
	defer p.Conn.Close()
	err = exchange(p.Conn, call, &result)
	p.Conn.Close()
	return result, p.Wait(), err
}

func exchange(conn io.ReadWriter, call *wire.CodeCall, result *wire.CodeResult) error {
	frames := wire.NewReader(conn)
	var hello wire.SandboxHello
	if err := read(frames, &hello); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	channel, encapsulation, err := seal.Connect(hello.Key, lease.PurposeSandbox)
	if err != nil {
		return err
	}
	execution := id.Execution{1}
	out := wire.AppendFrame(nil, &wire.SandboxOpen{Execution: execution, Encapsulation: encapsulation})
	m := &wire.SandboxRun{Execution: execution, Call: 1}
	m.Sealed = channel.Seal(nil, m.Place(), wire.AppendBody(nil, call))
	if _, err := conn.Write(wire.AppendFrame(out, m)); err != nil {
		return err
	}
	var answer wire.SandboxResult
	if err := read(frames, &answer); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	plain, err := channel.Open(nil, answer.Place(), answer.Sealed)
	if err != nil {
		return err
	}
	return wire.ParseBody(plain, result)
}

func read(r *wire.Reader, m wire.Typed) error {
	frame, err := r.Read()
	if err != nil {
		return err
	}
	return frame.Parse(m)
}

// TestInJail runs code steps in the real process behind the real wall. What the engine cannot end by itself must end the
// process with a reason, never hang and never answer.
func TestInJail(t *testing.T) {
	t.Parallel()
	s := spawner(t)
	for _, c := range []struct {
		name, source string
		want         string // the output, or the error's kind; several are separated by |
		died         bool   // ending the process without an answer is right as well
	}{
		{"plain", "export default ({a}) => ({b: a + 1, at: new Date(2026, 0).toISOString()})", `{"b":2,"at":"2026-01-01T00:00:00.000Z"}`, false},
		{"throw", "export default () => { throw new Error('e') }", "throw", false},
		{"loop", "export default () => { for (;;); }", "timeout", false},
		{"backtracking", `export default () => /(a+)+b\1/.test("a".repeat(40))`, "timeout", false},
		{"recursion", "export default () => { const f = () => [1].map(f); f() }", "throw", false},
		{"recursion through everything", `export default () => { const p = new Proxy({}, {get: (t, k, r) => [1, 2].sort(() => ` + "`${r.x}`" + `)}); return p.x }`, "throw|timeout", true},
		{"objects", "export default () => { const a = []; for (;;) a.push({}) }", "memory|timeout", true},
		{"texts", "export default () => { let s = 'x'; for (;;) s += s }", "memory", true},
		{"buffer", "export default () => new Uint8Array(2 ** 31).fill(1).length", "memory|throw", true},
		{"buffers", "export default () => { const a = []; for (;;) a.push(new Uint8Array(1e6).fill(1)) }", "memory", true},
		{"deep result", "export default () => { let a = []; for (let i = 0; i < 1e6; i++) a = [a]; return String(a) }", "memory|timeout", true},
		{"proxies", "export default () => { let a = {}; for (let i = 0; i < 1e6; i++) a = new Proxy(a, {}); return a.x }", "memory|timeout", true},
		{"bound", "export default () => { let f = () => 1; for (let i = 0; i < 1e6; i++) f = f.bind(); return f() }", "memory|timeout|throw", true},
		{"nested source", "export default " + strings.Repeat("x=>", 100_000) + "1", "memory|syntax", true},
		{"power", "export default () => (3n ** (10n ** 8n)) % 7n === 1n", "timeout|memory", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			limit := time.Minute // what must end for another reason may be slow on a busy machine
			if strings.Contains(c.want, "timeout") {
				limit = 2 * time.Second
			}
			result, exit, err := once(s, &wire.CodeCall{Source: c.source, Input: []byte(`{"a": 1}`), Timeout: limit})
			if err != nil {
				if !c.died {
					t.Fatalf("no answer: %v, exit %+v", err, exit)
				}
				if exit.Reason != jail.ReasonMemory && exit.Reason != jail.ReasonCPU {
					t.Errorf("ended with %v (%+v), want memory or cpu: %v", exit.Reason, exit, err)
				}
				return
			}
			got := result.ErrorKind
			if got == "" {
				got = string(result.Output)
			}
			if !slices.Contains(strings.Split(c.want, "|"), got) {
				t.Errorf("got %s %s, want %s", got, result.Message, c.want)
			}
			if exit.Reason != jail.ReasonClean {
				t.Errorf("after its answer the process ended with %v (%+v)", exit.Reason, exit)
			}
		})
	}
}

func TestRefusesToStartAlone(t *testing.T) {
	t.Parallel()
	if err := run([]string{"bulkhead-sandbox"}); err == nil {
		t.Error("it started without a jail")
	}
}

// BenchmarkSandbox is one execution with one code step: start in the jail, key, channel, run, exit.
func BenchmarkSandbox(b *testing.B) {
	s := spawner(b)
	call := &wire.CodeCall{
		Source: "export default ({lead, company}) => ({points: company.employees > 50 ? 40 : 0, mail: lead.email})",
		Input:  []byte(`{"lead":{"email":"a@b.example"},"company":{"employees":51}}`), Timeout: time.Second,
	}
	var cpu time.Duration
	var rss int64
	b.ResetTimer()
	for range b.N {
		result, exit, err := once(s, call)
		if err = errors.Join(err); err != nil || result.ErrorKind != "" {
			b.Fatal(err, result.Message, exit)
		}
		cpu += exit.CPU
		rss = max(rss, exit.MaxRSS)
	}
	b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(rss)/(1<<20), "rss-MiB")
}
