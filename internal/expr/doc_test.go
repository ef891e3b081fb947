package expr

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestFunctionsAreDocumented holds doc/expressions.md and the environment together.
func TestFunctionsAreDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../doc/expressions.md")
	if err != nil {
		t.Fatal(err)
	}
	b := newBase()
	if err := b.ready(); err != nil {
		t.Fatal(err)
	}
	names := slices.Collect(maps.Keys(b.env.Functions()))
	names = append(names, slices.Collect(maps.Keys(macroUsages()))...)
	for _, m := range b.env.Macros() {
		if m.Function() != "greatest" && m.Function() != "least" && m.Function() != "bind" {
			names = append(names, m.Function())
		}
	}
	for _, n := range names {
		if strings.ContainsAny(n, "@_!") && n != "exists_one" {
			continue
		}
		if !strings.Contains(string(doc), n+"(") {
			t.Errorf("doc/expressions.md does not name %s()", n)
		}
	}
}

// TestExamplesOfMessages: every use that messages suggest compiles.
func TestExamplesOfMessages(t *testing.T) {
	t.Parallel()
	scope := NewScope().With("a", Dyn()).With("list", Dyn()).With("object", Dyn()).With("b", Dyn()).With("default", Dyn())
	for name, uses := range macroUsages() {
		for _, use := range strings.Split(uses, "), ") {
			if strings.Count(use, "(") > strings.Count(use, ")") {
				use += ")"
			}
			if _, issues := Compile(use, scope); len(issues) > 0 {
				t.Errorf("%s: %s: %v", name, use, issues)
			}
		}
	}
}
