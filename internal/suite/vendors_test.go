package suite

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/connectors"
	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/connect"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/sample/harbour"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// vendors is a server on this machine in the place of Stripe, HubSpot and Slack, each with the token that
// it takes. It answers as their documents say, and notes what it was asked.
type vendors struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
	wrong []string
}

// The tokens of the three.
const (
	stripeToken  = "canary-stripe-5528"
	hubspotToken = "canary-hubspot-5528"
	slackToken   = "canary-slack-5528"
)

func newVendors(t *testing.T) *vendors {
	t.Helper()
	v := &vendors{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/payment_intents/pi_1", v.of(stripeToken, 200, `{"id":"pi_1","object":"payment_intent","amount":2000,"currency":"eur","status":"succeeded","customer":"cus_1"}`))
	mux.HandleFunc("GET /v1/customers/cus_1", v.of(stripeToken, 200, `{"id":"cus_1","object":"customer","email":"ada@x.example","name":"Ada Lovelace"}`))
	mux.HandleFunc("PATCH /crm/objects/2026-03/contacts/{contact}", v.of(hubspotToken, 200, `{"id":"51","properties":{"last_parcel":"HB-0001"}}`))
	mux.HandleFunc("POST /api/chat.postMessage", v.of(slackToken, 200, `{"ok":true,"channel":"C123ABC456","ts":"1503435956.000247"}`))
	v.Server = httptest.NewServer(mux)
	t.Cleanup(v.Close)
	return v
}

func (v *vendors) of(token string, status int, answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		v.mu.Lock()
		defer v.mu.Unlock()
		v.asked = append(v.asked, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Stripe-Version")+string(body)))
		if got := r.Header.Get("Authorization"); got != "Bearer "+token {
			v.wrong = append(v.wrong, r.URL.Path)
			status, answer = http.StatusUnauthorized, `{"ok":false,"error":"invalid_auth"}`
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}
}

// here publishes a connector of the catalogue whose hosts are the vendors' stand-in. It is another
// connector for that, with a name of its own: hosts are what a manifest is trusted for.
func (v *vendors) here(s *system, name, host string) {
	s.t.Helper()
	text, err := connectors.Files.ReadFile(name + "/connector.yaml")
	if err != nil {
		s.t.Fatal(err)
	}
	at := v.Listener.Addr().String()
	manifest := strings.NewReplacer("connector: "+name+"\n", "connector: "+name+"-here\n", "\nhosts: ["+host+"]", "\nhosts: [\""+at+"\"]", "\nbase_url: https://"+host, "\nbase_url: http://"+at).Replace(string(text))
	if _, err := s.PublishConnector(s.t.Context(), api.ConnectorRequest{Source: manifest}); err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
}

// importConnector has the command line make a connector of the carrier's API description, and publishes it.
func (s *system) importConnector(p *harbour.Provider) {
	s.t.Helper()
	dir := s.t.TempDir()
	for _, name := range []string{"openapi.json", "sidecar.yaml"} {
		a, err := http.Get(p.URL + "/" + name) //nolint:noctx // of this test
		if err != nil {
			s.t.Fatal(err)
		}
		b, err := io.ReadAll(a.Body)
		if err = errors.Join(err, a.Body.Close(), os.WriteFile(filepath.Join(dir, name), b, 0o600)); err != nil {
			s.t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(s.t.Context(), self, "bulkhead", "connectors", "import", "openapi.json", "--sidecar", "sidecar.yaml", "-o", "made")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("import: %v\n%s", err, out)
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "made", "connector.yaml"))
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.PublishConnector(s.t.Context(), api.ConnectorRequest{Source: string(manifest)}); err != nil {
		s.t.Fatal(err)
	}
}

var hiddenField = regexp.MustCompile(`type="hidden" name="([^"]*)" value="([^"]*)"`)

// agree opens a connect link and agrees at the carrier.
func (p *person) agree(link string) {
	p.t.Helper()
	hidden := func(page string) url.Values {
		out := url.Values{}
		for _, m := range hiddenField.FindAllStringSubmatch(page, -1) {
			out.Set(html.UnescapeString(m[1]), html.UnescapeString(m[2]))
		}
		return out
	}
	_, _, page := p.do(http.MethodGet, link, nil)
	_, to, _ := p.do(http.MethodPost, link+"/start", hidden(page))
	_, _, page = p.do(http.MethodGet, to, nil)
	form := hidden(page)
	form.Set("account", "acme")
	form.Set("decision", "allow")
	_, back, _ := p.do(http.MethodPost, strings.SplitAfterN(to, "/authorize", 2)[0], form)
	if status, _, page := p.do(http.MethodGet, back, nil); status != http.StatusOK || !strings.Contains(page, "Connected as Acme Ltd") {
		p.t.Fatalf("%d %s", status, page)
	}
}

// TestFourConnectors deploys the integration of examples/ship-payment.yaml: with three connectors of the
// catalogue and one that the command line imports from an OpenAPI document, whose provider a person is sent
// to. Each gets its own credential and what its vendor documents. The end of one connection ends one.
func TestFourConnectors(t *testing.T) {
	t.Parallel()
	needSystem(t)
	v := newVendors(t)
	s := startSystem(t, false)
	ctx := t.Context()
	p, err := harbour.Start(harbour.Options{Address: "127.0.0.1:0", Redirect: []string{s.roles.URL + connect.CallbackPath}, Accounts: []harbour.Account{{ID: "acme", Name: "Acme Ltd"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	slots := map[string]id.Connection{}
	for slot, c := range map[string]struct{ name, host, auth, token string }{
		"billing": {"stripe", "api.stripe.com", "key", stripeToken},
		"crm":     {"hubspot", "api.hubapi.com", "private_app", hubspotToken},
		"chat":    {"slack", "slack.com", "token", slackToken},
	} {
		v.here(s, c.name, c.host)
		k, err := s.MakeConnection(ctx, api.ConnectionRequest{Customer: "local", Name: slot, Connector: c.name + "-here", Auth: c.auth, Fields: map[string]string{"token": c.token}})
		if err != nil {
			t.Fatal(err)
		}
		slots[slot] = k.ID
	}
	s.importConnector(p)
	if _, err := s.PutTemplate(ctx, id.Template{}, api.TemplateRequest{Connector: "harbour", Customers: []string{"local"}, Fields: map[string]string{"client_id": harbour.ClientID, "client_secret": p.Secret()}}); err != nil {
		t.Fatal(err)
	}
	link, err := s.MakeConnectLink(ctx, api.ConnectLinkRequest{Customer: "local", Connector: "harbour"})
	if err != nil {
		t.Fatal(err)
	}
	newPerson(t).agree(link.URL)
	page, err := s.FindConnections(ctx, "local", "harbour", "", client.List{})
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("connections: %+v, %v", page, err)
	}
	slots["carrier"] = page.Items[0].ID

	text, err := os.ReadFile("../../examples/ship-payment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := strings.NewReplacer("connector: stripe,", "connector: stripe-here,", "connector: hubspot,", "connector: hubspot-here,", "connector: slack,", "connector: slack-here,").Replace(string(text))
	version, err := s.Publish(ctx, api.PublishRequest{Source: file})
	if err != nil {
		t.Fatal(err)
	}
	i := id.NewInstance(time.Now())
	if _, err := s.DeploySealed(ctx, s.customer, i, api.DeployRequest{Digest: version.Digest, Slots: slots}); err != nil {
		t.Fatal(err)
	}
	if e := s.start(i, "paid", map[string]any{"payment": "pi_1"}).wait(); e.status != "completed" {
		t.Fatalf("the execution is %s %s", e.status, e.errorType)
	}
	v.judge(t)
	if g := p.Grants(); len(g) != 1 || g[0].Calls != 1 || g[0].Reused != 0 {
		t.Errorf("grants = %+v", g)
	}
	s.endOne(p, slots, i)
}

// judge compares what the vendors were asked with what their documents want.
func (v *vendors) judge(t *testing.T) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	want := []string{
		"GET /v1/payment_intents/pi_1 2026-07-29.dahlia",
		"GET /v1/customers/cus_1 2026-07-29.dahlia",
		`PATCH /crm/objects/2026-03/contacts/ada@x.example?idProperty=email {"properties":{"last_parcel":"HB-0001"}}`,
		`POST /api/chat.postMessage {"channel":"C123ABC456","text":"HB-0001 goes to Ada Lovelace"}`,
	}
	if !slices.Equal(v.asked, want) || len(v.wrong) > 0 {
		b, _ := json.MarshalIndent(v.asked, "", "  ")
		t.Errorf("asked %s\nwith a wrong token: %v", b, v.wrong)
	}
}

// endOne deletes the carrier's connection: the provider takes the grant back, the instance waits, and the
// other connections are as they were.
func (s *system) endOne(p *harbour.Provider, slots map[string]id.Connection, i id.Instance) {
	s.t.Helper()
	ctx := s.t.Context()
	gone, err := s.DeleteConnection(ctx, slots["carrier"])
	if err != nil || gone.Revoked != connect.RevokedYes || fmt.Sprint(gone.Instances) != fmt.Sprint([]id.Instance{i}) {
		s.t.Errorf("deleted: %+v, %v", gone, err)
	}
	if g := p.Grants(); g[0].Revoked.IsZero() {
		s.t.Errorf("grants = %+v", g)
	}
	if x, err := s.Instance(ctx, i); err != nil || x.State != string(store.InstanceNeedsConnection) {
		s.t.Errorf("instance = %+v, %v", x, err)
	}
	for slot, n := range slots {
		if _, err := s.Connection(ctx, n); (err == nil) != (slot != "carrier") {
			s.t.Errorf("%s: %v", slot, err)
		}
	}
	if strings.Contains(s.logged(), "canary-") {
		s.t.Error("a log holds a secret")
	}
}
