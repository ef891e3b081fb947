package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// purpose separates the channel between worker and sandbox from other uses of keys. It is the same text as the lease
// package's PurposeSandbox, which this process does not link; a test compares them.
const purpose = "bulkhead sandbox v1"

// maxPrograms is how many different sources one sandbox keeps compiled.
const maxPrograms = 64

// Options say how a sandbox serves.
type Options struct {
	// Memory is the budget of the whole process in bytes, beyond which the jail ends it. One run gets three quarters of
	// what is asked for, at most. 0 is the default of [Limits].
	Memory int64
}

// Serve runs the code steps of one execution: it says its key, takes one channel, then answers calls one after the
// other, until the peer closes or the stream ends. A returned error is a peer that broke the protocol, or the stream's.
//
// The process must end after Serve returns: an engine that was abandoned may still be running. Serve then has already
// sent the error and returns nil.
func Serve(conn io.ReadWriter, o Options) error {
	key, err := seal.GenerateKey()
	if err != nil {
		return err
	}
	engine, err := NewEngine()
	if err != nil {
		return err
	}
	s := &server{conn: conn, key: key, engine: engine, memory: o.Memory, programs: map[string]*Program{}}
	if err := s.send(&wire.SandboxHello{Key: key.Public()}); err != nil {
		return err
	}
	return s.loop()
}

// A server is one sandbox's end of its pipe. It is for one goroutine.
type server struct {
	conn     io.ReadWriter
	key      *seal.PrivateKey
	engine   *Engine
	memory   int64
	programs map[string]*Program

	open    wire.SandboxOpen
	channel *seal.Channel
}

func (s *server) loop() error {
	frames := wire.NewReader(s.conn)
	for {
		frame, err := frames.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		end, err := s.handle(frame)
		if err != nil {
			return fmt.Errorf("handle %v frame: %w", frame.Type, err)
		}
		if end {
			return nil
		}
	}
}

var errOutOfOrder = errors.New("out of order")

// handle serves one frame and says whether it was the last.
func (s *server) handle(frame wire.Frame) (end bool, err error) {
	switch frame.Type {
	case wire.TypeSandboxOpen:
		if s.channel != nil {
			return false, errOutOfOrder
		}
		if err := frame.Parse(&s.open); err != nil {
			return false, err
		}
		s.channel, err = seal.Accept(s.key, purpose, s.open.Encapsulation)
		return false, err
	case wire.TypeSandboxRun:
		var m wire.SandboxRun
		if err := frame.Parse(&m); err != nil {
			return false, err
		}
		if s.channel == nil || m.Execution != s.open.Execution || m.Fence != s.open.Fence {
			return false, errOutOfOrder
		}
		return s.answer(&m)
	case wire.TypeSandboxClose:
		return true, nil
	default:
		return false, errors.New("not for a sandbox")
	}
}

// answer runs one call and sends its result.
func (s *server) answer(m *wire.SandboxRun) (end bool, err error) {
	plain, err := s.channel.Open(nil, m.Place(), m.Sealed)
	if err != nil {
		return false, err
	}
	var call wire.CodeCall
	if err := wire.ParseBody(plain, &call); err != nil {
		return false, err
	}
	result, abandoned := s.run(&call)
	answer := &wire.SandboxResult{Execution: m.Execution, Fence: m.Fence, Call: m.Call}
	answer.Sealed = s.channel.Seal(nil, answer.Place(), wire.AppendBody(nil, result))
	return abandoned, s.send(answer)
}

// run runs one call. It also says whether the engine was abandoned. A call without input, which no JSON value is, only
// compiles: that is how code is checked before it is published.
func (s *server) run(call *wire.CodeCall) (result *wire.CodeResult, abandoned bool) {
	limits := Limits{Time: call.Timeout, Memory: s.budget(call.Memory)}
	program, err := s.compile(call.Source, limits)
	var got Result
	if err == nil && len(call.Input) > 0 {
		seed := [2]uint64{binary.BigEndian.Uint64(call.Seed[:8]), binary.BigEndian.Uint64(call.Seed[8:])}
		got, err = s.engine.Run(program, Call{Input: call.Input, Now: call.Now, Seed: seed, Limits: limits})
	}
	result = &wire.CodeResult{Output: got.Output, Truncated: got.Truncated}
	for _, l := range got.Logs {
		result.Logs = append(result.Logs, wire.CodeLog{Level: string(l.Level), Text: l.Text})
	}
	if err == nil {
		return result, false
	}
	var e *Error
	if !errors.As(err, &e) {
		e = errorf(KindInternal, "%v", err)
	}
	result.ErrorKind, result.Message = string(e.Kind), e.Message
	result.Line, result.Column = uint32(e.Line), uint32(e.Column)
	result.Stack = e.trace(call.Name)
	return result, e.Abandoned
}

// compile gives the program of a source, compiled at most once.
func (s *server) compile(source string, limits Limits) (*Program, error) {
	if p := s.programs[source]; p != nil {
		return p, nil
	}
	p, err := s.engine.Compile(source, limits)
	if err != nil {
		return nil, err
	}
	if len(s.programs) >= maxPrograms {
		clear(s.programs)
	}
	s.programs[source] = p
	return p, nil
}

// budget is what one run may use of the process's memory.
func (s *server) budget(asked uint64) int64 {
	budget := int64(min(asked, 1<<62))
	if whole := s.memory / 4 * 3; whole > 0 && (budget == 0 || budget > whole) {
		budget = whole
	}
	return budget
}

// send writes one frame at once: nothing waits when the process ends.
func (s *server) send(m wire.Typed) error {
	if _, err := s.conn.Write(wire.AppendFrame(nil, m)); err != nil {
		return fmt.Errorf("write %v frame: %w", m.FrameType(), err)
	}
	return nil
}

// trace is the stack as text, one call a line, innermost first.
func (e *Error) trace(name string) string {
	var b strings.Builder
	for _, f := range e.Stack {
		fmt.Fprintf(&b, "at %s (%s:%d:%d)\n", f.Func, name, f.Line, f.Column)
	}
	return b.String()
}
