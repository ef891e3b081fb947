package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// code runs a code step in the execution's sandbox.
func (x *execution) code(ctx context.Context, e *env, s *flow.Step, t *tries) (expr.Value, error) {
	in, err := e.value(ctx, &s.Code.With)
	if err != nil {
		return nil, err
	}
	x.view.input(e.path, in)
	input, err := appendJSON(nil, in)
	if err != nil {
		return nil, err
	}
	if len(input) > MaxCodeInput {
		return nil, faultf(typeLimit, "the input of the code has %d bytes, more than %d", len(input), MaxCodeInput)
	}
	call := &wire.CodeCall{
		Source: s.Code.Source, Name: s.ID + ".js", Input: input, Now: x.unit.Started, Seed: derive(&x.unit.Seed, "code", e.path, 0),
		Timeout: s.Timeout.Or(flow.DefaultStepTimeout), Memory: codeMemory,
	}
	return x.effect(ctx, e, s, t, expr.Hash(in), false, func(ctx context.Context) (outcome, error) {
		r, err := x.box.run(ctx, call)
		if err != nil {
			return outcome{}, err
		}
		if r.Truncated {
			r.Logs = append(r.Logs, wire.CodeLog{Level: "warn", Text: "more lines were left out"})
		}
		for _, l := range r.Logs {
			x.view.log(e.path, l)
		}
		x.log(e.path, r.Logs...)
		if r.ErrorKind != "" {
			return outcome{}, codeFault(r)
		}
		v, err := expr.ParseJSON(r.Output)
		if err != nil {
			return outcome{}, faultf(typeCode, "the result is not JSON: %s", err.Error())
		}
		return outcome{value: v}, nil
	})
}

// codeFault says what was wrong in the author's code, and where.
func codeFault(r *wire.CodeResult) *fault {
	kind := typeCode
	switch r.ErrorKind {
	case "timeout":
		kind = typeTimeout
	case "memory":
		kind = typeLimit
	}
	message := r.Message
	if r.Line > 0 {
		message = fmt.Sprintf("%s (line %d, column %d)", message, r.Line, r.Column)
	}
	return faultf(kind, "%s", message)
}

// sandbox is the one sandbox of an execution. It is asked for when the first code step runs and closed when the execution
// leaves. Code steps of parallel branches take turns.
type sandbox struct {
	x    *execution
	turn chan struct{} // holds one token while no code runs; made on first use

	mu      sync.Mutex
	wanted  bool
	channel *seal.Channel // nil until the sandbox is open
	opened  chan error    // answers to a want; one value
	call    uint64        // that is under way
	results chan *wire.SandboxResult
	gones   chan string
}

// run runs one piece of code when it is its turn.
func (b *sandbox) run(ctx context.Context, call *wire.CodeCall) (*wire.CodeResult, error) {
	if err := b.take(ctx); err != nil {
		return nil, err
	}
	defer func() { b.turn <- struct{}{} }()
	if err := b.open(ctx); err != nil {
		return nil, err
	}
	return b.do(ctx, call)
}

func (b *sandbox) take(ctx context.Context) error {
	b.mu.Lock()
	if b.turn == nil {
		b.turn = make(chan struct{}, 1)
		b.turn <- struct{}{}
	}
	turn := b.turn
	b.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// open asks for a sandbox unless there is one.
func (b *sandbox) open(ctx context.Context) error {
	b.mu.Lock()
	if b.channel != nil {
		b.mu.Unlock()
		return nil
	}
	opened := make(chan error, 1)
	first := !b.wanted
	b.opened, b.wanted = opened, true
	b.mu.Unlock()
	if first {
		b.x.s.write(&wire.SandboxWant{Execution: b.x.unit.Execution, Fence: b.x.unit.Fence})
	}
	timer := time.NewTimer(sandboxWait)
	defer timer.Stop()
	select {
	case err := <-opened:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return faultf(typeLimit, "no sandbox started in time")
	}
}

// ready opens the channel to a sandbox that has started.
func (b *sandbox) ready(m *wire.SandboxReady) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.wanted || b.channel != nil || b.opened == nil {
		return
	}
	channel, enc, err := seal.Connect(m.Key, lease.PurposeSandbox)
	if err != nil {
		b.opened <- faultf(typeCode, "the sandbox has no usable key")
		b.opened = nil
		return
	}
	b.channel = channel
	b.x.s.write(&wire.SandboxOpen{Execution: m.Execution, Fence: m.Fence, Encapsulation: enc})
	b.opened <- nil
	b.opened = nil
}

// do sends one call and waits for its result.
func (b *sandbox) do(ctx context.Context, call *wire.CodeCall) (*wire.CodeResult, error) {
	m := &wire.SandboxRun{Execution: b.x.unit.Execution, Fence: b.x.unit.Fence, Call: b.x.s.number.Add(1)}
	b.mu.Lock()
	if b.channel == nil {
		b.mu.Unlock()
		return nil, faultf(typeCode, "the sandbox ended")
	}
	channel := b.channel
	results, gones := make(chan *wire.SandboxResult, 1), make(chan string, 1)
	b.call, b.results, b.gones = m.Call, results, gones
	b.mu.Unlock()
	m.Sealed = channel.Seal(nil, m.Place(), wire.AppendBody(nil, call))
	b.x.s.write(m)
	timer := time.NewTimer(call.Timeout + answerGrace)
	defer timer.Stop()
	select {
	case r := <-results:
		return openCode(channel, r)
	case exit := <-gones:
		return nil, exitFault(exit)
	case <-timer.C:
		b.close()
		return nil, faultf(typeTimeout, "the code ran longer than %v", call.Timeout)
	case <-ctx.Done():
		b.close() // what still runs in it must not run on
		return nil, context.Cause(ctx)
	}
}

func openCode(channel *seal.Channel, m *wire.SandboxResult) (*wire.CodeResult, error) {
	plain, err := channel.Open(nil, m.Place(), m.Sealed)
	if err != nil {
		return nil, faultf(typeCode, "the result of the code does not open")
	}
	r := &wire.CodeResult{}
	if err := wire.ParseBody(plain, r); err != nil {
		return nil, faultf(typeCode, "the result of the code cannot be read")
	}
	return r, nil
}

// exitFault is how a sandbox ended, in words for the author.
func exitFault(exit string) *fault {
	switch exit {
	case "memory":
		return faultf(typeLimit, "the code needed more memory than its limit")
	case "time":
		return faultf(typeTimeout, "the code needed more processor time than its limit")
	case "unavailable":
		return faultf(typeLimit, "no sandbox is free")
	case "violation":
		return faultf(typeCode, "the sandbox tried something that its jail forbids and was ended")
	}
	return faultf(typeCode, "the sandbox ended unexpectedly")
}

// result takes the answer to the call that is under way.
func (b *sandbox) result(m *wire.SandboxResult) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.results != nil && m.Call == b.call {
		b.results <- m
		b.results = nil
	}
}

// gone takes the end of the sandbox. The next code step asks for another.
func (b *sandbox) gone(m *wire.SandboxGone) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wanted, b.channel = false, nil
	if b.opened != nil {
		b.opened <- exitFault(m.Exit)
		b.opened = nil
	}
	if b.results != nil {
		b.gones <- m.Exit
		b.results = nil
	}
}

// close ends the sandbox, if there is one.
func (b *sandbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wanted {
		b.x.s.write(&wire.SandboxClose{Execution: b.x.unit.Execution, Fence: b.x.unit.Fence})
	}
	b.wanted, b.channel, b.opened, b.results = false, nil, nil, nil
}
