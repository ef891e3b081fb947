package worker

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// hooks is a connector with triggers of every kind of subscription.
const hooks = `{"slot":"crm","connector":"acme","version":"1.0.0","digest":"00",
	"actions":[
		{"name":"listContacts","method":"GET","path":"/contacts","input":[{"name":"since","in":"query","type":"any"}]},
		{"name":"createHook","method":"POST","path":"/hooks","idempotency":{"unsafe":true},"input":[{"name":"target","in":"body","type":"string"},{"name":"secret","in":"body","type":"string"},
			{"name":"events","in":"body","type":"any"},{"name":"until","in":"body","type":"string"},{"name":"label","in":"body","type":"string"}]},
		{"name":"listHooks","method":"GET","path":"/hooks","input":[{"name":"target","in":"query","type":"string"}]},
		{"name":"deleteHook","method":"DELETE","path":"/hooks/{id}","input":[{"name":"id","in":"path","type":"string","required":true}]},
		{"name":"renewHook","method":"PATCH","path":"/hooks/{id}","input":[{"name":"id","in":"path","type":"string","required":true},{"name":"until","in":"body","type":"string"}]}
	],
	"triggers":[
		{"name":"changed","type":"webhook","input":[{"name":"kinds","in":"body","type":"array","default":["all"]}],"webhook":{
			"subscribe":{"action":"createHook","with":[{"at":"target","value":"{url}"},{"at":"secret","value":"{secret}"},{"at":"events","value":"{input.kinds}"},{"at":"until","value":"{expires}"},{"at":"label","value":"bulkhead {input.kinds} ${{ x }} {other}"}]},
			"unsubscribe":{"action":"deleteHook","with":[{"at":"id","value":"{id}"}]},
			"renew":{"action":"renewHook","with":[{"at":"id","value":"{id}"},{"at":"until","value":"{expires}"}]},"renew_every":86400,"id":"hook.id"},
			"verify":{"type":"hmac","secret":"subscription","algorithm":"sha256","header":"X-Sig"}},
		{"name":"found","type":"webhook","webhook":{"subscribe":{"action":"createHook","with":[{"at":"target","value":"{url}"}]},"unsubscribe":{"action":"deleteHook","with":[{"at":"id","value":"{id}"}]},
			"find":{"action":"listHooks","with":[{"at":"target","value":"{url}"}],"items":"all","url":"to.url","id":"id"},"id":"hook.id"}},
		{"name":"theirs","type":"webhook","webhook":{"subscribe":{"action":"createHook","with":[{"at":"target","value":"{url}"}]},"unsubscribe":{"action":"deleteHook","with":[{"at":"id","value":"{id}"}]},
			"id":"header:Location","secret":"hook.key"}},
		{"name":"handed","type":"webhook","webhook":{"subscribe":{"action":"createHook","with":[{"at":"target","value":"{url}"}]},"id":"hook.id"},"challenge":{"when":"header:x-hook-secret","answer":"header:x-hook-secret","as":"header","name":"X-Hook-Secret","keep":true}},
		{"name":"newContact","type":"poll","input":[{"name":"from","in":"body","type":"integer","default":7}],"poll":{"action":"listContacts","with":[{"name":"since","from":"cursor"}],"items":"list.all","key":"id","cursor":"at","every":120}},
		{"name":"recentContact","type":"poll","poll":{"action":"listContacts","with":[{"name":"since","from":"cursor"}],"items":"list.all","key":"id","cursor":"at","window":86400}}
	]}`

func hooked(t *testing.T, trigger string) *host {
	t.Helper()
	i := parse(t, "bulkhead: 1\nintegration: test\nconnections:\n  crm: {connector: acme}\nflows:\n  main:\n    trigger: {event: {uses: crm."+trigger+", with: {}}}\n    steps: [{id: a, set: 1}]\n")
	var l connector.Lock
	if err := json.Unmarshal([]byte(hooks), &l); err != nil {
		t.Fatal(err)
	}
	i.Locks = []connector.Lock{l}
	if err := i.Expand(); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, i)
	n := 0
	h.egress = func(r *wire.Request) *wire.Response {
		if r.Method == "POST" {
			n++
		}
		a := jsonAnswer(200, fmt.Sprintf(`{"hook":{"id":"h%d","key":"their secret %d"}}`, n, n))
		a.Headers = append(a.Headers, wire.Pair{Name: "location", Value: fmt.Sprintf("https://acme.example/hooks/h%d", n)})
		return a
	}
	return h
}

// secretOf is the secret of the subscription, as the vault would open it.
func (h *host) secretOf(flow string) string {
	name := lease.SubscriptionSecret(h.instance, flow)
	h.mu.Lock()
	defer h.mu.Unlock()
	cell := h.state[name]
	if len(cell.value) == 0 {
		return ""
	}
	plain, err := h.key.Open(nil, lease.StatePlace(h.customer, h.instance, name), cell.value)
	if err != nil {
		h.t.Fatal(err)
	}
	var v struct{ V string }
	if err := json.Unmarshal(plain, &v); err != nil {
		h.t.Fatal(err)
	}
	return v.V
}

func (h *host) asked() (list []string) {
	for _, r := range h.sent() {
		list = append(list, r.Method+" "+r.Path)
	}
	return list
}

const subscribed = `{"type":"deploy","body":{"url":"https://me.example/hooks/x","connection":"con_1"}}`

func TestASubscriptionIsMadeOnceAndRemoved(t *testing.T) {
	t.Parallel()
	h := hooked(t, "changed")
	run := func(flow, event string, want ...string) {
		t.Helper()
		before := len(h.sent())
		if got := h.once(flow, event); got.Status != wire.StatusCompleted {
			t.Fatalf("%s: %+v", flow, got)
		}
		if got := strings.Join(h.asked()[before:], ", "); got != strings.Join(want, ", ") {
			t.Errorf("%s: requests %s, want %v", flow, got, want)
		}
	}
	run("main$renew", `{"body":null}`)
	run("main$subscribe", subscribed, "POST /hooks")
	first := string(h.sent()[0].Body)
	secret := h.secretOf("main")
	if len(secret) != 40 || !strings.Contains(first, `"secret":"`+secret+`"`) || !strings.Contains(first, `"target":"https://me.example/hooks/x"`) ||
		!strings.Contains(first, `"events":["all"]`) || !strings.Contains(first, `"label":"bulkhead [\"all\"] ${{ x }} {other}"`) || strings.Contains(first, `"until":""`) {
		t.Errorf("secret %q, request %s", secret, first)
	}
	run("main$subscribe", subscribed) // it is there
	run("main$renew", `{"body":null}`, "PATCH /hooks/h1")
	// Another address, or another connection, is another subscription: the old one goes.
	run("main$subscribe", strings.ReplaceAll(subscribed, "hooks/x", "hooks/y"), "DELETE /hooks/h1", "POST /hooks")
	if h.secretOf("main") == secret {
		t.Error("the new subscription has the old secret")
	}
	run("main$unsubscribe", `{"body":null}`, "DELETE /hooks/h2")
	if h.secretOf("main") != "" {
		t.Error("the secret is still there")
	}
	run("main$unsubscribe", `{"body":null}`)
	run("main$renew", `{"body":null}`)
}

func TestASubscriptionThatIsGoneIsMadeAgain(t *testing.T) {
	t.Parallel()
	h := hooked(t, "changed")
	if got := h.once("main$subscribe", subscribed); got.Status != wire.StatusCompleted {
		t.Fatalf("%+v", got)
	}
	usual := h.egress
	h.egress = func(r *wire.Request) *wire.Response {
		if r.Method != "POST" {
			return refusal("not-found", 404)
		}
		return usual(r)
	}
	if got := h.once("main$renew", `{"body":null}`); got.Status != wire.StatusCompleted {
		t.Fatalf("%+v", got)
	}
	if got := h.once("main$unsubscribe", `{"body":null}`); got.Status != wire.StatusCompleted {
		t.Fatalf("%+v", got)
	}
	if got := strings.Join(h.asked(), ", "); got != "POST /hooks, PATCH /hooks/h1, POST /hooks, DELETE /hooks/h2" {
		t.Error(got)
	}
}

func TestASecretOfTheOtherSideIsKept(t *testing.T) {
	t.Parallel()
	h := hooked(t, "theirs")
	if got := h.once("main$subscribe", subscribed); got.Status != wire.StatusCompleted || h.secretOf("main") != "their secret 1" {
		t.Fatalf("%+v, secret %q", got, h.secretOf("main"))
	}
	if h.once("main$unsubscribe", `{"body":null}`); h.asked()[1] != "DELETE /hooks/h1" {
		t.Error(h.asked())
	}
	// One that comes to the address counts while there is none.
	h = hooked(t, "handed")
	for _, s := range []string{"first", "second"} {
		if got := h.once("main$keep", `{"body":{"secret":"`+s+`"}}`); got.Status != wire.StatusCompleted || h.secretOf("main") != "first" {
			t.Errorf("%+v, secret %q", got, h.secretOf("main"))
		}
	}
}

// However often the flows of a subscription are interrupted, in the end there is one, whose id is known, and then none.
func TestASubscriptionSurvivesCrashes(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"changed", "found", "refused"} {
		for cut := 1; cut < 20; cut++ {
			for _, how := range []cutting{lose, loseAck} {
				h := hooked(t, map[bool]string{true: "changed", false: "found"}[kind == "changed"])
				alive := map[string]bool{}
				made := map[string]string{} // by key
				h.egress = func(r *wire.Request) *wire.Response {
					h.mu.Lock()
					defer h.mu.Unlock()
					switch r.Method {
					case "POST":
						if kind == "refused" && len(alive) > 0 {
							return refusal("upstream", 422)
						}
						id := fmt.Sprintf("h%d", len(made)+1)
						made[id], alive[id] = r.Step, true
						return jsonAnswer(200, `{"hook":{"id":"`+id+`"}}`)
					case "GET":
						list := `{"id":"another","to":{"url":"https://me.example/hooks/z"}},{"id":"bare"}`
						for id := range alive {
							list += `,{"id":"` + id + `","to":{"url":"https://me.example/hooks/x"}}`
						}
						return jsonAnswer(200, `{"all":[`+list+`]}`)
					case "DELETE":
						id := strings.TrimPrefix(r.Path, "/hooks/")
						if !alive[id] {
							return refusal("not-found", 404)
						}
						delete(alive, id)
					}
					return jsonAnswer(200, `{}`)
				}
				appends := 0
				h.cut = func(int, *wire.Append) cutting {
					if appends++; appends == cut {
						return how
					}
					return goOn
				}
				for _, step := range []string{"main$subscribe " + subscribed, `main$unsubscribe {"body":null}`} {
					flow, event, _ := strings.Cut(step, " ")
					e := h.add(flow, event)
					for range 4 {
						l := h.start()
						l.give(e)
						h.released(e)
						_ = l.stop()
						if h.result(e).Status != 0 {
							break
						}
					}
					told := kind == "changed" && flow == "main$unsubscribe" && h.result(e).Type == "subscription-left"
					if got := h.result(e); got.Status != wire.StatusCompleted && !told {
						t.Fatalf("append %d %v: %s: %+v", cut, how, flow, got)
					}
					if flow == "main$unsubscribe" && len(alive) > 0 && !told {
						t.Errorf("append %d %v: nobody is told of what is left", cut, how)
					}
					if kind != "changed" && flow == "main$subscribe" && len(alive) != 1 {
						t.Errorf("%s, append %d %v: %d subscriptions, want the one that is known", kind, cut, how, len(alive))
					}
				}
				// The one call that was interrupted behind its effect may have left one that nobody knows, when the other side
				// recognises no repetition and tells of none. Nothing else may.
				if len(alive) > len(made)-1 || len(made) > 2 || kind != "changed" && len(alive) > 0 {
					t.Errorf("append %d %v: %d were made, %d are left", cut, how, len(made), len(alive))
				}
				if h.secretOf("main") != "" {
					t.Errorf("append %d %v: the secret is left", cut, how)
				}
			}
		}
	}
}

func TestATriggerThatAsksBecomesAPoll(t *testing.T) {
	t.Parallel()
	h := hooked(t, "newContact")
	p := h.definition.Flows[0].Trigger.Poll
	if p == nil || p.Uses != "crm.listContacts" || p.Every.Text != "PT120S" || len(h.definition.Flows) != 1 {
		t.Fatalf("%+v", h.definition.Flows[0].Trigger)
	}
	h.egress = func(*wire.Request) *wire.Response { return jsonAnswer(200, `{"list":{"all":[{"id":1,"at":5}]}}`) }
	got := h.once("main", `{"poll":true}`)
	if got.Status != wire.StatusCompleted || got.Output != `{"items":1,"cursor":5}` {
		t.Errorf("%+v", got)
	}
	// An item without a time has no say in the cursor, and an answer without a list has no items.
	h.egress = func(*wire.Request) *wire.Response {
		return jsonAnswer(200, `{"list":{"all":[{"id":1,"at":7},{"id":2}]}}`)
	}
	if got := h.once("main", `{"poll":true}`); got.Status != wire.StatusCompleted || got.Output != `{"items":2,"cursor":7}` {
		t.Errorf("without a time: %+v", got)
	}
	h.egress = func(*wire.Request) *wire.Response { return jsonAnswer(200, `{"count":0}`) }
	if got := h.once("main", `{"poll":true}`); got.Status != wire.StatusCompleted || got.Output != `{"items":0,"cursor":7}` {
		t.Errorf("without a list: %+v", got)
	}
}

func TestACursorDoesNotLeaveTheWindow(t *testing.T) {
	t.Parallel()
	h := hooked(t, "recentContact")
	at := func(back time.Duration) string { return time.Now().Add(-back).UTC().Format(time.RFC3339) }
	recent := at(time.Hour)
	answers := []string{`{"list":{"all":[]}}`, `{"list":{"all":[{"id":1,"at":"2020-01-01T00:00:00Z"}]}}`, `{"list":{"all":[{"id":2,"at":"` + recent + `"}]}}`, `{}`}
	var n atomic.Int32
	h.egress = func(*wire.Request) *wire.Response { return jsonAnswer(200, answers[n.Add(1)-1]) }
	for range answers {
		if got := h.once("main", `{"poll":true}`); got.Status != wire.StatusCompleted {
			t.Fatalf("%+v", got)
		}
	}
	for i, r := range h.sent() {
		since := r.Query[0].Value
		asked, err := time.Parse(time.RFC3339, since)
		switch {
		case err != nil:
			t.Errorf("poll %d since %q: %v", i, since, err)
		case i < 3 && (asked.Before(time.Now().Add(-25*time.Hour)) || asked.After(time.Now().Add(-23*time.Hour))):
			t.Errorf("poll %d, whose cursor is missing or too old, since %s", i, since)
		case i == 3 && since != recent:
			t.Errorf("poll %d since %s, not %s", i, since, recent)
		}
	}
}

func TestWhatIsOlderThanTheWindowIsNotNew(t *testing.T) {
	t.Parallel()
	h := hooked(t, "recentContact")
	at := func(back time.Duration) string { return time.Now().Add(-back).UTC().Format(time.RFC3339) }
	h.egress = func(*wire.Request) *wire.Response {
		return jsonAnswer(200, `{"list":{"all":[{"id":1,"at":"`+at(time.Hour)+`"},{"id":2,"at":"`+at(48*time.Hour)+`"},{"id":3,"at":null},{"id":4},{"id":5,"at":""},{"id":6,"at":"soon"}]}}`)
	}
	for range 2 { // what is no time keeps neither this poll nor the next one from the others
		got := h.once("main", `{"poll":true}`)
		if got.Status != wire.StatusCompleted || !strings.HasPrefix(got.Output, `{"items":5,`) {
			t.Errorf("%+v, want all but the second", got)
		}
	}
}

func TestAFlowCannotUseTheStateOfSubscriptions(t *testing.T) {
	t.Parallel()
	h := newHost(t, steps(t, "      - {id: a, state: {get: '$key.main', default: 0}}\n"))
	if got := h.once("main", `{"body":null}`); got.Type != typeInvalidInput {
		t.Errorf("%+v", got)
	}
}
