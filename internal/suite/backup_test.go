package suite

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/backup"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/role"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/secret"
	"github.com/bulkheadhq/bulkhead/internal/testkit"
	"github.com/bulkheadhq/bulkhead/internal/vault"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// keptFlow calls a system with a credential; what it leaves is kept for a time.
func keptFlow(name, more string) string {
	return `bulkhead: 1
integration: ` + name + `
title: Backup
config:
  greeting: {type: string, title: Greeting}
connections:
  shop: {connector: http, title: Shop}
flows:
  main:
    trigger: {webhook: {methods: [POST], verify: none}}
` + more + `    steps:
      - {id: call, uses: shop.request, with: {method: POST, path: /x, body: {greeting: "${{ config.greeting }}", large: "${{ trigger.body.large }}"}}}
      - {id: out, return: {n: "${{ steps.call.body.n }}"}}
`
}

// platform is a system that is stopped and started again.
type platform struct {
	*system
	database string
}

func (p *platform) up(state string) {
	p.t.Helper()
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	p.roles, err = role.Start(ctx, role.Config{
		State: state, Root: func() (secret.Value, error) { return secret.New(p.root), nil }, Database: p.database,
		AllowNet: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Listen: "127.0.0.1:0", Stderr: log,
	})
	if err != nil {
		p.t.Fatalf("start platform: %v\n%s", err, p.logged())
	}
	p.stopped, p.Client = false, client.New(p.roles.API, p.roles.VaultKey())
}

// command runs bulkhead and returns what it printed.
func (p *platform) command(args ...string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	if p.database != "" && args[len(args)-1] != "--keystore" {
		args = append(args, "--database", p.database)
	}
	out, err := exec.CommandContext(p.t.Context(), self, append([]string{"bulkhead"}, args...)...).CombinedOutput()
	return string(out), err
}

func (p *platform) must(args ...string) string {
	p.t.Helper()
	out, err := p.command(args...)
	if err != nil {
		p.t.Fatalf("bulkhead %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

// vaultAt opens the keystore of a state directory at another time, as a vault of the test's own.
func (p *platform) vaultAt(state string, now time.Time) *vault.Vault {
	p.t.Helper()
	v, err := vault.Open(p.t.Context(), vault.Config{
		Dir: filepath.Join(state, "vault"), Root: secret.New(p.root), NewRun: true, Now: func() time.Time { return now },
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

// leaseDay asks a vault for the payload key of a day.
func (p *platform) leaseDay(v *vault.Vault, instance id.Instance, config uint64, day lease.Day) error {
	p.t.Helper()
	server, runner, out := enroll(p.t, v, wire.RoleServer), enroll(p.t, v, wire.RoleRunner), enroll(p.t, v, wire.RoleEgress)
	worker, err := seal.GenerateKey()
	if err != nil {
		p.t.Fatal(err)
	}
	d := &lease.Dispatch{
		Server: server.Node, Runner: runner.Node, Customer: p.customer, Instance: instance, ConfigVersion: config, Days: []lease.Day{day},
		EgressPool: "default", Issued: time.Now(),
	}
	_, err = v.Lease(p.t.Context(), lease.SignRequest(runner.sign, runner.Node, lease.SignDispatch(server.sign, d), worker.Public(), out.Node))
	return err
}

// becomes waits until an instance has a state.
func (p *platform) becomes(state string, instance id.Instance) {
	p.t.Helper()
	p.eventually("an instance in the state "+state, func() bool { return p.instance(instance).State == state })
	_, err := p.Start(p.t.Context(), instance, api.ExecutionRequest{Flow: "main", Event: []byte(`{"body":{}}`)})
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != http.StatusConflict {
		p.t.Errorf("an event for an instance in the state %s: %v", state, err)
	}
}

func (p *platform) instance(i id.Instance) *api.Instance {
	p.t.Helper()
	x, err := p.Instance(p.t.Context(), i)
	if err != nil {
		p.t.Fatal(err)
	}
	return x
}

// configure enters the config of an instance again.
func (p *platform) configure(i id.Instance, config string) {
	p.t.Helper()
	x := p.instance(i)
	if _, err := p.DeploySealed(p.t.Context(), p.customer, i, api.DeployRequest{Digest: x.Digest, Config: json.RawMessage(config), Slots: x.Slots}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *platform) completes(what string, instance id.Instance) {
	p.t.Helper()
	if got := p.run(instance, "main", map[string]any{"large": strings.Repeat("x", 300<<10)}); got.status != "completed" {
		p.t.Errorf("%s: %s %s %s", what, got.status, got.errorType, got.output)
	}
}

// TestBackupAndRestore restores yesterday's database with today's keystore, and then both
// of yesterday on a new machine.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	needSystem(t)
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		checkRestore(t, "")
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		var server testkit.Postgres
		t.Cleanup(func() {
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
		database := server.Database(t)
		u, err := url.Parse(database)
		if err != nil {
			t.Fatal(err)
		}
		if dir := u.Query().Get("host"); dir != "" {
			if err := os.Chmod(dir, 0o711); err != nil { // #nosec G302 -- roles enter as their own users
				t.Fatal(err)
			}
		}
		checkRestore(t, database, func() {
			name := u.User.Username()
			if err := server.SQL("DROP SCHEMA "+name+" CASCADE", "CREATE SCHEMA AUTHORIZATION "+name); err != nil {
				t.Fatal(err)
			}
		})
	})
}

func newPlatform(t *testing.T, database string) *platform {
	t.Helper()
	dir, err := os.MkdirTemp("", "bulkhead-suite-")
	if err != nil {
		t.Fatal(err)
	}
	p := &platform{&system{t: t, dir: dir, root: make([]byte, vault.RootSize)}, database}
	t.Cleanup(p.remove)
	_, _ = rand.Read(p.root)
	if err := os.Chmod(dir, 0o711); err != nil { // #nosec G302 -- roles enter their own parts as their own users
		t.Fatal(err)
	}
	return p
}

func checkRestore(t *testing.T, database string, empty ...func()) {
	var calls atomic.Int64
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token-of-the-shop" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"n": calls.Add(1)})
	}))
	defer shop.Close()
	p := newPlatform(t, database)
	p.up(p.state())
	c, err := p.PutCustomer(t.Context(), api.CustomerRequest{ExternalID: "local", CustomerFields: api.CustomerFields{Name: "This machine"}})
	if err != nil {
		t.Fatal(err)
	}
	p.customer = c.ID
	accounts := func() map[string]account { return map[string]account{"shop": bearer(shop.URL, "token-of-the-shop")} }
	config := map[string]string{"greeting": "hello"}
	_, kept := p.deploy(keptFlow("kept", ""), config, accounts())
	_, short := p.deploy(keptFlow("short", "    expires: PT1H\n    retention: P1D\n"), config, accounts())
	_, lost := p.deploy(keptFlow("lost", ""), config, accounts())
	_, behind := p.deploy(keptFlow("behind", ""), config, accounts())
	for _, i := range []id.Instance{kept, short, lost, behind} {
		p.completes("before", i)
	}
	shortDay := lease.DayOf(time.Now().Add(25 * time.Hour))

	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity, archive, keys := filepath.Join(p.dir, "identity"), filepath.Join(p.dir, "db.age"), filepath.Join(p.dir, "keys.age")
	if err := os.WriteFile(identity, []byte(key.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	recipient := key.Recipient().String()
	out := p.must("backup", "--state", p.state(), "--to", archive, "--recipient", recipient, "--json")
	var m backup.Manifest
	if err := json.Unmarshal([]byte(out), &m); err != nil || m.Totals["executions"] != 4 || m.Blobs == 0 || m.Missing != 0 {
		t.Errorf("manifest %s, %v", out, err)
	}
	if out := p.must("backup", "--state", p.state(), "--to", keys, "--recipient", recipient, "--keystore"); !strings.Contains(out, "NOT in it: the root key") {
		t.Errorf("a keystore archive says %q", out)
	}
	if out, err := p.command("restore", "--state", p.state(), "--from", archive, "--identity", identity, "--replace"); err == nil || !strings.Contains(out, "stop it") {
		t.Errorf("restored while running: %v: %s", err, out)
	}

	// After the backup a config is changed, a connection is deleted and a day ends.
	p.configure(behind, `{"greeting":"changed"}`)
	gone := p.instance(lost).Slots["shop"]
	p.stop()
	later := p.vaultAt(p.state(), time.Now().Add(3*24*time.Hour))
	server := enroll(t, later, wire.RoleServer)
	if _, err = later.Call(t.Context(), server.Node, lease.OpConnectionDelete, wire.AppendBody(nil, &lease.ConnectionCall{Customer: p.customer, Connection: gone})); err != nil {
		t.Fatal(err)
	}
	n, err := later.Sweep(t.Context())
	if err := errors.Join(err, later.Close()); err != nil || n == 0 {
		t.Fatalf("%d pairs destroyed, %v", n, err)
	}

	p.must("restore", "--state", p.state(), "--from", archive, "--identity", identity, "--replace")
	p.up(p.state())
	p.completes("restored", kept)
	p.becomes("needs_connection", lost)
	p.becomes("needs_config", behind)
	p.configure(behind, `{"greeting":"again"}`)
	p.completes("with its config entered again", behind)
	p.stop()
	today := p.vaultAt(p.state(), time.Now())
	if err := p.leaseDay(today, kept, 1, shortDay); err == nil {
		t.Error("the key of a day that had ended was leased after the restore")
	}
	if err := errors.Join(p.leaseDay(today, kept, 1, lease.DayOf(time.Now().Add(31*24*time.Hour))), today.Close()); err != nil {
		t.Errorf("the key of a day that has not ended: %v", err)
	}

	// Both archives on a new machine are yesterday, with what was deleted since.
	for _, f := range empty {
		f()
	}
	other := filepath.Join(p.dir, "other")
	p.must("restore", "--state", other, "--from", archive, "--identity", identity)
	p.must("restore", "--state", other, "--from", keys, "--identity", identity, "--keystore")
	p.up(other)
	for _, i := range []id.Instance{kept, short, lost, behind} {
		p.completes("on a new machine", i)
	}
	p.stop()
}
