package flow

import (
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

func TestAPollOfAConnectorJoinsTheParts(t *testing.T) {
	t.Parallel()
	for paths, want := range map[string]string{
		"id":                "${{ item[\"id\"] }}",
		"id+fields.updated": "${{ item[\"id\"] }}\n${{ orElse(item[\"fields\"][\"updated\"], \"\") }}",
	} {
		i := &Integration{
			Format: FormatVersion, Name: "test", Connections: []Slot{{Name: "crm", Connector: "acme"}},
			Flows: []Flow{{Name: "main", Trigger: Trigger{Event: &Event{Uses: "crm.changed"}}, Steps: []Step{{ID: "a", Return: ptr(NullValue())}}}},
			Locks: []connector.Lock{{
				Slot: "crm", Name: "acme", Version: "1.0.0", Actions: []connector.Action{{Name: "list", Method: "GET", Path: "/x"}},
				Triggers: []connector.Trigger{{Name: "changed", Type: connector.TriggerPoll, Poll: &connector.PollRecipe{Action: "list", Key: paths}}},
			}},
		}
		if err := i.Expand(); err != nil {
			t.Fatal(err)
		}
		wanted, _ := ParseString(want)
		got := i.Flows[0].Trigger.Poll.Key
		a, errA := got.MarshalJSON()
		b, errB := wanted.MarshalJSON()
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Errorf("key %s: %s, not %s (%v, %v)", paths, a, b, errA, errB)
		}
	}
}

// What makes subscriptions, and may end those that it does not know, and what must see them, runs one at a time.
func TestSubscriptionsAreMadeOneAtATime(t *testing.T) {
	t.Parallel()
	hook := &connector.Subscription{
		Subscribe: connector.SubscribeCall{Action: "make"}, Unsubscribe: &connector.SubscribeCall{Action: "end"},
		Find: &connector.FindCall{Action: "list", URL: "url", ID: "id"}, ID: "id", RenewEvery: 86400,
	}
	i := &Integration{
		Format: FormatVersion, Name: "test", Connections: []Slot{{Name: "crm", Connector: "acme"}},
		Flows: []Flow{{Name: "main", Trigger: Trigger{Event: &Event{Uses: "crm.changed"}}, Steps: []Step{{ID: "a", Return: ptr(NullValue())}}}},
		Locks: []connector.Lock{{
			Slot: "crm", Name: "acme", Version: "1.0.0",
			Actions:  []connector.Action{{Name: "make", Method: "POST", Path: "/x"}, {Name: "end", Method: "DELETE", Path: "/x"}, {Name: "list", Method: "GET", Path: "/x"}},
			Triggers: []connector.Trigger{{Name: "changed", Type: connector.TriggerWebhook, Webhook: hook}},
		}},
	}
	if err := i.Expand(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"main" + SubscribeSuffix, "main" + RenewSuffix, "main" + UnsubscribeSuffix} {
		if f := i.Flow(name); f == nil || f.Concurrency == nil || f.Concurrency.Limit != 1 || f.Concurrency.Order != OrderFIFO || Turn(name) != "main"+SubscribeSuffix {
			t.Errorf("%s: %+v", name, f)
		}
	}
	for _, name := range []string{"main", "main" + KeepSuffix} {
		if Turn(name) != name {
			t.Errorf("%s takes turns with %s", name, Turn(name))
		}
	}
}
