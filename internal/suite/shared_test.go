package suite

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

const sharedFlows = `
bulkhead: 1
integration: shared
connections: {crm: {connector: crm-of-the-suite}}
flows:
  list:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps: [{id: all, uses: crm.listOrders, with: {of: x}}]
  note:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps: [{id: note, uses: crm.createNote, with: {id: a, text: b}}]
`

// sharing is a platform with a connection of the organization that one customer may use for one action, and another customer.
type sharing struct {
	*platform
	c        *crm
	n        id.Connection
	digest   string
	one, two id.Customer
}

func (s *sharing) deployTo(c id.Customer) (id.Instance, error) {
	i := id.NewInstance(time.Now())
	_, err := s.DeploySealed(s.t.Context(), c, i, api.DeployRequest{Digest: s.digest, Config: []byte("{}"), Slots: map[string]id.Connection{"crm": s.n}})
	return i, err
}

// called is how many notes the service has got: how often the other action was called.
func (s *sharing) called() int {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return len(s.c.notes)
}

// ends runs a flow of the customer who may use the connection.
func (s *sharing) ends(i id.Instance, flow, status, errorType string) {
	s.t.Helper()
	if e := s.run(i, flow, map[string]any{}); e.status != status || e.errorType != errorType {
		s.t.Errorf("%s: %s %s %s, want %s %s", flow, e.status, e.errorType, e.output, status, errorType)
	}
}

// TestSharedConnection lets everybody but the customer whom the sealed record names try a connection of the organization, and that one for
// another action; then with a database that was edited to allow it, and with a server that lies about the customer.
func TestSharedConnection(t *testing.T) {
	t.Parallel()
	needSystem(t)
	s := &sharing{platform: newPlatform(t, ""), c: newCRM(t)}
	s.up(s.state())
	ctx := t.Context()
	for n, c := range []*id.Customer{&s.one, &s.two} {
		made, err := s.PutCustomer(ctx, api.CustomerRequest{ExternalID: []string{"one", "two"}[n], CustomerFields: api.CustomerFields{Name: "A customer"}})
		if err != nil {
			t.Fatal(err)
		}
		*c = made.ID
	}
	s.customer = s.one
	if _, err := s.PublishConnector(ctx, api.ConnectorRequest{Source: strings.ReplaceAll(crmManifest, "HOST", s.c.Listener.Addr().String())}); err != nil {
		t.Fatal(err)
	}
	v, err := s.Publish(ctx, api.PublishRequest{Source: sharedFlows})
	if err != nil {
		t.Fatal(err)
	}
	made, err := s.MakeConnection(ctx, api.ConnectionRequest{
		Customer: "internal", Name: "crm", Connector: "crm-of-the-suite", Fields: map[string]string{"token": "t0k"},
		Shared: &api.Shared{Customers: []string{s.one.String()}, Actions: []string{"listOrders"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.n, s.digest = made.ID, v.Digest
	first, err := s.deployTo(s.one)
	if err != nil {
		t.Fatal(err)
	}
	s.ends(first, "list", "completed", "")
	s.ends(first, "note", "faulted", "egress-denied")
	s.rename()
	if _, err := s.deployTo(s.two); err == nil {
		t.Error("a customer with whom it is not shared has it in a slot")
	}

	// The database says now that all may use it for everything. The record does not.
	s.stop()
	s.edit(`UPDATE connection SET shared = '{"customers":["*"]}' WHERE shared LIKE '%listOrders%'`)
	s.up(s.state())
	second, err := s.deployTo(s.two)
	if err != nil {
		t.Fatalf("red twin: the server does not believe the edited database, so nothing is shown below: %v", err)
	}
	s.ends(first, "note", "faulted", "egress-denied")
	s.ends(first, "list", "completed", "")
	if _, err := s.Trigger(ctx, second, api.ExecutionRequest{Flow: "list", Event: []byte(`{"body":{}}`)}); err != nil {
		t.Fatal(err)
	}
	s.eventually("a lease that the vault refuses", func() bool { return strings.Contains(s.logged(), "it is another customer's and not shared") })
	s.stop()

	// A server of the test's own signs what it likes.
	for _, c := range []struct {
		what     string
		customer id.Customer
		instance id.Instance
		granted  bool
	}{
		{"the customer who may use it", s.one, first, true}, // the red twin: the same server, and what it asks for is allowed
		{"another customer", s.two, second, false},
		{"another customer's instance in the name of the one", s.one, second, false},
		{"the one's instance in another's name", s.two, first, false},
	} {
		if err := s.lie(c.customer, c.instance); (err == nil) != c.granted {
			t.Errorf("a lease for %s: %v", c.what, err)
		}
	}
	if s.called() != 0 {
		t.Errorf("%d notes were written by an action for which it is not shared", s.called())
	}
}

// rename has requests of another action sent in the name of the one for which the connection is shared, as a server that was breached does
// by the definitions that it gives out: here by a version of the connector that calls them so.
func (s *sharing) rename() {
	s.t.Helper()
	ctx := s.t.Context()
	renamed := strings.NewReplacer("HOST", s.c.Listener.Addr().String(), "version: 1.0.0", "version: 1.1.0", "listOrders:", "other:", "createNote:", "listOrders:").Replace(crmManifest)
	if _, err := s.PublishConnector(ctx, api.ConnectorRequest{Source: renamed}); err != nil {
		s.t.Fatal(err)
	}
	v, err := s.Publish(ctx, api.PublishRequest{Source: strings.NewReplacer("integration: shared", "integration: renamed", "listOrders, with: {of: x}", "other, with: {of: x}", "createNote", "listOrders").Replace(sharedFlows)})
	if err != nil {
		s.t.Fatal(err)
	}
	free, err := s.MakeConnection(ctx, api.ConnectionRequest{
		Customer: "internal", Name: "free", Connector: "crm-of-the-suite", Version: "1.0.0", Fields: map[string]string{"token": "t0k"}, Shared: &api.Shared{Customers: []string{s.one.String()}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range []struct {
		connection        id.Connection
		status, errorType string
		called            int
	}{
		{s.n, "faulted", "egress-denied", 0},
		{free.ID, "completed", "", 1}, // the red twin: the request is one that the service takes
	} {
		i := id.NewInstance(time.Now())
		if _, err := s.DeploySealed(ctx, s.one, i, api.DeployRequest{Digest: v.Digest, Config: []byte("{}"), Slots: map[string]id.Connection{"crm": c.connection}}); err != nil {
			s.t.Fatal(err)
		}
		s.ends(i, "note", c.status, c.errorType)
		if n := s.called(); n != c.called {
			s.t.Errorf("%d notes were written, want %d", n, c.called)
		}
	}
	s.c.mu.Lock()
	s.c.notes = nil
	s.c.mu.Unlock()
}

// edit changes the database of a stopped platform.
func (s *sharing) edit(statement string) {
	s.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.state(), "server", "bulkhead.db"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	r, err := db.ExecContext(s.t.Context(), statement)
	if err != nil {
		s.t.Fatal(err)
	}
	if n, err := r.RowsAffected(); err != nil || n != 1 {
		s.t.Fatalf("%d rows changed, %v", n, err)
	}
}

// lie asks the vault of the stopped platform for a lease of the connection in somebody's name, as a server that was breached.
func (s *sharing) lie(c id.Customer, i id.Instance) error {
	s.t.Helper()
	v := s.vaultAt(s.state(), time.Now())
	defer v.Close()
	server, runner, out := enroll(s.t, v, wire.RoleServer), enroll(s.t, v, wire.RoleRunner), enroll(s.t, v, wire.RoleEgress)
	worker, err := seal.GenerateKey()
	if err != nil {
		s.t.Fatal(err)
	}
	d := &lease.Dispatch{
		Server: server.Node, Runner: runner.Node, Customer: c, Instance: i, ConfigVersion: 1, EgressPool: "default", Issued: time.Now(),
		Slots: []lease.Slot{{Name: "crm", Connection: s.n}},
	}
	_, err = v.Lease(s.t.Context(), lease.SignRequest(runner.sign, runner.Node, lease.SignDispatch(server.sign, d), worker.Public(), out.Node))
	return err
}
