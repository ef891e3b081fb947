package registry_test

import (
	"errors"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/connectorfile"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/registry"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

func manifest(name, version, title string) *connector.Manifest {
	return &connector.Manifest{
		Name: name, Version: version, Title: title, Tier: connector.TierImported, Provenance: connector.Provenance{Kind: "openapi", Retrieved: "2026-11-21"},
		Hosts: []string{"api.acme.example"}, BaseURL: "https://api.acme.example",
	}
}

func TestPublishedVersionsStay(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	db, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	mine, other := id.NewOrg(now), id.NewOrg(now)
	for _, o := range []id.Org{mine, other} {
		if err := db.Write(t.Context(), func(tx *store.Tx) error {
			return tx.System().PutOrganization(&store.Organization{ID: o, Name: o.String()}, now)
		}); err != nil {
			t.Fatal(err)
		}
	}
	r := registry.New(db)
	publish := func(m *connector.Manifest) error { return r.Publish(t.Context(), mine, m, 2, "ci", now) }
	for _, v := range []string{"1.0.0", "1.10.0", "1.9.0", "2.0.0-beta.1"} {
		if err := publish(manifest("acme", v, "Acme")); err != nil {
			t.Fatal(err)
		}
	}
	if err := publish(manifest("acme", "1.0.0", "Acme")); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := publish(manifest("acme", "1.0.0", "Other")); !errors.Is(err, registry.ErrPublished) {
		t.Errorf("other content: %v", err)
	}
	if err := publish(manifest("github", "9.0.0", "Mine")); !errors.Is(err, registry.ErrTaken) {
		t.Errorf("a name of the catalogue: %v", err)
	}
	for versions, want := range map[string]string{"": "1.10.0", "^1": "1.10.0", "~1.9": "1.9.0", "1.0.0": "1.0.0", "^1.2": "1.10.0"} {
		m, err := r.Manifest(t.Context(), mine, "acme", versions)
		if err != nil || m.Version != want {
			t.Errorf("%q: got %v, %v, want %s", versions, m, err, want)
		}
	}
	if _, err := r.Manifest(t.Context(), mine, "acme", "^2"); !errors.Is(err, connectorfile.ErrNoConnector) {
		t.Errorf("a pre-release was taken: %v", err)
	}
	if _, err := r.Manifest(t.Context(), other, "acme", ""); !errors.Is(err, connectorfile.ErrNoConnector) {
		t.Errorf("another organization: %v", err)
	}
	if m, err := r.Manifest(t.Context(), other, "github", "^1"); err != nil || m.Name != "github" {
		t.Errorf("the catalogue: %v", err)
	}
	list, err := r.List(t.Context(), mine)
	if err != nil || list[0].Name != "acme" || list[0].Version != "2.0.0-beta.1" || list[1].Version != "1.10.0" || !list[0].Own || list[0].Cases != 2 || list[0].Retrieved != "2026-11-21" {
		t.Errorf("list: %+v, %v", list[:2], err)
	}
}
