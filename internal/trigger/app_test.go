package trigger

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// chatTriggers are the triggers of a chat app: a message to an account, and one event of several in a list.
const chatTriggers = `{"name":"message","type":"app","input":[{"name":"channel","in":"body","type":"string"}],"app":{"account":"body:team.id"},
	"match":[{"from":"body:event.type","values":["message"]},{"from":"body:event.channel","input":"channel"}],"key":"body:event_id",
	"verify":{"type":"hmac","secret":"app","algorithm":"sha256","header":"X-Signature","prefix":"v0=","signed":"v0:{timestamp}:{body}","timestamp":"header:X-Timestamp"},
	"challenge":{"when":"body:type=url_verification","answer":"body:challenge"}}`

// chat is a connector that there is, and the index of accounts.
type chat struct{ e *engine.Engine }

func (chat) Manifest(context.Context, id.Org, string, string) (*connector.Manifest, error) {
	m := &connector.Manifest{Name: "chat"}
	return m, json.Unmarshal([]byte("["+chatTriggers+"]"), &m.Triggers)
}

func (c chat) AccountIndex(ctx context.Context, connector, account string) ([32]byte, error) {
	return c.e.MAC(ctx, "account/1", []byte(connector), []byte(account))
}

// template makes the app: a template with a client that has a signing secret.
func (r *rig) template(secret string) *store.Template {
	r.t.Helper()
	t := r.templateOf("chat", secret)
	r.door.apps.org, r.door.apps.manifests, r.door.apps.accounts = r.org, chat{r.e}, chat{r.e}
	return t
}

// templateOf makes the app of a connector.
func (r *rig) templateOf(connector, secret string) *store.Template {
	r.t.Helper()
	ctx, now := r.t.Context(), time.Now()
	owner, err := r.e.PutCustomer(ctx, &store.CustomerRow{Organization: r.org, ExternalID: rand.Text(), Title: "own"})
	if err != nil {
		r.t.Fatal(err)
	}
	t := &store.Template{
		ID: id.NewTemplate(now), Organization: r.org, Name: connector, Connector: connector, ConnectorVersion: "1.0.0", Method: "oauth", Owner: owner, Client: id.NewConnection(now),
	}
	if err := r.e.PutConnection(ctx, &engine.Credential{Connection: store.Connection{Customer: owner, ID: t.Client, Name: "client"}, Record: &lease.Record{
		Connector: connector, Kind: lease.KindOAuth2Client, Binding: lease.Binding{Scheme: "https", Host: "chat.example"}, Hosts: []string{"chat.example"},
		Fields: []lease.Field{{Name: lease.FieldClientID, Secret: []byte("app")}, {Name: lease.FieldSigningSecret, Secret: []byte(secret)}, {Name: lease.FieldClientSecret, Secret: []byte("client-" + secret)}},
	}}); err != nil {
		r.t.Fatal(err)
	}
	if err := r.store.Write(ctx, func(tx *store.Tx) error { return tx.Org(r.org).PutTemplate(t, now) }); err != nil {
		r.t.Fatal(err)
	}
	return t
}

// member makes a customer who has connected an account through the app, with a flow for its messages in a channel.
func (r *rig) member(t *store.Template, account, channel string) instance {
	r.t.Helper()
	var l connector.Lock
	if err := json.Unmarshal([]byte(`{"slot":"chat","connector":"chat","version":"1.0.0","digest":"00","triggers":[`+chatTriggers+`]}`), &l); err != nil {
		r.t.Fatal(err)
	}
	with := "{}"
	if channel != "" {
		with = `{"channel":"` + channel + `"}`
	}
	return r.memberOf(t, &l, account, "message", with)
}

// memberOf is member for the app of any connector, with a flow for one of its triggers.
func (r *rig) memberOf(t *store.Template, l *connector.Lock, account, trigger, with string) instance {
	r.t.Helper()
	ctx := r.t.Context()
	c := r.deploy(webhook(open()), "{}").customer
	n := store.Connection{Customer: c, ID: id.NewConnection(time.Now()), Name: rand.Text(), Template: t.ID, Connector: t.Connector, Kind: string(lease.KindBearer), Host: "chat.example"}
	var err error
	if n.AccountHash, err = (chat{r.e}).AccountIndex(ctx, t.Connector, account); err != nil {
		r.t.Fatal(err)
	}
	if err := r.e.PutConnection(ctx, &engine.Credential{Connection: n, Record: &lease.Record{
		Connector: t.Connector, Kind: lease.KindBearer, Binding: lease.Binding{Scheme: "https", Host: "chat.example", Port: 443}, Fields: []lease.Field{{Name: "token", Secret: []byte("t")}},
	}}); err != nil {
		r.t.Fatal(err)
	}
	i := &flow.Integration{
		Format: flow.FormatVersion, ProfileVersion: 1, Name: "talks", Connections: []flow.Slot{{Name: l.Slot, Connector: t.Connector}}, Locks: []connector.Lock{*l},
		Flows: []flow.Flow{{Name: "said", Trigger: flow.Trigger{Event: &flow.Event{Uses: l.Slot + "." + trigger}}, Steps: []flow.Step{{ID: "a", Set: &flow.Value{Kind: flow.Number, Text: "1"}}}}},
	}
	if err := i.Flows[0].Trigger.Event.With.UnmarshalJSON([]byte(with)); err != nil {
		r.t.Fatal(err)
	}
	canonical, err := i.Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	v, err := r.e.Publish(ctx, r.org, canonical)
	if err != nil {
		r.t.Fatal(err)
	}
	x, err := r.e.Deploy(ctx, &engine.Deployment{Customer: c, Digest: v.Digest, Slots: []store.Slot{{Name: l.Slot, Connection: n.ID}}})
	if err != nil {
		r.t.Fatal(err)
	}
	return instance{c, x.ID}
}

// say sends an event of the app, signed with a secret.
func (r *rig) say(t *store.Template, secret, body string) response {
	r.t.Helper()
	stamp := fmt.Sprint(time.Now().Unix())
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte("v0:" + stamp + ":" + body))
	return r.post(r.url+AppPath+t.ID.String(), body, "Content-Type: application/json", "X-Timestamp: "+stamp, "X-Signature: v0="+hex.EncodeToString(h.Sum(nil)))
}

// An event of an app goes to every flow of every customer who has connected its account and wants it, and to nobody else.
func TestAnAppsEventsGoToTheirAccount(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o store.Options) {
		r := newRig(t, o)
		app := r.template("alpha")
		first, second, other := r.member(app, "T1", ""), r.member(app, "T1", "C9"), r.member(app, "T2", "")
		elsewhere := r.member(r.template("beta"), "T1", "")
		said := func(id, team, channel string) string {
			return fmt.Sprintf(`{"event_id":%q,"team":{"id":%q},"event":{"type":"message","channel":%q}}`, id, team, channel)
		}
		if a := r.post(r.url+AppPath+app.ID.String(), `{"type":"url_verification","challenge":"abc"}`, "Content-Type: application/json"); a.status != 200 || a.body != "abc" {
			t.Errorf("challenge: %+v", a)
		}
		for _, c := range []struct {
			secret, body string
			status       int
		}{
			{"alpha", said("1", "T1", "C9"), 200},
			{"alpha", said("1", "T1", "C9"), 200}, // repeated
			{"alpha", said("2", "T1", "C1"), 200},
			{"alpha", said("3", "T2", "C9"), 200},
			{"alpha", said("4", "T3", "C9"), 200}, // nobody's
			{"alpha", `{"event_id":"5","team":{"id":"T1"},"event":{"type":"joined"}}`, 200},
			{"beta", said("6", "T1", "C9"), 401},
			{"", said("7", "T1", "C9"), 401},
		} {
			if a := r.say(app, c.secret, c.body); a.status != c.status {
				t.Errorf("%s signed with %q: %+v", c.body, c.secret, a)
			}
		}
		for _, c := range []struct {
			who  string
			n    instance
			want int
		}{{"first", first, 2}, {"second", second, 1}, {"another account", other, 1}, {"another app", elsewhere, 0}} {
			if got := len(r.begun(c.n)); got != c.want {
				t.Errorf("%s: %d flows began, want %d", c.who, got, c.want)
			}
		}
		r.door.unknown.flush()
		if err := r.store.Write(t.Context(), func(*store.Tx) error { return nil }); err != nil { // it comes after what was flushed
			t.Fatal(err)
		}
		if list, err := r.store.Org(t.Context(), r.org).Unknowns(); err != nil || len(list) != 1 || list[0].Template != app.ID || list[0].Events != 1 || list[0].Connector != "chat" {
			t.Errorf("events of unknown accounts: %+v, %v, want 1", list, err)
		}
		for _, name := range []string{"", "x", id.NewTemplate(time.Now()).String(), id.NewConnection(time.Now()).String()} {
			if a := r.post(r.url+AppPath+name, "{}"); a.status != 404 {
				t.Errorf("%q: %+v", name, a)
			}
		}
	})
}

// A customer with too much pending keeps an event from nobody else, and gets it when the provider sends it again.
func TestABusyCustomerKeepsNoEventFromOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{Durability: store.Temporary})
	r.stop()
	r.opt.Pending = engine.Pending{Events: 1}
	r.start()
	app := r.template("alpha")
	full, other := r.member(app, "T1", ""), r.member(app, "T1", "C9")
	said := func(id, channel string) string {
		return fmt.Sprintf(`{"event_id":%q,"team":{"id":"T1"},"event":{"type":"message","channel":%q}}`, id, channel)
	}
	if a := r.say(app, "alpha", said("1", "C1")); a.status != 200 {
		t.Fatalf("got %+v", a)
	}
	for range 2 { // also when it is sent again
		if a := r.say(app, "alpha", said("2", "C9")); a.status != 429 {
			t.Errorf("got %+v", a)
		}
		if n, m := len(r.begun(full)), len(r.begun(other)); n != 1 || m != 1 {
			t.Errorf("%d and %d flows began, want 1 and 1", n, m)
		}
	}
}

// loose is a connector one of whose triggers proves nothing, and one of which proves it by another recipe.
type loose struct{ chat }

func (loose) Manifest(context.Context, id.Org, string, string) (*connector.Manifest, error) {
	m, err := chat{}.Manifest(context.Background(), id.Org{}, "", "")
	none, other := m.Triggers[0], m.Triggers[0]
	none.Verify, other.Verify = &connector.Verify{Type: "none", Secret: "none"}, &connector.Verify{Type: "header", Secret: "app", Header: "X-Token"}
	m.Triggers = []connector.Trigger{none, m.Triggers[0], other}
	return m, err
}

// Whatever a manifest says first, nobody's events are believed unproved.
func TestAppsAreNotBelievedUnproved(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{Durability: store.Temporary})
	app := r.template("alpha")
	who := r.member(app, "T1", "")
	r.door.apps.manifests = loose{}
	body := `{"event_id":"1","team":{"id":"T1"},"event":{"type":"message"}}`
	for name, headers := range map[string][]string{"nothing": nil, "another recipe": {"X-Token: alpha"}} {
		if a := r.post(r.url+AppPath+app.ID.String(), body, append(headers, "Content-Type: application/json")...); a.status != 401 || len(r.begun(who)) != 0 {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if a := r.say(app, "alpha", body); a.status != 200 || len(r.begun(who)) != 1 {
		t.Errorf("proved: %+v", a)
	}
}

// The events of a connection are for the customers whose it is or with whom it is shared, whatever slot it stands in.
func TestEventsGoWhereAConnectionIsShared(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{Durability: store.Temporary})
	app := r.template("alpha")
	owner, other := r.member(app, "T1", ""), r.member(app, "T2", "")
	of := func(i instance) store.Slot {
		x, err := r.store.Customer(t.Context(), i.customer).Instance(i.id)
		if err != nil {
			t.Fatal(err)
		}
		return x.Slots[0]
	}
	slot := of(owner)
	if _, err := r.e.Change(t.Context(), &engine.Change{Customer: other.customer, Instance: other.id, Reconnect: true, Slots: []store.Slot{slot}}); err != nil {
		t.Fatal(err)
	}
	said := func(n string) {
		t.Helper()
		if a := r.say(app, "alpha", `{"event_id":"`+n+`","team":{"id":"T1"},"event":{"type":"message"}}`); a.status != 200 {
			t.Errorf("got %+v", a)
		}
	}
	said("1")
	if n, m := len(r.begun(owner)), len(r.begun(other)); n != 1 || m != 0 {
		t.Errorf("%d and %d flows began, want 1 and 0", n, m)
	}
	row, err := r.store.Customer(t.Context(), owner.customer).Connection(slot.Connection)
	if err != nil {
		t.Fatal(err)
	}
	row.Shared.Customers = []string{other.customer.String()}
	if err := r.store.Write(t.Context(), func(tx *store.Tx) error {
		return tx.Customer(owner.customer).PutConnection(&row.Connection, time.Now())
	}); err != nil {
		t.Fatal(err)
	}
	said("2")
	if n, m := len(r.begun(owner)), len(r.begun(other)); n != 2 || m != 1 {
		t.Errorf("shared: %d and %d flows began, want 2 and 1", n, m)
	}
}
