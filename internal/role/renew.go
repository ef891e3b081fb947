package role

import (
	"context"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/vault"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// renewEvery is how often the ends of identities are looked at, by the clock of the day: a
// machine that slept wakes with identities that have ended.
const renewEvery = 30 * time.Second

// renew has the vault certify every process again at half of the life of its identity,
// until the supervisor ends. The keys and the node stay the same.
func (s *Supervisor) renew() {
	life := s.cfg.IdentityLife
	if life == 0 {
		life = vault.IdentityLife
	}
	tick := time.NewTicker(min(max(life/20, time.Millisecond), renewEvery))
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-tick.C:
			for _, c := range s.aging(now.Add(life / 2)) {
				s.renewOne(c)
			}
		}
	}
}

// aging are the processes whose identities end before a time.
func (s *Supervisor) aging(end time.Time) []*child {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*child
	for _, t := range s.seats {
		if c := t.child; c != nil && c.told && c.identity != nil && c.identity.Expires.Before(end) {
			out = append(out, c)
		}
	}
	return out
}

// renewOne renews one identity. Without a vault it is tried again at the next turn.
func (s *Supervisor) renewOne(c *child) {
	s.mu.Lock()
	open := s.open
	s.mu.Unlock()
	if open == nil {
		return
	}
	s.mu.Lock()
	before := c.identity.Node
	s.mu.Unlock()
	if err := s.enroll(open, c); err != nil {
		if s.ctx.Err() == nil {
			s.log.Error("an identity could not be renewed", "name", c.seat.name, "err", err)
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.identity.Node != before {
		// The vault does not know it any more, such as behind the restore of an older keystore.
		s.log.Error("a role is somebody else to the vault, and is started again", "name", c.seat.name)
		s.tell(c, &wire.Peers{Left: []wire.LiveNode{{Node: before}}})
		_ = c.process.Kill()
		return
	}
	renewed := c.enrolled
	c.post(&renewed)
	s.tell(c, &wire.Peers{Joined: []wire.PeerCertificate{{Certificate: slices.Clone(renewed.Certificate)}}})
}

// reportEvery is how often the server is told how the roles do.
const reportEvery = 2 * time.Second

// report tells the server how every role does, every few seconds and on change.
func (s *Supervisor) report() {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		m := s.Health()
		s.mu.Lock()
		if c := s.seat("server").child; c != nil && c.told {
			c.post(m)
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-s.ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// Health is how every role does.
func (s *Supervisor) Health() *wire.Health {
	m := &wire.Health{Missing: s.Missing()}
	pids := map[string]int{}
	s.mu.Lock()
	for _, t := range s.seats {
		m.Roles = append(m.Roles, wire.RoleHealth{Name: t.name, State: t.state, Restarts: t.restarts, Since: t.since})
		if t.child != nil {
			pids[t.name] = t.child.process.PID
		}
	}
	s.mu.Unlock()
	for i := range m.Roles {
		if pid, ok := pids[m.Roles[i].Name]; ok {
			m.Roles[i].Memory = resident(pid)
		}
	}
	return m
}

// within runs f with the time that one step of a start may take.
func (s *Supervisor) within(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(s.ctx, startTimeout)
	defer cancel()
	return f(ctx)
}
