package expr

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden runs testdata/*.txtar. A file holds vars.json (the variables), optionally
// scope.json (their types; all unknown without it), and cases: an expression per line, below it
//
//	= the value as JSON, its hash-equal spelling as AppendJSON writes it
//	! an error of the evaluation
//	? an issue of the compilation, with offset+length and the text it spans
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	root := NewScope()
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			arch, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			v, scope := goldenVars(t, root, arch)
			for i, f := range arch.Files {
				if !strings.HasPrefix(f.Name, "cases") {
					continue
				}
				got := runCases(t, f.Data, scope, v)
				if *update {
					arch.Files[i].Data = got
				} else if diff := cmp.Diff(string(f.Data), string(got)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", f.Name, diff)
				}
			}
			if *update {
				if err := os.WriteFile(name, txtar.Format(arch), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func goldenVars(t *testing.T, scope *Scope, arch *txtar.Archive) (vars, *Scope) {
	t.Helper()
	v := vars{}
	typed := map[string]any{}
	for _, f := range arch.Files {
		switch f.Name {
		case "vars.json":
			all := parse(t, string(f.Data))
			for _, k := range Keys(all) {
				v[k], _ = Lookup(all, k)
			}
		case "scope.json":
			if err := json.Unmarshal(f.Data, &typed); err != nil {
				t.Fatal(err)
			}
		}
	}
	for k := range v {
		scope = scope.With(k, Dyn())
	}
	for _, k := range slices.Sorted(maps.Keys(typed)) {
		scope = scope.With(k, goldenType(typed[k]))
	}
	return v, scope
}

// goldenType reads a type: "string", ["number"] for a list, {…} for an object, with "..." open.
func goldenType(v any) Type {
	switch x := v.(type) {
	case []any:
		return ListType(goldenType(x[0]))
	case map[string]any:
		fields := map[string]Type{}
		for k, f := range x {
			if k != "..." {
				fields[k] = goldenType(f)
			}
		}
		if _, open := x["..."]; open {
			return OpenObjectType(fields)
		}
		return ObjectType(fields)
	}
	name, null := strings.CutSuffix(v.(string), "?")
	t := map[string]Type{
		"dyn": Dyn(), "null": NullType(), "bool": BoolType(), "int": IntType(), "number": NumberType(),
		"string": StringType(), "bytes": BytesType(), "time": TimeType(), "duration": DurationType(),
	}[name]
	if null {
		t = t.OrNull()
	}
	return t
}

func runCases(t *testing.T, data []byte, scope *Scope, v vars) []byte {
	var out bytes.Buffer
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "" || strings.HasPrefix(line, "//"):
			fmt.Fprintln(&out, line)
		case strings.HasPrefix(line, "= "), strings.HasPrefix(line, "! "), strings.HasPrefix(line, "? "):
		default:
			fmt.Fprintln(&out, line)
			out.WriteString(runCase(t, line, scope, v))
		}
	}
	return out.Bytes()
}

func runCase(t *testing.T, src string, scope *Scope, v vars) string {
	p, issues := Compile(src, scope)
	if len(issues) > 0 {
		var b strings.Builder
		for _, i := range issues {
			if i.Offset < 0 || i.Length < 0 || i.Offset+i.Length > len(src) {
				t.Errorf("%s: issue outside of the source: %+v", src, i)
				continue
			}
			fmt.Fprintf(&b, "? %d+%d %q: %s\n", i.Offset, i.Length, src[i.Offset:i.Offset+i.Length], i)
		}
		return b.String()
	}
	val, err := p.Eval(context.Background(), v)
	if err == nil {
		var b []byte
		if b, err = AppendJSON(nil, val); err == nil {
			return "= " + string(b) + "\n"
		}
	}
	return "! " + err.Error() + "\n"
}
