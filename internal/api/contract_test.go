package api

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

func TestRequestsAreReadStrictly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for body, want := range map[string]Code{
		`{"external_id":"a","external_id":"b"}`:                         CodeMalformed,
		`{"external_id":"a","External_ID":"b"}`:                         CodeMalformed,
		`{"external_id":"a"} {}`:                                        CodeMalformed,
		`{"external_id":"a"`:                                            CodeMalformed,
		`{"external_id":"a","nmae":"x"}`:                                CodeInvalid,
		`{"external_id":1}`:                                             CodeInvalid,
		`{}`:                                                            CodeInvalid,
		`{"external_id":"a","timezone":"Mars/Olympus"}`:                 CodeInvalid,
		`{"external_id":"a","locale":"!"}`:                              CodeInvalid,
		`{"external_id":"a","attributes":[]}`:                           CodeInvalid,
		`{"external_id":"cus_01jd3kzzzzzzzzzzzzzzzzzzzz"}`:              CodeInvalid,
		`{"external_id":"` + strings.Repeat("x", maxSmall) + `"}`:       CodeTooLarge,
		`{"external_id":"a","attributes":{"a":1,"a":2}}`:                CodeMalformed,
		`{"external_id":"a","name":"` + strings.Repeat("x", 201) + `"}`: CodeInvalid,
	} {
		w.refused(call{method: "POST", path: Prefix + "/customers", body: body}, want)
	}
	w.refused(call{method: "POST", path: Prefix + "/customers", body: `<a/>`, header: map[string]string{"Content-Type": "text/xml"}}, CodeMediaType)
	w.refused(call{method: "GET", path: Prefix + "/customers?nothing=1"}, CodeInvalid)
	w.refused(call{method: "GET", path: Prefix + "/customers?limit=100000"}, CodeInvalid)
	a := w.send(call{method: "POST", path: Prefix + "/customers", body: `{"external_id":"a","attributes":{"a":1,"A":2}}`})
	if a.Code != 200 || a.Header().Get("Access-Control-Allow-Origin") != "" || a.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", a.Code, a.Header())
	}
}

func TestAPostWithAKeyIsDoneOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	start := call{
		method: "POST", path: Prefix + "/instances/" + s.instance.ID.String() + "/executions", body: map[string]any{"flow": "main"},
		header: map[string]string{"Idempotency-Key": "k1"},
	}
	first, second := w.send(start), w.send(start)
	if first.Code != 200 || first.Body.String() != second.Body.String() || second.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("first %d %s, second %d %s", first.Code, first.Body, second.Code, second.Body)
	}
	if p := ask[Page[Execution]](w, call{method: "GET", path: Prefix + "/executions?test=no"}); len(p.Items) != 1 {
		t.Errorf("%d executions", len(p.Items))
	}
	other := start
	other.body = map[string]any{"flow": "hook"}
	w.refused(other, CodeKeyReused)
	// Another token's key is another key.
	other.token = w.tokens[RoleOperator]
	ask[Started](w, other)
	// What failed may be tried again with the same key.
	wrong := call{method: "POST", path: Prefix + "/customers", body: `{}`, header: map[string]string{"Idempotency-Key": "k2"}}
	w.refused(wrong, CodeInvalid)
	wrong.body = `{"external_id":"k2"}`
	ask[Customer](w, wrong)
	// An answer with a secret is not kept.
	token := call{method: "POST", path: Prefix + "/tokens", body: map[string]any{"name": "t", "role": "viewer"}, header: map[string]string{"Idempotency-Key": "k3"}}
	ask[NewToken](w, token)
	w.refused(token, CodeAnswerNotKept)
	token.header = map[string]string{"Idempotency-Key": strings.Repeat("k", maxKey+1)}
	w.refused(token, CodeInvalid)
}

func TestDraftsAreNotOverwritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	put := func(name, match, source string) call {
		c := call{method: "PUT", path: Prefix + "/integrations/" + name + "/draft", body: map[string]any{"source": source}}
		if match != "" {
			c.header = map[string]string{"If-Match": match}
		}
		return c
	}
	w.refused(put("Not%20A%20Name", "", "x"), CodeInvalid)
	w.refused(put("test--x", "", "x"), CodeInvalid)
	w.refused(put("hello", `"1"`, sample), CodeChanged)
	a := w.send(put("hello", "", "bulkhead: 2"))
	if a.Code != 200 || a.Header().Get("ETag") != `"1"` || !strings.Contains(a.Body.String(), `"severity":"error"`) {
		t.Fatalf("%d %v %s", a.Code, a.Header(), a.Body)
	}
	w.refused(put("hello", "", sample), CodeRevisionNeeded)
	w.refused(put("hello", `"2"`, sample), CodeChanged)
	publish := call{method: "POST", path: Prefix + "/integrations/hello/publish"}
	if p := w.refused(publish, CodeInvalidSource); len(p.Errors) == 0 || !strings.HasPrefix(p.Errors[0].Place, "source:1:") {
		t.Errorf("places = %+v", p.Errors)
	}
	ask[Draft](w, put("hello", `"1"`, sample))
	publish.header = map[string]string{"If-Match": `"1"`}
	w.refused(publish, CodeChanged)
	publish.header = nil
	one, same := ask[Version](w, publish), ask[Version](w, publish)
	if one.Version != 1 || same.Version != 1 || one.Digest != same.Digest {
		t.Errorf("versions %+v and %+v", one, same)
	}
	v := ask[Version](w, call{method: "GET", path: Prefix + "/integrations/hello/versions/1"})
	if v.Source != sample || len(v.Definition) == 0 {
		t.Errorf("version = %+v", v)
	}
	ask[Draft](w, put("hello", `"2"`, strings.Replace(sample, "1 + 1", "2 + 2", 1)))
	if two := ask[Version](w, publish); two.Version != 2 {
		t.Errorf("version = %+v", two)
	}
	list := ask[Page[Version]](w, call{method: "GET", path: Prefix + "/integrations/hello/versions?limit=1"})
	if len(list.Items) != 1 || list.Items[0].Version != 2 || list.Next == "" {
		t.Fatalf("versions = %+v", list)
	}
	if list = ask[Page[Version]](w, call{method: "GET", path: Prefix + "/integrations/hello/versions?limit=1&cursor=" + list.Next}); len(list.Items) != 1 || list.Items[0].Version != 1 {
		t.Errorf("versions = %+v", list)
	}
}

func TestCursorsBelongToTheirList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n := range 3 {
		ask[Customer](w, call{method: "POST", path: Prefix + "/customers", body: map[string]any{"external_id": fmt.Sprint(n)}})
	}
	var got []string
	cursor := ""
	for {
		p := ask[Page[Customer]](w, call{method: "GET", path: Prefix + "/customers?limit=2&cursor=" + cursor})
		for _, c := range p.Items {
			got = append(got, c.ExternalID)
		}
		if p.Next == "" {
			break
		}
		cursor = p.Next
	}
	slices.Sort(got) // those of one millisecond have no order
	if d := cmp.Diff([]string{"0", "1", "2"}, got); d != "" {
		t.Error(d)
	}
	flipped := []byte(cursor)
	flipped[0] ^= 1
	for _, path := range []string{
		"/instances?cursor=" + cursor, "/connections?customer=1&cursor=" + cursor, "/customers?cursor=" + string(flipped), "/customers?cursor=x",
	} {
		w.refused(call{method: "GET", path: Prefix + path}, CodeInvalid)
	}
	w.refused(call{method: "GET", path: Prefix + "/customers?cursor=" + cursor, token: w.other}, CodeInvalid)
}

func TestTooManyRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Rate = Rate{Requests: 2, Window: time.Hour} })
	get := call{method: "GET", path: Prefix + "/server"}
	a := w.send(get)
	if a.Header().Get("RateLimit-Policy") != `"token";q=2;w=3600` || a.Header().Get("RateLimit") != `"token";r=1;t=1800` {
		t.Errorf("headers %v", a.Header())
	}
	w.send(get)
	w.refused(get, CodeRateLimited)
	if a := w.send(get); a.Header().Get("Retry-After") == "" || a.Header().Get("RateLimit") == "" {
		t.Errorf("headers %v", a.Header())
	}
	get.token = w.tokens[RoleViewer]
	ask[ServerInfo](w, get) // another token's bucket is full
}

func TestTestRunsAreHidden(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	body := map[string]any{
		"customer": "c-1", "source": sample, "flow": "main", "config": map[string]any{"greeting": "x"}, "slots": map[string]any{"shop": s.connection.ID},
	}
	run := call{method: "POST", path: Prefix + "/integrations/hello/test", body: body}
	// What it does with a connection is real, and whoever runs it says that this is meant.
	if p := w.refused(run, CodeInvalid); len(p.Errors) != 1 || p.Errors[0].Place != "body.effects" {
		t.Errorf("without a word about its effects: %+v", p)
	}
	body["effects"] = true
	x := ask[Started](w, run).Execution
	got := ask[Execution](w, call{method: "GET", path: Prefix + "/executions/" + x.String()})
	if !got.Test || got.Instance == s.instance.ID {
		t.Errorf("execution = %+v", got)
	}
	if p := ask[Page[Instance]](w, call{method: "GET", path: Prefix + "/instances"}); len(p.Items) != 1 {
		t.Errorf("instances = %+v", p.Items)
	}
	if p := ask[Page[Integration]](w, call{method: "GET", path: Prefix + "/integrations"}); len(p.Items) != 1 || p.Items[0].Version != 1 {
		t.Errorf("integrations = %+v", p.Items)
	}
	w.refused(call{method: "GET", path: Prefix + "/integrations/test--hello"}, CodeNotFound)
}

// The key of one token's request is no other token's, and no other body's: neither is taken
// for a repetition and dropped.
func TestKeysOfRequestsAreTheirTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	start := func(r Role, key, event string) id.Execution {
		return ask[Started](w, call{
			method: "POST", path: Prefix + "/instances/" + s.instance.ID.String() + "/executions", token: w.tokens[r],
			body: map[string]any{"flow": "main", "event": map[string]any{"n": event}}, header: map[string]string{"Idempotency-Key": key},
		}).Execution
	}
	first := start(RoleAdmin, "k", "1")
	if start(RoleOperator, "k", "1") == first {
		t.Error("another token's request was dropped")
	}
	if start(RoleAdmin, "k", "1") != first {
		t.Error("a repeated request was accepted twice")
	}
	token := id.NewToken(time.Now())
	a := delivery(token, &starting{once: "k", event: []byte("1")})
	if a == delivery(token, &starting{once: "k", event: []byte("2")}) || a == delivery(id.NewToken(time.Now()), &starting{once: "k", event: []byte("1")}) {
		t.Error("two requests have one delivery id")
	}
}

// Nothing but the test run itself starts the flows of a draft: no schedule of it runs and no
// webhook of it has an address. An instance that is deployed has both.
func TestTestRunsAreQuiet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	const draft = `bulkhead: 1
integration: drafted
flows:
  main:
    trigger: {manual: {}}
    steps:
      - {id: one, set: 1}
  nightly:
    trigger: {schedule: {every: PT5M}}
    steps:
      - {id: one, set: 1}
  hook:
    trigger: {webhook: {verify: none}}
    steps:
      - {id: one, set: 1}
`
	triggers := func(i id.Instance) (hooks, schedules int) {
		rows := w.db.Customer(t.Context(), s.customer.ID)
		return len(must(rows.Hooks(i))), len(must(rows.Schedules(i)))
	}
	x := ask[Started](w, call{method: "POST", path: Prefix + "/integrations/drafted/test", body: map[string]any{
		"customer": "c-1", "source": draft, "flow": "main",
	}}).Execution
	test := ask[Execution](w, call{method: "GET", path: Prefix + "/executions/" + x.String()})
	if hooks, schedules := triggers(test.Instance); hooks+schedules > 0 || !test.Test {
		t.Errorf("a test run has %d webhooks and %d schedules", hooks, schedules)
	}
	ask[Version](w, call{method: "POST", path: Prefix + "/integrations", body: map[string]any{"source": draft}})
	real := ask[Instance](w, call{method: "POST", path: Prefix + "/instances", body: map[string]any{"customer": "c-1", "integration": "drafted"}})
	if hooks, schedules := triggers(real.ID); hooks != 1 || schedules != 1 {
		t.Errorf("an instance has %d webhooks and %d schedules, want one of each", hooks, schedules)
	}
}

func TestLosingAConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	gone := ask[ConnectionRemoved](w, call{method: "DELETE", path: Prefix + "/connections/" + s.connection.ID.String()})
	if len(gone.Instances) != 1 || gone.Instances[0] != s.instance.ID {
		t.Errorf("removed = %+v", gone)
	}
	if i := ask[Instance](w, call{method: "GET", path: Prefix + "/instances/" + s.instance.ID.String()}); i.State != "needs_connection" {
		t.Errorf("state %s", i.State)
	}
	w.refused(call{method: "GET", path: Prefix + "/connections/" + s.connection.ID.String()}, CodeNotFound)
	w.refused(call{
		method: "POST", path: Prefix + "/instances/" + s.instance.ID.String() + "/executions", body: map[string]any{"flow": "main"},
	}, CodeNotEnabled)
}

// Whoever enters a credential again, by whatever way, expects what waited for it to go on.
func TestACredentialEnteredAgainLetsInstancesGoOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scene()
	path, connection := Prefix+"/instances/"+s.instance.ID.String(), Prefix+"/connections/"+s.connection.ID.String()
	if err := w.db.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Customer(s.customer.ID).SetHealth(s.connection.ID, store.HealthNeedsReconnect, "invalid_grant", time.Now())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ask[Instance](w, call{method: "POST", path: path + "/pause"})
	if x := ask[Instance](w, call{method: "POST", path: path + "/resume"}); x.State != "needs_connection" {
		t.Fatalf("state %s, want it to wait for its connection", x.State)
	}
	ask[Connection](w, call{method: "PUT", path: connection, body: map[string]any{
		"customer": "c-1", "kind": "bearer", "url": "https://api.example.com", "fields": map[string]any{"token": "another"},
	}})
	if x := ask[Instance](w, call{method: "GET", path: path}); x.State != "enabled" {
		t.Errorf("with another token it is %s", x.State)
	}
}

func TestCustomersWithInstancesStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.scene()
	w.refused(call{method: "DELETE", path: Prefix + "/customers/c-1"}, CodeInUse)
	ask[Customer](w, call{method: "PUT", path: Prefix + "/customers/c-2", body: map[string]any{"name": "Two", "timezone": "Europe/Vienna", "locale": "de-AT"}})
	n := ask[Connection](w, call{method: "POST", path: Prefix + "/connections", body: map[string]any{
		"customer": "c-2", "kind": "bearer", "url": "https://api.example.com", "fields": map[string]any{"token": "t"},
	}})
	w.refused(call{method: "DELETE", path: Prefix + "/customers/c-2"}, CodeInUse) // its credential would stay in the vault
	ask[ConnectionRemoved](w, call{method: "DELETE", path: Prefix + "/connections/" + n.ID.String()})
	if a := w.send(call{method: "DELETE", path: Prefix + "/customers/c-2"}); a.Code != http.StatusNoContent {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	w.refused(call{method: "GET", path: Prefix + "/customers/c-2"}, CodeNotFound)
	again := ask[Customer](w, call{method: "PUT", path: Prefix + "/customers/c-2", body: map[string]any{}})
	if again.Name != "" || again.Timezone != "UTC" {
		t.Errorf("customer = %+v", again)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	runners := 0
	w := newWorld(t, func(o *Options) { o.Health = Health{Runners: func() int { return runners }} })
	get := func(path string) *httptest.ResponseRecorder {
		return w.send(call{method: "GET", path: path, token: "none"})
	}
	if a := get("/healthz"); a.Code != 200 {
		t.Errorf("healthz: %d", a.Code)
	}
	if a := get("/readyz"); a.Code != http.StatusServiceUnavailable || strings.TrimSpace(a.Body.String()) != `{"ready":false,"missing":["runner"]}` {
		t.Errorf("readyz: %d %s", a.Code, a.Body)
	}
	runners = 1
	if a := get("/readyz"); a.Code != 200 {
		t.Errorf("readyz: %d %s", a.Code, a.Body)
	}
}

var update = flag.Bool("update", false, "write the documents that are made of the code")

// The documents in doc are what the code says.
func TestDocuments(t *testing.T) {
	t.Parallel()
	b, err := New(Options{}).OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		OpenAPI string
		Paths   map[string]any
	}
	if err := json.Unmarshal(b, &document); err != nil || document.OpenAPI != "3.1.0" || len(document.Paths) < 25 {
		t.Errorf("OpenAPI %s with %d paths: %v", document.OpenAPI, len(document.Paths), err)
	}
	same(t, "../../doc/openapi.json", string(b)+"\n")
	text, err := os.ReadFile("../../doc/api.md")
	if err != nil {
		t.Fatal(err)
	}
	out := string(text)
	for mark, table := range map[string]string{"problems": problemTable(), "routes": routeTable()} {
		begin, end := "<!-- "+mark+" -->\n", "<!-- end of "+mark+" -->"
		before, rest, ok := strings.Cut(out, begin)
		_, after, ended := strings.Cut(rest, end)
		if !ok || !ended {
			t.Fatalf("doc/api.md lacks the place of %s", mark)
		}
		out = before + begin + table + end + after
	}
	same(t, "../../doc/api.md", out)
}

func same(t *testing.T, name, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(name)
	if err != nil || string(got) != want {
		t.Errorf("%s is not what the code says: go test ./internal/api -run TestDocuments -update (%v)", name, err)
	}
}

func problemTable() string {
	var b strings.Builder
	b.WriteString("| status | code | what | what to do |\n|---|---|---|---|\n")
	for _, k := range Kinds() {
		fmt.Fprintf(&b, "| %d | `%s` | %s | %s |\n", k.Status, k.Code, k.Title, k.Help)
	}
	return b.String()
}

func routeTable() string {
	var b strings.Builder
	b.WriteString("| route | permission | roles | what |\n|---|---|---|---|\n")
	for _, r := range New(Options{}).routes() {
		var roles []string
		for _, role := range []Role{RoleAdmin, RoleOperator, RoleBuilder, RoleViewer} {
			if (&principal{Role: role}).may(r.permission) {
				roles = append(roles, string(role))
			}
		}
		fmt.Fprintf(&b, "| `%s %s` | %s | %s | %s |\n", r.method, r.path, r.permission, strings.Join(roles, ", "), r.summary)
	}
	return b.String()
}

// Building the API is a part of every start that uses it.
func BenchmarkBuild(b *testing.B) {
	for b.Loop() {
		New(Options{}).api()
	}
}
