package trigger

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/connectors"
	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/connectorfile"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// listed are the connectors of the catalogue.
type listed struct {
	*connectorfile.Catalogue
}

func (l listed) Manifest(_ context.Context, _ id.Org, name, versions string) (*connector.Manifest, error) {
	return l.Catalogue.Manifest(name, versions)
}

func sum(secret, text string) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(text))
	return h.Sum(nil)
}

// sent is an event as a vendor's documentation shows it.
type sent struct {
	trigger, with, account string
	headers                []string
	body                   string
}

const (
	jsonHeader = "Content-Type: application/json"
	formHeader = "Content-Type: application/x-www-form-urlencoded"
)

// vendor signs as the vendor's documentation says. secret is the app's signing secret, and client-secret that of its client.
type vendor struct {
	name string
	sign func(secret, url string, s *sent) []string
	// events are documented examples, each of the trigger that is named and of no other.
	events []sent
}

func vendors() []vendor {
	stamp := fmt.Sprint(time.Now().Unix())
	milli := fmt.Sprint(time.Now().UnixMilli())
	return []vendor{
		{
			// https://docs.slack.dev/authentication/verifying-requests-from-slack
			"slack", func(secret, _ string, s *sent) []string {
				return []string{"X-Slack-Request-Timestamp: " + stamp, "X-Slack-Signature: v0=" + hex.EncodeToString(sum(secret, "v0:"+stamp+":"+s.body))}
			}, []sent{
				{"message", `{}`, "T123ABC456", []string{jsonHeader}, `{"token":"XXYYZZ","team_id":"T123ABC456","api_app_id":"A123ABC456","event":{"type":"message","channel":"C123ABC456","user":"U123ABC456","text":"Live long and prospect.","ts":"1355517523.000005"},"type":"event_callback","authorizations":[{"enterprise_id":null,"team_id":"T123ABC456","user_id":"U123ABC456","is_bot":true,"is_enterprise_install":false}],"event_id":"Ev123ABC456","event_time":1234567890}`},
				{"interaction", `{"action_id":"WaXA"}`, "T9TK3CUKW", []string{formHeader}, "payload=" + url.QueryEscape(`{"type":"block_actions","team":{"id":"T9TK3CUKW","domain":"example"},"user":{"id":"UA8RXUSPL","username":"jtorrance"},"trigger_id":"12321423423.333649436676.d8c1bb837935619ccad0f624c448ffb3","actions":[{"action_id":"WaXA","block_id":"=qXel","text":{"type":"plain_text","text":"View"},"value":"click_me_123","type":"button","action_ts":"1548426417.840180"}]}`)},
				{"command", `{"command":"/weather"}`, "T0001", []string{formHeader}, "token=gIkuvaNzQIHg97ATvDxqgjtO&team_id=T0001&team_domain=example&channel_id=C2147483705&channel_name=test&user_id=U2147483697&user_name=Steve&command=/weather&text=94070&response_url=https://hooks.slack.com/commands/1234/5678&trigger_id=13345224609.738474920.8088930838d88f008e0&api_app_id=A123456"},
			},
		},
		{
			// https://developers.hubspot.com/docs/apps/legacy-apps/authentication/validating-requests
			"hubspot", func(secret, url string, s *sent) []string {
				return []string{"X-HubSpot-Request-Timestamp: " + milli, "X-HubSpot-Signature-v3: " + base64.StdEncoding.EncodeToString(sum("client-"+secret, "POST"+url+s.body+milli))}
			}, []sent{
				{"crmEvent", `{"subscriptionType":"contact.propertyChange"}`, "33", []string{jsonHeader}, `[{"objectId":1246965,"propertyName":"lifecyclestage","propertyValue":"subscriber","changeSource":"ACADEMY","eventId":3816279340,"subscriptionId":25,"portalId":33,"appId":1160452,"occurredAt":1462216307945,"subscriptionType":"contact.propertyChange","attemptNumber":0},{"objectId":1246978,"changeSource":"IMPORT","eventId":3816279480,"subscriptionId":22,"portalId":34,"appId":1160452,"occurredAt":1462216307945,"subscriptionType":"contact.creation","attemptNumber":0}]`},
			},
		},
		{
			// https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
			"github", func(secret, _ string, s *sent) []string {
				return []string{"X-Hub-Signature-256: sha256=" + hex.EncodeToString(sum(secret, s.body))}
			}, []sent{
				{"appEvent", `{"event":"issues","actions":["edited"]}`, "21031067", []string{jsonHeader, "X-GitHub-Event: issues", "X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958"}, `{"action":"edited","issue":{"id":444500041,"number":1,"title":"Spelling error in the README file"},"repository":{"id":186853002,"full_name":"Codertocat/Hello-World","owner":{"login":"Codertocat","id":21031067}},"installation":{"id":375706},"sender":{"login":"Codertocat","id":21031067}}`},
			},
		},
		{
			// https://docs.stripe.com/webhooks/signature
			"stripe", func(secret, _ string, s *sent) []string {
				return []string{"Stripe-Signature: t=" + stamp + ",v1=" + hex.EncodeToString(sum(secret, stamp+"."+s.body)) + ",v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39"}
			}, []sent{
				{"connectEvent", `{"types":["customer.created"]}`, "acct_1Nv0FGQ9RKHgCVdK", []string{jsonHeader}, `{"id":"evt_7","object":"event","account":"acct_1Nv0FGQ9RKHgCVdK","type":"customer.created","data":{"object":{"id":"cus_1"}}}`},
			},
		},
		{
			// https://shopify.dev/docs/apps/build/webhooks/subscribe/https
			"shopify", func(secret, _ string, s *sent) []string {
				return []string{"X-Shopify-Hmac-Sha256: " + base64.StdEncoding.EncodeToString(sum("client-"+secret, s.body))}
			}, []sent{
				{"appEvent", `{"topic":"app/uninstalled"}`, "acme.myshopify.com", []string{jsonHeader, "X-Shopify-Webhook-Id: b54557e4-bdd9-4b37-8a5f-bf7d70bcd043", "X-Shopify-Topic: app/uninstalled", "X-Shopify-Shop-Domain: acme.myshopify.com"}, `{"id":548380009,"name":"Super Toys","domain":null}`},
			},
		},
	}
}

// The apps of the catalogue take what their vendors' documentation shows: it starts the flow of its trigger, for the customer
// whose account it is, and no other; and what somebody else signed is refused.
func TestAppsOfVendors(t *testing.T) {
	t.Parallel()
	all, err := connectorfile.Open(connectors.Files)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, store.Options{})
	r.door.apps.org, r.door.apps.manifests, r.door.apps.accounts = r.org, listed{all}, chat{r.e}
	r.door.base = "https://hooks.example"
	for _, v := range vendors() {
		m, err := all.Manifest(v.name, "")
		if err != nil {
			t.Fatal(err)
		}
		app := r.templateOf(v.name, "alpha")
		path := AppPath + app.ID.String()
		for i := range v.events {
			s := &v.events[i]
			what := v.name + " " + s.trigger
			member := func(account, trigger, with string) instance {
				l := m.Lock("app", nil, []string{trigger})
				if len(l.Triggers) != 1 {
					t.Fatalf("%s: there is no trigger %s", what, trigger)
				}
				return r.memberOf(app, &l, account, trigger, with)
			}
			mine, theirs := member(s.account, s.trigger, s.with), member(s.account+"0", s.trigger, s.with)
			var others []instance
			for n := range m.Triggers {
				if other := &m.Triggers[n]; other.Type == connector.TriggerApp && other.Name != s.trigger {
					others = append(others, member(s.account, other.Name, "{}"))
				}
			}
			for _, c := range []struct {
				secret string
				status int
				begun  int
			}{{"beta", 401, 0}, {"alpha", 200, 1}, {"alpha", 200, 1}} {
				a := r.post(r.url+path, s.body, append(v.sign(c.secret, "https://hooks.example"+path, s), s.headers...)...)
				if a.status != c.status || a.status == 200 && a.body != "" {
					t.Errorf("%s signed with %s: %d %q", what, c.secret, a.status, a.body)
				}
				if got := len(r.begun(mine)); got != c.begun {
					t.Errorf("%s signed with %s: %d flows began, want %d", what, c.secret, got, c.begun)
				}
			}
			if len(r.begun(mine)) == 1 {
				if got, _ := json.Marshal(r.event(mine, r.executions(mine)[0].Execution)); strings.Contains(strings.ToLower(string(got)), "signature") || strings.Contains(strings.ToLower(string(got)), "hmac") {
					t.Errorf("%s: the flow sees the proof: %s", what, got)
				}
			}
			if n := len(r.begun(theirs)); n != 0 {
				t.Errorf("%s starts %d flows of another account", what, n)
			}
			for _, o := range others {
				if n := len(r.begun(o)); n != 0 {
					t.Errorf("%s starts %d flows of another trigger", what, n)
				}
			}
		}
	}
}
