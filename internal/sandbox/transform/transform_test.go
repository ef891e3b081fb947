package transform

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/sandbox"
)

// run compiles TypeScript and runs it as a code step.
func run(t *testing.T, source, input string) (string, error) {
	t.Helper()
	code, err := TypeScript(source)
	if err != nil {
		return "", err
	}
	engine, err := sandbox.NewEngine()
	if err != nil {
		t.Fatal(err)
	}
	program, err := engine.Compile(code, sandbox.Limits{})
	if err != nil {
		return "", err
	}
	result, err := engine.Run(program, sandbox.Call{Input: []byte(input)})
	return string(result.Output), err
}

func TestTypeScript(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ source, want string }{
		"types":       {"interface In { a: number }\ntype Out = { b: number };\nexport default ({ a }: In): Out => ({ b: a! + 1 } satisfies Out as Out)", `{"b":2}`},
		"generic":     {"const id = <T,>(x: T): T => x;\nexport default function <T extends object>(x: T) { return id<T>(x) }", `{"a":1}`},
		"enum":        {"enum Color { Red = 1, Green }\nexport default () => [Color.Green, Color[1]]", `[2,"Red"]`},
		"class":       {"class P { constructor(private a: number, readonly b = 2) {} sum(): number { return this.a + this.b } }\nexport default (x: any) => new P(x.a).sum()", `3`},
		"optional":    {"export default (x: any) => x?.y?.z ?? 'none'", `"none"`},
		"async":       {"export default async (x: unknown): Promise<unknown> => { const y = await Promise.resolve(x); return y }", `{"a":1}`},
		"import type": {"import type { T } from 'somewhere';\nexport default (x: T) => x", `{"a":1}`},
		"characters":  {"export default () => 'é😀'", `"é😀"`},
		"plain":       {"export default x => x", `{"a":1}`},
		"accessor":    {"class A { static #n = 1; static { A.#n++ } static get n() { return A.#n } }\nexport default () => A.n", `2`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := run(t, c.source, `{"a":1}`)
			if err != nil || got != c.want {
				t.Errorf("got %s, %v, want %s", got, err, c.want)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		source string
		want   []Problem
	}{
		"syntax":     {"const a: number = 1;\nexport default () => { let é = ; }", []Problem{{`Unexpected ";"`, 2, 32}}},
		"several":    {"const a = 1;\nconst a = 2;\nlet b;\nlet b;\nexport default 1", []Problem{{`The symbol "a" has already been declared`, 2, 7}, {`The symbol "b" has already been declared`, 4, 5}}},
		"too large":  {strings.Repeat(" ", MaxSource+1), []Problem{{"the code is larger than 131072 bytes", 0, 0}}},
		"not UTF-8":  {"\xff", []Problem{{"the code is not valid UTF-8", 0, 0}}},
		"too nested": {strings.Repeat("(", MaxNesting+1), []Problem{{"brackets are nested more than 500 levels deep", 0, 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := TypeScript(c.source)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if diff := cmp.Diff(c.want, e.Problems); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestPlaces proves that errors of running code name the TypeScript, not what it was compiled to.
func TestPlaces(t *testing.T) {
	t.Parallel()
	_, err := run(t, `interface Lead {
  name: string
}

type Unused = { a: Lead };

function check(lead: Lead | null): string {
  return lead!.name;
}

export default (x: { lead: Lead | null }) => {
  return check(x.lead);
}`, `{"lead": null}`)
	var e *sandbox.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an error of the sandbox", err)
	}
	want := []sandbox.Frame{{Func: "check", Line: 8, Column: 16}, {Func: "default", Line: 12, Column: 10}}
	if diff := cmp.Diff(want, e.Stack); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestImportStays proves that an import is refused by the sandbox instead of vanishing with its name unused.
func TestImportStays(t *testing.T) {
	t.Parallel()
	_, err := run(t, "\nimport fs from 'fs';\nexport default () => 1", "1")
	var e *sandbox.Error
	if !errors.As(err, &e) || e.Kind != sandbox.KindSyntax || e.Line != 2 {
		t.Errorf("got %v, want a syntax error in line 2", err)
	}
}

func TestDeterministic(t *testing.T) {
	t.Parallel()
	source := "enum E { A }\nexport default (x: E) => [x, E.A]"
	first, err := TypeScript(source)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if again, _ := TypeScript(source); again != first {
			t.Fatalf("got %s, then %s", first, again)
		}
	}
}

func FuzzTypeScript(f *testing.F) {
	f.Add("export default (x: number) => x")
	f.Add("enum A { B = `${1}` } namespace N { export const x = 1 }")
	f.Add("abstract class A<T> { declare x: T; accessor y = 1 }")
	f.Add("a<b>(c)<d>;`${`")
	f.Fuzz(func(t *testing.T, source string) {
		code, err := TypeScript(source)
		var e *Error
		if err != nil && (!errors.As(err, &e) || len(e.Problems) == 0) {
			t.Errorf("untyped error %v", err)
		}
		if err != nil && code != "" {
			t.Errorf("code %q with error %v", code, err)
		}
	})
}

func BenchmarkTypeScript(b *testing.B) {
	for b.Loop() {
		if _, err := TypeScript("interface L { e: number }\nexport default ({ lead }: { lead: L }) => ({ grade: lead.e > 5 ? 'A' : 'B' })"); err != nil {
			b.Fatal(err)
		}
	}
}
