package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// TestNothingMovesWithoutItsSecret tries on every road to give a connection another host, owner, sharing or connector while its secret
// is not entered. None of it may be taken, and the credential goes where it went before.
func TestNothingMovesWithoutItsSecret(t *testing.T) {
	t.Parallel()
	needSystem(t)
	s := startSystem(t, false)
	ctx := t.Context()
	all := []*kind{apiKey("header", "X-Api-Key", "{api_key}"), credentials(false)}
	p, evil := newTeller(t, all), newTeller(t, all)
	other, err := s.PutCustomer(ctx, api.CustomerRequest{ExternalID: "other", CustomerFields: api.CustomerFields{Name: "Another"}})
	if err != nil {
		t.Fatal(err)
	}
	sp := &spill{system: s, p: p, kinds: all, conns: map[string]id.Connection{}, template: map[string]id.Template{}, instance: map[string]id.Instance{}}
	sp.connectAll()
	for _, c := range []string{all[0].manifest(evil.Listener.Addr().String())} {
		if _, err := s.PublishConnector(ctx, api.ConnectorRequest{Source: c}); err == nil {
			t.Error("a published version of a connector gets another host")
		}
	}
	key, tmpl := sp.conns[all[0].name], sp.template[all[1].name]
	shop := bearer(p.URL, "token-of-the-shop")
	_, i := s.deploy(manyCalls, nil, map[string]account{"shop": shop})
	x, err := s.Instance(ctx, i)
	if err != nil {
		t.Fatal(err)
	}
	plain := x.Slots["shop"]
	before := map[id.Connection]uint64{}
	for _, n := range []id.Connection{key, plain} {
		c, err := s.Connection(ctx, n)
		if err != nil {
			t.Fatal(err)
		}
		before[n] = c.Version
	}
	own, connector := s.customer.String(), "told-"+all[0].name
	tried := 0
	for _, q := range []struct {
		what, method, path string
		body               map[string]any
	}{
		{"another host by a change", "PATCH", "/connections/" + key.String(), map[string]any{"name": "x", "host": evil.Listener.Addr().String()}},
		{"sharing by a change", "PATCH", "/connections/" + key.String(), map[string]any{"name": "x", "shared": map[string]any{"customers": []string{"*"}}}},
		{"another owner by a change", "PATCH", "/connections/" + key.String(), map[string]any{"name": "x", "customer": other.ID}},
		{"another connector by a change", "PATCH", "/connections/" + key.String(), map[string]any{"name": "x", "connector": "http"}},
		{"the same again, without the secret", "PUT", "/connections/" + key.String(), map[string]any{"customer": own, "connector": connector}},
		{"sharing without the secret", "PUT", "/connections/" + key.String(), map[string]any{"customer": own, "connector": connector, "shared": map[string]any{"customers": []string{"*"}}}},
		{"another owner, with a secret", "PUT", "/connections/" + key.String(), map[string]any{"customer": other.ID, "connector": connector, "fields": all[0].fields}},
		{"another connector, with a secret", "PUT", "/connections/" + key.String(), map[string]any{"customer": own, "kind": "bearer", "url": evil.URL, "fields": map[string]string{"token": "mine"}}},
		{"another host of the built-in connector", "PUT", "/connections/" + plain.String(), map[string]any{"customer": own, "kind": "bearer", "url": evil.URL}},
		{"an empty secret", "PUT", "/connections/" + plain.String(), map[string]any{"customer": own, "kind": "bearer", "url": evil.URL, "fields": map[string]string{"token": ""}}},
		{"another host for display", "PUT", "/connections/" + plain.String(), map[string]any{"customer": own, "kind": "bearer", "host": evil.URL}},
		{"a client for others without its secret", "PUT", "/connection-templates/" + tmpl.String(), map[string]any{"connector": "told-" + all[1].name, "customers": []string{other.ID.String()}}},
		{"another connector for a client", "PUT", "/connection-templates/" + tmpl.String(), map[string]any{"connector": connector, "customers": []string{"*"}, "fields": all[1].client}},
		{"a connection of another by a link", "POST", "/connect-links", map[string]any{"customer": other.ID, "connection": key}},
		{"another connector by a link", "POST", "/connect-links", map[string]any{"connection": key, "connector": "told-" + all[1].name}},
	} {
		tried++
		if status := s.ask(q.method, "/api/v1"+q.path, q.body); status < 400 || status >= 500 {
			t.Errorf("%s: %s %s is answered %d", q.what, q.method, q.path, status)
		}
	}
	for n, version := range before {
		if c, err := s.Connection(ctx, n); err != nil || c.Version != version || c.Shared != nil || c.Customer != s.customer {
			t.Errorf("the connection is %+v, %v, and had version %d", c, err, version)
		}
	}
	// The red twin: entered again, the secret moves. The same request is taken with it.
	again := map[string]any{"customer": own, "kind": "bearer", "url": evil.URL, "fields": map[string]string{"token": "another-token"}}
	if status := s.ask("PUT", "/api/v1/connections/"+plain.String(), again); status != http.StatusOK {
		t.Errorf("red twin: with the secret it is answered %d: nothing is shown above", status)
	}
	if e := s.run(sp.instance[all[0].name], all[0].name+"-once", map[string]any{"as": "json"}); e.status != "completed" || !p.has(all[0].marks[0]) || evil.has(all[0].marks[0]) {
		t.Errorf("the credential does not go where it was entered for: %s %s %s", e.status, e.errorType, e.output)
	}
	if page, err := s.Connections(ctx, other.ID.String(), client.List{}); err != nil || len(page.Items) != 0 {
		t.Errorf("another customer has %+v, %v", page, err)
	}
	t.Logf("%d ways to move a connection without its secret: 0 taken", tried)
}

// ask sends a request to the API as the owner of the machine, and says how it is answered.
func (s *system) ask(method, path string, body any) int {
	s.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://bulkhead"+path, bytes.NewReader(b))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.roles.API)
	}}}
	a, err := c.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer a.Body.Close()
	return a.StatusCode
}
