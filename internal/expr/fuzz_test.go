package expr

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzEval compiles and evaluates whatever it is given: nothing panics, issues lie within the
// source, failures are *Errors, and what an evaluation returns can be written unless it is no
// JSON. The cost limit bounds every run.
func FuzzEval(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		arch, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range arch.Files {
			if !strings.HasPrefix(file.Name, "cases") {
				continue
			}
			for line := range strings.Lines(string(file.Data)) {
				if line = strings.TrimSpace(line); line != "" && !strings.ContainsAny(line[:1], "=!?/") {
					f.Add(line)
				}
			}
		}
	}
	v := vars{
		"trigger": parse(f, `{"body": {"id": 4711, "s": "text", "n": null, "big": 12345678901234567890, "p": 1.50, "l": [1, {"a": 2}, "x"], "o": {"k": "v"}, "t": true}}`),
		"item":    parse(f, `[3, 1, 2]`),
	}
	dyn := NewScope().With("trigger", Dyn()).With("item", Dyn())
	typed := dyn.With("trigger", ObjectType(map[string]Type{"body": ObjectType(map[string]Type{
		"id": IntType(), "s": StringType(), "n": NullType(), "big": NumberType(), "p": NumberType(),
		"l": ListType(Dyn()), "o": MapType(StringType()), "t": BoolType(),
	})})).With("item", ListType(IntType()))
	f.Fuzz(func(t *testing.T, src string) {
		for _, scope := range []*Scope{dyn, typed} {
			p, issues := Compile(src, scope)
			for _, i := range issues {
				if i.Offset < 0 || i.Length < 0 || i.Offset+i.Length > len(src) || i.Message == "" {
					t.Fatalf("%q: issue %+v", src, i)
				}
			}
			if (p == nil) != (len(issues) > 0) {
				t.Fatalf("%q: a program and issues", src)
			}
			if p == nil {
				continue
			}
			_ = p.Type().String()
			out, err := p.Eval(context.Background(), v)
			var e *Error
			if err != nil {
				if !errors.As(err, &e) || e.Message == "" {
					t.Fatalf("%q: error %#v", src, err)
				}
				continue
			}
			if b, err := AppendJSON(nil, out); err == nil {
				if _, err := ParseJSON(b); err != nil && len(b) < MaxJSONBytes {
					t.Fatalf("%q gave %q, which is not JSON: %v", src, b, err)
				}
			}
			Hash(out)
		}
	})
}
