package role

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// ControlName is the name of the supervisor's own socket in the state directory, which
// only its user may open. It takes one frame, wire.Unseal, and answers it.
const ControlName = "control.sock"

// unsealTimeout bounds one unsealing: Argon2id and the start of the vault.
const unsealTimeout = 30 * time.Second

// listenControl opens the supervisor's own socket.
func (s *Supervisor) listenControl() (err error) {
	if s.own, err = listenPrivate(filepath.Join(s.cfg.State, ControlName)); err != nil {
		return fmt.Errorf("listen for unseal: %w", err)
	}
	return nil
}

// serveControl serves the supervisor's own socket until it is closed, one at a time.
func (s *Supervisor) serveControl() {
	for {
		conn, err := s.own.Accept()
		if err != nil {
			return
		}
		_ = conn.SetDeadline(time.Now().Add(unsealTimeout + time.Second))
		c := newControl(conn)
		var answer wire.Typed = &wire.Ready{}
		if err := s.unseal(c); err != nil {
			s.log.Warn("unseal refused", "err", err)
			answer = &wire.Error{Code: "unseal", Message: err.Error()}
		} else {
			s.log.Info("the vault was unsealed")
		}
		if err := c.send(answer); err != nil {
			s.log.Warn("answer to unseal", "err", err)
		}
		_ = conn.Close()
	}
}

func (s *Supervisor) unseal(c *control) error {
	var m wire.Unseal
	if err := c.receive(&m); err != nil {
		return err
	}
	given := secret.New(m.Secret)
	clear(m.Secret)
	defer given.Destroy()
	if s.cfg.Unseal == nil {
		return errNotSealed
	}
	root, err := s.cfg.Unseal(given)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, unsealTimeout)
	defer cancel()
	return s.Unseal(ctx, root)
}
