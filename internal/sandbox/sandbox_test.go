package sandbox

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write the golden files anew")

// recorded is the time of every test run.
var recorded = time.UnixMicro(1_700_000_000_123_456).UTC()

func TestMain(m *testing.M) {
	flag.Parse()
	// As the sandbox's main does, before anything runs.
	time.Local = time.UTC
	BoundRegexps(2 * time.Second)
	os.Exit(m.Run())
}

func newEngine(t testing.TB) *Engine {
	t.Helper()
	e, err := NewEngine()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// runCode compiles and runs source once.
func runCode(t testing.TB, source, input string, limits Limits) (Result, error) {
	t.Helper()
	e := newEngine(t)
	p, err := e.Compile(source, limits)
	if err != nil {
		return Result{}, err
	}
	return e.Run(p, Call{Input: []byte(input), Now: recorded, Seed: [2]uint64{1, 2}, Limits: limits})
}

// TestGolden runs every case of testdata: a source, an input, and what came of it.
//
// Like most tests here it is not parallel: memory is counted over the process, so a neighbour's bomb would end it.
func TestGolden(t *testing.T) {
	if !*update && !alone(t) {
		return
	}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			changed := false
			for i := 0; i+2 < len(archive.Files); i += 3 {
				source, input, want := archive.Files[i], archive.Files[i+1], &archive.Files[i+2]
				name := strings.TrimSuffix(source.Name, ".js")
				if input.Name != name+".json" || want.Name != name+".want" {
					t.Fatalf("%s: want %s.js, %s.json, %s.want in a row", file, name, name, name)
				}
				result, err := runCode(t, string(source.Data), string(input.Data), Limits{})
				got := describeResult(result, err)
				if *update && got != string(want.Data) {
					want.Data, changed = []byte(got), true
				}
				if diff := cmp.Diff(string(want.Data), got); diff != "" {
					t.Errorf("%s: (-want +got)\n%s", name, diff)
				}
			}
			if changed {
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// describeResult is the golden form of a result.
func describeResult(result Result, err error) string {
	var b strings.Builder
	var e *Error
	switch {
	case errors.As(err, &e):
		fmt.Fprintf(&b, "error %s\n", e.Error())
		for _, f := range e.Stack {
			fmt.Fprintf(&b, "  at %s %d:%d\n", f.Func, f.Line, f.Column)
		}
	case err != nil:
		fmt.Fprintf(&b, "untyped error %v\n", err)
	default:
		fmt.Fprintf(&b, "%s\n", result.Output)
	}
	for _, l := range result.Logs {
		fmt.Fprintf(&b, "%s: %s\n", l.Level, l.Text)
	}
	return b.String()
}
