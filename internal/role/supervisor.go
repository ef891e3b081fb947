package role

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bulkheadhq/bulkhead/internal/api"
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

// Supervisor has started every role.
type Supervisor struct {
	cfg    Config
	state  *stateDir
	public *os.File // the socket for the outside
	roles  []*child

	authority seal.VerifyKey
	vault     *lease.Identity
	API       string // Unix socket of the server's API
	Public    string // where webhooks and callbacks are served
	mu        sync.Mutex
	layers    map[string][]wire.Layer
	ended     chan string // name of a role that ended by itself
	stopping  bool
}

// child is one role process.
type child struct {
	name     string
	role     wire.Role
	process  *jail.Process
	control  *control
	hello    wire.Hello
	enrolled wire.Enrolled
}

// Start starts every role and returns when all serve, or when one does not, with
// that one's reason; then nothing is left running.
func Start(ctx context.Context, cfg Config) (*Supervisor, error) {
	s := &Supervisor{cfg: cfg, layers: map[string][]wire.Layer{}, ended: make(chan string, 8)}
	if err := s.prepare(); err != nil {
		s.Stop()
		return nil, fmt.Errorf("start: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.kill() })
	err := s.start()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.Stop()
		return nil, fmt.Errorf("start: %w", err)
	}
	for _, c := range s.roles {
		go s.watch(c)
	}
	return s, nil
}

// prepare takes what outlives the roles: the state directory and the socket for the outside.
func (s *Supervisor) prepare() (err error) {
	if err := checkDev(&s.cfg); err != nil {
		return err
	}
	if s.state, err = openState(&s.cfg); err != nil {
		return err
	}
	s.public, s.Public, err = listenPublic(s.cfg.Listen)
	return err
}

func (s *Supervisor) start() error {
	if err := s.spawn(); err != nil {
		return err
	}
	vault, bus := s.child("vault"), s.child("bus")
	ready, err := s.openVault(vault)
	if err != nil {
		return err
	}
	var peers []wire.PeerCertificate
	for _, c := range s.roles {
		if c == bus {
			continue
		}
		if err := s.enroll(vault, c); err != nil {
			return err
		}
		peers = append(peers, wire.PeerCertificate{Certificate: c.enrolled.Certificate})
	}
	if s.vault, err = lease.ParseIdentity(s.authority, vault.enrolled.Certificate, time.Now()); err != nil {
		return fmt.Errorf("read identity of vault: %w", err)
	}
	if err := bus.control.send(&wire.Start{Bus: "127.0.0.1:0", Operator: ready.Operator, Account: ready.Account}); err != nil {
		return err
	}
	var at wire.Ready
	if err := bus.control.receive(&at); err != nil {
		return err
	}
	s.layers[bus.name] = append(s.layers[bus.name], at.Layers...)
	return s.startRest(&at, peers)
}

// startRest starts the roles that use the bus, all at once.
func (s *Supervisor) startRest(bus *wire.Ready, peers []wire.PeerCertificate) error {
	var g errgroup.Group
	for _, c := range s.roles {
		if c.name == "bus" {
			continue
		}
		g.Go(func() error {
			err := c.control.send(&wire.Start{
				Node: c.enrolled.Node, Certificate: c.enrolled.Certificate, UserJWT: c.enrolled.UserJWT,
				Authority: s.authority, Peers: peers, Bus: bus.Address, BusPin: bus.Pin, Settings: s.settings(c),
			})
			if err != nil {
				return err
			}
			var ready wire.Ready
			if err := c.control.receive(&ready); err != nil {
				return err
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.layers[c.name] = append(s.layers[c.name], ready.Layers...)
			return nil
		})
	}
	return g.Wait()
}

// settings are what a role gets beside its identity.
func (s *Supervisor) settings(c *child) []wire.Pair {
	switch c.name {
	case "server":
		return []wire.Pair{
			{Name: "dir", Value: s.dir("server")},
			{Name: "api", Value: s.API},
			{Name: "database", Value: s.cfg.Database},
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

// spawn starts all processes and makes their directories.
func (s *Supervisor) spawn() error {
	s.API = filepath.Join(s.dir("server"), "api.sock")
	for _, name := range []string{"vault", "bus", "server", "egress", "runner"} {
		uid := uids()[name]
		if name == "vault" || name == "server" {
			if err := ownedDir(s.dir(name), int(uid)); err != nil {
				return err
			}
		}
		p, report, err := jail.StartRole(jail.RoleStart{
			Name: "bulkhead-" + name, Args: []string{"role", name}, UID: uid, GID: uid,
			Env: environment(name), Stderr: s.cfg.Stderr, Files: s.files(name), Children: name == "runner",
		})
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.roles = append(s.roles, &child{name: name, role: wire.Role(name), process: p, control: newControl(p.Conn)})
		s.mu.Unlock()
		s.layers[name] = wireLayers("", report)
		if missing := report.Missing(); s.cfg.Full && len(missing) > 0 {
			return fmt.Errorf("%s: layer %s is missing, and everything is required: %s", name, missing[0].Name, missing[0].Fix)
		}
	}
	for _, c := range s.roles {
		if err := c.control.receive(&c.hello); err != nil {
			return fmt.Errorf("start %s: %w", c.name, err)
		}
	}
	return nil
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
	env := []string{"GOGC=400", "GOMEMLIMIT=256MiB"}
	if name != "server" {
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

func (s *Supervisor) openVault(c *child) (*wire.VaultReady, error) {
	root, err := s.cfg.Root()
	if err != nil {
		return nil, err
	}
	m := &wire.VaultStart{Root: append([]byte(nil), root.Reveal()...), Dir: s.dir("vault"), Temporary: s.cfg.Temporary}
	frame := wire.AppendFrame(nil, m)
	clear(m.Root)
	_, err = c.control.conn.Write(frame)
	clear(frame)
	root.Destroy()
	if err != nil {
		return nil, fmt.Errorf("start vault: %w", err)
	}
	var ready wire.VaultReady
	if err := c.control.receive(&ready); err != nil {
		return nil, err
	}
	s.authority = ready.Authority
	return &ready, nil
}

func (s *Supervisor) enroll(vault, c *child) error {
	pool := ""
	if c.role == wire.RoleEgress || c.role == wire.RoleRunner {
		pool = api.DefaultPool
	}
	err := vault.control.send(&wire.Enroll{Role: string(c.role), Pool: pool, Sign: c.hello.Sign, Seal: c.hello.Seal})
	if err != nil {
		return fmt.Errorf("enroll %s: %w", c.name, err)
	}
	return vault.control.receive(&c.enrolled)
}

func (s *Supervisor) child(name string) *child {
	for _, c := range s.roles {
		if c.name == name {
			return c
		}
	}
	return nil
}

// VaultKey is the key to which credentials are sealed where they are entered.
func (s *Supervisor) VaultKey() seal.PublicKey { return s.vault.Seal }

// Layers are the walls around each role, as it reported them.
func (s *Supervisor) Layers() map[string][]wire.Layer { return s.layers }

// Missing names the layers that this host does not offer, each once, sorted.
func (s *Supervisor) Missing() []string {
	var out []string
	for _, layers := range s.layers {
		for _, l := range layers {
			name := strings.TrimPrefix(l.Name, "children: ")
			if l.State != jail.StateOn.String() && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// Ended gives the name of a role that ended by itself.
func (s *Supervisor) Ended() <-chan string { return s.ended }

// Processes are the process ids of the roles, for measuring and for tests.
func (s *Supervisor) Processes() map[string]int {
	out := map[string]int{}
	for _, c := range s.roles {
		out[c.name] = c.process.PID
	}
	return out
}

func (s *Supervisor) watch(c *child) {
	c.process.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.ended <- c.name
	}
}

// Stop ends every role, those first that make work for the others.
func (s *Supervisor) Stop() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	for _, name := range []string{"runner", "egress", "server", "vault", "bus"} {
		c := s.child(name)
		if c == nil {
			continue // it was never started
		}
		_ = c.control.send(&wire.Stop{Grace: stopGrace})
		timer := time.AfterFunc(stopGrace, func() { _ = c.process.Kill() })
		c.process.Wait()
		timer.Stop()
		_ = c.process.Conn.Close()
	}
	if s.public != nil {
		_ = s.public.Close()
	}
	s.state.close()
}

func (s *Supervisor) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.roles {
		_ = c.process.Kill()
	}
}
