package worker

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// acme is what an integration carries of a connector.
const acme = `{"slot":"crm","connector":"acme","version":"1.0.0","digest":"00",
	"defaults":{"headers":[{"name":"X-Version","value":"7"}],"paginate":{"type":"cursor","name":"after","from":"next","items":"items","size":{"name":"limit","value":2}},
		"retry":{"remaining":"X-Left","reset":"X-Reset","reset_unit":"seconds","statuses":[403,429]},"error":{"path":"error","message":"message","auth":["expired"],"limited":["slow"]}},
	"actions":[
		{"name":"listContacts","method":"GET","path":"/contacts","input":[{"name":"since","in":"query","type":"any"}]},
		{"name":"getContact","method":"GET","path":"/contacts/{id}","paginate":{"type":"none"},"input":[{"name":"id","in":"path","type":"string","required":true}]},
		{"name":"createContact","method":"POST","path":"/contacts","input":[{"name":"email","in":"body","as":"properties.email","type":"string","required":true},{"name":"pin","in":"body","type":"string","secret":true}],
			"idempotency":{"header":"X-Request-Id"}},
		{"name":"say","method":"POST","path":"/say","idempotency":{"unsafe":true},"input":[{"name":"text","in":"body","type":"string"}]},
		{"name":"search","method":"POST","path":"/search","idempotency":{"safe":true},"input":[{"name":"q","in":"body","type":"string","language":"soql","required":true}]},
		{"name":"upload","method":"POST","path":"/files","body":"multipart","input":[{"name":"file","in":"body","type":"file"},{"name":"name","in":"body","type":"string"}]},
		{"name":"send","method":"PUT","path":"/raw","body":"file","input":[{"name":"content","in":"body","type":"file"}]},
		{"name":"download","method":"GET","base":"content","path":"/file","response":"file"},
		{"name":"report","method":"GET","path":"/report","paginate":{"type":"link","items":""}}
	]}`

// connected makes an integration whose slot crm has the connector above.
func connected(t *testing.T, trigger, list string) *flow.Integration {
	t.Helper()
	i := parse(t, "bulkhead: 1\nintegration: test\nconnections:\n  crm: {connector: acme}\nflows:\n  main:\n    trigger: "+trigger+"\n    steps:\n"+list)
	var l connector.Lock
	if err := json.Unmarshal([]byte(acme), &l); err != nil {
		t.Fatal(err)
	}
	i.Locks = []connector.Lock{l}
	return i
}

func line(r *wire.Request) string {
	s := fmt.Sprintf("%s %s %s%s", r.Action, r.Method, r.Base, r.Path)
	for _, q := range r.Query {
		s += " ?" + q.Name + "=" + q.Value
	}
	if r.HasBody {
		s += " " + string(r.Body)
	}
	return s
}

func TestAnActionOfAConnectorIsARequest(t *testing.T) {
	t.Parallel()
	h := newHost(t, connected(t, "{manual: {}}", `
      - {id: one, uses: crm.getContact, with: {id: "a/b"}}
      - {id: made, uses: crm.createContact, with: {email: "${{ steps.one.body.email }}"}}
      - {id: found, uses: crm.search, with: {q: "SELECT Id FROM Contact WHERE Email = :mail", parameters: {mail: "${{ steps.one.body.email }}"}}}
      - {id: doc, uses: crm.download}
      - {id: up, uses: crm.upload, with: {file: "${{ steps.doc.body }}", name: x}}
      - {id: raw, uses: crm.send, with: {content: "${{ steps.doc.body }}"}}
      - {id: out, return: "${{ steps.made.body.id }}"}
`))
	h.egress = func(r *wire.Request) *wire.Response {
		if r.Path == "/file" {
			return &wire.Response{Status: 200, Headers: []wire.Pair{{Name: "content-type", Value: "text/x"}}, Body: []byte("bytes")}
		}
		return jsonAnswer(200, `{"id":7,"email":"o'x@example.com"}`)
	}
	got := h.once("main", `{"body":null}`)
	if got.Status != wire.StatusCompleted || got.Output != "7" {
		t.Fatalf("%+v", got)
	}
	sent := h.sent()
	for i, want := range []string{
		"getContact GET /contacts/a%2Fb", `createContact POST /contacts {"properties":{"email":"o'x@example.com"}}`,
		`search POST /search {"q":"SELECT Id FROM Contact WHERE Email = 'o\\'x@example.com'"}`, "download GET content/file", "upload POST /files", "send PUT /raw bytes",
	} {
		if line(&sent[i]) != want {
			t.Errorf("request %d is %s, want %s", i, line(&sent[i]), want)
		}
		if v := header(sent[i].Headers, "X-Version"); v != "7" {
			t.Errorf("request %d has version %q", i, v)
		}
	}
	if header(sent[1].Headers, "X-Request-Id") == "" || sent[1].IdempotencyKey != "" {
		t.Error("the key does not stand in the header that the connector names")
	}
	if sent[2].IdempotencyKey != "" {
		t.Error("a search has an idempotency key")
	}
	if p := sent[4].Parts; len(p) != 2 || string(p[0].Data) != "bytes" || p[0].ContentType != "text/x" || string(p[1].Data) != "x" {
		t.Errorf("parts %v", p)
	}
	if sent[5].ContentType != "text/x" {
		t.Errorf("the file is sent as %q", sent[5].ContentType)
	}
}

func TestAQueryIsNotPutTogetherOfValues(t *testing.T) {
	t.Parallel()
	i := connected(t, "{manual: {}}", `
      - {id: found, uses: crm.search, with: {q: "SELECT Id"}}
`)
	i.Flows[0].Steps[0].Action.With.Items[0], _ = flow.ParseString("SELECT ${{ trigger.body }}")
	h := newHost(t, i)
	if got := h.once("main", `{"body":"x"}`); got.Type != typeInvalidInput || !strings.Contains(got.Output, "parameters") {
		t.Errorf("%+v", got)
	}
	if len(h.sent()) != 0 {
		t.Error("it was sent")
	}
}

func TestALoopReadsEveryPageByTheRecipe(t *testing.T) {
	t.Parallel()
	h := newHost(t, connected(t, "{manual: {}}", `
      - {id: all, for: {each: {uses: crm.listContacts, with: {since: 5}}, as: c}, steps: [{id: x, set: "${{ c }}"}], result: "${{ steps.x }}"}
      - {id: rep, for: {each: {uses: crm.report}, as: c}, steps: [{id: y, set: "${{ c }}"}], result: "${{ steps.y }}"}
      - {id: out, return: "${{ toJson([steps.all, steps.rep]) }}"}
`))
	h.egress = func(r *wire.Request) *wire.Response {
		if r.Path == "/report" {
			a := jsonAnswer(200, `[8]`)
			if len(r.Query) == 0 {
				a = jsonAnswer(200, `[7]`)
				a.Headers = append(a.Headers, wire.Pair{Name: "link", Value: `<https://other.example/x?p=2>; rel="next"`})
			}
			return a
		}
		if strings.Contains(line(r), "after=B") {
			return jsonAnswer(200, `{"items":[3]}`)
		}
		return jsonAnswer(200, `{"items":[1,2],"next":"B"}`)
	}
	got := h.once("main", `{"body":null}`)
	if got.Output != `"[[1,2,3],[7,8]]"` {
		t.Fatalf("%+v", got)
	}
	var list []string
	for _, r := range h.sent() {
		list = append(list, line(&r))
	}
	want := "listContacts GET /contacts ?since=5 ?limit=2, listContacts GET /contacts ?since=5 ?limit=2 ?after=B, report GET /report, report GET /report ?p=2"
	if strings.Join(list, ", ") != want {
		t.Errorf("%s\nwant %s", strings.Join(list, ", "), want)
	}
}

// Wherever a loop over pages is interrupted, it goes on where it was.
func TestALoopByARecipeResumesAtItsPage(t *testing.T) {
	t.Parallel()
	const pages = 200
	h := newHost(t, connected(t, "{manual: {}}", `
      - {id: all, for: {each: {uses: crm.listContacts}, as: c}, steps: [{id: x, state: {increment: n}}]}
      - {id: out, return: "${{ steps.all.count }}"}
`))
	h.egress = func(r *wire.Request) *wire.Response {
		n := 0
		for _, q := range r.Query {
			if q.Name == "after" {
				_, _ = fmt.Sscan(q.Value, &n)
			}
		}
		if n == pages-1 {
			return jsonAnswer(200, fmt.Sprintf(`{"items":[%d]}`, n))
		}
		return jsonAnswer(200, fmt.Sprintf(`{"items":[%d],"next":%d}`, n, n+1))
	}
	cuts := map[int]bool{40: true, 150: true, 300: true}
	h.cut = func(n int, _ *wire.Append) cutting {
		if cuts[n] {
			return lose
		}
		return goOn
	}
	e := h.add("main", `{"body":null}`)
	for range 10 {
		l := h.start()
		l.give(e)
		h.released(e)
		_ = l.stop()
		if h.result(e).Status != 0 {
			break
		}
	}
	if got := h.result(e); got.Output != fmt.Sprint(pages) {
		t.Fatalf("%+v", got)
	}
	seen := map[string]int{}
	for _, r := range h.sent() {
		seen[line(&r)]++
	}
	if len(seen) != pages {
		t.Errorf("%d pages were asked for, want %d", len(seen), pages)
	}
}

func TestAPollReadsEveryPageByTheRecipe(t *testing.T) {
	t.Parallel()
	i := connected(t, `{poll: {uses: crm.listContacts, with: {since: "${{ orElse(cursor, 0) }}"}, every: PT5M, items: "${{ result.body }}", key: "${{ item.id }}", cursor: "${{ item.at }}", start: beginning}}`, `
      - {id: a, set: 1}
`)
	i.Flows[0].Trigger.Poll.Items = flow.Value{}
	h := newHost(t, i)
	h.egress = func(r *wire.Request) *wire.Response {
		switch s := line(r); {
		case strings.Contains(s, "since=0") && strings.Contains(s, "after=B"):
			return jsonAnswer(200, `{"items":[{"id":3,"at":30}]}`)
		case strings.Contains(s, "since=0"):
			return jsonAnswer(200, `{"items":[{"id":1,"at":10},{"id":2,"at":40}],"next":"B"}`)
		case strings.Contains(s, "since=40"):
			return jsonAnswer(200, `{"items":[]}`)
		}
		return refusal(typeUpstream, 500)
	}
	for range 2 {
		if got := h.once("main", `{"poll":true}`); got.Status != wire.StatusCompleted {
			t.Fatalf("%+v", got)
		}
	}
	h.mu.Lock()
	first := h.order[0]
	h.mu.Unlock()
	if started, _, _ := h.children(t, first); len(started) != 3 {
		t.Errorf("%d flows were started, want 3", len(started))
	}
	if n := len(h.sent()); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

func TestAnAnswerMaySayInItsBodyThatItFailed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answer        *wire.Response
		kind, message string
	}{
		{jsonAnswer(200, `{"error":"boom","message":"no such thing"}`), typeUpstream, "no such thing"},
		{jsonAnswer(200, `{"error":"expired"}`), typeAuth, "expired"},
		{jsonAnswer(200, `{"error":"slow"}`), typeRateLimited, "slow"},
		{&wire.Response{Status: 422, ErrorType: typeInvalidInput, Message: "the service answered 422", Definite: true, Headers: jsonAnswer(1, "").Headers, Body: []byte(`{"error":1,"message":"bad e-mail"}`)}, typeInvalidInput, "422: bad e-mail"},
		{&wire.Response{Status: 403, ErrorType: typeAuth, Message: "refused", Definite: true, Headers: jsonAnswer(1, "").Headers, Body: []byte(`{"error":"slow"}`)}, typeRateLimited, "refused: slow"},
		{&wire.Response{Status: 400, ErrorType: typeInvalidInput, Message: "refused", Definite: true, Headers: jsonAnswer(1, "").Headers, Body: []byte(`{"error":"expired"}`)}, typeAuth, "refused: expired"},
		{&wire.Response{Status: 403, ErrorType: typeAuth, Message: "refused", Definite: true, Headers: []wire.Pair{{Name: "x-left", Value: "0"}, {Name: "x-reset", Value: "9"}}}, typeRateLimited, "refused"},
		{&wire.Response{Status: 403, ErrorType: typeAuth, Message: "refused", Definite: true, Headers: []wire.Pair{{Name: "x-left", Value: "3"}}}, typeAuth, "refused"},
	} {
		h := newHost(t, connected(t, "{manual: {}}", "      - {id: one, uses: crm.getContact, with: {id: x}}\n"))
		h.egress = func(*wire.Request) *wire.Response { return c.answer }
		if got := h.once("main", `{"body":null}`); got.Type != c.kind || !strings.Contains(got.Output, c.message) {
			t.Errorf("%s: %+v, want %s with %q", c.answer.Body, got, c.kind, c.message)
		}
	}
}

func TestAnExpectedStatusIsNoFailure(t *testing.T) {
	t.Parallel()
	h := newHost(t, connected(t, "{manual: {}}", "      - {id: one, uses: crm.getContact, with: {id: x}}\n"))
	h.egress = func(*wire.Request) *wire.Response { return jsonAnswer(404, `{"error":"gone"}`) } // egress lets it pass for expect
	if got := h.once("main", `{"body":null}`); got.Status != wire.StatusCompleted {
		t.Errorf("%+v", got)
	}
}

// What the other side would not recognise is not said twice: interrupted, the step faults; what recognises it is repeated.
func TestAnUnsafeCallThatWasInterruptedIsNotRepeated(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		uses, with, kind string
		requests         int
	}{
		{"say", "{text: hello}", typeInterrupted, 1},
		{"createContact", "{email: a}", "", 2},
	} {
		h := newHost(t, connected(t, "{manual: {}}", "      - {id: one, uses: crm."+c.uses+", with: "+c.with+"}\n"))
		h.egress = func(*wire.Request) *wire.Response { return jsonAnswer(200, `{}`) }
		lost := false
		h.cut = func(int, *wire.Append) cutting {
			h.mu.Lock()
			defer h.mu.Unlock()
			if len(h.requests) == 1 && !lost { // the answer is not committed
				lost = true
				return lose
			}
			return goOn
		}
		e := h.add("main", `{"body":null}`)
		for range 3 {
			l := h.start()
			l.give(e)
			h.released(e)
			_ = l.stop()
			if h.result(e).Status != 0 {
				break
			}
		}
		if got := h.result(e); got.Type != c.kind || len(h.sent()) != c.requests || !lost {
			t.Errorf("%s: %+v after %d requests, want %q after %d", c.uses, got, len(h.sent()), c.kind, c.requests)
		}
	}
}
