package flowfile

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

var update = flag.Bool("update", false, "write what the code does now into testdata")

// TestProblems decodes the file in each archive and compares the rendered problems with the file `problems` in it.
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
			in := a.Files[0]
			var problems source.Problems
			switch {
			case strings.HasSuffix(in.Name, ".test.yaml"):
				_, problems = DecodeTests(in.Name, in.Data, nil)
			default:
				var doc *Document
				if doc, problems = Decode(in.Name, in.Data); doc != nil {
					problems = append(doc.Warnings, doc.NotYet()...)
				} else if !problems.Invalid() {
					t.Fatal("no document and no errors")
				}
			}
			var got bytes.Buffer
			if err := problems.Render(&got, source.Plain); err != nil {
				t.Fatal(err)
			}
			if *update {
				a.Files = []txtar.File{in, {Name: "problems", Data: got.Bytes()}}
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

// validFiles returns every integration file that must be valid: those of the repository's testdata and examples, and the
// shared examples where they are there.
func validFiles(t testing.TB) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"testdata/valid/*", "../../examples/*.yaml", "../../../shared/examples/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			t.Logf("SKIPPED: no files match %s", pattern)
		}
		for _, f := range found {
			if !strings.HasSuffix(f, ".test.yaml") {
				files = append(files, f)
			}
		}
	}
	return files
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// mustDecode decodes a valid file.
func mustDecode(t testing.TB, name string, text []byte) *Document {
	t.Helper()
	doc, problems := Decode(name, text)
	if doc == nil {
		var b strings.Builder
		_ = problems.Render(&b, source.Plain)
		t.Fatalf("%s is not valid:\n%s", name, b.String())
	}
	return doc
}

// TestValidFilesLoad decodes every valid file, and its canonical form, which must be a document of the same meaning.
func TestValidFilesLoad(t *testing.T) {
	t.Parallel()
	for _, name := range validFiles(t) {
		doc := mustDecode(t, name, read(t, name))
		b, err := doc.Integration.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := flow.Decode(b); err != nil {
			t.Errorf("canonical form of %s: %v", name, err)
		}
		again := mustDecode(t, name+" (canonical)", b)
		if again.Integration.Digest() != doc.Integration.Digest() {
			t.Errorf("%s: the canonical form has another digest than the file", name)
		}
	}
}
