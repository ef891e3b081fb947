package role

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/bus"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// connectTimeout bounds how long a role waits for the bus at its start, and connectPause
	// is the rest between two attempts: the bus may be restarting.
	connectTimeout = 10 * time.Second
	connectPause   = 30 * time.Millisecond
)

// process is what every role has: its keys, its supervisor, and once started its
// identity and its peers.
type process struct {
	control *control
	log     *slog.Logger
	sign    *seal.SignKey
	seal    *seal.PrivateKey
	start   wire.Start
	set     settings
	stopped chan struct{} // closed when the supervisor is gone or says stop
	// told takes the frames that only one role gets while it runs; set before begin.
	told func(wire.Frame) error

	mu     sync.Mutex // guards what follows
	peers  map[id.Node]*lease.Identity
	proofs map[id.Node][]byte // their certificates
	left   []id.Node          // since follow was told
	follow func(left []id.Node)
	conn   *bus.Conn
	pin    [32]byte      // of the bus
	jwt    string        // for the bus
	grace  time.Duration // what the supervisor gives for the end
}

// Main runs a role in this process until the supervisor stops it, and returns the
// exit status. The role's own text of a level and above goes to errors only, as JSON lines.
func Main(ctx context.Context, name string, stderr io.Writer, level slog.Level) int {
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level})).With("role", name)
	run, ok := map[string]func(context.Context, *process) error{
		"bus": runBus, "vault": runVault, "server": runServer, "egress": runEgress, "runner": runRunner,
	}[name]
	c, err := openControl(jail.ConnFD)
	if err != nil || !ok {
		fmt.Fprintln(stderr, errAlone)
		return 2
	}
	signal.Ignore(syscall.SIGINT) // a terminal's ^C is for the supervisor, which stops roles in order
	followHeap()
	p := &process{control: c, log: log, stopped: make(chan struct{})}
	if err = p.hello(); err == nil {
		err = run(ctx, p)
	}
	if err != nil {
		_ = c.send(&wire.Error{Code: codeStart, Message: name + ": " + err.Error()})
		log.Error("role ended", "err", err)
		return 1
	}
	return 0
}

// hello makes the keys of this process and shows their public halves.
func (p *process) hello() error {
	var err error
	if p.sign, err = seal.GenerateSignKey(); err != nil {
		return fmt.Errorf("make identity: %w", err)
	}
	if p.seal, err = seal.GenerateKey(); err != nil {
		return fmt.Errorf("make identity: %w", err)
	}
	return p.control.send(&wire.Hello{Sign: p.sign.Public(), Seal: p.seal.Public()})
}

// begin waits for the Start frame, checks the peers that it names, and listens to the
// supervisor from then on.
func (p *process) begin() error {
	if err := p.control.receive(&p.start); err != nil {
		return err
	}
	if err := p.started(); err != nil {
		return err
	}
	go p.watch()
	return nil
}

// started takes what the Start frame says.
func (p *process) started() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set = readSettings(p.start.Settings)
	p.peers, p.proofs = map[id.Node]*lease.Identity{}, map[id.Node][]byte{}
	p.pin, p.jwt = p.start.BusPin, p.start.UserJWT
	return p.joined(p.start.Peers)
}

// joined takes certificates, of new peers or renewed. The caller holds mu.
func (p *process) joined(list []wire.PeerCertificate) error {
	for _, c := range list {
		i, err := lease.ParseIdentity(p.start.Authority, c.Certificate, time.Now())
		if err != nil {
			return fmt.Errorf("read peer: %w", err)
		}
		p.peers[i.Node], p.proofs[i.Node] = i, c.Certificate
	}
	return nil
}

// trust is the authority of the vault, and its certificate of the vault that runs: clients
// check with it that a key which the server shows is the vault's.
func (p *process) trust() (authority seal.VerifyKey, certificate []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range p.live(wire.RoleVault) {
		certificate = p.proofs[i.Node]
	}
	return p.start.Authority, certificate
}

// watch hears the supervisor until the end: a Stop, or a supervisor that is gone.
func (p *process) watch() {
	defer close(p.stopped)
	for {
		f, err := p.control.in.Read()
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				p.log.Debug("supervisor is gone", "err", err)
			}
			return
		}
		if f.Type == wire.TypeStop {
			var m wire.Stop
			if err := f.Parse(&m); err == nil {
				p.mu.Lock()
				p.grace = m.Grace
				p.mu.Unlock()
			}
			return
		}
		if err := p.hear(f); err != nil {
			p.log.Error("frame of the supervisor", "type", f.Type.String(), "err", err)
		}
	}
}

// hear takes one frame of the supervisor while the role runs.
func (p *process) hear(f wire.Frame) error {
	switch f.Type {
	case wire.TypePeers:
		var m wire.Peers
		if err := f.Parse(&m); err != nil {
			return err
		}
		return p.changed(&m)
	case wire.TypeEnrolled: // this identity, renewed
		var m wire.Enrolled
		if err := f.Parse(&m); err != nil {
			return err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.jwt = m.UserJWT
		if p.conn != nil {
			p.conn.SetUser(m.UserJWT)
		}
		return nil
	default:
		if p.told == nil {
			return wire.ErrMalformed
		}
		return p.told(f)
	}
}

// changed takes who joined and left, and the bus's new pin.
func (p *process) changed(m *wire.Peers) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.Bus != "" {
		p.pin = m.BusPin
		if p.conn != nil {
			p.conn.SetPin(m.BusPin)
		}
	}
	err := p.joined(m.Joined)
	abandon := false
	for _, l := range m.Left {
		if i := p.peers[l.Node]; i != nil {
			abandon = abandon || i.Role == wire.RoleVault || i.Role == wire.RoleServer
		}
		delete(p.peers, l.Node)
		p.left = append(p.left, l.Node)
	}
	if abandon && p.conn != nil {
		p.conn.Abandon() // those two are who questions are asked of
	}
	p.tell()
	return err
}

// tell calls follow with what it does not know yet. The caller holds mu.
func (p *process) tell() {
	if p.follow != nil {
		left := p.left
		p.left = nil
		p.follow(left)
	}
}

// onPeers calls f now and each time that peers join or leave. It is called by one
// goroutine at a time, reads peers by live, and must not block.
func (p *process) onPeers(f func(left []id.Node)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.follow = f
	p.tell()
}

// live are the live peers of a role. The caller is a function given to onPeers.
func (p *process) live(r wire.Role) []*lease.Identity {
	var out []*lease.Identity
	for _, i := range p.peers {
		if i.Role == r {
			out = append(out, i)
		}
	}
	return out
}

// nodes are the live peers of a role.
func (p *process) nodes(r wire.Role) []*lease.Identity {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live(r)
}

// connect joins the bus. lost, which may be nil, is called when messages to and from this
// role may have been lost.
func (p *process) connect(ctx context.Context, r wire.Role, h bus.Handler, lost func()) (*bus.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	for {
		p.mu.Lock()
		cfg := bus.Config{
			Addr: p.start.Bus, Pin: p.pin, Role: r, Node: p.start.Node, UserJWT: p.jwt, Sign: p.sign, Handler: h, Lost: lost, Log: p.log,
		}
		p.mu.Unlock()
		c, err := bus.Connect(ctx, cfg)
		if err == nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.conn = c
			c.SetPin(p.pin)
			c.SetUser(p.jwt)
			return c, nil
		}
		again := time.NewTimer(connectPause)
		select {
		case <-again.C:
		case <-p.stopped:
			return nil, fmt.Errorf("join: %w", errStopped)
		case <-ctx.Done():
			return nil, fmt.Errorf("join: %w", err)
		}
	}
}

// errStopped means that the supervisor ended this role before it served.
var errStopped = errors.New("stopped by the supervisor")

// ready locks this process down and tells the supervisor that it serves.
func (p *process) ready(profile jail.Profile, r *wire.Ready) error {
	if err := jail.Trim(); err != nil {
		p.log.Warn("memory of the start is kept", "err", err)
	}
	report, err := jail.Lockdown(profile)
	if err != nil {
		return fmt.Errorf("lock down: %w", err)
	}
	r.Layers = append(r.Layers, wireLayers("", report)...)
	return p.control.send(r)
}

// wireLayers is a report as it travels to the supervisor.
func wireLayers(prefix string, report jail.Report) []wire.Layer {
	var out []wire.Layer
	for _, l := range report.Layers {
		out = append(out, wire.Layer{Name: prefix + l.Name, State: l.State.String(), Detail: l.Detail})
	}
	return out
}

// until runs f until the supervisor stops this role or f fails by itself.
func (p *process) until(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	select {
	case <-p.stopped:
		cancel()
		<-done
		return nil
	case err := <-done:
		return err
	}
}
