package runner

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// sandbox is one sandbox process. It waits as a spare until it gets the one
// execution that it serves. Guarded by the runner's mutex.
type sandbox struct {
	r     *Runner
	child *child       // nil until it has started
	out   *wire.Writer // the same
	end   *time.Timer  // kills it at the end of its life

	greeted bool
	key     seal.PublicKey
	of      *held // nil while spare, and once the worker has closed it
	runs    int   // that it has not answered
	dead    bool
	reason  string // why the runner killed it
}

// newSandbox starts a jailed sandbox process; it starts while the caller, who holds
// mu, goes on.
func (r *Runner) newSandbox() *sandbox {
	s := &sandbox{r: r}
	r.boxes[s] = struct{}{}
	r.processes.Go(func() error { s.live(); return nil })
	return s
}

// sandboxFrame takes a worker's frame about the sandbox of an execution it holds.
// The caller holds mu.
func (r *Runner) sandboxFrame(h *held, f wire.Frame) error {
	s := r.sandboxes[h.execution]
	switch f.Type {
	case wire.TypeSandboxWant:
		if s != nil || slices.Contains(r.wanting, h) {
			return fmt.Errorf("%w: a second sandbox for an execution", errProtocol)
		}
		r.wanting = append(r.wanting, h)
		r.serveWanting()
	case wire.TypeSandboxClose:
		r.endSandbox(h)
	default:
		if s == nil {
			return nil // it has ended meanwhile
		}
		if !s.greeted {
			return fmt.Errorf("%w: it speaks to a sandbox before that is ready", errProtocol)
		}
		if f.Type == wire.TypeSandboxRun {
			s.runs++
		}
		if errors.Is(s.out.WriteRaw(f), wire.ErrSlow) {
			s.kill("violation")
		}
	}
	return nil
}

// serveWanting gives sandboxes to those that wait, as far as there is room, and as
// far as no instance has more than its share. The caller holds mu.
func (r *Runner) serveWanting() {
	share := max(r.cfg.Sandboxes/2, 1)
	for i := 0; i < len(r.wanting) && !r.closing; {
		h := r.wanting[i]
		if h.worker.boxes >= share {
			i++
			continue
		}
		s := r.takeSandbox()
		if s == nil {
			return
		}
		r.wanting = slices.Delete(r.wanting, i, i+1)
		r.assign(s, h)
	}
}

// takeSandbox gives a sandbox from the spares or starts one. It is nil when there is
// no room. The caller holds mu.
func (r *Runner) takeSandbox() *sandbox {
	if n := len(r.spareBoxes); n > 0 {
		s := r.spareBoxes[n-1]
		r.spareBoxes = r.spareBoxes[:n-1]
		r.refilling = true
		r.due()
		return s
	}
	if !r.makeRoomForSandbox() {
		return nil
	}
	return r.newSandbox()
}

// assign makes a sandbox that of an execution. The caller holds mu.
func (r *Runner) assign(s *sandbox, h *held) {
	s.of = h
	s.end = time.AfterFunc(sandboxLife, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		s.kill("time")
	})
	r.sandboxes[h.execution] = s
	h.worker.boxes++
	s.announce()
}

// announce tells the worker the key of its sandbox, once both are there. The caller holds mu.
func (s *sandbox) announce() {
	if h := s.of; h != nil && s.greeted {
		h.worker.write(&wire.SandboxReady{Execution: h.execution, Fence: h.fence, Key: s.key})
	}
}

// endSandbox kills the sandbox of an execution, if it has one. The caller holds mu.
func (r *Runner) endSandbox(h *held) {
	if i := slices.Index(r.wanting, h); i >= 0 {
		r.wanting = slices.Delete(r.wanting, i, i+1)
	}
	if s := r.sandboxes[h.execution]; s != nil {
		s.leave()
		s.kill("closed")
	}
}

// leave takes a sandbox from its execution. The caller holds mu.
func (s *sandbox) leave() {
	if s.of != nil {
		delete(s.r.sandboxes, s.of.execution)
		s.of.worker.boxes--
		s.of = nil
	}
	if s.end != nil {
		s.end.Stop()
	}
}

// kill ends the process. The caller holds mu.
func (s *sandbox) kill(why string) {
	if s.dead {
		return
	}
	s.dead, s.reason = true, why
	s.unspare()
	if s.child == nil {
		return
	}
	if err := s.child.kill(); err != nil {
		s.r.cfg.Log.Error("kill sandbox", "err", err)
	}
}

// unspare takes a sandbox that ends from the spares. The caller holds mu.
func (s *sandbox) unspare() {
	if i := slices.Index(s.r.spareBoxes, s); i >= 0 {
		s.r.spareBoxes = slices.Delete(s.r.spareBoxes, i, i+1)
	}
}

// live is the life of a sandbox process.
func (s *sandbox) live() {
	c, err := s.r.spawn(jail.KindSandbox)
	if err != nil {
		s.r.cfg.Log.Error("start sandbox", "err", err)
		s.r.sandboxGone(s, "unavailable")
		return
	}
	s.r.mu.Lock()
	s.child, s.out = c, wire.NewFailingWriter(c.conn)
	if s.dead {
		_ = c.kill()
	}
	s.r.mu.Unlock()
	err = s.r.serve(c, s.handle)
	s.r.mu.Lock()
	if refused(err) {
		s.kill("violation")
	} else {
		s.unspare()
	}
	s.r.mu.Unlock()
	exit := c.end(s.out)
	s.r.mu.Lock()
	why := s.reason
	s.r.mu.Unlock()
	s.r.sandboxGone(s, sandboxExit(exit, why))
}

func (s *sandbox) handle(f wire.Frame) error {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	switch {
	case s.dead:
		return nil
	case f.Type == wire.TypeSandboxHello && !s.greeted:
		var m wire.SandboxHello
		if err := f.Parse(&m); err != nil {
			return err
		}
		s.key, s.greeted = m.Key, true
		s.announce()
		return nil
	case f.Type == wire.TypeSandboxResult && s.of != nil && s.runs > 0:
		if e, fence, ok := wire.Scope(f); !ok || e != s.of.execution || fence != s.of.fence {
			return fmt.Errorf("%w: a result of another execution", errProtocol)
		}
		s.runs--
		s.of.worker.relay(f)
		return nil
	default:
		return fmt.Errorf("%w: a %v frame", errProtocol, f.Type)
	}
}

// sandboxGone tells the worker how its sandbox ended, unless the worker ended it.
func (r *Runner) sandboxGone(s *sandbox, exit string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.boxes, s)
	s.dead = true
	s.unspare()
	if h := s.of; h != nil {
		h.worker.write(&wire.SandboxGone{Execution: h.execution, Fence: h.fence, Exit: exit})
	}
	s.leave()
	r.serveWanting()
	r.serveLine(time.Now())
}

// sandboxExit is the reason that a worker is told: memory, time, violation or crash.
func sandboxExit(exit jail.Exit, why string) string {
	switch exit.Reason {
	case jail.ReasonMemory:
		return "memory"
	case jail.ReasonCPU:
		return "time"
	case jail.ReasonViolation:
		return "violation"
	case jail.ReasonKilled:
		if why != "" {
			return why
		}
	}
	return "crash"
}
