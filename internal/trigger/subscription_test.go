package trigger

import (
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// subscribing is an integration with a flow for each of the triggers, as it is published.
func subscribing(t *testing.T, triggers string) *flow.Integration {
	t.Helper()
	var l connector.Lock
	if err := json.Unmarshal([]byte(`{"slot":"crm","connector":"acme","version":"1.0.0","digest":"00","actions":[{"name":"make","method":"POST","path":"/hooks","input":[{"name":"u","in":"body","type":"string"}]},
		{"name":"drop","method":"DELETE","path":"/hooks"}],"triggers":[`+triggers+`]}`), &l); err != nil {
		t.Fatal(err)
	}
	i := &flow.Integration{Connections: []flow.Slot{{Name: "crm", Connector: "acme"}}, Locks: []connector.Lock{l}}
	for _, x := range l.Triggers {
		i.Flows = append(i.Flows, flow.Flow{
			Name: x.Name, Trigger: flow.Trigger{Event: &flow.Event{Uses: "crm." + x.Name}},
			Steps: []flow.Step{{ID: "a", Set: &flow.Value{Kind: flow.Number, Text: "1"}}},
		})
		if err := i.Flows[len(i.Flows)-1].Trigger.Event.With.UnmarshalJSON([]byte(`{"kind":"paid"}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.Expand(); err != nil {
		t.Fatal(err)
	}
	return i
}

const subscriptionRecipe = `"webhook":{"subscribe":{"action":"make","with":[{"at":"u","value":"{url}"}]},"unsubscribe":{"action":"drop"}}`

// put deploys an integration whose slot crm is connected, as the instance n, or a new one.
func (r *rig) put(n instance, i *flow.Integration) instance {
	r.t.Helper()
	if n.customer.IsZero() {
		n.customer = r.deploy(webhook(open()), "{}").customer
	}
	i.Format, i.ProfileVersion, i.Name = flow.FormatVersion, 1, "subscribing"
	canonical, err := i.Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	v, err := r.e.Publish(r.t.Context(), r.org, canonical)
	if err != nil {
		r.t.Fatal(err)
	}
	var slots []store.Slot
	for range i.Connections {
		c := id.NewConnection(time.Now())
		if err := r.e.PutConnection(r.t.Context(), &engine.Credential{
			Connection: store.Connection{Customer: n.customer, ID: c, Name: rand.Text()},
			Record: &lease.Record{
				Connector: "acme", Kind: lease.KindBearer, Binding: lease.Binding{Scheme: "https", Host: "acme.example", Port: 443},
				Fields: []lease.Field{{Name: "token", Secret: []byte("t")}},
			},
		}); err != nil {
			r.t.Fatal(err)
		}
		slots = append(slots, store.Slot{Name: "crm", Connection: c})
	}
	x, err := r.e.Deploy(r.t.Context(), &engine.Deployment{Customer: n.customer, Instance: n.id, Digest: v.Digest, Slots: slots})
	if err != nil {
		r.t.Fatal(err)
	}
	return instance{n.customer, x.ID}
}

// executions are the executions of an instance that have not ended.
func (r *rig) executions(n instance) (list []*store.Unfinished) {
	r.t.Helper()
	err := r.store.System(r.t.Context()).OpenExecutions(store.ShardOf(n.customer), func(x *store.Unfinished) error {
		if x.Instance == n.id {
			list = append(list, x)
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// begun are their flows, sorted.
func (r *rig) begun(n instance) (list []string) {
	r.t.Helper()
	for _, x := range r.executions(n) {
		list = append(list, x.Flow)
	}
	slices.Sort(list)
	return list
}

// sendTo sends JSON to the address of a flow, with headers given as "Name: value".
func (r *rig) sendTo(n instance, name, method, query, body string, headers ...string) response {
	r.t.Helper()
	u, err := r.e.HookURL(r.t.Context(), n.customer, n.id, name)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.do(method, u+query, strings.NewReader(body), append(headers, "Content-Type: application/json")...)
}

func TestASubscriptionsEventsStartItsFlow(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o store.Options) {
		r := newRig(t, o)
		n := r.put(instance{}, subscribing(t, `{"name":"paid","type":"webhook","input":[{"name":"kind","in":"body","type":"string"}],`+subscriptionRecipe+`,"verify":{"type":"none","secret":"none"},"key":"body:id",
			"challenge":{"when":"query:validationToken","answer":"query:validationToken"},"match":[{"from":"body:kind","input":"kind"},{"from":"header:X-Topic","values":["orders"]}]}`))
		want := func(what string, status int, got int) {
			t.Helper()
			if got != status {
				t.Errorf("%s: status %d, want %d", what, got, status)
			}
		}
		asked := r.sendTo(n, "paid", "POST", "?validationToken=a%3Cb%3E", "")
		want("challenge", 200, asked.status)
		if asked.body != "a<b>" || asked.header.Get("Content-Type") != "text/plain; charset=utf-8" || asked.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("challenge: %+v", asked)
		}
		for _, c := range []struct {
			body, topic string
			status      int
		}{
			{`{"id":"1","kind":"paid"}`, "orders", 200},
			{`{"id":"1","kind":"paid"}`, "orders", 200}, // known by its key
			{`{"id":"2","kind":"sent"}`, "orders", 200}, // not asked for
			{`{"id":"3","kind":"paid"}`, "users", 200},
			{`{`, "orders", 400},
		} {
			want(c.body, c.status, r.sendTo(n, "paid", "POST", "", c.body, "X-Topic: "+c.topic).status)
		}
		want("GET", 405, r.sendTo(n, "paid", "GET", "", "").status)
		equalTexts(t, "flows", r.begun(n), "paid")
	})
}

// Some look whether the address is there by a method of its own. It starts nothing, and other methods stay refused.
func TestASubscriptionsAddressIsAskedByItsMethod(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	n := r.put(instance{}, subscribing(t, `{"name":"paid","type":"webhook",`+subscriptionRecipe+`,"verify":{"type":"none","secret":"none"},"challenge":{"when":"method:HEAD","answer":"method:HEAD"}}`))
	for _, c := range []struct {
		method string
		status int
	}{{"HEAD", 200}, {"GET", 405}, {"PUT", 405}} {
		if a := r.sendTo(n, "paid", c.method, "", ""); a.status != c.status || c.status == 200 && a.body != "" {
			t.Errorf("%s: %+v", c.method, a)
		}
	}
	equalTexts(t, "flows", r.begun(n))
	if a := r.sendTo(n, "paid", "POST", "", `{"id":"1"}`); a.status != 200 {
		t.Errorf("%+v", a)
	}
	equalTexts(t, "flows", r.begun(n), "paid")
}

// Without a secret nobody proves anything; the secret that comes to the address is taken over while there is none.
func TestASubscriptionWithoutItsSecretTakesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	n := r.put(instance{}, subscribing(t, `{"name":"paid","type":"webhook",`+subscriptionRecipe+`,"verify":{"type":"hmac","secret":"subscription","algorithm":"sha256","header":"X-Sig"},
		"challenge":{"when":"header:X-Hook-Secret","answer":"header:X-Hook-Secret","as":"header","name":"X-Hook-Secret","keep":true}}`))
	if a := r.sendTo(n, "paid", "POST", "", `{}`, "X-Sig: "+strings.Repeat("ab", 32)); a.status != 401 {
		t.Errorf("%+v", a)
	}
	if a := r.sendTo(n, "paid", "POST", "", `{}`); a.status != 401 {
		t.Errorf("%+v", a)
	}
	if a := r.sendTo(n, "paid", "POST", "", "", "X-Hook-Secret: s3cret"); a.status != 200 || a.header.Get("X-Hook-Secret") != "s3cret" {
		t.Errorf("%+v", a)
	}
	equalTexts(t, "flows", r.begun(n), "paid$keep")
}

// The subscription is looked after when the instance is deployed, changed, enabled, upgraded, and when its address changes;
// one that another version does not have is taken back, and every one when the instance is removed.
func TestASubscriptionIsLookedAfter(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o store.Options) {
		r := newRig(t, o)
		now := time.Now()
		c := r.clock(now)
		paid := `{"name":"paid","type":"webhook",` + subscriptionRecipe + `,"verify":{"type":"none","secret":"none"}}`
		sent := strings.ReplaceAll(paid, `"paid"`, `"sent"`)
		n := r.put(instance{}, subscribing(t, paid))
		var want []string
		runs := func(what string, more ...string) {
			t.Helper()
			c.until(t, now.Add(time.Hour))
			want = append(want, more...)
			slices.Sort(want)
			equalTexts(t, what, r.begun(n), want...)
		}
		runs("deployed", "paid$subscribe")
		n = r.put(n, subscribing(t, paid))
		runs("deployed again", "paid$subscribe")
		n = r.put(n, subscribing(t, paid+","+sent))
		runs("with another", "paid$subscribe", "sent$subscribe")
		for _, s := range []store.InstanceState{store.InstancePaused, store.InstanceEnabled} {
			if err := r.e.SetInstanceState(t.Context(), n.customer, n.id, s); err != nil {
				t.Fatal(err)
			}
		}
		runs("enabled", "paid$subscribe", "sent$subscribe")
		if _, err := r.e.RotateHook(t.Context(), n.customer, n.id, "sent", time.Hour); err != nil {
			t.Fatal(err)
		}
		runs("with a new address", "sent$subscribe")
		n = r.put(n, subscribing(t, sent))
		runs("without the first", "paid$unsubscribe", "sent$subscribe")
		var last struct{ URL, Connection string }
		for _, x := range r.executions(n) {
			if x.Flow == "sent$subscribe" {
				b, err := json.Marshal(r.event(n, x.Execution)["body"])
				if err != nil || json.Unmarshal(b, &last) != nil {
					t.Fatal(err)
				}
			}
		}
		if u, err := r.e.HookURL(t.Context(), n.customer, n.id, "sent"); err != nil || !strings.HasPrefix(last.URL, r.url) || !strings.HasPrefix(last.Connection, "con_") {
			t.Errorf("event %+v, want the address %s: %v", last, u, err)
		}
	})
}
