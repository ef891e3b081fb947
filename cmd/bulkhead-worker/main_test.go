//go:build linux && (amd64 || arm64)

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func spawner(t testing.TB) *jail.Spawner {
	t.Helper()
	out := filepath.Join(t.TempDir(), "bulkhead-worker")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	image, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("binary of %d bytes", len(image))
	s, _, err := jail.NewSpawner(jail.SpawnerConfig{Worker: image})
	if err != nil {
		t.Skipf("no jail on this host: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func read(t testing.TB, r *wire.Reader, m wire.Typed) {
	t.Helper()
	f, err := r.Read()
	if err == nil {
		err = f.Parse(m)
	}
	if err != nil {
		t.Fatalf("read %v: %v", m.FrameType(), err)
	}
}

// session is a worker in its jail, bound to one instance.
type session struct {
	p        *jail.Process
	in       *wire.Reader
	customer id.Customer
	day      lease.Day
	payload  *seal.PrivateKey
}

const definition = `{"bulkhead": 1, "integration": "t", "flows": {"main": {"trigger": {"manual": {}}, "steps": [{"id": "out", "set": "${{ [trigger.body.a + 1, formatTime(parseTime('2026-07-01T00:00:00Z'), 'yyyy-MM-dd HH:mm', 'Europe/Vienna')] }}"}]}}}`

func bound(t testing.TB, s *jail.Spawner) *session {
	t.Helper()
	p, err := s.Start(context.Background(), jail.KindWorker)
	if err != nil {
		t.Fatal(err)
	}
	x := &session{p: p, in: wire.NewReader(p.Conn), customer: id.NewCustomer(time.Now()), day: lease.DayOf(time.Now()) + 9}
	var hello wire.WorkerHello
	read(t, x.in, &hello)
	doc, problems := flowfile.Decode("t.json", []byte(definition))
	if doc == nil {
		t.Fatal(problems)
	}
	x.bind(t, hello.Key, doc.Integration)
	return x
}

func (x *session) bind(t testing.TB, worker seal.PublicKey, i *flow.Integration) {
	t.Helper()
	var err error
	if x.payload, err = seal.GenerateKey(); err != nil {
		t.Fatal(err)
	}
	key := make([]byte, 32)
	l := &lease.Worker{
		Lease: id.NewLease(time.Now()), Customer: x.customer, Definition: i.Digest(), Expires: time.Now().Add(time.Minute),
		Payload:     []lease.PayloadKey{{Day: x.day, Private: x.payload.Bytes()}},
		InstanceKey: key, IdempotencyKey: key, Channel: key, ServerKey: x.payload.Public(),
	}
	sealed, err := lease.SealWorker(worker, l)
	if err != nil {
		t.Fatal(err)
	}
	text, err := i.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.p.Conn.Write(wire.AppendFrame(nil, &wire.Bind{Lease: sealed, Definition: text})); err != nil {
		t.Fatal(err)
	}
	var m wire.Bound
	if read(t, x.in, &m); m.Error != "" {
		t.Fatal(m.Error)
	}
}

// execute runs one event and returns the output.
func (x *session) execute(t testing.TB, event string) string {
	t.Helper()
	e, ev := id.NewExecution(time.Now()), id.NewEvent(time.Now())
	sealed, err := seal.NewSealer(x.payload.Public(), lease.PurposePayload).Seal(nil, time.Now(), lease.EventPlace(x.customer, ev, x.day), []byte(event))
	if err != nil {
		t.Fatal(err)
	}
	unit := &wire.Unit{Executions: []wire.UnitExecution{{Execution: e, Fence: 1, Flow: "main", Day: uint32(x.day), EventID: ev, Event: sealed}}}
	if _, err := x.p.Conn.Write(wire.AppendFrame(nil, unit)); err != nil {
		t.Fatal(err)
	}
	var a wire.Append
	read(t, x.in, &a)
	if a.Finish == nil {
		t.Fatalf("append without a finish: %+v", a)
	}
	plain, err := seal.NewOpener(x.payload, lease.PurposePayload).Open(nil, lease.OutputPlace(x.customer, e, a.Finish.Status), a.Finish.Output)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.p.Conn.Write(wire.AppendFrame(nil, &wire.Appended{Execution: e, Fence: 1, Seq: uint32(len(a.Entries))})); err != nil {
		t.Fatal(err)
	}
	var r wire.Released
	read(t, x.in, &r)
	return string(plain)
}

// TestInJail runs a flow in the real process behind the real wall: everything it needs at run time, time zones too, is in it.
func TestInJail(t *testing.T) {
	t.Parallel()
	x := bound(t, spawner(t))
	if got, want := x.execute(t, `{"body":{"a":41}}`), `[42,"2026-07-01 02:00"]`; got != want {
		t.Errorf("output %s, want %s", got, want)
	}
	_ = x.p.Conn.Close()
	exit := x.p.Wait()
	if exit.Reason != jail.ReasonClean {
		t.Errorf("the worker ended with %v: %+v", exit.Reason, exit)
	}
	t.Logf("start, bind, one execution, exit: %v of CPU, %d MiB", exit.CPU, exit.MaxRSS>>20)
}

func TestRefusesToStartAlone(t *testing.T) {
	t.Parallel()
	if err := run([]string{"bulkhead-worker"}); err == nil {
		t.Error("it started without a jail")
	}
}

// TestImports asserts that nothing is linked that could reach further than a worker may.
func TestImports(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "github.com/bulkheadhq/bulkhead/internal/worker") {
		t.Fatal("the list of imports is not the worker's")
	}
	for _, d := range deps {
		for _, denied := range []string{
			"database/sql", "net/http", "crypto/tls", "github.com/nats-io/", "modernc.org/", "github.com/jackc/", "github.com/goccy/go-yaml",
			"bulkhead/internal/vault", "bulkhead/internal/keystore", "bulkhead/internal/store", "bulkhead/internal/dial", "bulkhead/internal/egress",
			"bulkhead/internal/flowfile", "bulkhead/internal/bus", "bulkhead/internal/secret", "github.com/grafana/sobek",
		} {
			if d == denied || strings.Contains(d, denied) {
				t.Errorf("the worker imports %s", d)
			}
		}
	}
}

// BenchmarkStart is what a worker costs before it is bound: start in the jail, key, expression environment, exit.
func BenchmarkStart(b *testing.B) {
	s := spawner(b)
	var cpu time.Duration
	var rss int64
	b.ResetTimer()
	for range b.N {
		p, err := s.Start(context.Background(), jail.KindWorker)
		if err != nil {
			b.Fatal(err)
		}
		var hello wire.WorkerHello
		read(b, wire.NewReader(p.Conn), &hello)
		_ = p.Conn.Close()
		exit := p.Wait()
		cpu += exit.CPU
		rss = max(rss, exit.MaxRSS)
	}
	b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(rss)/(1<<20), "rss-MiB")
}
