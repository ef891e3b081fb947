package runner

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// stage is a hostile worker beside an honest one, each with an execution and a lease.
type stage struct {
	*rig
	offender, victim             *process
	own, others                  id.Execution
	ownLease, othersLease        id.Lease
	ownNode, othersNode, anyNode id.Node
	box                          *process // the victim's sandbox
}

const stageFence = 5

// perform sets the stage.
func perform(t *testing.T, cfg Config, f func(*stage)) {
	t.Helper()
	play(t, cfg, func(x *rig) {
		s := &stage{rig: x, own: run(0).Execution, others: run(0).Execution, anyNode: node()}
		s.offender = x.running(newWork(), wire.UnitExecution{Execution: s.own, Fence: stageFence})
		s.victim = x.running(newWork(), wire.UnitExecution{Execution: s.others, Fence: stageFence})
		gives := x.frames(wire.RoleEgress, wire.TypeLeaseGive)
		leases := of[wire.LeaseGive](x.bus)
		s.ownLease, s.ownNode, s.othersLease, s.othersNode = leases[0].Lease, gives[0].node, leases[1].Lease, gives[1].node
		if s.ownNode == s.othersNode {
			t.Fatal("both leases are at one node")
		}
		s.victim.send(&wire.SandboxWant{Execution: s.others, Fence: stageFence})
		s.box = x.sandbox()
		synctest.Wait()
		x.bus.set(func() { x.bus.sent = nil })
		f(s)
	})
}

// harm is what an attack did to others, empty for nothing.
func (s *stage) harm() string {
	synctest.Wait()
	s.bus.mu.Lock()
	sent := slices.Clone(s.bus.sent)
	s.bus.mu.Unlock()
	for _, f := range sent {
		if e, _, ok := wire.Scope(f.Frame); ok && e == s.others {
			return "a " + f.Type.String() + " frame in the victim's name"
		}
		var m wire.Call
		if f.Type == wire.TypeCall && (f.Parse(&m) != nil || m.Lease != s.ownLease || f.node != s.ownNode) {
			return "a call under a lease of others"
		}
		if body := wire.AppendRaw(nil, f.Frame); len(body) > wire.MaxFrame {
			return "a frame that spoils the batch it is in"
		}
	}
	if s.victim.wasKilled() || s.box.wasKilled() {
		return "the victim or its sandbox was killed"
	}
	if got := s.box.count(wire.TypeSandboxOpen) + s.box.count(wire.TypeSandboxRun); got > 0 {
		return "frames in the victim's sandbox"
	}
	// The victim goes on.
	s.bus.set(func() { s.bus.sent = nil })
	s.victim.send(&wire.Append{Execution: s.others, Fence: stageFence})
	s.victim.send(&wire.Call{Lease: s.othersLease, Egress: s.othersNode, Call: 1})
	before := s.victim.count(wire.TypeAppended)
	s.say(s.server, &wire.Appended{Execution: s.others, Fence: stageFence})
	if len(s.frames(wire.RoleServer, wire.TypeAppend)) != 1 || len(s.frames(wire.RoleEgress, wire.TypeCall)) != 1 || s.victim.count(wire.TypeAppended) != before+1 {
		return "the victim does not go on"
	}
	return ""
}

// attack is what a hostile worker writes, and whether it is killed for it.
type attack struct {
	write func(*stage) []byte
	dies  bool
}

func frame(m wire.Typed) []byte { return wire.AppendFrame(nil, m) }

func rawFrame(length uint32, version, kind byte, body ...byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, length)
	return append(append(b, version, kind), body...)
}

// attacks are what a worker may not say. Each type of frame is tried as well: those
// that workers do not send, and those about an execution or lease that is another's.
func attacks() map[string]attack {
	all := map[string]attack{
		"second hello":      {func(*stage) []byte { return frame(&wire.WorkerHello{}) }, true},
		"hello flood":       {func(*stage) []byte { return bytes.Repeat(frame(&wire.WorkerHello{}), 1000) }, true},
		"second bound":      {func(*stage) []byte { return frame(&wire.Bound{}) }, true},
		"refusal after all": {func(*stage) []byte { return frame(&wire.Bound{Error: "x"}) }, true},
		"oversized frame":   {func(*stage) []byte { return rawFrame(wire.MaxFrame, wire.Version, byte(wire.TypeAppend)) }, true},
		"endless frame":     {func(*stage) []byte { return rawFrame(1<<32-1, wire.Version, byte(wire.TypeAppend)) }, true},
		"frame of nothing":  {func(*stage) []byte { return rawFrame(0, wire.Version, 0) }, true},
		"another version":   {func(*stage) []byte { return rawFrame(2, wire.Version+1, byte(wire.TypeAppend)) }, true},
		"unknown type":      {func(*stage) []byte { return rawFrame(2, wire.Version, 255) }, true},
		"cut append":        {func(*stage) []byte { return rawFrame(7, wire.Version, byte(wire.TypeAppend), 1, 2, 3, 4, 5) }, true},
		"cut call":          {func(*stage) []byte { return rawFrame(7, wire.Version, byte(wire.TypeCall), 1, 2, 3, 4, 5) }, true},
		"noise":             {func(*stage) []byte { return bytes.Repeat([]byte("noise "), 100) }, true},
		"a fence not given": {func(s *stage) []byte { return frame(&wire.Append{Execution: s.own, Fence: stageFence + 1}) }, true},
		"no fence":          {func(s *stage) []byte { return frame(&wire.Append{Execution: s.own}) }, true},
		"two sandboxes": {func(s *stage) []byte {
			return bytes.Repeat(frame(&wire.SandboxWant{Execution: s.own, Fence: stageFence}), 2)
		}, true},
		"cut released": {func(s *stage) []byte {
			return append(frame(&wire.Released{Execution: s.own, Fence: stageFence})[:3], 0)
		}, false},
		"flood about others": {func(s *stage) []byte { return bytes.Repeat(frame(&wire.Progress{Execution: s.others}), maxStray+2000) }, true},
		"flood about nobody": {func(*stage) []byte { return bytes.Repeat(frame(&wire.Progress{}), maxStray+2000) }, true},
		"call at another node": {func(s *stage) []byte {
			return frame(&wire.Call{Lease: s.ownLease, Egress: s.othersNode})
		}, true},
		"call at no node": {func(s *stage) []byte { return frame(&wire.Call{Lease: s.ownLease, Egress: s.anyNode}) }, true},
		"call of others":  {func(s *stage) []byte { return frame(&wire.Call{Lease: s.othersLease, Egress: s.othersNode}) }, true},
		"call of nobody":  {func(s *stage) []byte { return frame(&wire.Call{Lease: id.NewLease(time.Now()), Egress: s.ownNode}) }, true},
		"call as another": {func(s *stage) []byte { return frame(&wire.Call{Lease: s.ownLease, Egress: s.ownNode, Worker: 2}) }, false},
		"call that grows": {func(s *stage) []byte {
			m := &wire.Call{Lease: s.ownLease, Egress: s.ownNode}
			m.Sealed = make([]byte, wire.MaxFrame-len(frame(m))-3)
			return frame(m)
		}, true},
		"run before ready": {func(s *stage) []byte {
			return append(frame(&wire.SandboxRun{Execution: s.own, Fence: stageFence}), frame(&wire.SandboxOpen{Execution: s.own, Fence: stageFence})...)
		}, false},
	}
	for _, m := range []wire.Typed{
		&wire.Error{}, &wire.Hello{}, &wire.VaultStart{}, &wire.VaultReady{}, &wire.Enroll{}, &wire.Enrolled{}, &wire.Start{}, &wire.Ready{},
		&wire.Stop{}, &wire.Bind{}, &wire.Renew{}, &wire.Unit{}, &wire.Cancel{}, &wire.Appended{}, &wire.Answer{}, &wire.Wake{},
		&wire.StateResult{}, &wire.BlobChunk{}, &wire.SandboxReady{}, &wire.SandboxGone{}, &wire.SandboxHello{}, &wire.SandboxResult{},
		&wire.Want{}, &wire.Dispatch{}, &wire.DefinitionGet{}, &wire.Definition{}, &wire.FlowRecord{}, &wire.LeaseRequest{},
		&wire.LeaseGrant{}, &wire.VaultCall{}, &wire.VaultAnswer{}, &wire.LeaseDrop{}, &wire.LeaseGive{},
	} {
		all["a "+m.FrameType().String()+" frame"] = attack{func(*stage) []byte { return frame(m) }, true}
	}
	for _, make := range []func(id.Execution, uint64) wire.Typed{
		func(e id.Execution, f uint64) wire.Typed { return &wire.Append{Execution: e, Fence: f} },
		func(e id.Execution, f uint64) wire.Typed { return &wire.Released{Execution: e, Fence: f, Fault: "x"} },
		func(e id.Execution, f uint64) wire.Typed { return &wire.Reply{Execution: e, Fence: f} },
		func(e id.Execution, f uint64) wire.Typed { return &wire.State{Execution: e, Fence: f} },
		func(e id.Execution, _ uint64) wire.Typed { return &wire.View{Execution: e} },
		func(e id.Execution, _ uint64) wire.Typed { return &wire.Progress{Execution: e} },
		func(e id.Execution, _ uint64) wire.Typed { return &wire.BlobWrite{Execution: e} },
		func(e id.Execution, _ uint64) wire.Typed { return &wire.BlobRead{Execution: e} },
		func(e id.Execution, f uint64) wire.Typed { return &wire.SandboxOpen{Execution: e, Fence: f} },
		func(e id.Execution, f uint64) wire.Typed { return &wire.SandboxRun{Execution: e, Fence: f} },
		func(e id.Execution, f uint64) wire.Typed { return &wire.SandboxWant{Execution: e, Fence: f} },
		func(e id.Execution, f uint64) wire.Typed { return &wire.SandboxClose{Execution: e, Fence: f} },
	} {
		name := make(id.Execution{}, 0).FrameType().String()
		all["others: "+name] = attack{func(s *stage) []byte { return frame(make(s.others, stageFence)) }, false}
		all["others, fence 0: "+name] = attack{func(s *stage) []byte { return frame(make(s.others, 0)) }, false}
		all["others, higher fence: "+name] = attack{func(s *stage) []byte { return frame(make(s.others, stageFence+9)) }, false}
		all["unknown: "+name] = attack{func(*stage) []byte { return frame(make(id.NewExecution(time.Now()), stageFence)) }, false}
	}
	return all
}

// tryAll tries every attack and counts those that hurt somebody else.
func tryAll(t *testing.T) (tried, harmed int) {
	t.Helper()
	for name, a := range attacks() {
		perform(t, Config{}, func(s *stage) {
			s.offender.raw(a.write(s))
			tried++
			given := s.released()
			if what := s.harm(); what != "" {
				harmed++
				if !twin {
					t.Errorf("%s: %s", name, what)
				}
			}
			if got := s.offender.wasKilled(); got != a.dies && !twin {
				t.Errorf("%s: the offender was killed: %v", name, got)
			}
			if a.dies && !twin && given[s.own] != "protocol" {
				t.Errorf("%s: given back %v", name, given)
			}
		})
	}
	return tried, harmed
}

// TestHostileWorker tries what a worker may not say: only the offender is hurt.
func TestHostileWorker(t *testing.T) {
	t.Parallel()
	if twin {
		t.Skip("the defence is off")
	}
	tried, harmed := tryAll(t)
	t.Logf("hostile workers: %d attacks tried, %d hurt somebody else", tried, harmed)
}

// TestHostileWorkerRedTwin does the same without the checks of ownership.
func TestHostileWorkerRedTwin(t *testing.T) {
	t.Parallel()
	if !twin {
		t.Skip("needs the tag redtwin")
	}
	tried, harmed := tryAll(t)
	t.Logf("without checks of ownership: %d attacks tried, %d hurt somebody else", tried, harmed)
	if harmed < 10 {
		t.Errorf("only %d of %d attacks hurt somebody with the defence off", harmed, tried)
	}
}

// TestHostileSandbox tries what a sandbox may not say: its worker goes on.
func TestHostileSandbox(t *testing.T) {
	t.Parallel()
	result := func(e id.Execution, fence uint64) []byte {
		return frame(&wire.SandboxResult{Execution: e, Fence: fence, Sealed: make([]byte, 1<<20)})
	}
	cases := map[string]func(*stage) []byte{
		"second hello":         func(*stage) []byte { return frame(&wire.SandboxHello{}) },
		"unasked result":       func(s *stage) []byte { return result(s.others, stageFence) },
		"result of another":    func(s *stage) []byte { return result(s.own, stageFence) },
		"another fence":        func(s *stage) []byte { return result(s.others, stageFence-1) },
		"more results":         func(s *stage) []byte { return bytes.Repeat(result(s.others, stageFence), 100) },
		"an append":            func(s *stage) []byte { return frame(&wire.Append{Execution: s.others, Fence: stageFence}) },
		"a call":               func(s *stage) []byte { return frame(&wire.Call{Lease: s.othersLease, Egress: s.othersNode}) },
		"a worker's hello":     func(*stage) []byte { return frame(&wire.WorkerHello{}) },
		"a close of its own":   func(s *stage) []byte { return frame(&wire.SandboxClose{Execution: s.others, Fence: stageFence}) },
		"oversized":            func(*stage) []byte { return rawFrame(1<<31, wire.Version, byte(wire.TypeSandboxResult)) },
		"cut":                  func(*stage) []byte { return rawFrame(4, wire.Version, byte(wire.TypeSandboxResult), 1, 2) },
		"noise":                func(*stage) []byte { return bytes.Repeat([]byte("noise "), 100) },
		"flood":                func(s *stage) []byte { return bytes.Repeat(frame(&wire.SandboxHello{}), 10_000) },
		"result after another": func(s *stage) []byte { return append(result(s.others, stageFence), frame(&wire.SandboxHello{})...) },
	}
	tried := 0
	for name, write := range cases {
		perform(t, Config{}, func(s *stage) {
			tried++
			s.box.raw(write(s))
			if !s.box.wasKilled() {
				t.Errorf("%s: the sandbox lives", name)
			}
			if s.victim.wasKilled() || s.offender.wasKilled() {
				t.Errorf("%s: a worker was killed", name)
			}
			if n := s.victim.count(wire.TypeSandboxGone); n != 1 {
				t.Errorf("%s: its worker was told %d times", name, n)
			}
			if n := s.victim.count(wire.TypeSandboxResult); n != 0 {
				t.Errorf("%s: its worker got %d results", name, n)
			}
			if n := len(s.frames(wire.RoleServer, wire.TypeAppend)) + len(s.frames(wire.RoleEgress, wire.TypeCall)); n > 0 {
				t.Errorf("%s: %d frames on the bus", name, n)
			}
		})
	}
	t.Logf("hostile sandboxes: %d attacks tried", tried)
}

// TestFreshWorkerSaysTooMuch kills a worker that answers a bind before there is one.
func TestFreshWorkerSaysTooMuch(t *testing.T) {
	t.Parallel()
	for _, m := range []wire.Typed{&wire.Bound{}, &wire.Call{}, &wire.WorkerHello{}} {
		play(t, Config{Spare: 1}, func(x *rig) {
			p := x.worker()
			p.send(m)
			if !p.wasKilled() {
				t.Errorf("a fresh worker may send a %v frame", m.FrameType())
			}
		})
	}
}

// TestDeafWorker kills a worker that does not read, at a bounded amount of what waits for it.
func TestDeafWorker(t *testing.T) {
	t.Parallel()
	perform(t, Config{}, func(s *stage) {
		s.rig.deaf = true
		s.rig.quiet = true
		e := run(1)
		s.dispatch(newWork(), e)
		all := s.children(jail.KindWorker)
		deaf := all[len(all)-1]
		deaf.hello()
		synctest.Wait()
		in := wire.NewReader(deaf.conn)
		if f, err := in.Read(); err != nil || f.Type != wire.TypeBind {
			t.Fatalf("%v %v", f.Type, err)
		}
		deaf.send(&wire.Bound{})
		synctest.Wait()
		frames := 0
		for ; frames < 100 && !deaf.wasKilled(); frames++ {
			s.say(s.server, &wire.Wake{Execution: e.Execution, Fence: 1, Entry: wire.Entry{Body: make([]byte, 3<<20)}})
		}
		if !deaf.wasKilled() || frames > 30 {
			t.Errorf("killed %v after %d frames of 3 MB", deaf.wasKilled(), frames)
		}
		same(t, "given back", s.released(), map[id.Execution]string{e.Execution: "slow"})
		s.rig.deaf, s.rig.quiet = false, false
		if what := s.harm(); what != "" {
			t.Error(what)
		}
	})
}

// TestDeafSandbox kills a sandbox that does not read; its worker is told and goes on.
func TestDeafSandbox(t *testing.T) {
	t.Parallel()
	perform(t, Config{}, func(s *stage) {
		s.rig.deaf = true
		s.offender.send(&wire.SandboxWant{Execution: s.own, Fence: stageFence})
		box := s.sandbox()
		for range 30 {
			if s.offender.count(wire.TypeSandboxGone) == 0 {
				s.offender.send(&wire.SandboxRun{Execution: s.own, Fence: stageFence, Sealed: make([]byte, 3<<20)})
			}
		}
		if !box.wasKilled() || s.offender.wasKilled() {
			t.Errorf("killed: sandbox %v, worker %v", box.wasKilled(), s.offender.wasKilled())
		}
		same(t, "told", s.offender.count(wire.TypeSandboxGone), 1)
		if what := s.harm(); what != "" {
			t.Error(what)
		}
	})
}

// TestEndlessWriter slows down a worker that writes without end, and nobody else.
func TestEndlessWriter(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		write func(*stage) []byte
		most  int // bytes in two seconds
	}{
		"large": {func(s *stage) []byte { return frame(&wire.BlobWrite{Execution: s.own, Data: make([]byte, 1<<20)}) }, maxRate * 3},
		"small": {func(s *stage) []byte { return bytes.Repeat(frame(&wire.Progress{Execution: s.own}), 1000) }, maxFrameRate * 4 * 50},
		"wishes for sandboxes": {func(s *stage) []byte {
			return append(frame(&wire.SandboxWant{Execution: s.own, Fence: stageFence}), frame(&wire.SandboxClose{Execution: s.own, Fence: stageFence})...)
		}, 4 * 200 * 60},
	}
	for name, c := range cases {
		perform(t, Config{}, func(s *stage) {
			s.bus.set(func() { s.bus.keep = 1 })
			write := c.write(s)
			written := 0
			done := make(chan struct{})
			go func() {
				defer close(done)
				for end := time.Now().Add(2 * time.Second); time.Now().Before(end); written += len(write) {
					if _, err := s.offender.conn.Write(write); err != nil {
						return
					}
				}
			}()
			<-done
			s.bus.set(func() { s.bus.keep = 0 })
			t.Logf("%s: %d MB of frames in two seconds", name, written>>20)
			if written > c.most {
				t.Errorf("%s: it wrote %d bytes, more than %d", name, written, c.most)
			}
			s.bus.set(func() { s.bus.sent = nil })
			if what := s.harm(); what != "" {
				t.Errorf("%s: %s", name, what)
			}
		})
	}
}

// TestSlowBus lets children wait while the bus takes nothing, and servers not.
func TestSlowBus(t *testing.T) {
	t.Parallel()
	perform(t, Config{}, func(s *stage) {
		shut := make(chan struct{})
		s.bus.set(func() { s.bus.shut = shut })
		go s.offender.raw(bytes.Repeat(frame(&wire.Append{Execution: s.own, Fence: stageFence}), 3))
		same(t, "frames while the bus takes nothing", len(s.frames(wire.RoleServer, wire.TypeAppend)), 0)
		s.say(s.server, &wire.Cancel{Execution: s.own, Fence: stageFence})
		same(t, "frames of servers go on", s.offender.count(wire.TypeCancel), 1)
		s.bus.set(func() { s.bus.shut = nil })
		close(shut)
		same(t, "frames once it does", len(s.frames(wire.RoleServer, wire.TypeAppend)), 3)
	})
}
