package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// errUnexpected ends the link: the peer sent a frame that cannot come now.
var errUnexpected = errors.New("unexpected frame")

// Options say how a worker serves. The zero value is ready to use.
type Options struct {
	// Log gets what operators should know: never a payload. Nil discards it.
	Log *slog.Logger
	// Memory is the worker's budget in bytes; 0 is DefaultMemory. Large events take no more than a quarter of it at a time.
	Memory int64
}

// server is one worker's end of its link.
type server struct {
	out *wire.Writer
	log *slog.Logger
	in  *instance
	// ctx ends when the link does, with cause errClosed.
	ctx context.Context

	answers calls[wire.Answer]
	states  calls[wire.StateResult]
	chunks  calls[wire.BlobChunk]
	pages   calls[wire.JournalPage]
	number  atomic.Uint64 // of the last call
	room    *room         // for large events
	reads   atomic.Int32  // under way

	mu   sync.Mutex
	held map[id.Execution]*execution
	wg   sync.WaitGroup

	next chan *execution // to an idle goroutine; never closed
	idle atomic.Int32
}

// Serve is the life of a worker: it says its key on conn, is bound to one instance, and runs what it is given until the stream
// ends, which is nil, or the context, or the peer breaks the protocol. When the context ends and conn is an io.Closer, it is
// closed. Serve returns after every goroutine of its executions has ended.
func Serve(ctx context.Context, conn io.ReadWriter, o Options) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	key, err := seal.GenerateKey()
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	if c, ok := conn.(io.Closer); ok {
		defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errClosed)
	s := &server{out: wire.NewWriter(conn), log: o.Log, ctx: ctx, held: map[id.Execution]*execution{}, next: make(chan *execution), room: newRoom(cmp.Or(o.Memory, DefaultMemory))}
	s.answers.init()
	s.states.init()
	s.chunks.init()
	s.pages.init()
	err = s.serve(wire.NewReader(conn), key)
	cancel(errClosed)
	s.wg.Wait()
	if closeErr := s.out.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (s *server) serve(in *wire.Reader, key *seal.PrivateKey) error {
	if err := s.out.Write(&wire.WorkerHello{Key: key.Public()}); err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	scope := warm()
	f, err := in.Read()
	if err != nil {
		return ended(err)
	}
	var m wire.Bind
	if err := f.Parse(&m); err != nil {
		return fmt.Errorf("read bind: %w", err)
	}
	s.in, err = bind(key, &m, scope)
	if err != nil {
		if writeErr := s.out.Write(&wire.Bound{Error: err.Error()}); writeErr != nil {
			return writeErr
		}
		return fmt.Errorf("bind: %w", err)
	}
	if err := s.out.Write(&wire.Bound{}); err != nil {
		return fmt.Errorf("answer bind: %w", err)
	}
	for {
		f, err := in.Read()
		if err != nil {
			return ended(err)
		}
		if err := s.handle(key, f); err != nil {
			return fmt.Errorf("handle %v frame: %w", f.Type, err)
		}
	}
}

// ended is the end of the stream: between two frames it is the normal end of a worker.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return fmt.Errorf("read frame: %w", err)
}

// warm builds the expression environment, which takes a moment, while nobody waits for it.
func warm() *expr.Scope {
	scope := expr.NewScope()
	for _, name := range scopeNames() {
		scope = scope.With(name, expr.Dyn())
	}
	_, _ = expr.Compile("trigger.a + 1 == 2", scope)
	return scope
}

// scopeNames are the names of format.md.
func scopeNames() []string {
	return []string{"trigger", "config", "steps", "item", "index", "error", "callback", "result", "cursor", "execution", "customer"}
}

// handle serves one frame of a bound worker. An error ends the link.
func (s *server) handle(key *seal.PrivateKey, f wire.Frame) error {
	switch f.Type {
	case wire.TypeUnit:
		return s.unit(f)
	case wire.TypeRenew:
		var m wire.Renew
		if err := f.Parse(&m); err != nil {
			return err
		}
		return s.in.renew(key, m.Lease)
	case wire.TypeRead:
		return s.read(f)
	case wire.TypeLeaseDrop:
		var m wire.LeaseDrop
		if err := f.Parse(&m); err != nil {
			return err
		}
		s.in.drop(m.Lease)
		return nil
	case wire.TypeAnswer:
		return deliver(f, &s.answers, func(m *wire.Answer) uint64 { return m.Call })
	case wire.TypeStateResult:
		return deliver(f, &s.states, func(m *wire.StateResult) uint64 { return m.Call })
	case wire.TypeBlobChunk:
		return deliver(f, &s.chunks, func(m *wire.BlobChunk) uint64 { return m.Call })
	case wire.TypeJournalPage:
		return deliver(f, &s.pages, func(m *wire.JournalPage) uint64 { return m.Call })
	default:
		return s.about(f)
	}
}

// about serves a frame about one execution. One about an execution that has left is dropped.
func (s *server) about(f wire.Frame) error {
	switch f.Type {
	case wire.TypeAppended:
		var m wire.Appended
		if err := f.Parse(&m); err != nil {
			return err
		}
		if x := s.find(m.Execution, m.Fence); x != nil {
			if m.Stale {
				x.cancel(errStale)
			}
			return x.journal.appended(&m)
		}
	case wire.TypeCancel:
		var m wire.Cancel
		if err := f.Parse(&m); err != nil {
			return err
		}
		if x := s.find(m.Execution, m.Fence); x != nil {
			x.cancel(errCancelled)
		}
	case wire.TypeWake:
		var m wire.Wake
		if err := f.Parse(&m); err != nil {
			return err
		}
		if x := s.find(m.Execution, m.Fence); x != nil {
			x.waits.deliver(&m.Entry)
		}
	case wire.TypeSandboxReady:
		var m wire.SandboxReady
		if err := f.Parse(&m); err != nil {
			return err
		}
		if x := s.find(m.Execution, m.Fence); x != nil {
			x.box.ready(&m)
		}
	case wire.TypeSandboxResult:
		var m wire.SandboxResult
		if err := f.Parse(&m); err != nil {
			return err
		}
		if x := s.find(m.Execution, m.Fence); x != nil {
			x.box.result(&m)
		}
	case wire.TypeSandboxGone:
		var m wire.SandboxGone
		if err := f.Parse(&m); err != nil {
			return err
		}
		if x := s.find(m.Execution, m.Fence); x != nil {
			x.box.gone(&m)
		}
	default:
		return errUnexpected
	}
	return nil
}

func (s *server) find(e id.Execution, fence uint64) *execution {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.held[e]; x != nil && x.unit.Fence == fence {
		return x
	}
	return nil
}

// unit starts the executions of a unit. One that is held already is given up for a higher fence and left alone otherwise.
func (s *server) unit(f wire.Frame) error {
	var m wire.Unit
	if err := f.Parse(&m); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range m.Executions {
		u := &m.Executions[i]
		if old := s.held[u.Execution]; old != nil {
			if old.unit.Fence >= u.Fence {
				continue
			}
			old.cancel(errStale)
		}
		if len(s.held) >= MaxExecutions {
			return fmt.Errorf("%w: more than %d executions", errUnexpected, MaxExecutions)
		}
		x := newExecution(s, u)
		s.held[u.Execution] = x
		s.launch(x)
	}
	return nil
}

// launch gives an execution to an idle goroutine or to a new one. Evaluating needs a deep stack: growing one for every
// execution would cost a third of its time.
func (s *server) launch(x *execution) {
	select {
	case s.next <- x:
	default:
		s.wg.Go(func() { s.lives(x) })
	}
}

// lives runs one execution after the other until too many goroutines are idle, or the link ends.
func (s *server) lives(x *execution) {
	for {
		x.live()
		x = nil // an idle goroutine keeps no event
		if s.idle.Add(1) > keptIdle {
			s.idle.Add(-1)
			return
		}
		select {
		case x = <-s.next:
			s.idle.Add(-1)
		case <-s.ctx.Done():
			return
		}
	}
}

// leave forgets an execution and says so.
func (s *server) leave(x *execution, fault string) {
	s.mu.Lock()
	if s.held[x.unit.Execution] == x {
		delete(s.held, x.unit.Execution)
	}
	s.mu.Unlock()
	s.write(&wire.Released{Execution: x.unit.Execution, Fence: x.unit.Fence, Fault: fault})
}

// write sends a frame whose loss is noticed elsewhere: a broken stream ends the reader.
func (s *server) write(m wire.Typed) { _ = s.out.Write(m) }

// calls are requests of one kind that wait for their answers.
type calls[T any] struct {
	mu   sync.Mutex
	open map[uint64]chan *T
}

func (c *calls[T]) init() { c.open = map[uint64]chan *T{} }

// begin registers a call. The channel gets at most one answer.
func (c *calls[T]) begin(n uint64) chan *T {
	ch := make(chan *T, 1)
	c.mu.Lock()
	c.open[n] = ch
	c.mu.Unlock()
	return ch
}

// end forgets a call whose answer nobody wants any more.
func (c *calls[T]) end(n uint64) {
	c.mu.Lock()
	delete(c.open, n)
	c.mu.Unlock()
}

// deliver hands an answer to its call. An answer that nobody waits for is dropped: its step was cancelled.
func deliver[T any, P interface {
	*T
	wire.Typed
}](f wire.Frame, c *calls[T], number func(*T) uint64,
) error {
	m := new(T)
	if err := f.Parse(P(m)); err != nil {
		return err
	}
	n := number(m)
	c.mu.Lock()
	ch := c.open[n]
	delete(c.open, n)
	c.mu.Unlock()
	if ch != nil {
		ch <- m
	}
	return nil
}
