package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/role"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/vault"
)

// session is the whole platform, started on this machine with temporary state, and
// the one customer of it.
type session struct {
	*client.Client
	supervisor *role.Supervisor
	dir        string
	customer   id.Customer
}

// sessionPrefix begins the names of the directories of sessions.
const sessionPrefix = "bulkhead-run-"

// sessionConfig is how a session is started.
type sessionConfig struct {
	AllowNet []netip.Prefix
	Verbose  bool // roles log to standard error
	Full     bool // refuse to start when this host lacks an added wall
}

// startSession starts every role and makes the customer. The state is deleted by close.
func startSession(ctx context.Context, cfg sessionConfig) (_ *session, err error) {
	s := &session{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	role.CleanLeftovers(filepath.Join(os.TempDir(), sessionPrefix+"*"), now())
	if s.dir, err = os.MkdirTemp("", sessionPrefix); err != nil {
		return nil, fmt.Errorf("make temporary state: %w", err)
	}
	if err := os.Chmod(s.dir, 0o711); err != nil { // #nosec G302 -- roles enter their own parts as their own users
		return nil, fmt.Errorf("make temporary state: %w", err)
	}
	var logs *os.File
	if cfg.Verbose {
		logs = os.Stderr
	}
	root := make([]byte, vault.RootSize)
	_, _ = rand.Read(root) // never fails since Go 1.24
	value := secret.New(root)
	clear(root)
	s.supervisor, err = role.Start(ctx, role.Config{
		State: s.dir, Temporary: true, Root: func() (secret.Value, error) { return value, nil }, AllowNet: cfg.AllowNet, Listen: "127.0.0.1:0", Stderr: logs, Full: cfg.Full,
	})
	if err != nil {
		return nil, err
	}
	s.Client = client.New(s.supervisor.API, s.supervisor.VaultKey())
	c, err := s.PutCustomer(ctx, api.CustomerRequest{ExternalID: "local", CustomerFields: api.CustomerFields{Name: "This machine"}})
	if err != nil {
		return nil, err
	}
	s.customer = c.ID
	return s, nil
}

// close ends every role and deletes the state.
func (s *session) close() {
	if s.Client != nil {
		s.Client.Close()
	}
	if s.supervisor != nil {
		s.supervisor.Stop()
	}
	if s.dir != "" {
		_ = os.RemoveAll(filepath.Clean(s.dir))
	}
}

// deploy publishes an integration and deploys it with its connections.
func (s *session) deploy(ctx context.Context, i *flow.Integration, config []byte, connections map[string]connection) (id.Instance, error) {
	definition, err := i.Encode()
	if err != nil {
		return id.Instance{}, fmt.Errorf("encode integration: %w", err)
	}
	v, err := s.Publish(ctx, api.PublishRequest{Definition: string(definition)})
	if err != nil {
		return id.Instance{}, err
	}
	slots := map[string]id.Connection{}
	for slot, c := range connections {
		r := c.record(s.customer)
		if _, err := s.PutConnection(ctx, r, slot); err != nil {
			return id.Instance{}, fmt.Errorf("save connection %s: %w", slot, err)
		}
		slots[slot] = r.Connection
	}
	instance := id.NewInstance(now())
	if _, err := s.DeploySealed(ctx, s.customer, instance, api.DeployRequest{Digest: v.Digest, Config: config, Slots: slots}); err != nil {
		return id.Instance{}, err
	}
	return instance, nil
}

// warn prints one loud line when this host lacks walls that others offer.
func (s *session) warn(c *console) { warnMissing(c, s.supervisor) }

func warnMissing(c *console, s *role.Supervisor) {
	if missing := s.Missing(); len(missing) > 0 {
		text := "WARNING: this host lacks added walls (" + strings.Join(missing, ", ") + "); the required ones stand. See bulkhead doctor."
		fmt.Fprintln(c.Err, paint(terminal(c.Err)).in(yellow, text))
	}
}
