package connector_test

import (
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// TestDeliveryID: a delivery is known by all places of the key together, and by none where one of them has nothing.
func TestDeliveryID(t *testing.T) {
	t.Parallel()
	header := func(name string) string {
		if name == "X-Time" {
			return "1700000000"
		}
		return ""
	}
	for key, want := range map[string]string{
		"":                                 "",
		"body:id":                          "7",
		"body:id+body:of.type":             "7+contact.creation",
		"body:id+header:X-Time":            "7+1700000000",
		"body:id+body:missing":             "",
		"body:nothing+body:id":             "",
		"body:id+header:X-Other":           "",
		"body:of":                          "",
		"header:X-Time+body:id+body:empty": "",
	} {
		d := &connector.Delivery{Header: header, Body: parse(t, `{"id":7,"of":{"type":"contact.creation"},"nothing":null,"empty":""}`)}
		if got := (&connector.Trigger{Key: key}).ID(d); got != want {
			t.Errorf("%q: %q, not %q", key, got, want)
		}
	}
}
