package role

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/jail"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// The states of a seat, as health tells them.
const (
	seatDown     = "down"
	seatStarting = "starting"
	seatSealed   = "sealed" // the vault waits for its root secret
	seatUp       = "up"
)

// seat is the place of one role: the process that is in it, and how it went. Name and
// role do not change, the rest is guarded by the supervisor.
type seat struct {
	name string
	role wire.Role

	child    *child // nil while there is none
	state    string
	since    time.Time
	restarts uint64
	layers   []wire.Layer
}

// keep keeps a process in a seat until the supervisor stops, or with temporary state until
// the first one ends.
func (s *Supervisor) keep(t *seat) {
	ends := 0
	for first := true; ; first = false {
		c, err := s.bring(t)
		if first {
			s.first <- err
		}
		served := time.Now()
		if err == nil {
			<-c.ended
		}
		if s.leave(t, c, err) {
			return
		}
		if ends++; err == nil && time.Since(served) >= settled {
			ends = 1
		}
		if ends == worried {
			s.log.Error("a role ends again and again", "name", t.name, "times", ends)
		}
		most := shortRest
		if err != nil {
			most = longRest
		}
		again := time.NewTimer(rest(ends, most, rand.Float64())) // #nosec G404 -- spreads starts
		select {
		case <-again.C:
		case <-s.ctx.Done():
			again.Stop()
			return
		}
	}
}

// leave takes an ended process from its seat, and reports whether no other is to come.
func (s *Supervisor) leave(t *seat, c *child, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return true
	}
	t.child = nil
	t.enter(seatDown)
	if c != nil {
		s.gone(c)
	}
	s.touch()
	if s.cfg.Temporary {
		if err == nil {
			s.ended <- t.name
		}
		return true
	}
	t.restarts++
	s.log.Warn("a role ended, and is started again", "name", t.name, "err", err)
	return false
}

// enter changes the state. The caller holds the supervisor's mutex.
func (t *seat) enter(state string) { t.state, t.since = state, time.Now() }

// gone tells everybody that a process has ended. The caller holds mu.
func (s *Supervisor) gone(c *child) {
	if s.open == c {
		s.open = nil
	}
	if t := c.seat; t.role == wire.RoleBus {
		s.bus = wire.Ready{}
	}
	if c.identity == nil {
		return
	}
	node := c.identity.Node
	if s.open != nil {
		s.open.post(&wire.Retire{Node: node})
	}
	s.tell(c, &wire.Peers{Left: []wire.LiveNode{{Node: node}}})
}

// tell sends a frame to everybody but one. The caller holds mu.
func (s *Supervisor) tell(but *child, m wire.Typed) {
	for _, t := range s.seats {
		if t.child != nil && t.child != but && t.child.told && t.role != wire.RoleBus {
			t.child.post(m)
		}
	}
}

// bring starts a process and sees it through until it serves. On an error it has ended.
func (s *Supervisor) bring(t *seat) (c *child, err error) {
	c, err = s.spawn(t)
	if err != nil {
		return c, err
	}
	defer func() {
		if err != nil {
			c.end()
		}
	}()
	err = s.within(func(ctx context.Context) error { return c.receive(ctx, &c.hello) })
	if err != nil {
		return c, err
	}
	switch t.role {
	case wire.RoleBus:
		return c, s.bringBus(c)
	case wire.RoleVault:
		if err := s.openVault(c); err != nil {
			return c, err
		}
	default:
		if err := s.enrollAnywhere(c); err != nil {
			return c, err
		}
	}
	return c, s.bringRole(c)
}

// spawn starts the process of a seat.
func (s *Supervisor) spawn(t *seat) (*child, error) {
	uid := uids()[t.name]
	if t.name == "vault" || t.name == "server" {
		if err := ownedDir(s.dir(t.name), int(uid)); err != nil {
			return nil, err
		}
	}
	p, report, err := jail.StartRole(jail.RoleStart{
		Name: "bulkhead-" + t.name, Args: []string{"role", t.name}, UID: uid, GID: uid,
		Env: environment(t.name), Stderr: s.cfg.Stderr, Files: s.files(t.name), Children: t.name == "runner",
	})
	if err != nil {
		return nil, err
	}
	c := newChild(t, p)
	s.mu.Lock()
	t.child, t.layers = c, wireLayers("", report)
	t.enter(seatStarting)
	stopping := s.stopping
	s.mu.Unlock()
	if stopping {
		c.end()
		return c, context.Canceled
	}
	if missing := report.Missing(); s.cfg.Full && len(missing) > 0 {
		c.end()
		return c, fmt.Errorf("%s: layer %s is missing, and everything is required: %s", t.name, missing[0].Name, missing[0].Fix)
	}
	return c, nil
}

// bringBus starts the bus at its address, once it is known whom it is to trust.
func (s *Supervisor) bringBus(c *child) error {
	var start wire.Start
	err := s.await(c, func() bool {
		start = wire.Start{Bus: s.busAddress, Operator: s.operator, Account: s.account}
		return s.operator != ""
	})
	if err != nil {
		return err
	}
	var at wire.Ready
	c.post(&start)
	if err := s.within(func(ctx context.Context) error { return c.receive(ctx, &at) }); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bus, s.busAddress = at, at.Address // roles may connect to this port only, for life
	c.seat.layers = append(c.seat.layers, at.Layers...)
	c.seat.enter(seatUp)
	s.tell(c, &wire.Peers{Bus: at.Address, BusPin: at.Pin})
	s.touch()
	return nil
}

// bringRole starts a role that is enrolled, once there is a bus.
func (s *Supervisor) bringRole(c *child) error {
	if err := s.await(c, func() bool { return s.bus.Address != "" }); err != nil {
		return err
	}
	var ready wire.Ready
	s.mu.Lock()
	c.post(s.startOf(c))
	c.told = true
	s.mu.Unlock()
	if c.seat.role == wire.RoleServer {
		if err := s.sendCertificate(c); err != nil {
			return err
		}
	}
	if err := s.within(func(ctx context.Context) error { return c.receive(ctx, &ready) }); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.seat.layers = append(c.seat.layers, ready.Layers...)
	c.seat.enter(seatUp)
	s.tell(c, &wire.Peers{Joined: []wire.PeerCertificate{{Certificate: c.enrolled.Certificate}}})
	s.touch()
	return nil
}

// startOf is what a role is started with. The caller holds mu.
func (s *Supervisor) startOf(c *child) *wire.Start {
	m := &wire.Start{
		Node: c.enrolled.Node, Certificate: c.enrolled.Certificate, UserJWT: c.enrolled.UserJWT,
		Authority: s.authority, Bus: s.busAddress, BusPin: s.bus.Pin, Settings: s.settings(c.seat.name),
	}
	for _, t := range s.seats {
		if t.child != nil && t.child.identity != nil {
			m.Peers = append(m.Peers, wire.PeerCertificate{Certificate: t.child.enrolled.Certificate})
		}
	}
	return m
}

// await waits until ok says so, or the process or the supervisor ends. ok is called under mu.
func (s *Supervisor) await(c *child, ok func() bool) error {
	for {
		s.mu.Lock()
		done, changed := ok(), s.changed
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-c.ended:
			return c.why()
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

// touch wakes who waits for a change. The caller holds mu.
func (s *Supervisor) touch() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// errRefused means that the vault refused to certify a process.
var errRefused = errors.New("the vault refuses it")

// enrollAnywhere has the vault certify a process, whenever there is one that can.
func (s *Supervisor) enrollAnywhere(c *child) error {
	for {
		var vault *child
		if err := s.await(c, func() bool { vault = s.open; return vault != nil }); err != nil {
			return err
		}
		err := s.enroll(vault, c)
		if err == nil || errors.Is(err, errRefused) || s.ctx.Err() != nil {
			return err
		}
		select {
		case <-vault.ended: // another will be asked
		case <-c.ended:
			return c.why()
		}
	}
}

// enroll has a vault certify a process. An error of the vault's own is [errRefused].
func (s *Supervisor) enroll(vault, c *child) error {
	pool := ""
	if r := c.seat.role; r == wire.RoleEgress || r == wire.RoleRunner {
		pool = api.DefaultPool
	}
	var m wire.Enrolled
	err := s.within(func(ctx context.Context) error {
		return vault.ask(ctx, &wire.Enroll{Role: string(c.seat.role), Pool: pool, Sign: c.hello.Sign, Seal: c.hello.Seal}, &m)
	})
	if err != nil {
		select {
		case <-vault.ended:
			return fmt.Errorf("enroll %s: %w", c.seat.name, err)
		default:
			return fmt.Errorf("enroll %s: %w: %w", c.seat.name, errRefused, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := lease.ParseIdentity(s.authority, m.Certificate, time.Now())
	if err != nil {
		return fmt.Errorf("read identity of %s: %w: %w", c.seat.name, errRefused, err)
	}
	c.enrolled, c.identity = m, i
	if c.seat.role == wire.RoleVault {
		s.vault = i
	}
	return nil
}

// missing names the layers that a host does not offer, each once, sorted.
func missing(seats []*seat, trim func(string) string) []string {
	var out []string
	for _, t := range seats {
		for _, l := range t.layers {
			if name := trim(l.Name); l.State != jail.StateOn.String() && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out
}
