package bus

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// reconnectWait and reconnectMost are the first and the longest pause between two
	// attempts to reach the bus again; dialLimit bounds one.
	reconnectWait = 20 * time.Millisecond
	reconnectMost = 500 * time.Millisecond
	dialLimit     = 3 * time.Second
	// settle is how long after a reconnect what is queued is kept back, so that those for
	// whom it is have come back too.
	settle = 100 * time.Millisecond
	// askAgain is the pause after which a question is asked again that nobody was there for.
	askAgain = 25 * time.Millisecond
	maxNonce = 64
	// pendingFrames and pendingBytes bound what waits for a handler.
	pendingFrames = 1 << 16
	pendingBytes  = 256 << 20
	// reconnectBuffer bounds what the connection itself keeps while it is down: what was
	// given to it before the loss was noticed.
	reconnectBuffer = 16 << 20
)

// Handler takes the frames of one message. Frames point into memory that the
// handler may keep. answer is nil unless the sender asked; it may be called later,
// from any goroutine, once.
type Handler func(from id.Node, topic wire.Topic, frame wire.Frame, answer func(wire.Typed))

// Config says who connects to which bus.
type Config struct {
	Addr    string
	Pin     [sha256.Size]byte
	Role    wire.Role
	Node    id.Node
	UserJWT string        // by the vault
	Sign    *seal.SignKey // the identity's key
	Handler Handler       // nil for a role that only asks
	// Lost is called after each reconnect: messages to and from this node may have been
	// lost before it. It must not block. Nil: nothing is called.
	Lost func()
	Log  *slog.Logger
}

// Conn is a role's connection to the bus.
type Conn struct {
	nats *nats.Conn
	role wire.Role
	node id.Node
	out  *outbox
	log  *slog.Logger

	mu   sync.Mutex
	pin  [sha256.Size]byte
	jwt  string
	lost chan struct{} // closed, and made anew, when open questions get no answer any more
}

// SetPin changes the certificate that the bus is expected to show from now on, which it
// does after it was restarted.
func (c *Conn) SetPin(pin [sha256.Size]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pin = pin
}

// SetUser changes what this node shows the bus at its next reconnect: its renewed user.
func (c *Conn) SetUser(jwt string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.jwt = jwt
}

// Abandon ends the questions that are open with [ErrLost]: who had to answer is gone.
func (c *Conn) Abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.lost)
	c.lost = make(chan struct{})
}

func (c *Conn) pinned() [sha256.Size]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pin
}

func (c *Conn) user() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.jwt, nil
}

// pause is how long to wait before the next attempt to reach the bus.
func pause(attempts int) time.Duration {
	d := min(reconnectWait*time.Duration(max(attempts, 1)), reconnectMost)
	return d/2 + rand.N(d/2) // #nosec G404 -- spreads attempts
}

// Connect connects and subscribes. It fails when the bus does not answer within
// the context; afterwards the connection is kept up until Close.
func Connect(ctx context.Context, cfg Config) (*Conn, error) {
	key, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, cfg.Sign.Seed())
	if err != nil {
		return nil, fmt.Errorf("read identity key: %w", err)
	}
	c := &Conn{role: cfg.Role, node: cfg.Node, log: cfg.Log, pin: cfg.Pin, jwt: cfg.UserJWT, lost: make(chan struct{})}
	timeout := dialLimit
	if d, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(d))
	}
	c.out = newOutbox(c.node, c.publish)
	c.nats, err = nats.Connect(
		"tls://"+cfg.Addr,
		nats.Name(string(cfg.Role)+" "+cfg.Node.String()),
		nats.Secure(clientTLS(c.pinned)), nats.TLSHandshakeFirst(),
		nats.UserJWT(c.user, signNonce(key)),
		nats.CustomInboxPrefix(wire.Inbox(cfg.Node)),
		nats.Timeout(timeout), nats.MaxReconnects(-1), nats.CustomReconnectDelay(pause),
		// An identity that ran out is refused until it is renewed; what the bus says then is
		// not the end.
		nats.IgnoreAuthErrorAbort(),
		nats.NoEcho(), nats.ReconnectBufSize(reconnectBuffer),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.log.Error("bus connection", "err", err) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil: closed by ourselves
				c.log.Warn("bus connection lost", "err", err)
			}
			c.out.hold(true)
			c.Abandon()
		}),
		nats.ReconnectHandler(func(*nats.Conn) { c.reconnected(cfg.Lost) }),
	)
	if err != nil {
		c.out.close()
		return nil, fmt.Errorf("connect to bus at %s: %w", cfg.Addr, err)
	}
	if cfg.Handler != nil {
		if err := c.subscribe(cfg.Handler); err != nil {
			c.out.close()
			c.nats.Close()
			return nil, err
		}
	}
	return c, nil
}

// reconnected lets out what was queued meanwhile, once the others had time to come back
// too, and says that messages may have been lost.
func (c *Conn) reconnected(lost func()) {
	if lost != nil {
		lost()
	}
	time.AfterFunc(settle, func() {
		if c.nats.IsConnected() {
			c.out.hold(false)
		}
	})
}

// errNonce stops a breached bus from getting a signature over something else: what
// roles sign for each other begins with a byte outside this alphabet.
var errNonce = errors.New("the bus asks to sign something that is no nonce")

func signNonce(key nkeys.KeyPair) nats.SignatureHandler {
	return func(nonce []byte) ([]byte, error) {
		if len(nonce) == 0 || len(nonce) > maxNonce {
			return nil, errNonce
		}
		for _, b := range nonce {
			ok := b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-' || b == '_' || b == '+' || b == '/' || b == '='
			if !ok {
				return nil, errNonce
			}
		}
		return key.Sign(nonce)
	}
}

// errReply means that a sender wants its answer to go to somebody else.
var errReply = errors.New("the answer is wanted outside of the sender's inbox")

func (c *Conn) subscribe(h Handler) error {
	receive := func(m *nats.Msg) { c.receive(h, m) }
	own, err := c.nats.Subscribe(string(c.role)+"."+c.node.String()+".*.*", receive)
	if err != nil {
		return fmt.Errorf("subscribe on bus: %w", err)
	}
	anyOf, err := c.nats.QueueSubscribe(string(c.role)+".any.*.*", string(c.role), receive)
	if err != nil {
		return fmt.Errorf("subscribe on bus: %w", err)
	}
	for _, s := range []*nats.Subscription{own, anyOf} {
		if err := s.SetPendingLimits(pendingFrames, pendingBytes); err != nil {
			return fmt.Errorf("subscribe on bus: %w", err)
		}
	}
	if err := c.nats.Flush(); err != nil {
		return fmt.Errorf("subscribe on bus: %w", err)
	}
	return nil
}

// receive splits a message into frames. The sender in the subject is what the bus
// has enforced; a malformed message is dropped whole and logged.
func (c *Conn) receive(h Handler, m *nats.Msg) {
	_, topic, from, err := wire.ParseSubject(m.Subject)
	if err != nil {
		c.log.Error("message dropped", "err", err)
		return
	}
	var answer func(wire.Typed)
	if m.Reply != "" {
		// An answer goes to the sender's own inbox: anything else would be a subject on
		// which others take it for a message of this node.
		if !strings.HasPrefix(m.Reply, wire.Inbox(from)+".") {
			c.log.Error("message dropped", "from", from.String(), "topic", string(topic), "err", errReply)
			return
		}
		answer = func(a wire.Typed) {
			if err := c.nats.Publish(m.Reply, wire.AppendFrame(nil, a)); err != nil {
				c.log.Error("answer on bus", "err", err)
			}
		}
	}
	for batch := m.Data; ; {
		f, rest, err := wire.Next(batch)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			c.log.Error("message dropped", "from", from.String(), "topic", string(topic), "err", err)
			return
		}
		h(from, topic, f, answer)
		batch = rest
	}
}

// Send queues a frame for a node of a role, or for any node of it. Frames to one
// place arrive in order.
func (c *Conn) Send(to wire.Role, node id.Node, topic wire.Topic, m wire.Typed) {
	c.out.add(place{to, node, topic}, func(b []byte) []byte { return wire.AppendFrame(b, m) })
}

// Relay queues a frame that was received, unchanged.
func (c *Conn) Relay(to wire.Role, node id.Node, topic wire.Topic, f wire.Frame) {
	c.out.add(place{to, node, topic}, func(b []byte) []byte { return wire.AppendRaw(b, f) })
}

// AwaitRoom waits until less than limit bytes are queued to be sent, or the Conn is
// closed. Who relays for others calls it before each frame, so that what is queued
// stays bounded when the bus is slow.
func (c *Conn) AwaitRoom(limit int) { c.out.awaitRoom(limit) }

// Remote is an error that the other side answered with.
type Remote struct{ Code, Message string }

// Error implements error.
func (e *Remote) Error() string { return e.Code + ": " + e.Message }

// ErrorCode is the stable code, for callers that do not know this package.
func (e *Remote) ErrorCode() string { return e.Code }

// Errors of [Conn.Ask].
var (
	// ErrAbsent means that nobody was there to take the question until the context ended.
	ErrAbsent = errors.New("nobody is there to answer")
	// ErrLost means that the answer will not come: the bus or who had to answer is gone.
	// Whether the question was acted on is not known.
	ErrLost = errors.New("the question or its answer was lost")
)

// Ask sends one frame and waits for its answer, which must be of answer's type. An
// answer of type error is a [*Remote]. While nobody is there who could take it, it is
// asked again until the context ends.
func (c *Conn) Ask(ctx context.Context, to wire.Role, topic wire.Topic, m, answer wire.Typed) error {
	for {
		err := c.ask(ctx, to, id.Node{}, topic, m, answer)
		if !errors.Is(err, ErrAbsent) {
			return err
		}
		again := time.NewTimer(askAgain)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return err
		}
	}
}

// AskNode is Ask of one node. When it is not there, that is [ErrAbsent] at once.
func (c *Conn) AskNode(ctx context.Context, to wire.Role, node id.Node, topic wire.Topic, m, answer wire.Typed) error {
	return c.ask(ctx, to, node, topic, m, answer)
}

func (c *Conn) ask(ctx context.Context, to wire.Role, node id.Node, topic wire.Topic, m, answer wire.Typed) error {
	c.mu.Lock()
	lost := c.lost
	c.mu.Unlock()
	if !c.nats.IsConnected() {
		return fmt.Errorf("ask %s on bus: %w", to, ErrAbsent)
	}
	asking, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-lost:
			cancel(ErrLost)
		case <-asking.Done():
		}
	}()
	msg, err := c.nats.RequestWithContext(asking, wire.Subject(to, node, topic, c.node), wire.AppendFrame(nil, m))
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("ask %s on bus: %w", to, ErrAbsent)
	case err != nil && errors.Is(context.Cause(asking), ErrLost):
		return fmt.Errorf("ask %s on bus: %w", to, ErrLost)
	case err != nil:
		return fmt.Errorf("ask %s on bus: %w", to, err)
	}
	f, rest, err := wire.Next(msg.Data)
	if err != nil {
		return fmt.Errorf("answer of %s: %w", to, err)
	}
	if len(rest) != 0 {
		return fmt.Errorf("answer of %s: %w: more than one frame", to, wire.ErrMalformed)
	}
	if f.Type == wire.TypeError {
		var e wire.Error
		if err := f.Parse(&e); err != nil {
			return fmt.Errorf("answer of %s: %w", to, err)
		}
		return &Remote{e.Code, e.Message}
	}
	if err := f.Parse(answer); err != nil {
		return fmt.Errorf("answer of %s: %w", to, err)
	}
	return nil
}

func (c *Conn) publish(subject string, batch []byte) {
	if err := c.nats.Publish(subject, batch); err != nil {
		c.log.Error("send on bus", "subject", subject, "err", err)
	}
}

// Close sends what is queued and disconnects.
func (c *Conn) Close() {
	c.out.close()
	_ = c.nats.FlushTimeout(time.Second)
	c.nats.Close()
}
