package connectorfile

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/bulkheadhq/bulkhead/internal/source"
)

// TestProblems reads the manifest in each archive and compares the rendered problems with the file `problems` in it.
func TestProblems(t *testing.T) {
	t.Parallel()
	archives, err := filepath.Glob("testdata/problems/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			doc, problems := Decode(a.Files[0].Name, a.Files[0].Data)
			if doc != nil || len(problems) == 0 {
				t.Fatal("the manifest is valid")
			}
			var got bytes.Buffer
			if err := problems.Render(&got, source.Plain); err != nil {
				t.Fatal(err)
			}
			if *update {
				a.Files = []txtar.File{a.Files[0], {Name: "problems", Data: got.Bytes()}}
				if err := os.WriteFile(name, txtar.Format(a), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(a.Files[1].Data), got.String()); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzDecode: no input panics, problems lie inside the file, and what is valid has a canonical form that means the same.
func FuzzDecode(f *testing.F) {
	names, err := filepath.Glob("../../connectors/*/connector.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	archives, err := filepath.Glob("testdata/problems/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range archives {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, problems := Decode("f", text)
		lines := bytes.Count(text, []byte("\n")) + 1
		for _, p := range problems {
			if p.Line < 1 || p.Line > lines || p.Column < 1 || p.Length < 1 || p.Message == "" {
				t.Errorf("problem outside of the file of %d lines: %+v", lines, p)
			}
		}
		if doc == nil {
			if len(problems) == 0 {
				t.Error("neither a manifest nor a problem")
			}
			return
		}
		if _, err := doc.Manifest.Encode(); err != nil {
			t.Fatal(err)
		}
		if p := doc.Manifest.Check(); len(p) > 0 {
			t.Errorf("a valid manifest has problems: %v", p)
		}
	})
}
