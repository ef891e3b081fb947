package connector_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

func TestDecodeReadsWhatEncodeWrites(t *testing.T) {
	t.Parallel()
	m := &connector.Manifest{
		Name: "acme", Version: "1.0.0", Title: "Acme", Tier: connector.TierVerified, Hosts: []string{"api.acme.example"}, BaseURL: "https://api.acme.example",
		Provenance: connector.Provenance{Kind: "hand"},
		Actions: []connector.Action{{
			Name: "getOrder", Method: "GET", Path: "/orders/{id}",
			Inputs: []connector.Input{{Name: "id", In: connector.InPath, Type: connector.TypeString, Required: true}},
		}},
		Triggers: []connector.Trigger{{Name: "orderPaid", Type: connector.TriggerPoll, Poll: &connector.PollRecipe{Action: "getOrder", Key: "id"}}},
	}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := connector.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, got); d != "" {
		t.Error(d)
	}
	if got.Digest() != m.Digest() || got.Action("getOrder") == nil || got.Trigger("orderPaid") == nil || got.Action("other") != nil {
		t.Error("the copy differs from the manifest")
	}
	if _, err := connector.Decode(append([]byte(" "), b...)); !errors.Is(err, connector.ErrNotCanonical) {
		t.Errorf("white space: %v", err)
	}
	if _, err := connector.Decode([]byte(`{"connector":"acme","colour":"red"}`)); err == nil {
		t.Error("an unknown key was accepted")
	}
}
