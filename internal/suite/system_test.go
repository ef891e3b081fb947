package suite

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// patience is how long a test waits for what must come. It is generous: reaching it is
// a failure, never a measurement.
const patience = time.Minute

// system is the whole platform as real processes, with one customer.
type system struct {
	*client.Client
	t        *testing.T
	dir      string // holds state, log and recording
	root     []byte
	roles    *role.Supervisor
	customer id.Customer
	stopped  bool
}

// recording says whether the bus of a system is recorded.
type recording bool

// startSystem starts a system with the defaults.
func startSystem(t *testing.T, record recording) *system {
	t.Helper()
	return start(t, record, func(*role.Config) {})
}

// startService starts one with another configuration.
func startService(t *testing.T, change func(*role.Config)) *system {
	t.Helper()
	return start(t, false, change)
}

func start(t *testing.T, record recording, change func(*role.Config)) *system {
	t.Helper()
	dir, err := os.MkdirTemp("", "bulkhead-suite-")
	if err != nil {
		t.Fatal(err)
	}
	s := &system{t: t, dir: dir, root: make([]byte, vault.RootSize)}
	t.Cleanup(s.remove)
	if err := os.Chmod(dir, 0o711); err != nil { // the supervisor makes the state directory below it
		t.Fatal(err)
	}
	if record {
		path := filepath.Join(dir, recordingName)
		if err := errors.Join(os.Mkdir(path, 0o700), os.Chown(path, 64_001, 64_001)); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	_, _ = rand.Read(s.root)
	cfg := role.Config{
		State: s.state(), Root: func() (secret.Value, error) { return secret.New(s.root), nil },
		AllowNet: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Listen: "127.0.0.1:0",
		Stderr: log, Log: slog.New(slog.NewJSONHandler(log, nil)).With("role", "supervisor"),
	}
	change(&cfg)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if s.roles, err = role.Start(ctx, cfg); err != nil {
		t.Fatalf("start system: %v\n%s", err, s.logged())
	}
	s.Client = client.New(s.roles.API, s.roles.VaultKey())
	c, err := s.PutCustomer(ctx, api.CustomerRequest{ExternalID: "local", CustomerFields: api.CustomerFields{Name: "This machine"}})
	if err != nil {
		t.Fatal(err)
	}
	s.customer = c.ID
	return s
}

// second is the same system as another customer of it uses it.
func (s *system) second() *system {
	s.t.Helper()
	other := *s
	c, err := s.PutCustomer(s.t.Context(), api.CustomerRequest{ExternalID: "second", CustomerFields: api.CustomerFields{Name: "Another"}})
	if err != nil {
		s.t.Fatal(err)
	}
	other.customer = c.ID
	return &other
}

func (s *system) log() string   { return filepath.Join(s.dir, "roles.log") }
func (s *system) state() string { return filepath.Join(s.dir, "state") }

func (s *system) logged() string {
	b, err := os.ReadFile(s.log())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (s *system) stop() {
	if s.stopped || s.roles == nil {
		return
	}
	s.stopped = true
	if s.Client != nil {
		s.Close()
	}
	s.roles.Stop()
}

func (s *system) remove() {
	s.stop()
	if s.t.Failed() {
		text := s.logged()
		s.t.Logf("what the roles complain of (its beginning):\n%s", complaints(text, 40))
		s.t.Logf("log of the roles (its end):\n%s", text[max(0, len(text)-6000):])
	}
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Error(err)
	}
}

// complaints are the first lines of a log that say more than that something went well.
func complaints(text string, most int) string {
	var out []string
	for line := range strings.Lines(text) {
		if len(out) < most && (strings.Contains(line, `"level":"ERROR"`) || strings.Contains(line, `"level":"WARN"`)) {
			out = append(out, line[:min(len(line), 600)])
		}
	}
	return strings.Join(out, "")
}

// account is a credential for one slot.
type account struct {
	url     string
	kind    lease.Kind
	fields  []lease.Field
	spec    []byte    // of kinds that are placed or renewed as a method says
	expires time.Time // of kinds that are renewed
}

func bearer(url, token string) account {
	return account{url: url, kind: lease.KindBearer, fields: []lease.Field{{Name: "token", Secret: []byte(token)}}}
}

// record is what the vault gets of an account.
func (s *system) record(n id.Connection, a account) *lease.Record {
	s.t.Helper()
	b, err := egress.ParseBinding(a.url)
	if err != nil {
		s.t.Fatal(err)
	}
	return &lease.Record{
		Connection: n, Customer: s.customer, Connector: flow.ConnectorHTTP, Kind: a.kind, Fields: a.fields, Spec: a.spec, Expires: a.expires,
		Binding: lease.Binding{Scheme: b.Scheme, Host: b.Host, Port: uint32(b.Port), BasePath: b.BasePath},
	}
}

// deploy publishes an integration file and deploys it with its accounts and config.
func (s *system) deploy(file string, config map[string]string, accounts map[string]account) (*flow.Integration, id.Instance) {
	s.t.Helper()
	doc, problems := flowfile.Decode("suite.yaml", []byte(file))
	if problems.Invalid() {
		var b bytes.Buffer
		_ = problems.Render(&b, flowfile.Plain)
		s.t.Fatalf("the suite's own file is invalid:\n%s", b.String())
	}
	i := doc.Integration
	definition, err := i.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	v, err := s.Publish(s.t.Context(), api.PublishRequest{Definition: string(definition)})
	if err != nil {
		s.t.Fatal(err)
	}
	slots := map[string]id.Connection{}
	for slot, a := range accounts {
		if i.Slot(slot) == nil {
			continue
		}
		r := s.record(id.NewConnection(time.Now()), a)
		if err := s.connect(r, slot); err != nil {
			s.t.Fatalf("save connection %s: %v", slot, err)
		}
		slots[slot] = r.Connection
	}
	values := map[string]json.RawMessage{}
	for name, v := range config {
		if values[name], err = json.Marshal(v); err != nil {
			s.t.Fatal(err)
		}
	}
	c, err := i.SecretConfigJSON(values)
	if err != nil {
		s.t.Fatal(err)
	}
	instance := id.NewInstance(time.Now())
	if _, err := s.DeploySealed(s.t.Context(), s.customer, instance, api.DeployRequest{Digest: v.Digest, Config: c, Slots: slots}); err != nil {
		s.t.Fatal(err)
	}
	return i, instance
}

// ended is how an execution went.
type ended struct {
	execution id.Execution
	status    string
	errorType string
	output    string // or the fault
	logs      string
	stream    []byte // everything that the server sent, as it came
}

// started is an execution under way.
type started struct {
	s         *system
	name      string
	stream    *client.Stream
	execution id.Execution
}

// start starts a flow.
func (s *system) start(instance id.Instance, name string, body any) *started {
	s.t.Helper()
	e, err := json.Marshal(map[string]any{
		"time": time.Now().UTC().Format(time.RFC3339Nano), "source": "suite", "type": "webhook", "method": "POST", "body": body,
		"headers": map[string]any{}, "headers_all": map[string]any{}, "query": map[string]any{},
		"customer": map[string]any{"id": s.customer, "external_id": "local", "name": "This machine", "timezone": "UTC", "locale": "en", "attributes": map[string]any{}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	x, err := s.Start(s.t.Context(), instance, api.ExecutionRequest{Flow: name, Event: e, Test: true})
	if err != nil {
		s.t.Fatalf("start %s: %v", name, err)
	}
	first, err := x.Next()
	if err != nil || first.Kind != api.EventAccepted {
		s.t.Fatalf("start %s: %+v, %v", name, first, err)
	}
	return &started{s, name, x, first.Execution}
}

// wait follows the execution to its end.
func (x *started) wait() ended {
	x.s.t.Helper()
	defer x.stream.Close()
	timer := time.AfterFunc(2*patience, x.stream.Close)
	defer timer.Stop()
	return x.s.follow(x.name, x.stream)
}

// eventually polls for something that no event announces.
func (s *system) eventually(what string, ok func() bool) {
	s.t.Helper()
	end := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(end) {
			s.t.Fatalf("there never was %s", what)
		}
		<-tick.C
	}
}

func (s *system) follow(name string, x *client.Stream) (out ended) {
	s.t.Helper()
	for {
		e, err := x.Next()
		if err != nil {
			s.t.Errorf("%s: it has no end: %v", name, err)
			return out
		}
		raw, _ := json.Marshal(e)
		out.stream = append(out.stream, raw...)
		out.execution = e.Execution
		if e.Kind == api.EventView {
			page, err := x.Open(e)
			if err != nil {
				s.t.Error(err)
			}
			switch kind := wire.ViewKind(e.ViewKind); {
			case kind == wire.ViewLog:
				out.logs += string(page)
			case e.Path == "" && (kind == wire.ViewResult || kind == wire.ViewError):
				out.output = string(page)
			}
		}
		if e.Kind == api.EventStatus && slices.Contains([]string{"completed", "faulted", "cancelled"}, e.Status) {
			out.status, out.errorType = e.Status, e.ErrorType
			return out
		}
	}
}

func (s *system) run(instance id.Instance, name string, body any) ended {
	s.t.Helper()
	return s.start(instance, name, body).wait()
}

// post sends JSON to an address of the outside, as an answer to a callback does.
func post(ctx context.Context, url string, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(b))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	text, _ := io.ReadAll(a.Body)
	if a.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", a.Status, strings.TrimSpace(string(text)))
	}
	return nil
}
