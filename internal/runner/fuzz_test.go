package runner

import (
	"testing"
	"testing/synctest"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// seeds are frames of every type, empty, as a fuzzer's beginning.
func seeds(f *testing.F) {
	f.Helper()
	for kind := range 60 {
		f.Add(byte(kind), []byte{})
		f.Add(byte(kind), make([]byte, 40))
	}
}

// FuzzHandle gives the runner frames of servers and egress nodes: nothing panics, and
// what runs goes on.
func FuzzHandle(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		perform(t, Config{}, func(s *stage) {
			for _, topic := range []wire.Topic{wire.TopicUnit, wire.TopicAnswer, wire.TopicWork} {
				s.Handle(node(), topic, wire.Frame{Type: wire.Type(kind), Body: body}, nil)
			}
			if s.offender.wasKilled() {
				t.Error("a worker was killed")
			}
			if what := s.harm(); what != "" {
				t.Error(what)
			}
		})
	})
}

// FuzzWorker gives the runner frames of a worker and of a sandbox: only they are hurt.
func FuzzWorker(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		if len(body) > 1<<16 {
			return
		}
		perform(t, Config{}, func(s *stage) {
			s.offender.send(&wire.SandboxWant{Execution: s.own, Fence: stageFence})
			box := s.sandbox()
			all := wire.AppendRaw(nil, wire.Frame{Type: wire.Type(kind), Body: body})
			box.raw(all)
			box.raw(body)
			// The same about the worker's own execution.
			s.offender.raw(wire.AppendRaw(nil, wire.Frame{Type: wire.Type(kind), Body: append(append([]byte{}, s.own[:]...), body...)}))
			s.offender.raw(all)
			s.offender.raw(body)
			synctest.Wait()
			if what := s.harm(); what != "" {
				t.Error(what)
			}
		})
	})
}
