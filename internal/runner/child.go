package runner

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// endGrace is how long a child that has closed its stream may take to end by itself, so
// that the reason of its end is its own; on a busy machine that is longer than it should be.
const endGrace = 3 * time.Second

// errProtocol ends a process that says what it may not.
var errProtocol = errors.New("the child broke the protocol")

// child is a jailed process: the stream to it, and its life.
type child struct {
	conn io.ReadWriteCloser
	kill func() error
	wait func() jail.Exit
}

// spawn starts a jailed process.
func (r *Runner) spawn(k jail.Kind) (*child, error) {
	ctx, cancel := context.WithTimeout(context.Background(), bindTimeout)
	defer cancel()
	return r.start(ctx, k)
}

// serve reads frames until the stream ends or one is refused. The error is never nil.
func (r *Runner) serve(c *child, handle func(wire.Frame) error) error {
	in := wire.NewReader(c.conn)
	p := newPace()
	for {
		f, err := in.Read()
		if err != nil {
			return err
		}
		p.take(f, time.Now())
		r.room()
		if err := handle(f); err != nil {
			return err
		}
	}
}

// refused reports whether a child is to be killed for what it said, as opposed to
// one whose stream has ended.
func refused(err error) bool {
	return errors.Is(err, errProtocol) || errors.Is(err, wire.ErrMalformed)
}

// end waits for a process whose stream has ended, and ends it when it does not.
func (c *child) end(out *wire.Writer) jail.Exit {
	late := time.AfterFunc(endGrace, func() { _ = c.kill() })
	exit := c.wait()
	late.Stop()
	_ = c.conn.Close()
	_ = out.Close()
	return exit
}

// Limits of what one child may write. What is over one makes it wait, alone.
const (
	// maxRate is bytes per second, maxFrameRate frames.
	maxRate      = 64 << 20
	maxFrameRate = 100_000
	// boxCost is how many frames a wish for a sandbox counts as: starting one costs
	// milliseconds.
	boxCost = maxFrameRate / 200
	// maxQueued is how many bytes may wait for the bus before children have to.
	maxQueued = 32 << 20
	// maxStray and strayRate bound frames about executions that a worker does not hold:
	// as many at once, and per second.
	maxStray  = 10_000
	strayRate = 1_000
)

// bucket is how much may be spent now; it fills with time. It is for one goroutine.
type bucket struct {
	left, size, rate float64
	last             time.Time
}

// spend takes n and returns how long to wait for it.
func (b *bucket) spend(n float64, now time.Time) time.Duration {
	if !b.last.IsZero() {
		b.left = min(b.size, b.left+now.Sub(b.last).Seconds()*b.rate)
	}
	b.last = now
	if b.left -= n; b.left >= 0 {
		return 0
	}
	return time.Duration(-b.left / b.rate * float64(time.Second))
}

// pace slows down a child that writes too much.
type pace struct{ bytes, frames bucket }

func newPace() *pace {
	return &pace{
		bytes:  bucket{left: maxRate / 2, size: maxRate / 2, rate: maxRate},
		frames: bucket{left: maxFrameRate, size: maxFrameRate, rate: maxFrameRate},
	}
}

func (p *pace) take(f wire.Frame, now time.Time) {
	cost := 1.0
	if f.Type == wire.TypeSandboxWant {
		cost = boxCost
	}
	if wait := max(p.bytes.spend(float64(len(f.Body)), now), p.frames.spend(cost, now)); wait > 0 {
		<-time.After(wait)
	}
}
