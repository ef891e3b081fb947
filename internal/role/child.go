package role

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// maxTold is how many frames may wait for a role that does not read. One that lets more
// come does not run any more, and is ended.
const maxTold = 4096

// child is one role process. The fields of the first group do not change.
type child struct {
	seat    *seat
	process *jail.Process
	control *control
	out     chan wire.Typed  // to its writer; never closed
	in      chan wire.Frame  // what it says while it starts; closed when its socket is
	answers chan wire.Frame  // what it answers to what it is asked; closed with in
	ended   chan struct{}    // closed when the process has been waited for
	asking  chan struct{}    // holds a token while a question is open
	failed  chan *startError // why it ended, in its own words

	hello    wire.Hello
	enrolled wire.Enrolled
	identity *lease.Identity // nil until it is enrolled; guarded by the supervisor
	told     bool            // it has its Start and hears of changes; guarded by the supervisor
}

func newChild(t *seat, p *jail.Process) *child {
	c := &child{
		seat: t, process: p, control: newControl(p.Conn), out: make(chan wire.Typed, maxTold), in: make(chan wire.Frame, 4), answers: make(chan wire.Frame, 1),
		ended: make(chan struct{}), asking: make(chan struct{}, 1), failed: make(chan *startError, 1),
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		c.read()
	}()
	go c.write()
	go func() {
		p.Wait()
		<-read // its last words come first
		_ = p.Conn.Close()
		close(c.ended)
	}()
	return c
}

// read takes what the process says until its socket ends. A process whose socket ends
// is ended too: nobody could stop it.
func (c *child) read() {
	defer close(c.in)
	defer close(c.answers)
	for {
		f, err := c.control.in.Read()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = c.process.Kill()
			}
			return
		}
		if f.Type == wire.TypeError {
			var e wire.Error
			if err := f.Parse(&e); err == nil && e.Code == codeStart {
				select {
				case c.failed <- &startError{e.Message}:
				default:
				}
				continue
			}
		}
		to := c.in
		if f.Type == wire.TypeEnrolled || f.Type == wire.TypeError {
			to = c.answers
		}
		select {
		case to <- f:
		default: // it says what it was not asked
			_ = c.process.Kill()
		}
	}
}

func (c *child) write() {
	for {
		select {
		case m := <-c.out:
			if err := c.control.send(m); err != nil {
				_ = c.process.Kill()
				return
			}
		case <-c.ended:
			return
		}
	}
}

// post queues a frame for the process.
func (c *child) post(m wire.Typed) {
	select {
	case c.out <- m:
	default:
		_ = c.process.Kill()
	}
}

// why says why the process ended; ended is closed.
func (c *child) why() error {
	select {
	case err := <-c.failed:
		return err
	default:
		return fmt.Errorf("%s ended before it served", c.seat.name)
	}
}

// receive waits for the next frame of a start, which must be of m's type.
func (c *child) receive(ctx context.Context, m wire.Typed) error { return c.next(ctx, c.in, m) }

func (c *child) next(ctx context.Context, in chan wire.Frame, m wire.Typed) error {
	select {
	case f, ok := <-in:
		if !ok {
			<-c.ended
			return c.why()
		}
		if f.Type == wire.TypeError {
			var e wire.Error
			if err := f.Parse(&e); err != nil {
				return fmt.Errorf("wait for %v of %s: %w", m.FrameType(), c.seat.name, err)
			}
			return errors.New(e.Message)
		}
		if err := f.Parse(m); err != nil {
			return fmt.Errorf("wait for %v of %s: %w", m.FrameType(), c.seat.name, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %v of %s: %w", m.FrameType(), c.seat.name, ctx.Err())
	}
}

// ask sends a frame and waits for its answer, one question at a time.
func (c *child) ask(ctx context.Context, m, answer wire.Typed) error {
	select {
	case c.asking <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.asking }()
	c.post(m)
	return c.next(ctx, c.answers, answer)
}

// end kills the process and waits for its end.
func (c *child) end() {
	_ = c.process.Kill()
	<-c.ended
}
