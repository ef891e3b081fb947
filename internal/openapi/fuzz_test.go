package openapi_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/openapi"
)

// FuzzImport shows that no document makes the importer panic, and that what it makes is a valid manifest of the tier imported.
func FuzzImport(f *testing.F) {
	files, err := filepath.Glob("testdata/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, ".golden") || filepath.Ext(file) == "" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, "")
	}
	f.Add([]byte("openapi: 3.0.0\nservers: [{url: '//a.example'}]\npaths: {'': {get: {parameters: [{$ref: '#/paths'}, {$ref: '#'}]}}}"), "operations: {'GET ': {name: a}}")
	f.Add([]byte(`{"swagger":"2.0","host":"a.example","paths":{"/{}":{"post":{"parameters":[{"in":"body","schema":{"allOf":[{"$ref":"#/definitions/a"}]}}]}}},"definitions":{"a":{"allOf":[{"$ref":"#/definitions/a"}]}}}`), "")
	f.Fuzz(func(t *testing.T, document []byte, side string) {
		r, err := openapi.Import(document, openapi.Options{Side: []byte(side), Source: "https://a.example/openapi.json"})
		if err != nil {
			return
		}
		m, err := r.Connector()
		if err != nil {
			t.Fatal(err)
		}
		if m.Tier != connector.TierImported || len(m.Actions) != len(r.Actions) {
			t.Errorf("tier %s, %d actions, %d told", m.Tier, len(m.Actions), len(r.Actions))
		}
		if problems := m.Check(); len(problems) > 0 {
			t.Error(problems)
		}
		if _, err := openapi.YAML(m); err != nil {
			t.Error(err)
		}
		if _, err := openapi.SideTemplate(r); err != nil {
			t.Error(err)
		}
	})
}
