package role

import (
	"context"
	"errors"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// errAuthority means that a vault came back as another one.
var errAuthority = errors.New("the vault opened another keystore than before")

// openVault gives a vault the root secret, and makes it the one that certifies.
func (s *Supervisor) openVault(c *child) error {
	root, given, err := s.rootFor(c)
	if err != nil {
		return err
	}
	err = s.unlock(c, root)
	if err == nil {
		err = s.enroll(c, c)
	}
	if given != nil {
		given.result <- err
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = c
	s.touch()
	return nil
}

// unsealing is a root secret that a person has given.
type unsealing struct {
	root   secret.Value
	result chan error // gets whether the vault opened; has room for it
}

// rootFor gets the root secret from its source. A sealed vault waits for a person.
func (s *Supervisor) rootFor(c *child) (secret.Value, *unsealing, error) {
	root, err := s.cfg.Root()
	if !errors.Is(err, ErrSealed) {
		return root, nil, err
	}
	s.log.Error("the vault is sealed: run bulkhead unseal; webhooks are still accepted")
	s.mu.Lock()
	c.seat.enter(seatSealed)
	s.touch()
	s.mu.Unlock()
	select {
	case u := <-s.unseals:
		s.mu.Lock()
		defer s.mu.Unlock()
		c.seat.enter(seatStarting)
		s.touch()
		return u.root, u, nil
	case <-c.ended:
		return secret.Value{}, nil, c.why()
	case <-s.ctx.Done():
		return secret.Value{}, nil, s.ctx.Err()
	}
}

// errNotSealed answers an unsealing that nobody waits for.
var errNotSealed = errors.New("the vault is not sealed")

// Unseal gives the root secret to a vault that waits for it, and returns when it is open
// or has refused it. It takes over the secret and destroys it.
func (s *Supervisor) Unseal(ctx context.Context, root secret.Value) error {
	defer root.Destroy()
	u := &unsealing{root, make(chan error, 1)}
	s.mu.Lock()
	sealed := s.seat("vault").state == seatSealed
	s.mu.Unlock()
	if !sealed {
		return errNotSealed
	}
	select {
	case s.unseals <- u:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-u.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unlock passes the root secret to a vault and destroys it here.
func (s *Supervisor) unlock(c *child, root secret.Value) error {
	s.mu.Lock()
	m := &wire.VaultStart{
		Root: append([]byte(nil), root.Reveal()...), Dir: s.dir("vault"), Temporary: s.cfg.Temporary, Life: s.cfg.IdentityLife, Requests: s.cfg.LeaseRequests, Bytes: s.cfg.LeaseBytes,
	}
	for _, t := range s.seats {
		if t.child != nil && t.child.identity != nil {
			m.Live = append(m.Live, wire.LiveNode{Node: t.child.identity.Node})
		}
	}
	sent := m.Live
	s.mu.Unlock()
	frame := wire.AppendFrame(nil, m)
	clear(m.Root)
	_, err := c.control.conn.Write(frame) // nothing else is sent to it yet
	clear(frame)
	root.Destroy()
	if err != nil {
		return fmt.Errorf("start vault: %w", err)
	}
	var ready wire.VaultReady
	if err := s.within(func(ctx context.Context) error { return c.receive(ctx, &ready) }); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.operator != "" && s.authority != ready.Authority {
		return errAuthority
	}
	s.authority, s.operator, s.account = ready.Authority, ready.Operator, ready.Account
	for _, l := range sent {
		if !s.lives(l) {
			c.post(&wire.Retire{Node: l.Node}) // it ended meanwhile
		}
	}
	return nil
}

// lives reports whether a node's process is in its seat. The caller holds mu.
func (s *Supervisor) lives(l wire.LiveNode) bool {
	for _, t := range s.seats {
		if t.child != nil && t.child.identity != nil && t.child.identity.Node == l.Node {
			return true
		}
	}
	return false
}
