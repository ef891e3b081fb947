package connect

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// TestConnectionsAreBoundToEachBase: a credential is bound to what the manifest's actions call, and whoever looks at the
// connection sees all of it. Where files are that actions are redirected to stands in its record too, and is no host of it.
func TestConnectionsAreBoundToEachBase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manifest.Hosts = append(w.manifest.Hosts, "files.acme.example", "{shop}.files.acme.example")
	w.manifest.Bases = map[string]string{"shop": "https://{shop}.files.acme.example/s", "files": "https://files.acme.example:8443/v3"}
	w.manifest.Actions = []connector.Action{{Name: "get", Method: "GET", Base: "shop"}, {Name: "put", Method: "PUT", Base: "files"}, {Name: "load", Method: "GET", Follow: []string{"*.cdn.example"}}}
	n, err := w.Save(t.Context(), &Entry{
		Org: w.org, Customer: w.customer, Connector: "acme", Method: "key", Vars: map[string]string{"shop": "bakery"},
		Fields: map[string]string{"key_id": "abcdefgh", "api_key": canary}, By: "ann",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := lease.Binding{Scheme: "https", Host: "bakery.acme.example", BasePath: "/v2", Bases: []lease.Base{
		{Name: "files", Host: "files.acme.example", Port: 8443, BasePath: "/v3"}, {Name: "shop", Host: "bakery.files.acme.example", BasePath: "/s"},
	}, Follow: []lease.Follow{{Action: "load", Hosts: []string{"*.cdn.example"}}}}
	if d := cmp.Diff(want, w.vault.records[n].Binding); d != "" {
		t.Errorf("binding (-want +got):\n%s", d)
	}
	row, err := w.db.Customer(t.Context(), w.customer).Connection(n)
	if err != nil || row.Host != "bakery.acme.example, files.acme.example:8443, bakery.files.acme.example" {
		t.Errorf("host %q, %v", row.Host, err)
	}
	client := w.vault.records[w.template.Client]
	if slices.Contains(client.Hosts, "files.acme.example") {
		t.Error("a client made before is for hosts of the manifest that came later")
	}
}

// Who gives a wrong name is told which one and what there is; what may be a value is not repeated.
func TestUnknownNamesAreTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.Save(t.Context(), &Entry{
		Org: w.org, Customer: w.customer, Connector: "acme", Method: "key", Vars: map[string]string{"shop": "bakery", "town": "x"},
		Fields: map[string]string{"key_id": "abcdefgh", "api_key": "k", "apikey": "k", canary: "k"},
	})
	want := InvalidError{
		{"vars", "there is no variable town; there is shop"},
		{"fields", "there is no field apikey; there is key_id, api_key"},
		{"fields", "something was given that is no name of a field; there is key_id, api_key"},
	}
	if d := cmp.Diff(want, err); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
