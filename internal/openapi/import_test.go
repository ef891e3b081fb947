package openapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/connectorfile"
	"github.com/bulkheadhq/bulkhead/internal/openapi"
)

var update = flag.Bool("update", false, "write golden files")

// TestGolden imports a small document of each version and compares all that comes of it.
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, file := range files {
		base := strings.TrimSuffix(file, filepath.Ext(file))
		if strings.HasSuffix(base, ".side") || strings.HasSuffix(file, ".golden") || filepath.Ext(file) == "" {
			continue
		}
		tried++
		t.Run(filepath.Base(base), func(t *testing.T) {
			t.Parallel()
			document, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			side, err := os.ReadFile(base + ".side.yaml")
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			got := show(t, document, openapi.Options{Side: side, SideName: filepath.Base(base) + ".side.yaml"})
			golden := base + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Error(d)
			}
		})
	}
	if tried < 4 {
		t.Errorf("only %d documents", tried)
	}
}

// show is a result as text: the manifest, then the report.
func show(t *testing.T, document []byte, o openapi.Options) string {
	t.Helper()
	r, err := openapi.Import(document, o)
	if err != nil {
		return fmt.Sprintf("error: %v\n", err)
	}
	m, err := r.Connector()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	text, err := openapi.YAML(m)
	if err != nil {
		t.Fatal(err)
	}
	if doc, problems := connectorfile.Decode("connector.yaml", text); doc == nil {
		t.Errorf("the connector file is not valid: %v", problems)
	} else if doc.Manifest.Digest() != m.Digest() {
		t.Errorf("the connector file is another connector:\n%s", text)
	}
	raw := r.Manifest
	r.Manifest = nil
	if err := errors.Join(json.Indent(&out, raw, "", "  "), enc.Encode(r)); err != nil {
		t.Fatal(err)
	}
	if again, err := openapi.Import(document, o); err != nil || again.SHA256 != r.SHA256 || m.Digest() != digest(t, again) {
		t.Error("the same document made another connector")
	}
	return out.String()
}

func digest(t *testing.T, r *openapi.Result) [32]byte {
	t.Helper()
	m, err := r.Connector()
	if err != nil {
		t.Fatal(err)
	}
	return m.Digest()
}
