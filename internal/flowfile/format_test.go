package flowfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/bulkheadhq/bulkhead/internal/source"
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
		var problems source.Problems
		if _, err := Format([]byte(in)); !errors.As(err, &problems) || len(problems) == 0 {
			t.Errorf("Format(%q): got error %v, want problems", in, err)
		}
	}
}

// TestFormatGuard: the comparison after writing notices what a wrong layout would do.
func TestFormatGuard(t *testing.T) {
	t.Parallel()
	text := []byte("a: 1 # note\nb: [x, {c: y}]\nd: |\n  e\n")
	root, src, _ := load("", text)
	found := findComments(root, src)
	if err := sameMeaning(root, text, text, nil, found); err != nil {
		t.Fatalf("the same text: %v", err)
	}
	for name, after := range map[string]string{
		"comment lost":    "a: 1\nb: [x, {c: y}]\nd: |\n  e\n",
		"comment changed": "a: 1 # not\nb: [x, {c: y}]\nd: |\n  e\n",
		"number to text":  "a: \"1\" # note\nb: [x, {c: y}]\nd: |\n  e\n",
		"value changed":   "a: 1 # note\nb: [x, {c: z}]\nd: |\n  e\n",
		"key changed":     "a: 1 # note\nb: [x, {k: y}]\nd: |\n  e\n",
		"key lost":        "a: 1 # note\nb: [x, {c: y}]\n",
		"order changed":   "b: [x, {c: y}]\na: 1 # note\nd: |\n  e\n",
		"item lost":       "a: 1 # note\nb: [x]\nd: |\n  e\n",
		"block to quotes": "a: 1 # note\nb: [x, {c: y}]\nd: \"e\\n\"\n",
		"not YAML":        "a: [",
	} {
		if err := sameMeaning(root, text, []byte(after), nil, found); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: got %v, want ErrFormat", name, err)
		}
	}
}
