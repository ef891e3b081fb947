package sandbox

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"github.com/grafana/sobek"
)

// maxStacks is how far the stacks of the process may grow during a run, in bytes. The engine recurses in Go for nested
// source and inside some built-ins, and a Go stack that overflows ends the process without a word. Code that calls
// itself stays far below, by its call depth.
const maxStacks = 20 << 20

// poll is how often the watchdog looks at memory. It bounds what a run can allocate before it is noticed.
const poll = 2 * time.Millisecond

// A guard watches one run: its caller's goroutine waits, the engine's works.
type guard struct {
	limits Limits
	// rt and program are nil while source is being compiled.
	rt      *sobek.Runtime
	program *Program
	// stringify is the JSON.stringify of rt.
	stringify func(sobek.FunctionCall) sobek.Value
	// cause is why the engine was asked to stop; nil while it may go on. Written by the watchdog, read by both.
	cause atomic.Pointer[Error]
	// collected is closed when the garbage collection that the watchdog asked for is done; nil if there was none.
	collected chan struct{}
}

// interrupted is the value passed to Runtime.Interrupt. The cause stands in the guard.
type interrupted struct{}

// run calls f on a goroutine of its own and waits for it, at most for the limits. What f returns or panics with comes
// back as an *Error. The guard's runtime, if any, is interrupted when time or memory is up.
func (g *guard) run(f func() error) error {
	done := make(chan error, 1) // never closed: f sends once
	go func() {
		defer func() {
			if x := recover(); x != nil {
				done <- g.fault(x)
			}
		}()
		growStack(nil)
		done <- f()
	}()
	base := measure()
	deadline := time.Now().Add(g.limits.Time)
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			return g.verdict(err)
		case now := <-ticker.C:
			cause := g.cause.Load()
			switch {
			case cause == nil:
				cause = g.check(now, deadline, base)
				if cause == nil {
					continue
				}
				deadline = now // from here on, the start of the grace
				g.cause.Store(cause)
			case now.Sub(deadline) > g.limits.grace || g.hopeless(measure().since(base)):
				// A built-in that allocates without end must not have the whole grace.
				lost := *cause
				lost.Abandoned = true
				return &lost
			}
			if g.rt != nil {
				// Again at every look: the engine clears the flag when it unwinds to a host function.
				g.rt.Interrupt(interrupted{})
			}
		}
	}
}

// growStack gives the calling goroutine at once the stack that an interpreter needs to set itself up, which would
// otherwise be copied each time that it doubles.
//
//go:noinline
func growStack(never []byte) {
	if never != nil {
		var room [24 << 10]byte // it counts for the frame, and is not touched
		copy(never, room[:])
	}
}

// check says whether the run has used up its time or its memory.
func (g *guard) check(now, deadline time.Time, base usage) *Error {
	if now.After(deadline) {
		return errorf(KindTimeout, "the code did not finish within %v", g.limits.Time)
	}
	used := measure().since(base)
	if used.total() <= g.limits.Memory && used.stacks <= maxStacks {
		return nil
	}
	if !g.hopeless(used) {
		if !g.garbageCollected() {
			return nil
		}
		// What that collection found alive; since then new garbage may have come, the more the later this look is.
		used.heap = alive() - base.heap
		if used.total() <= g.limits.Memory {
			return nil
		}
	}
	if used.stacks > maxStacks {
		return errorf(KindMemory, "the code needed more than %d MiB of stack", maxStacks>>20)
	}
	return errorf(KindMemory, "the code needed more than %d MiB of memory", g.limits.Memory>>20)
}

// hopeless says whether the run is so far over its budget that it must be stopped at once.
func (g *guard) hopeless(used usage) bool {
	return used.total() > 2*g.limits.Memory || used.stacks > maxStacks
}

// garbageCollected says whether what is occupied now is really in use. Where it may be garbage, it has it collected
// beside the run, so that the watchdog keeps looking meanwhile, and answers at a later look.
func (g *guard) garbageCollected() bool {
	if g.collected == nil {
		collected := make(chan struct{}) // closed by the goroutine
		g.collected = collected
		go func() {
			defer close(collected)
			runtime.GC()
		}()
		return false
	}
	select {
	case <-g.collected:
		g.collected = nil
		return true
	default:
		return false
	}
}

// usage is what heap objects and stacks of the process occupy, in bytes.
type usage struct{ heap, stacks int64 }

func (u usage) total() int64 { return u.heap + u.stacks }

func (u usage) since(base usage) usage { return usage{u.heap - base.heap, u.stacks - base.stacks} }

func measure() usage {
	samples := [...]metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
	}
	metrics.Read(samples[:])
	return usage{int64(samples[0].Value.Uint64()), int64(samples[1].Value.Uint64())}
}

// alive is what the last garbage collection found in use on the heap, in bytes.
func alive() int64 {
	sample := [...]metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample[:])
	return int64(sample[0].Value.Uint64())
}

// stopped panics with the cause once the watchdog has given up on the run. Host functions that loop call it.
func (g *guard) stopped() {
	if cause := g.cause.Load(); cause != nil {
		panic(cause)
	}
}

// verdict is the error of a run that came back: the watchdog's cause outranks what the unwinding made of it.
func (g *guard) verdict(err error) error {
	if err == nil {
		return nil
	}
	cause := g.cause.Load()
	if cause == nil {
		return err
	}
	var e *Error
	if errors.As(err, &e) && e.Kind == KindInternal {
		e.Kind, e.Message = cause.Kind, cause.Message
		return e
	}
	return err
}

// fault turns a recovered panic into an *Error.
func (g *guard) fault(x any) error {
	switch x := x.(type) {
	case *Error:
		return x
	case error:
		return g.classify(x)
	default:
		return errorf(KindInternal, "the engine failed: %s", fmt.Sprint(x))
	}
}
