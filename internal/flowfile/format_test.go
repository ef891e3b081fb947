package flowfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// TestFormatGolden formats the file in each archive and compares with the file `formatted` in it.
func TestFormatGolden(t *testing.T) {
	t.Parallel()
	archives, err := filepath.Glob("testdata/format/*.txtar")
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
			got, err := Format(a.Files[0].Data)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				a.Files = []txtar.File{a.Files[0], {Name: "formatted", Data: got}}
				if err := os.WriteFile(name, txtar.Format(a), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(a.Files[1].Data), string(got)); diff != "" {
				t.Errorf("formatted (-want +got):\n%s", diff)
			}
			again, err := Format(got)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(got), string(again)); diff != "" {
				t.Errorf("formatting twice differs (-once +twice):\n%s", diff)
			}
		})
	}
}

func TestFormatKeepsValidFiles(t *testing.T) {
	t.Parallel()
	for _, name := range validFiles(t) {
		text := read(t, name)
		before := mustDecode(t, name, text)
		got, err := Format(text)
		if err != nil {
			t.Fatalf("format %s: %v", name, err)
		}
		if after := mustDecode(t, name, got); after.Integration.Digest() != before.Integration.Digest() {
			t.Errorf("%s: formatting changed the digest", name)
		}
		again, err := Format(got)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(got), string(again)); diff != "" {
			t.Errorf("%s: formatting twice differs (-once +twice):\n%s", name, diff)
		}
	}
}

// TestFormatLeavesCanonicalFilesAlone: the files of the repository are formatted.
func TestFormatLeavesCanonicalFilesAlone(t *testing.T) {
	t.Parallel()
	text := read(t, "testdata/valid/everything.yaml")
	got, err := Format(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), string(got)); diff != "" {
		t.Errorf("everything.yaml is not formatted (-is +formatted):\n%s", diff)
	}
}

func TestFormatRefusesWhatIsNotYAML(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "a: [", "a: &x 1", "a: 1\n---\nb: 2", "a: 1\na: 2"} {
		var problems Problems
		if _, err := Format([]byte(in)); !errors.As(err, &problems) || len(problems) == 0 {
			t.Errorf("Format(%q): got error %v, want problems", in, err)
		}
	}
}
