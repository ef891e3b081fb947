package suite

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// lockedDoor is a service that notes with which key it was called. Calls of /held wait until they are let go.
type lockedDoor struct {
	*httptest.Server
	came chan struct{} // a call of /held is there
	free chan struct{} // lets one go

	mu   sync.Mutex
	seen []string
}

func newLockedDoor(t *testing.T) *lockedDoor {
	k := &lockedDoor{came: make(chan struct{}, 16), free: make(chan struct{})}
	k.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		k.seen = append(k.seen, r.URL.Path+" "+r.Header.Get("Authorization"))
		k.mu.Unlock()
		if r.URL.Path == "/held" {
			k.came <- struct{}{}
			<-k.free
		}
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(func() { close(k.free); k.Close() }) // also of a test that has failed
	return k
}

// take is what was seen since it was asked last.
func (k *lockedDoor) take() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	seen := k.seen
	k.seen = nil
	return seen
}

const replacedFlows = `
bulkhead: 1
integration: replaced
connections: {api: {connector: http}}
flows:
  short:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps: [{id: one, uses: api.request, with: {method: POST, path: /short}}]
  long:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps:
      - {id: one, uses: api.request, with: {method: POST, path: /held}}
      - {id: two, uses: api.request, with: {method: POST, path: /after}}
`

// begin starts an execution that nobody watches: for a viewer its worker would need a newer lease.
func (s *system) begin(i id.Instance, flow string) id.Execution {
	s.t.Helper()
	x, err := s.Trigger(s.t.Context(), i, api.ExecutionRequest{Flow: flow, Event: []byte(`{"body":{}}`)})
	if err != nil {
		s.t.Fatal(err)
	}
	return x.Execution
}

// completes waits for the end of an execution.
func (s *system) completes(e id.Execution) {
	s.t.Helper()
	s.eventually("an end of the execution", func() bool {
		x, err := s.Execution(s.t.Context(), e)
		if err != nil || x.Status == "faulted" {
			s.t.Fatalf("%+v, %v", x, err)
		}
		return x.Status == "completed"
	})
}

// TestAReplacedCredentialIsNotUsedAnyMore replaces the key of a connection of the organization while the workers of two customers
// are warm, and one of them is in a call: that call ends as it began, and once; every later one has the new key. After the
// connection is deleted neither is used.
func TestAReplacedCredentialIsNotUsedAnyMore(t *testing.T) {
	t.Parallel()
	needSystem(t)
	k, s := newLockedDoor(t), startSystem(t, false)
	ctx, other := t.Context(), s.second()
	request := func(token string) api.ConnectionRequest {
		return api.ConnectionRequest{
			Customer: "internal", Name: "api", Connector: "http", Kind: "bearer", URL: k.URL, Fields: map[string]string{"token": token},
			Shared: &api.Shared{Customers: []string{lease.SharedWithAll}},
		}
	}
	n, err := s.MakeConnection(ctx, request("key-a"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.Publish(ctx, api.PublishRequest{Source: replacedFlows})
	if err != nil {
		t.Fatal(err)
	}
	deploy := func(s *system) id.Instance {
		i := id.NewInstance(time.Now())
		if _, err := s.DeploySealed(ctx, s.customer, i, api.DeployRequest{Digest: v.Digest, Config: []byte("{}"), Slots: map[string]id.Connection{"api": n.ID}}); err != nil {
			t.Fatal(err)
		}
		return i
	}
	first, second := deploy(s), deploy(other)
	sees := func(what string, want ...string) {
		t.Helper()
		if got := k.take(); !slices.Equal(got, want) {
			t.Errorf("%s: the service has seen %q, want %q", what, got, want)
		}
	}
	both := func() {
		t.Helper()
		s.completes(s.begin(first, "short"))
		s.completes(s.begin(second, "short"))
	}
	both()
	both()
	sees("warm", "/short Bearer key-a", "/short Bearer key-a", "/short Bearer key-a", "/short Bearer key-a")
	long := s.begin(first, "long")
	<-k.came
	if _, err := s.ReplaceConnection(ctx, n.ID, request("key-b")); err != nil {
		t.Fatal(err)
	}
	both()
	sees("after the key was replaced", "/held Bearer key-a", "/short Bearer key-b", "/short Bearer key-b")
	k.free <- struct{}{}
	s.completes(long)
	sees("after the call that was under way", "/after Bearer key-b")

	s.begin(second, "long")
	<-k.came
	if _, err := s.DeleteConnection(ctx, n.ID); err != nil {
		t.Fatal(err)
	}
	k.free <- struct{}{}
	refusal := `lease for instance ` + second.String()
	s.eventually("a lease that the vault refuses", func() bool { return strings.Contains(s.logged(), refusal) })
	sees("after it was deleted", "/held Bearer key-b")
}

// TestTokensBeforeAPersonConnectedAgainAreNotUsed connects a customer again, perhaps as somebody else: a warm worker does not even
// try the token from before, which the provider may still take.
func TestTokensBeforeAPersonConnectedAgainAreNotUsed(t *testing.T) {
	t.Parallel()
	needSystem(t)
	b, s := newBakery(t), startSystem(t, false)
	ctx := t.Context()
	if _, err := s.PublishConnector(ctx, api.ConnectorRequest{Source: b.manifest()}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutTemplate(ctx, id.Template{}, api.TemplateRequest{Connector: "bakery", Customers: []string{"*"}, Fields: map[string]string{"client_id": "our-client", "client_secret": clientCanary}}); err != nil {
		t.Fatal(err)
	}
	connect := func(r api.ConnectLinkRequest) {
		t.Helper()
		link, err := s.MakeConnectLink(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		if status, body := newPerson(t).connect(link.URL); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	connect(api.ConnectLinkRequest{Customer: "local", Connector: "bakery"})
	k := s.onlyConnection(ctx)
	v, err := s.Publish(ctx, api.PublishRequest{Source: bakeryFlow})
	if err != nil {
		t.Fatal(err)
	}
	i := id.NewInstance(time.Now())
	if _, err = s.DeploySealed(ctx, s.customer, i, api.DeployRequest{Digest: v.Digest, Slots: map[string]id.Connection{"shop": k.ID}}); err != nil {
		t.Fatal(err)
	}
	s.completes(s.begin(i, "main"))
	s.completes(s.begin(i, "main"))
	connect(api.ConnectLinkRequest{Connection: k.ID})
	s.completes(s.begin(i, "main"))
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.calls != 3 || b.refused != 0 {
		t.Errorf("%d calls, and %d with a token from before", b.calls, b.refused)
	}
}
