package suite

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// ledgerManifest is a connector with a test, choices, and a schema that the service describes.
const ledgerManifest = `
connector: ledger-of-the-suite
version: 1.0.0
title: Ledger
tier: verified
provenance: {kind: hand}
hosts: ["HOST"]
base_url: "http://HOST"
auth:
  - {id: key, type: bearer, test: {action: whoAmI, expect: 200}}
  - {id: untested, type: basic}
defaults:
  paginate: {type: cursor, name: after, from: next, items: items}
actions:
  whoAmI: {method: GET, path: /me}
  listLedgers:
    method: GET
    path: /ledgers
    input: {year: {type: integer, in: query, required: true}}
    output: {type: object, properties: {items: {type: array, items: {type: object, properties: {id: {type: integer}, name: {type: object, properties: {en: {type: string}}}}}}}}
  listFields: {method: GET, path: /fields, output: {type: object, properties: {items: {type: array, items: {type: object, properties: {key: {type: string}, title: {type: string}, kind: {type: string}}}}}}}
  createEntry:
    method: POST
    path: /entries
    input:
      year: {type: integer, in: query}
      ledger: {choices: {action: listLedgers, with: {year: {from: year}}, value: id, label: name.en}}
      fields: {type: object, schema_from: {action: listFields, path: items, name: key, type: kind, label: title}}
`

// ledger is the service: it takes one token.
type ledger struct {
	*httptest.Server

	mu      sync.Mutex
	token   string
	entries []string
	calls   []string
}

func newLedger(t *testing.T) *ledger {
	l := &ledger{token: "t0k"}
	l.Server = httptest.NewServer(http.HandlerFunc(l.serve))
	t.Cleanup(l.Close)
	return l
}

func (l *ledger) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, r.Method+" "+r.URL.RequestURI())
	w.Header().Set("Content-Type", "application/json")
	if r.Header.Get("Authorization") != "Bearer "+l.token {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"message":"<b>never heard of `+r.Header.Get("Authorization")+`</b>"}`)
		return
	}
	switch q := r.URL.Query(); {
	case r.URL.Path == "/me":
		_, _ = io.WriteString(w, `{"name":"Ann"}`)
	case r.URL.Path == "/ledgers" && q.Get("after") == "":
		_, _ = io.WriteString(w, `{"items":[{"id":17,"name":{"en":"Sales `+q.Get("year")+`"}},{"id":18,"name":{}}],"next":"two"}`)
	case r.URL.Path == "/ledgers":
		_, _ = io.WriteString(w, `{"items":[{"id":19,"name":{"en":"Rent\n  and heat"}},{"id":17,"name":{"en":"again"}},{"id":null},{}]}`)
	case r.URL.Path == "/fields":
		_, _ = io.WriteString(w, `{"items":[{"key":"mail","title":"E-mail","kind":"string"},{"key":"sum","title":"Total","kind":"money"}]}`)
	case r.URL.Path == "/entries":
		l.entries = append(l.entries, string(body))
		_, _ = io.WriteString(w, `{}`)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (l *ledger) accept(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.token = token
}

func (l *ledger) called() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.calls)
}

// connectLedger publishes the connector and connects the customer.
func (s *system) connectLedger(l *ledger) id.Connection {
	s.t.Helper()
	if _, err := s.PublishConnector(s.t.Context(), api.ConnectorRequest{Source: strings.ReplaceAll(ledgerManifest, "HOST", l.Listener.Addr().String())}); err != nil {
		s.t.Fatal(err)
	}
	n, err := s.MakeConnection(s.t.Context(), api.ConnectionRequest{Customer: s.customer.String(), Name: "books", Connector: "ledger-of-the-suite", Fields: map[string]string{"token": "t0k"}})
	if err != nil {
		s.t.Fatal(err)
	}
	return n.ID
}

func choices(l *api.ChoiceList) string {
	b, _ := json.Marshal(l.Choices)
	return string(b)
}

// TestAConnectionIsTestedAndAsked tests a connection that works and one that does not, lists choices and a schema, and leaves
// nothing behind when the connection is deleted.
func TestAConnectionIsTestedAndAsked(t *testing.T) {
	t.Parallel()
	s, l := startSystem(t, false), newLedger(t)
	ctx, n := t.Context(), s.connectLedger(l)
	asked := map[id.Instance]bool{}
	for range 2 { // the second with the instance of the first
		got, err := s.TestConnection(ctx, n)
		if err != nil {
			t.Fatal(err)
		}
		if !got.OK || !got.Ended || got.Status != 200 || got.Health != "ok" || got.Execution.IsZero() {
			t.Errorf("test: %+v", got)
		}
		x, err := s.Execution(ctx, got.Execution)
		if err != nil || x.Status != "completed" || !x.Test || x.Customer != s.customer || x.Flow != "test.key" {
			t.Errorf("execution %+v, %v", x, err)
		}
		asked[x.Instance] = true
	}
	list, err := s.Choices(ctx, n, api.ChoicesRequest{Action: "createEntry", Input: "ledger", With: map[string]json.RawMessage{"year": []byte("2026")}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := choices(list), `[{"value":17,"label":"Sales 2026"},{"value":18,"label":"18"},{"value":19,"label":"Rent and heat"}]`; got != want || list.Total != 3 || list.More {
		t.Errorf("choices %s, want %s: %+v", got, want, list)
	}
	before := l.called()
	again, err := s.Choices(ctx, n, api.ChoicesRequest{
		Action: "createEntry", Input: "ledger", With: map[string]json.RawMessage{"year": []byte("2026")}, ListedPart: api.ListedPart{Search: "HEAT", Limit: 1},
	})
	if err != nil || choices(again) != `[{"value":19,"label":"Rent and heat"}]` || l.called() != before {
		t.Errorf("choices a second time: %v, %v; %d calls more", again, err, l.called()-before)
	}
	schema, err := s.InputSchema(ctx, n, api.SchemaRequest{Action: "createEntry", Input: "fields"})
	if want := `{"properties":{"mail":{"title":"E-mail","type":"string"},"sum":{"title":"Total"}},"type":"object"}`; err != nil || string(schema.Schema) != want {
		t.Errorf("schema %+v, %v", schema, err)
	}
	for _, r := range []api.ChoicesRequest{{Action: "createEntry", Input: "ledger"}, {Action: "createEntry", Input: "year"}, {Action: "nothing", Input: "year"}} {
		if got, err := s.Choices(ctx, n, r); err == nil {
			t.Errorf("choices of %+v: %+v", r, got)
		}
	}

	l.accept("another")
	got, err := s.TestConnection(ctx, n)
	if err != nil || got.OK || !got.Ended || got.Type != "auth" || got.Status != 401 || got.Health != "failing" || strings.Contains(got.Message, "never heard") {
		t.Errorf("test with a token that is refused: %+v, %v", got, err)
	}
	if x, err := s.Connection(ctx, n); err != nil || x.Health != "failing" || x.Problem != "test_auth" || x.HealthChecked.IsZero() || len(x.UsedBy) > 0 {
		t.Errorf("connection after it: %+v, %v", x, err)
	}
	if _, err := s.InputSchema(ctx, n, api.SchemaRequest{Action: "createEntry", Input: "fields"}); err == nil || !strings.Contains(err.Error(), "refuses the credential") {
		t.Errorf("schema with a token that is refused: %v", err)
	}
	s.noTests()
	page, err := s.Instances(ctx, client.InstanceQuery{}, client.List{})
	if err != nil || len(page.Items) > 0 || len(asked) != 1 {
		t.Errorf("%d instances were asked, and %+v are listed: %v", len(asked), page, err)
	}
	if _, err := s.DeleteConnection(ctx, n); err != nil {
		t.Fatal(err)
	}
	for i := range asked {
		s.eventually("no instance for questions", func() bool { _, err := s.Instance(ctx, i); return isNotFound(err) })
	}
	if _, err := s.TestConnection(ctx, n); !isNotFound(err) {
		t.Errorf("test of a deleted connection: %v", err)
	}
}

const ledgerFlows = `
bulkhead: 1
integration: book-orders
config:
  year: {type: integer, default: 2025}
  book: {type: string, required: true, choices: {uses: books.listLedgers, with: {year: "${{ config.year }}"}, value: id, label: name.en}}
  fields:
    type: mapping
    from: {uses: shop.request, with: {path: /fields}, items: items, value: key, label: title}
    to: {uses: books.listFields, value: key, label: title, required: [mail]}
connections: {books: {connector: ledger-of-the-suite}, shop: {connector: http}}
flows:
  book:
    trigger: {manual: {}}
    steps:
      - {id: mapped, set: "${{ mapFields(trigger.body, config.fields) }}"}
      - {id: entry, uses: books.createEntry, with: {year: "${{ config.year }}", ledger: "${{ config.book }}", fields: "${{ steps.mapped }}"}}
`

// TestConfigIsChosenFromWhatAServiceHas lists what the config of an instance may be before it is there, refuses a mapping that
// cannot work, and runs a flow with what was chosen.
func TestConfigIsChosenFromWhatAServiceHas(t *testing.T) {
	t.Parallel()
	s, l := startSystem(t, false), newLedger(t)
	ctx, n := t.Context(), s.connectLedger(l)
	shop, err := s.MakeConnection(ctx, api.ConnectionRequest{Customer: s.customer.String(), Name: "shop", Kind: "bearer", URL: l.URL, Fields: map[string]string{"token": "t0k"}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.Publish(ctx, api.PublishRequest{Source: ledgerFlows})
	if err != nil {
		t.Fatal(err)
	}
	deploy := api.DeployRequest{Customer: s.customer.String(), Digest: v.Digest, Slots: map[string]id.Connection{"books": n, "shop": shop.ID}, Partial: true}
	x, err := s.Deploy(ctx, deploy)
	if err != nil || x.State != "needs_config" {
		t.Fatalf("instance without config: %+v, %v", x, err)
	}
	for _, c := range []struct {
		r    api.OptionsRequest
		want string
	}{
		{api.OptionsRequest{Variable: "book"}, `[{"value":"17","label":"Sales 2025"},{"value":"18","label":"18"},{"value":"19","label":"Rent and heat"}]`},
		{api.OptionsRequest{Variable: "book", Config: []byte(`{"year":2026}`)}, `[{"value":"17","label":"Sales 2026"},{"value":"18","label":"18"},{"value":"19","label":"Rent and heat"}]`},
		{api.OptionsRequest{Variable: "fields", Side: "from"}, `[{"value":"mail","label":"E-mail"},{"value":"sum","label":"Total"}]`},
		{api.OptionsRequest{Variable: "fields", Side: "to"}, `[{"value":"mail","label":"E-mail"},{"value":"sum","label":"Total"}]`},
	} {
		list, err := s.Options(ctx, x.ID, c.r)
		if err != nil {
			t.Fatalf("%+v: %v", c.r, err)
		}
		if got := choices(list); got != c.want {
			t.Errorf("%+v: %s, want %s", c.r, got, c.want)
		}
	}
	for _, r := range []api.OptionsRequest{{Variable: "year"}, {Variable: "fields"}, {Variable: "book", Config: []byte(`{"year":"x"}`)}, {Variable: "book", Config: []byte(`{"other":1}`)}} {
		if list, err := s.Options(ctx, x.ID, r); err == nil {
			t.Errorf("%+v: %+v", r, list)
		}
	}
	deploy.Partial = false
	for config, want := range map[string]string{
		`{"book":"17","fields":{"mail":"sum"}}`: "must be mapped", `{"book":17}`: "want text", `{"book":"17","fields":{"mail":{}}}`: "want a map",
	} {
		deploy.Config = []byte(config)
		if _, err := s.Deploy(ctx, deploy); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", config, err)
		}
	}
	deploy.Config = []byte(`{"book":"17","year":2026,"fields":{"customer":"mail","total":"sum","note":""}}`)
	if x, err = s.Deploy(ctx, deploy); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Trigger(ctx, x.ID, api.ExecutionRequest{Flow: "book", Event: []byte(`{"body":{"customer":"ann@example.com","total":7,"note":"x","more":1}}`)}); err != nil {
		t.Fatal(err)
	}
	s.eventually("an entry", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.entries) > 0 })
	l.mu.Lock()
	defer l.mu.Unlock()
	if want := `{"ledger":"17","fields":{"mail":"ann@example.com","sum":7}}`; len(l.entries) != 1 || l.entries[0] != want || !slices.Contains(l.calls, "POST /entries?year=2026") {
		t.Errorf("entries %q, want %s; calls %q", l.entries, want, l.calls)
	}
}

// noTests asserts that connections without a test say so.
func (s *system) noTests() {
	s.t.Helper()
	basic := map[string]string{"username": "u", "password": "p"}
	for _, r := range []api.ConnectionRequest{
		{Connector: "ledger-of-the-suite", Auth: "untested", Fields: basic}, {Kind: "basic", URL: "https://shop.example.com", Fields: basic},
	} {
		r.Customer, r.Name = s.customer.String(), "untested"
		n, err := s.MakeConnection(s.t.Context(), r)
		if err != nil {
			s.t.Fatal(err)
		}
		_, err = s.TestConnection(s.t.Context(), n.ID)
		if p, ok := errors.AsType[*client.Error](err); !ok || p.Code != api.CodeNoTest || p.Detail == "" {
			s.t.Errorf("test of %q: %v", r.Connector, err)
		}
		if _, err := s.Choices(s.t.Context(), n.ID, api.ChoicesRequest{Action: "whoAmI", Input: "x"}); err == nil {
			s.t.Errorf("choices of %q: none refused", r.Connector)
		}
	}
}

func isNotFound(err error) bool {
	p, ok := errors.AsType[*client.Error](err)
	return ok && p.Code == api.CodeNotFound
}
