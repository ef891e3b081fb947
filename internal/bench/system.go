package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/role"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/vault"
)

// system is the platform with state on disk, and the load that drives it.
type system struct {
	*client.Client
	roles    *role.Supervisor
	dir      string
	load     *exec.Cmd
	stdin    io.WriteCloser
	lines    *bufio.Scanner
	upstream string
	rows     *rows
}

// startSystem starts everything. Its state is below a new directory of the system's place
// for temporary files, which should be on a disk.
func startSystem(ctx context.Context, database string) (_ *system, err error) {
	s := &system{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "bulkhead-bench-"); err != nil {
		return nil, fmt.Errorf("make state: %w", err)
	}
	if err := os.Chmod(s.dir, 0o711); err != nil { // #nosec G302 -- roles enter their own parts as their own users
		return nil, fmt.Errorf("make state: %w", err)
	}
	root := make([]byte, vault.RootSize)
	_, _ = rand.Read(root) // never fails since Go 1.24
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make log: %w", err)
	}
	defer log.Close()
	s.roles, err = role.Start(ctx, role.Config{
		State: filepath.Join(s.dir, "state"), Root: func() (secret.Value, error) { return secret.New(root), nil }, Database: database, AllowNet: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Listen: "127.0.0.1:0", Stderr: log,
	})
	if err != nil {
		return nil, err
	}
	s.Client = client.New(s.roles.API, s.roles.VaultKey())
	if s.rows, err = openRows(filepath.Join(s.dir, "state"), database); err != nil {
		return nil, err
	}
	return s, s.startLoad(ctx)
}

func (s *system) log() string { return filepath.Join(s.dir, "roles.log") }

// startLoad starts the load process: this executable under another name.
func (s *system) startLoad(ctx context.Context) (err error) {
	s.load = exec.CommandContext(ctx, "/proc/self/exe", "load")
	s.load.Env = []string{"GOMAXPROCS=1"}
	s.load.Stderr = os.Stderr
	if s.stdin, err = s.load.StdinPipe(); err != nil {
		return fmt.Errorf("start load: %w", err)
	}
	out, err := s.load.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start load: %w", err)
	}
	if err := s.load.Start(); err != nil {
		return fmt.Errorf("start load: %w", err)
	}
	s.lines = bufio.NewScanner(out)
	first, err := s.read()
	s.upstream = first.Upstream
	return err
}

func (s *system) read() (got Loaded, err error) {
	if !s.lines.Scan() {
		return got, errors.Join(errors.New("the load process has ended"), s.lines.Err())
	}
	if err := json.Unmarshal(s.lines.Bytes(), &got); err != nil {
		return got, fmt.Errorf("read what the load says: %w", err)
	}
	if got.Error != "" {
		return got, errors.New(got.Error)
	}
	return got, nil
}

// drive performs one run of the load.
func (s *system) drive(l Load) (Loaded, error) {
	l.Address = s.roles.Public
	b, err := json.Marshal(l)
	if err != nil {
		return Loaded{}, fmt.Errorf("describe load: %w", err)
	}
	if _, err := s.stdin.Write(append(b, '\n')); err != nil {
		return Loaded{}, fmt.Errorf("drive load: %w", err)
	}
	got, err := s.read()
	if err == nil && (got.Missing > 0 || got.Repeated > 0) {
		err = fmt.Errorf("of %d accepted events, %d effects are missing and %d came again", got.Accepted, got.Missing, got.Repeated)
	}
	return got, err
}

func (s *system) close() {
	if s.stdin != nil {
		_ = s.stdin.Close()
		_ = s.load.Wait()
	}
	if s.Client != nil {
		s.Close()
	}
	if s.rows != nil {
		_ = s.rows.db.Close()
	}
	if s.roles != nil {
		s.roles.Stop()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

// logged is the end of what the roles have said.
func (s *system) logged() string {
	b, _ := os.ReadFile(s.log())
	return string(b[max(0, len(b)-2000):])
}

// publish reads and publishes an integration file.
func (s *system) publish(ctx context.Context, file string) (i *flow.Integration, digest string, err error) {
	doc, problems := flowfile.Decode("bench.yaml", []byte(file))
	if problems.Invalid() {
		var b bytes.Buffer
		_ = problems.Render(&b, flowfile.Plain)
		return nil, digest, fmt.Errorf("the bench's own file is invalid:\n%s", b.String())
	}
	definition, err := doc.Integration.Encode()
	if err != nil {
		return nil, digest, fmt.Errorf("encode integration: %w", err)
	}
	v, err := s.Publish(ctx, api.PublishRequest{Definition: string(definition)})
	if err != nil {
		return nil, digest, err
	}
	return doc.Integration, v.Digest, nil
}

// deploy deploys a version to customers, each with a connection of its own to the upstream,
// and returns the path of the webhook of each.
func (s *system) deploy(ctx context.Context, file string, customers ...string) (paths []string, err error) {
	i, digest, err := s.publish(ctx, file)
	if err != nil {
		return nil, err
	}
	config, err := i.ConfigJSON(nil)
	if err != nil {
		return nil, fmt.Errorf("make config: %w", err)
	}
	for _, name := range customers {
		made, err := s.PutCustomer(ctx, api.CustomerRequest{ExternalID: name, CustomerFields: api.CustomerFields{Name: name}})
		if err != nil {
			return nil, err
		}
		c := made.ID
		slots := map[string]id.Connection{}
		for n := range i.Connections {
			if slots[i.Connections[n].Name], err = s.connect(ctx, c); err != nil {
				return nil, err
			}
		}
		instance := id.NewInstance(time.Now())
		if _, err := s.DeploySealed(ctx, c, instance, api.DeployRequest{Digest: digest, Config: config, Slots: slots}); err != nil {
			return nil, err
		}
		path, err := s.hookPath(ctx, instance)
		if err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// connect saves a credential for the upstream.
func (s *system) connect(ctx context.Context, c id.Customer) (id.Connection, error) {
	b, err := egress.ParseBinding("http://" + s.upstream)
	if err != nil {
		return id.Connection{}, fmt.Errorf("bind connection: %w", err)
	}
	r := &lease.Record{
		Connection: id.NewConnection(time.Now()), Customer: c, Connector: flow.ConnectorHTTP,
		Kind: lease.KindBearer, Fields: []lease.Field{{Name: "token", Secret: []byte("bench-" + rand.Text())}},
		Binding: lease.Binding{Scheme: b.Scheme, Host: b.Host, Port: uint32(b.Port), BasePath: b.BasePath},
	}
	_, err = s.PutConnection(ctx, r, "upstream")
	return r.Connection, err
}

// hookPath is the path of an instance's webhook.
func (s *system) hookPath(ctx context.Context, i id.Instance) (string, error) {
	text, err := s.HookURL(ctx, i, flowName)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", fmt.Errorf("read address of webhook: %w", err)
	}
	return u.Path, nil
}
