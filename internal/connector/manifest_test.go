package connector_test

import (
	"errors"
	"strings"
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

// One address takes the events of all customers of an app.
func TestAppTriggersProveTheirSender(t *testing.T) {
	t.Parallel()
	app := func(name string, v connector.Verify) connector.Trigger {
		return connector.Trigger{Name: name, Type: connector.TriggerApp, App: &connector.AppRoute{Account: "body:team"}, Verify: &v}
	}
	signed := connector.Verify{Type: "hmac", Secret: "app", Algorithm: "sha256", Header: "X-Signature"}
	other := signed
	other.Header = "X-Other"
	for name, c := range map[string]struct {
		triggers []connector.Trigger
		at       string // of the first problem with a recipe; empty: none
	}{
		"signed":       {[]connector.Trigger{app("a", signed), app("b", signed)}, ""},
		"unproved":     {[]connector.Trigger{app("a", signed), app("b", connector.Verify{Type: "none", Secret: "none"})}, "triggers.b.verify"},
		"subscription": {[]connector.Trigger{app("a", connector.Verify{Type: "header", Secret: "subscription", Header: "X"})}, "triggers.a.verify"},
		"tokens":       {[]connector.Trigger{app("a", connector.Verify{Type: "jwt", Secret: "app", Header: "X", Algorithm: "RS256"})}, "triggers.a.verify.type"},
		"two recipes":  {[]connector.Trigger{app("a", signed), app("b", other)}, "triggers.b.verify"},
	} {
		got := ""
		for _, p := range (&connector.Manifest{Name: "chat", Version: "1.0.0", Triggers: c.triggers}).Check() {
			if strings.Contains(p.At, ".verify") {
				got = p.At
				break
			}
		}
		if got != c.at {
			t.Errorf("%s: a problem at %q, want %q", name, got, c.at)
		}
	}
}
