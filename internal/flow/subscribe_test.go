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
