package role

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/bulkheadhq/bulkhead/connectors"
	"github.com/bulkheadhq/bulkhead/internal/connect"
	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/connectorfile"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// catalogue is what a server knows of connectors: those of the program, and those of the
// operator's directory.
type catalogue struct {
	own     *connectorfile.Catalogue                 // of the operator; nil: none
	builtin func() (*connectorfile.Catalogue, error) // read when it is first needed
}

var _ connect.Manifests = (*catalogue)(nil)

// openCatalogue reads the operator's directory: afterwards the server may not. A manifest
// there that is not valid is an error.
func openCatalogue(dir string) (*catalogue, error) {
	c := &catalogue{builtin: sync.OnceValues(func() (*connectorfile.Catalogue, error) { return connectorfile.Read(connectors.Files) })}
	if dir == "" {
		return c, nil
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("read connectors: %w", err)
	}
	var err error
	if c.own, err = connectorfile.Read(os.DirFS(dir)); err != nil {
		return nil, fmt.Errorf("read connectors of %s: %w", dir, err)
	}
	return c, nil
}

// Manifest implements connect.Manifests. The operator's connectors go before those of the
// program.
func (c *catalogue) Manifest(_ context.Context, _ id.Org, name, version string) (*connector.Manifest, error) {
	if c.own != nil {
		if m, err := c.own.Resolve(name, version); err == nil {
			return m, nil
		}
	}
	all, err := c.builtin()
	if err != nil {
		return nil, err
	}
	m, err := all.Resolve(name, version)
	if errors.Is(err, connectorfile.ErrNoConnector) || errors.Is(err, connector.ErrVersion) {
		return nil, fmt.Errorf("%w: %w", connect.ErrUnknown, err)
	}
	return m, err
}
