package suite

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
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
)

// crmManifest is a connector for the API of crm.
const crmManifest = `
connector: crm-of-the-suite
version: 1.0.0
title: CRM
tier: verified
provenance: {kind: hand}
hosts: ["HOST"]
base_url: "http://HOST"
auth: [{id: key, type: bearer}]
defaults:
  headers: {X-Version: "7"}
  paginate: {type: cursor, name: after, from: next, items: items}
  error: {path: error}
actions:
  listOrders: {method: GET, path: /orders, input: {of: {in: query}}, output: {type: object, properties: {items: {type: array, items: {type: object, properties: {id: {type: string}}}}}}}
  createNote: {method: POST, path: "/orders/{id}/notes", input: {id: {in: path, required: true}, text: {in: body, as: note.text}}}
  createHook: {method: POST, path: /hooks, input: {target: {in: body}, secret: {in: body, secret: true}}}
  deleteHook: {method: DELETE, path: "/hooks/{id}", input: {id: {in: path, required: true}}}
triggers:
  paid:
    type: webhook
    webhook:
      subscribe: {action: createHook, with: {target: "{url}", secret: "{secret}"}}
      unsubscribe: {action: deleteHook, with: {id: "{id}"}}
      id: id
    verify: {type: hmac, secret: subscription, algorithm: sha256, header: X-Signature, prefix: "sha256=", signed: "{timestamp}.{body}", timestamp: "header:X-Timestamp"}
    challenge: {when: "body:type=check", answer: "body:token"}
    key: header:X-Delivery
`

// crm is an API with orders, notes and webhooks.
type crm struct {
	*httptest.Server
	t        *testing.T
	manifest string

	gate  func(*http.Request) // is asked before a request is looked at, or nil
	after func(*http.Request) // is asked when it had its effect, before it is answered, or nil

	mu      sync.Mutex
	most    int                  // hooks at a time
	hooks   map[string][2]string // address and secret
	keys    map[string]string    // of requests that made one, with its id
	made    int
	notes   []string
	refused []string
}

func newCRM(t *testing.T) *crm {
	c := &crm{t: t, manifest: crmManifest, hooks: map[string][2]string{}, keys: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.Close)
	return c
}

func (c *crm) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if c.gate != nil {
		c.gate(r)
	}
	if c.after != nil {
		defer c.after(r)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if r.Header.Get("Authorization") != "Bearer t0k" || r.Header.Get("X-Version") != "7" {
		c.refused = append(c.refused, r.Method+" "+r.URL.Path)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch {
	case r.URL.Path == "/orders" && r.URL.Query().Get("after") == "":
		_, _ = io.WriteString(w, `{"items":[{"id":"a/1"},{"id":"b"}],"next":"two"}`)
	case r.URL.Path == "/orders":
		_, _ = io.WriteString(w, `{"items":[{"id":"c"}]}`)
	case strings.HasSuffix(r.URL.Path, "/notes"):
		c.notes = append(c.notes, r.URL.EscapedPath()+" "+string(body))
		_, _ = io.WriteString(w, `{}`)
	case r.URL.Path == "/hooks" && r.Method == http.MethodGet:
		list := make([]map[string]string, 0, len(c.hooks))
		for name, h := range c.hooks {
			list = append(list, map[string]string{"id": name, "target": h[0]})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"items": list})
	case r.URL.Path == "/hooks":
		var m struct{ Target, Secret string }
		_ = json.Unmarshal(body, &m)
		key := r.Header.Get("Idempotency-Key")
		if known := c.keys[key]; known != "" && key != "" { // as providers do that know the header
			_, _ = fmt.Fprintf(w, `{"id":%q}`, known)
			return
		}
		c.made++
		c.keys[key] = fmt.Sprintf("h%d", c.made)
		c.hooks[fmt.Sprintf("h%d", c.made)] = [2]string{m.Target, m.Secret}
		c.most = max(c.most, len(c.hooks))
		_, _ = fmt.Fprintf(w, `{"id":"h%d"}`, c.made)
	case r.Method == http.MethodDelete:
		delete(c.hooks, strings.TrimPrefix(r.URL.Path, "/hooks/"))
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (c *crm) subscriptions() map[string][2]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string][2]string{}
	for k, v := range c.hooks {
		out[k] = v
	}
	return out
}

// event sends an event to an address, signed with a secret.
func (c *crm) event(url, secret, delivery, body string) (int, string) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	stamp := fmt.Sprint(time.Now().Unix())
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(stamp + "." + body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Delivery", delivery)
	r.Header.Set("X-Timestamp", stamp)
	r.Header.Set("X-Signature", "sha256="+hex.EncodeToString(h.Sum(nil)))
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer a.Body.Close()
	var text bytes.Buffer
	_, _ = text.ReadFrom(a.Body)
	return a.StatusCode, text.String()
}

// deployCRM publishes the connector, connects it, and deploys an integration that uses it.
func (s *system) deployCRM(file string, c *crm) id.Instance {
	s.t.Helper()
	ctx := s.t.Context()
	if _, err := s.PublishConnector(ctx, api.ConnectorRequest{Source: strings.ReplaceAll(c.manifest, "HOST", c.Listener.Addr().String())}); err != nil {
		s.t.Fatal(err)
	}
	v, err := s.Publish(ctx, api.PublishRequest{Source: file})
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := s.MakeConnection(ctx, api.ConnectionRequest{Customer: s.customer.String(), Name: "crm", Connector: "crm-of-the-suite", Fields: map[string]string{"token": "t0k"}})
	if err != nil {
		s.t.Fatal(err)
	}
	instance := id.NewInstance(time.Now())
	if _, err := s.DeploySealed(ctx, s.customer, instance, api.DeployRequest{Digest: v.Digest, Config: []byte("{}"), Slots: map[string]id.Connection{"crm": n.ID}}); err != nil {
		s.t.Fatal(err)
	}
	return instance
}

const crmFlows = `
bulkhead: 1
integration: crm-notes
connections: {crm: {connector: crm-of-the-suite}}
flows:
  paid:
    trigger: {event: {uses: crm.paid}}
    steps:
      - {id: all, for: {each: {uses: crm.listOrders, with: {of: "${{ trigger.body.customer }}"}}, as: order}, steps: [
          {id: note, uses: crm.createNote, with: {id: "${{ order.id }}", text: "paid ${{ trigger.body.id }}"}}]}
`

// TestConnectorFromSubscriptionToRemoval deploys a flow with a connector's trigger: it subscribes, runs once for an event that
// is what it says, reads every page of an action, and takes the subscription back when it is removed.
func TestConnectorFromSubscriptionToRemoval(t *testing.T) {
	t.Parallel()
	s, c := startSystem(t, false), newCRM(t)
	instance := s.deployCRM(crmFlows, c)
	s.eventually("a subscription", func() bool { return len(c.subscriptions()) == 1 })
	url, secret := c.subscriptions()["h1"][0], c.subscriptions()["h1"][1]
	if len(secret) < 32 || !strings.Contains(url, "/hooks/") {
		t.Fatalf("subscribed to %q with a secret of %d letters", url, len(secret))
	}
	if status, body := c.event(url, secret, "0", `{"type":"check","token":"abc"}`); status != 200 || body != "abc" {
		t.Errorf("the check of the address is answered %d %q", status, body)
	}
	const paid = `{"id":17,"customer":"x"}`
	if status, _ := c.event(url, "another", "1", paid); status != 401 {
		t.Errorf("an event that somebody else signed is answered %d", status)
	}
	s.eventually("an event that is taken", func() bool { status, _ := c.event(url, secret, "1", paid); return status == 200 })
	if status, _ := c.event(url, secret, "1", paid); status != 200 {
		t.Errorf("the repeated event is answered %d", status)
	}
	var notes []string
	s.eventually("three notes", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		notes = slices.Clone(c.notes)
		return len(notes) >= 3
	})
	want := []string{`/orders/a%2F1/notes {"note":{"text":"paid 17"}}`, `/orders/b/notes {"note":{"text":"paid 17"}}`, `/orders/c/notes {"note":{"text":"paid 17"}}`}
	if !slices.Equal(notes, want) {
		t.Errorf("notes %q", notes)
	}
	if err := s.Client.Remove(t.Context(), instance); err != nil {
		t.Fatal(err)
	}
	s.eventually("no subscription", func() bool { return len(c.subscriptions()) == 0 })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made != 1 || len(c.refused) > 0 || len(c.notes) != 3 {
		t.Errorf("%d subscriptions, %d notes, refused: %v", c.made, len(c.notes), c.refused)
	}
}
