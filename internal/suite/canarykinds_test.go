package suite

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"filippo.io/age"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// spill is a system with a connection of every kind, and everything that it has shown.
type spill struct {
	*system
	p        *teller
	kinds    []*kind
	conns    map[string]id.Connection
	template map[string]id.Template
	links    []id.Link
	instance map[string]id.Instance
	last     id.Execution

	pages   bytes.Buffer // what an execution's own viewer sees
	streams bytes.Buffer // as the API sent it
	shown   bytes.Buffer // hosted pages, answers to events
}

// flowsOf is an integration with a flow for each kind: what answers tell is logged by a code step and returned.
func flowsOf(name string, all []*kind) string {
	b := "bulkhead: 1\nintegration: " + name + "\ntitle: Suite\nconnections:\n"
	for _, k := range all {
		b += "  " + slot(k) + ": {connector: told-" + k.name + "}\n"
	}
	b += "flows:\n"
	const log = `"export default ({v}) => { const s = JSON.stringify(v); console.log(s.slice(-3000)); return s.slice(-6000) }"`
	for _, k := range all {
		tell := "uses: " + slot(k) + ".tell, with: {as: "
		b += "  " + k.name + `:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps:
      - id: all
        for: {each: "${{ trigger.body.forms }}", as: form, parallel: 4}
        steps:
          - id: safe
            try:
              - {id: told, ` + tell + `"${{ form }}", text: x}, timeout: PT20S}
              - {id: log, with: {v: "${{ steps.told }}"}, code: ` + log + `}
            catch:
              steps:
                - {id: bad, with: {v: "${{ error }}"}, code: ` + log + `}
        result: "${{ steps.safe }}"
      - {id: out, return: {all: "${{ steps.all }}"}}
  ` + k.name + `-once:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps:
      - {id: told, ` + tell + `"${{ trigger.body.as }}", text: x}, timeout: PT40S}
`
		if k.more != "" {
			b += "  said:\n    trigger: {event: {uses: " + slot(k) + ".said}}\n    steps:\n      - {id: told, " + tell + "json, text: x}}\n"
		}
	}
	return b
}

func slot(k *kind) string { return strings.ReplaceAll(k.name, "-", "_") }

// connectAll publishes the connectors, enters the credentials and deploys the integration.
func (s *spill) connectAll() {
	s.t.Helper()
	ctx := s.t.Context()
	var alive []*kind
	for _, k := range s.kinds {
		if _, err := s.PublishConnector(ctx, api.ConnectorRequest{Source: k.manifest(s.p.Listener.Addr().String())}); err != nil {
			s.t.Fatalf("%s: %v", k.name, err)
		}
		if k.client != nil {
			tmpl, err := s.PutTemplate(ctx, id.Template{}, api.TemplateRequest{Connector: "told-" + k.name, Customers: []string{"*"}, Fields: k.client})
			if err != nil {
				s.t.Fatalf("template of %s: %v", k.name, err)
			}
			s.template[k.name] = tmpl.ID
		}
		s.conns[k.name] = s.connectKind(k)
		if k.dead {
			s.deployKinds(k.name, []*kind{k})
		} else {
			alive = append(alive, k)
		}
	}
	s.deployKinds("suite", alive)
}

// deployKinds deploys an integration for some kinds.
func (s *spill) deployKinds(name string, all []*kind) {
	s.t.Helper()
	slots := map[string]id.Connection{}
	i := id.NewInstance(time.Now())
	for _, k := range all {
		slots[slot(k)], s.instance[k.name] = s.conns[k.name], i
	}
	v, err := s.Publish(s.t.Context(), api.PublishRequest{Source: flowsOf(name, all)})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.DeploySealed(s.t.Context(), s.customer, i, api.DeployRequest{Digest: v.Digest, Config: []byte("{}"), Slots: slots}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *spill) connectKind(k *kind) id.Connection {
	s.t.Helper()
	if !k.person {
		n, err := s.MakeConnection(s.t.Context(), api.ConnectionRequest{
			Customer: s.customer.String(), Name: k.name, Connector: "told-" + k.name, Template: s.template[k.name], Fields: k.fields,
		})
		if err != nil {
			s.t.Fatalf("connect %s: %v", k.name, err)
		}
		return n.ID
	}
	link, err := s.MakeConnectLink(s.t.Context(), api.ConnectLinkRequest{Customer: "local", Connector: "told-" + k.name})
	if err != nil {
		s.t.Fatal(err)
	}
	s.links = append(s.links, link.ID)
	p := newPerson(s.t)
	p.method = "m"
	status, body := p.connect(link.URL)
	s.shown.WriteString(p.seen + body)
	if status != http.StatusOK {
		s.t.Fatalf("connect %s: %d %s", k.name, status, body)
	}
	page, err := s.FindConnections(s.t.Context(), "local", "told-"+k.name, "", client.List{})
	if err != nil || len(page.Items) != 1 {
		s.t.Fatalf("connections: %+v, %v", page, err)
	}
	return page.Items[0].ID
}

// told runs a flow of a kind to its end.
func (s *spill) told(k *kind, suffix string, body any) ended {
	s.t.Helper()
	e := s.run(s.instance[k.name], k.name+suffix, body)
	s.pages.WriteString(e.output + e.logs)
	s.streams.Write(e.stream)
	s.last = e.execution
	return e
}

// callAll uses every connection, and has tokens renewed by a provider that repeats them.
func (s *spill) callAll() {
	s.t.Helper()
	for _, k := range s.kinds {
		if k.dead {
			continue
		}
		if k.fails != "" {
			s.callInVain(k)
			continue
		}
		e := s.told(k, "", map[string]any{"forms": tellings()})
		if e.status != "completed" {
			s.t.Errorf("%s: %s %s %s", k.name, e.status, e.errorType, e.output)
		}
		if k.renews {
			s.eventually("newer tokens of "+k.name, func() bool { return s.version(k) > 1 })
		}
		for _, as := range []string{"401", "500", "redirect"} {
			if e := s.told(k, "-once", map[string]any{"as": as}); e.status != "faulted" {
				s.t.Errorf("%s answered by %s: %s", k.name, as, e.status)
			}
		}
		if k.mutual != nil && k.mutual.shaken.Load() == 0 {
			s.t.Errorf("%s: no request came with its certificate", k.name)
		}
	}
}

// askAll tests every connection, and asks through it for what the provider describes: all that it knows.
func (s *spill) askAll() {
	s.t.Helper()
	for _, k := range s.kinds {
		if k.dead || k.fails != "" {
			continue
		}
		tested, err := s.TestConnection(s.t.Context(), s.conns[k.name])
		if err != nil || !tested.OK {
			s.t.Errorf("test of %s: %+v, %v", k.name, tested, err)
			continue
		}
		said, err := s.InputSchema(s.t.Context(), s.conns[k.name], api.SchemaRequest{Action: "choose", Input: "one"})
		if err != nil || !strings.Contains(string(said.Schema), `"form":"json"`) {
			s.t.Errorf("schema of %s: %+v, %v", k.name, said, err)
			continue
		}
		s.pages.WriteString(tested.Message + string(said.Schema))
	}
}

func (s *spill) version(k *kind) uint64 {
	n, err := s.Connection(s.t.Context(), s.conns[k.name])
	if err != nil {
		s.t.Fatal(err)
	}
	return n.Version
}

// events sends events of the app, signed and not.
func (s *spill) events(k *kind) {
	s.t.Helper()
	secret := k.client["signing_secret"]
	for n, key := range []string{secret, "another"} {
		body, stamp := fmt.Sprintf(`{"id":"%d","team":"account-1"}`, n), fmt.Sprint(time.Now().Unix())
		h := hmac.New(sha256.New, []byte(key))
		_, _ = io.WriteString(h, "v0:"+stamp+":"+body)
		r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.roles.URL+"/hooks/app/"+s.template[k.name].String(), strings.NewReader(body))
		if err != nil {
			s.t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Timestamp", stamp)
		r.Header.Set("X-Signature", "v0="+hex.EncodeToString(h.Sum(nil)))
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			s.t.Fatal(err)
		}
		text, _ := io.ReadAll(a.Body)
		_ = a.Body.Close()
		s.shown.Write(text)
		if ok := a.StatusCode < 300; ok != (key == secret) {
			s.t.Errorf("event %d is answered %d %s", n, a.StatusCode, text)
		}
	}
}

// refuse lets the provider refuse every renewal, with a secret as error code, and revocations too.
func (s *spill) refuse() {
	s.t.Helper()
	for _, k := range s.kinds {
		if !k.dead {
			continue
		}
		s.eventually("a connection "+k.name+" that says that it is not well", func() bool {
			n, err := s.Connection(s.t.Context(), s.conns[k.name])
			if err != nil || n.Problem != "" {
				return err == nil
			}
			e := []byte(`{"body":{"as":"json"}}`)
			// It is called until it is noticed. Once it is, nothing starts any more.
			_, _ = s.Trigger(s.t.Context(), s.instance[k.name], api.ExecutionRequest{Flow: k.name + "-once", Event: e})
			return false
		})
	}
}

// archive is what a backup holds, decrypted.
func (s *spill) archive(more ...string) []byte {
	s.t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		s.t.Fatal(err)
	}
	file := filepath.Join(s.t.TempDir(), "archive")
	p := &platform{s.system, ""}
	p.must(append([]string{"backup", "--state", s.state(), "--to", file, "--recipient", key.Recipient().String()}, more...)...)
	b, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(b), key)
	if err != nil {
		s.t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return append(b, plain...)
}

// TestCanaryKinds enters credentials of every kind, has them used at a provider that tells them in every answer, renewed, refused
// and revoked, and searches for them in everything that the platform keeps, sends and shows.
func TestCanaryKinds(t *testing.T) {
	t.Parallel()
	needSystem(t)
	all := kinds()
	s := &spill{system: startSystem(t, true), p: newTeller(t, all), kinds: all, conns: map[string]id.Connection{}, template: map[string]id.Template{}, instance: map[string]id.Instance{}}
	s.connectAll()
	s.callAll()
	s.askAll()
	var secrets, turned, publics []*mark
	for _, k := range all {
		switch k.name {
		case "code":
			s.events(k)
		case "mtls":
			secrets = s.refuseCertificates(k)
		}
	}
	s.refuse()
	answers, printed := s.sweep()
	db, keys := s.archive(), s.archive("--keystore")
	for _, k := range all[:3] { // requests are under way when everything dies
		s.start(s.instance[k.name], k.name+"-once", map[string]any{"as": "hold"})
	}
	s.p.waitHeld(t.Context(), 3)
	for _, name := range []string{"session", "code", "code-dead"} {
		if _, err := s.DeleteConnection(t.Context(), s.conns[name]); err != nil {
			t.Error(err)
		}
	}
	if s.p.revoked == 0 {
		t.Error("the provider was never asked to revoke anything")
	}
	s.crashAll(t)
	s.stop()
	for _, k := range all {
		for _, m := range k.marks {
			if m.class == identifier {
				publics = append(publics, m)
				continue
			}
			secrets = append(secrets, m)
			if !k.dead && utf8.ValidString(m.core) && (s.p.has(m) || k.knows) { // bytes can be turned in what holds bytes
				turned = append(turned, m.derived(credential, m.name))
			}
		}
	}
	search := newSearcher(secrets)
	for name, text := range map[string][]byte{"pages for the viewer": s.pages.Bytes(), "hosted pages and answers to events": s.shown.Bytes()} {
		if hits := search.inflated(text, name); len(hits) > 0 {
			t.Errorf("credentials in %s:\n%s", name, summary(hits))
		}
	}
	s.toldEach(turned)
	s.namedAll(answers)
	s.searchAll(search, []surface{
		{name: "database, WAL, blobs", dir: filepath.Join(s.state(), "server")},
		{name: "keystore", dir: filepath.Join(s.state(), "vault")},
		{name: "recorded bus", dir: filepath.Join(s.dir, recordingName)},
		{name: "role logs at debug, crashes", text: []byte(s.logged())},
		{name: "backup, decrypted", text: db},
		{name: "keystore backup, decrypted", text: keys},
		{name: "API event streams", text: s.streams.Bytes()},
		{name: "API, every route that reads", text: answers},
		{name: "command line, all that reads", text: printed},
	})
	t.Logf("canary: %d kinds, %d secrets and %d names, %d forms of answers; %d secrets were told in answers", len(all), len(secrets), len(publics), len(tellings()), len(turned))
}

// toldEach is the red twin of what viewers see: the same answers hold each secret turned around, which nothing removes, and there it
// is found. So the answers came, and only what scrubs them keeps the secret out.
func (s *spill) toldEach(turned []*mark) {
	s.t.Helper()
	found := map[string]bool{}
	for _, h := range newSearcher(turned).inflated(s.pages.Bytes(), "") {
		found[h.mark.name] = true
	}
	for _, m := range turned {
		if !found[m.name] {
			s.t.Errorf("red twin: %s was never told in an answer: nothing is shown by its absence", m.name)
		}
	}
}

// namedAll is the red twin of what the API shows of providers' words: names of accounts and scopes hold secrets turned around.
func (s *spill) namedAll(answers []byte) {
	s.t.Helper()
	var turned []*mark
	for _, k := range s.kinds {
		for _, m := range k.marks {
			if k.name == "code" && strings.HasSuffix(m.name, "client secret") {
				turned = append(turned, m.derived(credential, m.name))
			}
		}
	}
	if hits := newSearcher(turned).inflated(answers, ""); len(turned) != 1 || len(hits) == 0 {
		s.t.Errorf("red twin: what the token endpoint said in scopes was not taken: nothing is shown by what is missing there")
	}
}
