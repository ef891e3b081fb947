package role

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/bus"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// connectTimeout bounds how long a role waits for the bus at its start.
const connectTimeout = 10 * time.Second

// process is what every role has: its keys, its supervisor, and once started its
// identity and its peers.
type process struct {
	control *control
	log     *slog.Logger
	sign    *seal.SignKey
	seal    *seal.PrivateKey
	start   wire.Start
	set     settings
	peers   map[id.Node]*lease.Identity
	stopped chan struct{} // closed when the supervisor is gone or says stop
}

// Main runs a role in this process until the supervisor stops it, and returns the
// exit status. The role's own text goes to errors only, as JSON lines.
func Main(ctx context.Context, name string, stderr io.Writer) int {
	log := slog.New(slog.NewJSONHandler(stderr, nil)).With("role", name)
	run, ok := map[string]func(context.Context, *process) error{
		"bus": runBus, "vault": runVault, "server": runServer, "egress": runEgress, "runner": runRunner,
	}[name]
	c, err := openControl(jail.ConnFD)
	if err != nil || !ok {
		fmt.Fprintln(stderr, errAlone)
		return 2
	}
	signal.Ignore(syscall.SIGINT) // a terminal's ^C is for the supervisor, which stops roles in order
	p := &process{control: c, log: log, stopped: make(chan struct{})}
	if err = p.hello(); err == nil {
		err = run(ctx, p)
	}
	if err != nil {
		_ = c.send(&wire.Error{Code: "start", Message: name + ": " + err.Error()})
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

// begin waits for the Start frame and checks the peers that it names.
func (p *process) begin() error {
	if err := p.control.receive(&p.start); err != nil {
		return err
	}
	p.set = readSettings(p.start.Settings)
	p.peers = map[id.Node]*lease.Identity{}
	for _, c := range p.start.Peers {
		i, err := lease.ParseIdentity(p.start.Authority, c.Certificate, time.Now())
		if err != nil {
			return fmt.Errorf("read peer: %w", err)
		}
		p.peers[i.Node] = i
	}
	return nil
}

// nodes are the live peers of a role.
func (p *process) nodes(r wire.Role) []*lease.Identity {
	var out []*lease.Identity
	for _, i := range p.peers {
		if i.Role == r {
			out = append(out, i)
		}
	}
	return out
}

func (p *process) connect(ctx context.Context, r wire.Role, h bus.Handler) (*bus.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	c, err := bus.Connect(ctx, bus.Config{
		Addr: p.start.Bus, Pin: p.start.BusPin, Role: r, Node: p.start.Node,
		UserJWT: p.start.UserJWT, Sign: p.sign, Handler: h, Log: p.log,
	})
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	return c, nil
}

// ready locks this process down and tells the supervisor that it serves.
func (p *process) ready(profile jail.Profile, r *wire.Ready) error {
	report, err := jail.Lockdown(profile)
	if err != nil {
		return fmt.Errorf("lock down: %w", err)
	}
	r.Layers = append(r.Layers, wireLayers("", report)...)
	if err := p.control.send(r); err != nil {
		return err
	}
	go p.watch()
	return nil
}

// wireLayers is a report as it travels to the supervisor.
func wireLayers(prefix string, report jail.Report) []wire.Layer {
	var out []wire.Layer
	for _, l := range report.Layers {
		out = append(out, wire.Layer{Name: prefix + l.Name, State: l.State.String(), Detail: l.Detail})
	}
	return out
}

// watch waits for the end: a Stop, or a supervisor that is gone.
func (p *process) watch() {
	defer close(p.stopped)
	var m wire.Stop
	if err := p.control.receive(&m); err != nil && !errors.Is(err, os.ErrClosed) {
		p.log.Debug("supervisor is gone", "err", err)
	}
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
