package connectors_test

import (
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/connectors"
	"github.com/bulkheadhq/bulkhead/internal/connectorfile"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// TestConnectors: every manifest is valid, and makes of the vendor's examples what the vendor's documentation says.
func TestConnectors(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(connectors.Files, "*/connector*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(name, ".yaml"), func(t *testing.T) {
			t.Parallel()
			text, err := connectors.Files.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			doc, problems := connectorfile.Decode(name, text)
			report(t, problems)
			if doc == nil || path.Base(name) != "connector.yaml" {
				return
			}
			tests := path.Join(path.Dir(name), "test.yaml")
			if text, err = connectors.Files.ReadFile(tests); err != nil {
				t.Fatal(err)
			}
			cases, problems := connectorfile.DecodeTests(tests, text, doc.Manifest)
			report(t, problems)
			if cases != nil {
				report(t, cases.Run(doc.Manifest))
			}
		})
	}
}

func report(t *testing.T, problems source.Problems) {
	t.Helper()
	if len(problems) == 0 {
		return
	}
	var b strings.Builder
	if err := problems.Render(&b, source.Plain); err != nil {
		t.Fatal(err)
	}
	t.Error("\n" + b.String())
}

// TestCatalogue: the catalogue can be read as a whole, which a server does when it lists it.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	c, err := connectorfile.Open(connectors.Files)
	if err != nil {
		t.Fatal(err)
	}
	if all, err := c.All(); err != nil || len(all) < len(c.Names()) {
		t.Errorf("%d manifests of %d connectors: %v", len(all), len(c.Names()), err)
	}
	for _, name := range c.Names() {
		m, err := c.Manifest(name, "")
		if err != nil || m.Name != name {
			t.Errorf("resolve %s: %v", name, err)
		}
	}
}
