package role

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const (
	// startTimeout bounds how long all roles may take to start.
	startTimeout = 20 * time.Second
	// stopGrace is how long a role may take to end after it was asked to.
	stopGrace = 5 * time.Second
)

// Supervisor starts every role and keeps it up. It is safe for concurrent use.
type Supervisor struct {
	cfg    Config
	log    *slog.Logger
	state  *stateDir
	public *os.File        // the socket for the outside
	own    net.Listener    // the supervisor's own; nil: none
	ctx    context.Context //nolint:containedctx // the life of the supervisor: its keepers end with it
	cancel context.CancelFunc
	keeper sync.WaitGroup

	API    string // Unix socket of the server's API
	Public string // where webhooks and callbacks are served: host:port
	URL    string // what their addresses begin with

	first   chan error      // how the first process of each seat started
	ended   chan string     // name of a role that ended by itself; with temporary state only
	unseals chan *unsealing // to a vault that waits

	mu         sync.Mutex // guards what follows, and the seats
	changed    chan struct{}
	seats      []*seat
	stopping   bool
	authority  seal.VerifyKey
	operator   string // of the bus
	account    string
	bus        wire.Ready // of the bus that serves; no address: none does
	busAddress string     // the same for life
	open       *child     // the vault that certifies; nil: none
	vault      *lease.Identity
}

// Start starts every role and returns when all serve, or when one does not, with
// that one's reason; then nothing is left running. From then on roles that end are
// started again, unless the state is temporary, until Stop.
func Start(ctx context.Context, cfg Config) (*Supervisor, error) {
	s := &Supervisor{
		cfg: cfg, log: cfg.Log, first: make(chan error, 8), ended: make(chan string, 8), unseals: make(chan *unsealing), changed: make(chan struct{}),
		busAddress: "127.0.0.1:0",
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	err := s.prepare()
	if err == nil {
		err = s.start(ctx)
	}
	if err != nil {
		s.Kill()
		return nil, fmt.Errorf("start: %w", err)
	}
	if s.own != nil {
		s.keeper.Go(s.serveControl)
		context.AfterFunc(s.ctx, func() { _ = s.own.Close() })
	}
	s.keeper.Go(s.renew)
	s.keeper.Go(s.report)
	if !cfg.Temporary { // it stays for long
		_ = jail.Trim()
	}
	return s, nil
}

// prepare takes what outlives the roles: the state directory and the socket for the outside.
func (s *Supervisor) prepare() (err error) {
	if err := errors.Join(checkDev(&s.cfg), checkOutside(&s.cfg)); err != nil {
		return err
	}
	if s.state, err = openState(&s.cfg); err != nil {
		return err
	}
	s.API = filepath.Join(s.dir("server"), "api.sock")
	if s.public, s.Public, err = listenPublic(s.cfg.Listen); err != nil {
		return err
	}
	s.URL = publicURL(&s.cfg, s.Public)
	if s.cfg.Unseal == nil {
		return nil
	}
	return s.listenControl()
}

// start fills every seat.
func (s *Supervisor) start(ctx context.Context) error {
	names := []string{"vault", "bus", "server", "egress", "runner"}
	s.mu.Lock()
	for _, name := range names {
		t := &seat{name: name, role: wire.Role(name)}
		t.enter(seatDown)
		s.seats = append(s.seats, t)
	}
	s.mu.Unlock()
	for _, t := range s.seats {
		s.keeper.Go(func() { s.keep(t) })
	}
	late := time.NewTimer(startTimeout)
	defer late.Stop()
	for range names {
		select {
		case err := <-s.first:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return errLate
		}
	}
	return nil
}

// errLate means that a role neither serves nor fails.
var errLate = fmt.Errorf("not every role serves after %v: see their log", startTimeout)

// settings are what a role gets beside its identity.
func (s *Supervisor) settings(name string) []wire.Pair {
	switch name {
	case "server":
		return []wire.Pair{
			{Name: "dir", Value: s.dir("server")},
			{Name: "api", Value: s.API},
			{Name: "url", Value: s.URL},
			{Name: "tls", Value: map[bool]string{true: "yes"}[s.cfg.Certificate != ""]},
			{Name: "database", Value: s.cfg.Database},
			{Name: "metadata", Value: s.cfg.Metadata.String()},
			{Name: "temporary", Value: map[bool]string{true: "yes"}[s.cfg.Temporary]},
		}
	case "runner":
		if s.cfg.Full {
			return []wire.Pair{{Name: "require", Value: "full"}}
		}
	case "egress":
		var out []wire.Pair
		for i, p := range s.cfg.AllowNet {
			out = append(out, wire.Pair{Name: fmt.Sprintf("allow-net.%d", i), Value: p.String()})
		}
		return out
	}
	return nil
}

func (s *Supervisor) dir(role string) string { return filepath.Join(s.cfg.State, role) }

// uids are the users that roles run as where the host allows it. Each role that
// keeps files owns its own directory.
func uids() map[string]uint32 {
	return map[string]uint32{"bus": 64_001, "vault": 64_002, "server": 64_003, "egress": 64_004, "runner": 64_005}
}

// files are the descriptors that a role inherits beside its control socket.
func (s *Supervisor) files(name string) []*os.File {
	if name == "server" {
		return []*os.File{s.public}
	}
	return nil
}

// environment tunes the Go runtime of a role; hot-path measurements say how.
func environment(name string) []string {
	env := []string{"GOGC=400", "GOMEMLIMIT=" + strconv.FormatInt(heapOf(name), 10)}
	switch name {
	case "server":
		env = append(env, "GODEBUG="+jail.SteadyMonitor)
	default:
		// One processor, no file kept open to follow a container's share of them, and a monitor that looks every 10 ms.
		env = append(env, "GOMAXPROCS=1", "GODEBUG=containermaxprocs=0,updatemaxprocs=0,"+jail.SteadyMonitor)
	}
	return env
}

// ownedDir makes a directory that only one role may enter.
func ownedDir(dir string, uid int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	if os.Geteuid() != 0 {
		return nil
	}
	root, err := os.OpenRoot(dir) // nothing below can lead out of it, whatever a breached role has left there
	if err != nil {
		return fmt.Errorf("open state directory: %w", err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, root.Lchown(path, uid, uid))
	})
	if err != nil {
		return fmt.Errorf("give state directory to its role: %w", err)
	}
	return nil
}

// seat finds a seat. The caller holds mu.
func (s *Supervisor) seat(name string) *seat {
	for _, t := range s.seats {
		if t.name == name {
			return t
		}
	}
	return nil
}

// Authority is the key of the vault's authority, which certifies every process: it stays the
// same as long as the keystore does.
func (s *Supervisor) Authority() seal.VerifyKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.authority
}

// VaultKey is the key to which credentials are sealed where they are entered.
func (s *Supervisor) VaultKey() seal.PublicKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.vault.Seal
}

// Layers are the walls around each role, as it reported them.
func (s *Supervisor) Layers() map[string][]wire.Layer {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]wire.Layer{}
	for _, t := range s.seats {
		out[t.name] = slices.Clone(t.layers)
	}
	return out
}

// Missing names the layers that this host does not offer, each once, sorted.
func (s *Supervisor) Missing() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return missing(s.seats, func(name string) string { return strings.TrimPrefix(name, "children: ") })
}

// Ended gives the name of a role that ended by itself, where roles are not started again.
func (s *Supervisor) Ended() <-chan string { return s.ended }

// Processes are the process ids of the roles that run, for measuring and for tests.
func (s *Supervisor) Processes() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int{}
	for _, t := range s.seats {
		if t.child != nil {
			out[t.name] = t.child.process.PID
		}
	}
	return out
}

// Stop ends every role, those first that make work for the others. The server takes
// nothing new from the beginning, and running executions get the time of [Config.Drain].
func (s *Supervisor) Stop() {
	s.mu.Lock()
	s.stopping = true
	running := map[string]*child{}
	for _, t := range s.seats {
		if t.child != nil {
			running[t.name] = t.child
		}
	}
	if c := running["server"]; c != nil && c.told {
		c.post(&wire.Drain{})
	}
	s.mu.Unlock()
	s.cancel()
	for _, name := range []string{"runner", "egress", "server", "vault", "bus"} {
		c := running[name]
		if c == nil {
			continue
		}
		grace := stopGrace
		switch name {
		case "runner":
			grace += s.cfg.Drain
		case "server":
			grace += answerTime
		}
		c.post(&wire.Stop{Grace: s.cfg.Drain})
		timer := time.AfterFunc(grace, func() { _ = c.process.Kill() })
		<-c.ended
		timer.Stop()
	}
	s.finish()
}

// Kill ends every role at once.
func (s *Supervisor) Kill() {
	s.mu.Lock()
	s.stopping = true
	for _, t := range s.seats {
		if t.child != nil {
			_ = t.child.process.Kill()
		}
	}
	s.mu.Unlock()
	s.cancel()
	s.finish()
}

// finish waits for the keepers and gives back what the supervisor held.
func (s *Supervisor) finish() {
	s.keeper.Wait()
	if s.public != nil {
		_ = s.public.Close()
	}
	s.state.close()
}
