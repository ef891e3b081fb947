package flowfile

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

// seeds adds every file that the other tests use.
func seeds(f *testing.F) {
	for _, name := range validFiles(f) {
		f.Add(read(f, name))
	}
	archives, err := filepath.Glob("testdata/*/*.txtar")
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
}

// FuzzDecode: no input panics, problems lie inside the file, and what is valid has a canonical form that means the same.
func FuzzDecode(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, problems := Decode("f", text)
		lines := bytes.Count(text, []byte("\n")) + 1
		for _, p := range problems {
			if p.Line < 1 || p.Line > lines || p.Column < 1 || p.Length < 1 || p.Message == "" {
				t.Errorf("problem outside of the file of %d lines: %+v", lines, p)
			}
		}
		if doc == nil {
			if !problems.Invalid() {
				t.Error("neither a document nor an error")
			}
			return
		}
		b, err := doc.Integration.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := flow.Decode(b); err != nil {
			t.Errorf("canonical form: %v\n%s", err, b)
		}
		again, problems := Decode("g", b)
		if again == nil || again.Integration.Digest() != doc.Integration.Digest() {
			t.Errorf("the canonical form means something else: %v\n%s", problems, b)
		}
	})
}

// FuzzFormat: what can be formatted is readable, and formatting it again changes nothing. Format itself compares meaning.
func FuzzFormat(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		once, err := Format(text)
		if err != nil {
			var problems source.Problems
			if !errors.As(err, &problems) && !errors.Is(err, ErrFormat) {
				t.Errorf("unexpected kind of error: %v", err)
			}
			return
		}
		twice, err := Format(once)
		if err != nil {
			t.Fatalf("format again: %v\n%s", err, once)
		}
		if !bytes.Equal(once, twice) {
			t.Errorf("formatting twice differs:\n%s\n---\n%s", once, twice)
		}
	})
}

func FuzzDecodeTests(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		if tests, problems := DecodeTests("f", text, nil); (tests == nil) != problems.Invalid() {
			t.Errorf("tests %v with problems %v", tests, problems)
		}
	})
}
