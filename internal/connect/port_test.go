package connect

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// TestClientsAreBoundToPorts: what is connected with an OAuth client may be bound to the hosts of its manifest, each at its port.
func TestClientsAreBoundToPorts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manifest.Hosts = []string{"{shop}.acme.example:8443", "{site}:9443", "files.acme.example", "[2001:db8::1]:444"}
	w.manifest.BaseURL = "https://{shop}.acme.example:8443/v2"
	w.manifest.Vars["site"] = credential.Var{Type: credential.VarHost, Suffixes: []string{".site.example", "site.example"}}
	w.template = must(w.PutTemplate(t.Context(), &TemplateEntry{
		Org: w.org, ID: w.template.ID, Connector: "acme", Customers: []string{lease.SharedWithAll}, Fields: map[string]string{"client_id": "our-client", "client_secret": canary},
	}))
	client := w.vault.records[w.template.Client]
	want := []string{"*.acme.example:8443", "*.site.example:9443", "site.example:9443", "files.acme.example", "[2001:db8::1]:444"}
	if d := cmp.Diff(want, client.Hosts); d != "" {
		t.Errorf("hosts (-want +got):\n%s", d)
	}
	if b := client.Binding; b.Host != "*.acme.example" || b.Port != 8443 {
		t.Errorf("binding %+v", b)
	}
}
