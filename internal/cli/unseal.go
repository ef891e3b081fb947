package cli

import (
	"fmt"
	"path/filepath"

	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/role"
)

type unsealCommand struct {
	State string `env:"BULKHEAD_STATE" placeholder:"DIR" help:"State directory of the platform that runs. Default: as for bulkhead up."`
}

// Run implements the command. The secret comes from BULKHEAD_PASSPHRASE or standard input.
func (u *unsealCommand) Run(c *console) error {
	dir, err := stateDirectory(u.State, usualState)
	if err != nil {
		return err
	}
	p, err := readPassphrase(c)
	if err != nil {
		return err
	}
	defer clear(p)
	if err := client.Unseal(c.ctx, filepath.Join(dir, role.ControlName), p); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.Out, "the vault is open")
	return err
}
