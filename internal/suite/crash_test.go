package suite

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/engine"
)

const crashFlows = `bulkhead: 1
integration: crash
title: Crash
connections:
  bearer: {connector: http, title: Bearer}
flows:
  effects:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps:
      - {id: before, uses: bearer.request, with: {method: POST, path: /answer/before, body: {a: 1}}}
      - {id: held, uses: bearer.request, with: {method: POST, path: /hold/effect, body: {a: "${{ steps.before.body.n }}"}}}
      - {id: after, uses: bearer.request, with: {method: POST, path: /answer/after, body: {a: 2}}}
      - {id: out, return: {n: "${{ steps.after.body.n }}"}}
  code:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps:
      - {id: before, uses: bearer.request, with: {method: POST, path: /answer/code, body: {a: 1}}}
      - {id: s, timeout: PT50S, code: "export default () => { for (;;); }"}
`

// TestKilledWorker kills the worker in the middle of a request. The execution goes on in
// another one: what was done is not done again, what was interrupted is asked again with
// the same idempotency key.
func TestKilledWorker(t *testing.T) {
	t.Parallel()
	needSystem(t)
	m := newMarks()
	w := newWorld(t, m)
	s := startSystem(t, false)
	_, i := s.deploy(crashFlows, nil, m.accounts(w.URL, closedPort(t)))
	const kills = 2
	x := s.start(i, "effects", nil)
	for n := range kills {
		w.hold()
		t.Logf("kill %d: worker %d, while its request is held", n+1, s.kill("worker", s.busy))
	}
	last := w.hold()
	close(last.release)
	e := x.wait()
	if e.status != "completed" || e.output != `{"n":7}` {
		t.Errorf("the execution ends as %s %s %s", e.status, e.errorType, e.output)
	}
	before, held, after := w.keysOf("/answer/before"), w.keysOf("/hold/effect"), w.keysOf("/answer/after")
	if len(before) != 1 || len(after) != 1 {
		t.Errorf("a finished step was repeated: %d requests before the interruption, %d after it, want 1 each", len(before), len(after))
	}
	if len(held) != kills+1 || len(slices.Compact(slices.Clone(held))) != 1 {
		t.Errorf("the interrupted request came %d times with the keys %v, want %d times with one key", len(held), held, kills+1)
	}
	// Red twin: the comparison sees different keys where they must differ.
	if len(before) == 1 && len(after) == 1 && len(held) > 0 && (before[0] == held[0] || held[0] == after[0]) {
		t.Error("red twin: different steps have the same key, so the same key proves nothing")
	}
	// An execution whose workers always die ends, as a fault that has a type.
	y := s.start(i, "effects", nil)
	for range engine.MaxKills {
		w.hold()
		s.kill("worker", s.busy)
	}
	if e := y.wait(); e.status != "faulted" || e.errorType == "" {
		t.Errorf("an execution whose workers always die ends as %s %s", e.status, e.errorType)
	} else {
		t.Logf("crash: worker killed %d times: %s %s %s", engine.MaxKills, e.status, e.errorType, e.output)
	}
	t.Logf("crash: worker killed %d times in a request: completed; requests before/interrupted/after %d/%d/%d, distinct keys 1/%d/1", kills, len(before), len(held), len(after), len(slices.Compact(slices.Clone(held))))
}

// kill sends SIGKILL to one child of a kind that matches, waits until it is gone, and
// returns its process id.
func (s *system) kill(name string, match func(process) bool) (killed int) {
	s.t.Helper()
	s.eventually("a "+name+" to kill", func() bool {
		for _, p := range s.children() {
			if p.name == name && match(p) && syscall.Kill(p.pid, syscall.SIGKILL) == nil {
				s.eventually("its end", func() bool { return !slices.Contains(s.children(), p) })
				killed = p.pid
				return true
			}
		}
		return false
	})
	return killed
}

// killAll sends SIGKILL to every child of a kind and waits until all are gone.
func (s *system) killAll(name string) {
	s.t.Helper()
	var killed []process
	for _, p := range s.children() {
		if p.name == name && syscall.Kill(p.pid, syscall.SIGKILL) == nil {
			killed = append(killed, p)
		}
	}
	if len(killed) == 0 {
		s.t.Fatalf("there is no %s to kill", name)
	}
	s.eventually("their end", func() bool {
		return !slices.ContainsFunc(s.children(), func(p process) bool { return slices.Contains(killed, p) })
	})
}

// busy reports whether a worker is bound to the instance of this file: the definition is in its memory.
func (s *system) busy(p process) bool {
	hits, _, err := newSearcher([]*mark{{name: "definition", class: event, core: `integration":"crash`}}).memory(p)
	return err == nil && len(hits) > 0
}

// TestKilledSandbox kills the sandbox while code runs in it.
func TestKilledSandbox(t *testing.T) {
	t.Parallel()
	needSystem(t)
	m := newMarks()
	w := newWorld(t, m)
	s := startSystem(t, false)
	_, i := s.deploy(crashFlows, nil, m.accounts(w.URL, closedPort(t)))
	x := s.start(i, "code", nil)
	s.kill("sandbox", func(p process) bool { return cpuTicks(p.pid) > 20 })
	e := x.wait()
	if e.status != "faulted" || !slices.Contains([]string{"code", "limit", "timeout", "interrupted"}, e.errorType) {
		t.Errorf("the execution ends as %s %s %s, want a typed fault", e.status, e.errorType, e.output)
	}
	if strings.Contains(e.output, "goroutine") || strings.Contains(e.output, "signal") {
		t.Errorf("the fault shows how the process ended: %s", e.output)
	}
	if n := len(w.keysOf("/answer/code")); n != 1 {
		t.Errorf("the step before was done %d times", n)
	}
	// The system goes on: the next one runs in another sandbox.
	y := s.start(i, "code", nil)
	s.kill("sandbox", func(p process) bool { return cpuTicks(p.pid) > 20 })
	if e := y.wait(); e.status != "faulted" {
		t.Errorf("the second execution ends as %s", e.status)
	}
	t.Logf("crash: sandbox killed in its code, twice: %s %s %s", e.status, e.errorType, e.output)
}
