package suite

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// pressedTrigger is the bakery's button: a form with JSON in it, as Slack sends one.
const pressedTrigger = `triggers:
  pressed:
    type: app
    input: {action_id: {}}
    app: {account: "body:team", form: payload}
    verify: {type: hmac, secret: app, algorithm: sha256, header: X-Signature, prefix: "v0=", signed: "v0:{timestamp}:{body}", timestamp: "header:X-Timestamp"}
    key: body:trigger_id
    match: [{from: "body:actions[0].action_id", input: action_id}]
    payload: {type: object, properties: {user: {type: string}}}
`

const buttonFlow = `bulkhead: 1
integration: button
connections:
  shop: {connector: bakery}
  api: {connector: http}
flows:
  ask:
    trigger: {webhook: {verify: none}}
    steps:
      - {id: message, uses: api.request, with: {method: POST, path: /message, body: {button: "${{ trigger.body.ask }}"}}}
      - {id: button, wait: {event: {uses: shop.pressed, match: {action_id: "${{ trigger.body.ask }}"}, timeout: PT1H}}}
      - {id: done, uses: api.request, with: {method: POST, path: /done, body: {by: "${{ steps.button.body.user }}"}}}
      - {id: out, return: {by: "${{ steps.button.body.user }}"}}
`

// press sends the event of a button to the address of an app, signed with the app's secret.
func (d *drive) press(app id.Template, team, delivery, action, user string) int {
	d.t.Helper()
	payload, err := json.Marshal(map[string]any{"type": "block_actions", "team": team, "trigger_id": delivery, "user": user, "actions": []any{map[string]string{"action_id": action}}})
	if err != nil {
		d.t.Fatal(err)
	}
	body, stamp := "payload="+url.QueryEscape(string(payload)), fmt.Sprint(time.Now().Unix())
	return d.send("POST", d.roles.URL+"/hooks/app/"+app.String(), body, "Content-Type", "application/x-www-form-urlencoded",
		"X-Timestamp", stamp, "X-Signature", fmt.Sprintf("v0=%x", mac("the signing secret", "v0:"+stamp+":"+body))).status
}

// asks connects a customer's account at the bakery, and deploys the flow that asks.
func (d *drive) asks(b *bakery, customer, account string, version string) id.Instance {
	d.t.Helper()
	ctx := d.t.Context()
	b.mu.Lock()
	b.account = account
	b.mu.Unlock()
	link, err := d.MakeConnectLink(ctx, api.ConnectLinkRequest{Customer: customer, Connector: "bakery"})
	if err != nil {
		d.t.Fatal(err)
	}
	if status, body := newPerson(d.t).connect(link.URL); status != http.StatusOK {
		d.t.Fatalf("%d %s", status, body)
	}
	page, err := d.FindConnections(ctx, customer, "bakery", "", client.List{})
	if err != nil || len(page.Items) != 1 {
		d.t.Fatalf("connections: %+v, %v", page, err)
	}
	at, err := egress.ParseBinding(d.out.URL)
	if err != nil {
		d.t.Fatal(err)
	}
	plain := &lease.Record{
		Connection: id.NewConnection(time.Now()), Customer: d.customer, Connector: flow.ConnectorHTTP, Kind: lease.KindNone,
		Binding: lease.Binding{Scheme: at.Scheme, Host: at.Host, Port: uint32(at.Port), BasePath: at.BasePath},
	}
	if err := d.connect(plain, "api"); err != nil {
		d.t.Fatal(err)
	}
	i := id.NewInstance(time.Now())
	if _, err := d.DeploySealed(ctx, d.customer, i, api.DeployRequest{Digest: version, Slots: map[string]id.Connection{"shop": page.Items[0].ID, "api": plain.Connection}}); err != nil {
		d.t.Fatal(err)
	}
	return i
}

// TestAButtonResumesItsExecution sends a message with a button, waits, kills the server, and presses the button: the execution
// goes on, once. One of another customer that waits for the same goes on when that customer's account presses it, and not before.
func TestAButtonResumesItsExecution(t *testing.T) {
	t.Parallel()
	needSystem(t)
	b := newBakery(t)
	s := startSystem(t, false)
	ctx := t.Context()
	mine := newDrive(t, s)
	theirs := newDrive(t, s.second())
	if _, err := s.PublishConnector(ctx, api.ConnectorRequest{Source: b.manifest() + pressedTrigger}); err != nil {
		t.Fatal(err)
	}
	app, err := s.PutTemplate(ctx, id.Template{}, api.TemplateRequest{Connector: "bakery", Customers: []string{"*"}, Fields: map[string]string{
		"client_id": "our-client", "client_secret": clientCanary, "signing_secret": "the signing secret",
	}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.Publish(ctx, api.PublishRequest{Source: buttonFlow})
	if err != nil {
		t.Fatal(err)
	}
	first, second := mine.asks(b, "local", "T1", v.Digest), theirs.asks(b, "second", "T2", v.Digest)
	const ask = `{"ask":"order-4711"}`
	x := mine.send("POST", mine.hook(first, "ask"), ask).execution(t)
	y := theirs.send("POST", theirs.hook(second, "ask"), ask).execution(t)
	mine.becomes(x, "waiting")
	theirs.becomes(y, "waiting")

	mine.killServer()
	for _, c := range []struct {
		team, delivery, action string
		want                   int
	}{{"T3", "1", "order-4711", 200}, {"T1", "2", "order-4712", 200}} { // nobody's account, and another button
		same(t, c.team+" "+c.action, mine.press(app.ID, c.team, c.delivery, c.action, "eve"), c.want)
	}
	same(t, "before its button", mine.becomes(x, "waiting").Status, "waiting")
	same(t, "the button", mine.press(app.ID, "T1", "3", "order-4711", "ann"), 200)
	same(t, "what it says", mine.output(x), `{"by":"ann"}`)
	same(t, "the same button again", mine.press(app.ID, "T1", "3", "order-4711", "ann"), 200)
	same(t, "a button that was answered", mine.press(app.ID, "T1", "4", "order-4711", "bob"), 200)

	same(t, "another customer's", theirs.becomes(y, "waiting").Status, "waiting")
	// Red twin: the same event with the other account resumes it, so it was the account that kept it waiting. The server is killed
	// when the event was answered.
	same(t, "their button", theirs.press(app.ID, "T2", "5", "order-4711", "carol"), 200)
	theirs.killServer()
	same(t, "what theirs says", theirs.output(y), `{"by":"carol"}`)
	for _, d := range []*drive{mine, theirs} {
		same(t, "messages", d.out.effects("/message"), 1)
		same(t, "steps after the button", d.out.effects("/done"), 1)
	}
	same(t, "executions", len(mine.of(first, "ask"))+len(theirs.of(second, "ask")), 2)
}

// TestSubscriptionsSurviveTheServer kills the server while a subscription is made, and while it is taken back, at a provider that
// recognises a request by its key: there is never more than one subscription, and none in the end.
func TestSubscriptionsSurviveTheServer(t *testing.T) {
	t.Parallel()
	needSystem(t)
	c := newCRM(t)
	came, release := make(chan string), make(chan struct{})
	var once, last sync.Once
	c.gate = func(r *http.Request) {
		hold := func() { came <- r.Method; <-release }
		switch {
		case r.URL.Path == "/hooks":
			once.Do(hold)
		case r.Method == http.MethodDelete:
			last.Do(hold)
		}
	}
	d := newDrive(t, startSystem(t, false))
	held := func(method string) {
		t.Helper()
		select {
		case got := <-came:
			same(t, "the request that is held", got, method)
		case <-time.After(patience):
			t.Fatalf("no %s came", method)
		}
		d.killServer()
		release <- struct{}{}
	}
	i := d.deployCRM(crmFlows, c)
	held(http.MethodPost)
	d.eventually("a subscription", func() bool { return len(c.subscriptions()) == 1 })
	var url, secret string
	for _, h := range c.subscriptions() {
		url, secret = h[0], h[1]
	}
	if !strings.Contains(url, "/hooks/") {
		t.Fatalf("subscribed to %q", url)
	}
	d.eventually("an event that is taken", func() bool { status, _ := c.event(url, secret, "1", `{"id":17,"customer":"x"}`); return status == 200 })
	if err := d.Client.Remove(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	held(http.MethodDelete)
	d.eventually("no subscription", func() bool { return len(c.subscriptions()) == 0 })
	d.eventually("the end of the instance", func() bool {
		_, err := d.Instance(t.Context(), i)
		return err != nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most != 1 || len(c.hooks) != 0 || len(c.refused) > 0 {
		t.Errorf("%d subscriptions at a time, %d in the end, %d made, refused: %v", c.most, len(c.hooks), c.made, c.refused)
	}
}
