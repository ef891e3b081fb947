package runner

import (
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// sandbox is one sandbox process. It waits as a spare until it gets the one
// execution that it serves. Guarded by the runner's mutex, except out.
type sandbox struct {
	r       *Runner
	process *jail.Process
	out     *wire.Writer
	end     *time.Timer // kills it at the end of its life

	greeted   bool
	key       seal.PublicKey
	execution id.Execution // zero while spare
	fence     uint64
	worker    *worker
	killed    bool
}

// startSandbox starts a jailed sandbox process. The caller holds mu.
func (r *Runner) startSandbox() (*sandbox, error) {
	ctx, cancel := bindContext()
	defer cancel()
	p, err := r.cfg.Jail.Start(ctx, jail.KindSandbox)
	if err != nil {
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	s := &sandbox{r: r, process: p, out: wire.NewFailingWriter(p.Conn)}
	r.boxes++
	r.processes.Go(func() error { s.serve(); return nil })
	return s, nil
}

// sandboxFrame takes a worker's frame about the sandbox of an execution it holds.
func (r *Runner) sandboxFrame(w *worker, h *held, f wire.Frame) error {
	e, _, _ := wire.Scope(f)
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[e]
	switch f.Type {
	case wire.TypeSandboxWant:
		if s != nil {
			return fmt.Errorf("%w: a second sandbox for an execution", errProtocol)
		}
		r.giveSandbox(w, e, h.fence)
	case wire.TypeSandboxClose:
		r.endSandbox(e)
	default:
		if s != nil && s.out.WriteRaw(f) != nil {
			s.kill()
		}
	}
	return nil
}

// giveSandbox assigns a sandbox to an execution. The caller holds mu.
func (r *Runner) giveSandbox(w *worker, e id.Execution, fence uint64) {
	var s *sandbox
	if n := len(r.spareBoxes); n > 0 {
		s = r.spareBoxes[n-1]
		r.spareBoxes = r.spareBoxes[:n-1]
		r.due()
	} else if r.boxes < r.cfg.Sandboxes {
		var err error
		if s, err = r.startSandbox(); err != nil {
			r.cfg.Log.Error("start sandbox", "err", err)
		}
	}
	if s == nil {
		w.write(&wire.SandboxGone{Execution: e, Fence: fence, Exit: "unavailable"})
		return
	}
	s.execution, s.fence, s.worker = e, fence, w
	s.end = time.AfterFunc(sandboxLife, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		s.kill()
	})
	r.sandboxes[e] = s
	if s.greeted {
		w.write(&wire.SandboxReady{Execution: e, Fence: fence, Key: s.key})
	}
}

// endSandbox kills the sandbox of an execution, if it has one. The caller holds mu.
func (r *Runner) endSandbox(e id.Execution) {
	if s := r.sandboxes[e]; s != nil {
		delete(r.sandboxes, e)
		s.worker = nil
		s.kill()
	}
}

// kill ends the process. The caller holds mu.
func (s *sandbox) kill() {
	if s.killed {
		return
	}
	s.killed = true
	if s.end != nil {
		s.end.Stop()
	}
	if err := s.process.Kill(); err != nil {
		s.r.cfg.Log.Error("kill sandbox", "err", err)
	}
}

// errSandbox ends a sandbox that says what it may not.
var errSandbox = errors.New("sandbox broke the protocol")

func (s *sandbox) serve() {
	in := wire.NewReader(s.process.Conn)
	var err error
	for err == nil {
		var f wire.Frame
		if f, err = in.Read(); err == nil {
			err = s.handle(f)
		}
	}
	broke := errors.Is(err, errSandbox) || errors.Is(err, wire.ErrMalformed)
	s.r.mu.Lock()
	if broke {
		s.kill()
	}
	s.r.mu.Unlock()
	exit := s.process.Wait()
	_ = s.process.Conn.Close()
	_ = s.out.Close()
	s.r.sandboxGone(s, exit, broke)
}

func (s *sandbox) handle(f wire.Frame) error {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	switch {
	case f.Type == wire.TypeSandboxHello && !s.greeted:
		var m wire.SandboxHello
		if err := f.Parse(&m); err != nil {
			return err
		}
		s.key, s.greeted = m.Key, true
		if s.worker != nil {
			s.worker.write(&wire.SandboxReady{Execution: s.execution, Fence: s.fence, Key: s.key})
		}
		return nil
	case f.Type == wire.TypeSandboxResult && s.worker != nil:
		if e, fence, ok := wire.Scope(f); !ok || e != s.execution || fence != s.fence {
			return fmt.Errorf("%w: a result of another execution", errSandbox)
		}
		_ = s.worker.relay(f) // its end is noticed where it is read
		return nil
	case s.killed:
		return nil
	default:
		return fmt.Errorf("%w: a %v frame", errSandbox, f.Type)
	}
}

// sandboxGone tells the worker how its sandbox ended, unless the worker ended it.
func (r *Runner) sandboxGone(s *sandbox, exit jail.Exit, broke bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.boxes--
	for i, spare := range r.spareBoxes {
		if spare == s {
			r.spareBoxes = append(r.spareBoxes[:i], r.spareBoxes[i+1:]...)
			break
		}
	}
	if s.worker != nil {
		if r.sandboxes[s.execution] == s {
			delete(r.sandboxes, s.execution)
		}
		s.worker.write(&wire.SandboxGone{Execution: s.execution, Fence: s.fence, Exit: sandboxExit(exit, broke)})
	}
	if s.end != nil {
		s.end.Stop()
	}
	r.due()
}

func sandboxExit(exit jail.Exit, broke bool) string {
	switch {
	case broke:
		return "violation"
	case exit.Reason == jail.ReasonMemory:
		return "memory"
	case exit.Reason == jail.ReasonCPU, exit.Reason == jail.ReasonKilled:
		return "time"
	case exit.Reason == jail.ReasonViolation:
		return "violation"
	default:
		return "crash"
	}
}
