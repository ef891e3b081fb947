package expr

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
	celenv "cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// evalLimited evaluates an expression and returns the error and the bytes allocated meanwhile.
func evalLimited(t *testing.T, src string, v vars) (allocated uint64, err error) {
	t.Helper()
	scope := NewScope()
	for k := range v {
		scope = scope.With(k, Dyn())
	}
	p, issues := Compile(src, scope)
	if len(issues) > 0 {
		t.Fatalf("%s: %v", src, issues)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = p.Eval(context.Background(), v)
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, err
}

// TestGrowth is the regression test of doubling: every way to make much out of little stops by
// a limit, early and in little memory. It is not parallel because it measures allocation.
func TestGrowth(t *testing.T) {
	if raceEnabled {
		t.Skip("SKIPPED under the race detector")
	}
	big := strings.Repeat("x", 1<<20)
	v := vars{"big": String(big), "ten": parse(t, `[1,2,3,4,5,6,7,8,9,10]`)}
	double := func(n int) string { return strings.Repeat(`.map(s, s + s)`, n) }
	const budget = 160 << 20
	for name, src := range map[string]string{
		"string doubled 24 times": `["0123456789"]` + double(24),
		"list doubled 24 times":   `[[1, 2]]` + double(24),
		"bytes doubled 24 times":  `[b"0123456789"]` + double(24),
		"replace":                 `big.replace("x", big)`,
		"replace of nothing":      `big.replace("", big)`,
		"join":                    `lists.range(1000).map(i, big).join("")`,
		"format":                  `"%s%s%s%s%s%s%s%s%s".format([big, big, big, big, big, big, big, big, big])`,
		"split":                   `(big + big).split("")`,
		"range":                   `lists.range(1000000000)`,
		"flatten":                 `flatten(lists.range(1000).map(i, lists.range(2000)))`,
		"nested loops":            `ten` + strings.Repeat(`.map(a, ten`, 8) + strings.Repeat(`)`, 8),
		"squares":                 `[decimal("9999999999")]` + strings.Repeat(`.map(s, s * s)`, 12),
		"big integers":            `[9999999999]` + strings.Repeat(`.map(s, s * s)`, 12),
		"strings kept":            `lists.range(1000).map(i, big + string(i))`,
		"toJson of toJson":        `["\""]` + strings.Repeat(`.map(s, toJson(s))`, 24),
		"hex":                     `[big]` + strings.Repeat(`.map(s, hex(s))`, 6),
		"groups":                  `lists.range(1000000).map(i, groupBy(lists.range(1000), x, x))`,
		"equality":                `lists.range(100000).map(i, lists.range(100000) == lists.range(100000))`,
		"shared lists":            `[[1, 2]]` + strings.Repeat(`.map(s, [s, s])`, 40),
		"shared lists as text":    `toJson([[1, 2]]` + strings.Repeat(`.map(s, [s, s])`, 40) + `)`,
		"shared lists compared":   `[[1, 2]]` + strings.Repeat(`.map(s, [s, s])`, 40) + ` == [[1, 2]]` + strings.Repeat(`.map(s, [s, s])`, 40),
		"shared lists sought":     `[[1, 2]]` + strings.Repeat(`.map(s, [s, s])`, 40) + ` in [1]`,
		"shared lists as keys":    `unique([[1, 2]]` + strings.Repeat(`.map(s, [s, s])`, 40) + `)`,
		"shared lists formatted":  `"%s".format([[1, 2]]` + strings.Repeat(`.map(s, [s, s])`, 40) + `)`,
		"shared lists flattened":  `flatten([[1, 2]]` + strings.Repeat(`.map(s, [s, s])`, 40) + `, 100)`,
		"shared objects":          `[{"a": 1}]` + strings.Repeat(`.map(s, {"a": s, "b": s})`, 40),
		"regular expression":      `lists.range(100000).map(i, big.matches("(x+x+)+y"))`,
	} {
		t.Run(name, func(t *testing.T) {
			allocated, err := evalLimited(t, src, v)
			var e *Error
			if !errors.As(err, &e) || !e.Limit {
				t.Errorf("error = %v, want a limit", err)
			}
			if allocated > budget {
				t.Errorf("allocated %d MiB before it stopped", allocated>>20)
			}
		})
	}
}

// TestGrowthNeedsDefence is the red twin of TestGrowth: with a + that neither looks at the size
// of its result nor is priced by it, CEL's own budget lets a string grow far beyond the limits.
func TestGrowthNeedsDefence(t *testing.T) {
	t.Parallel()
	str := cel.StringType
	env, err := cel.NewCustomEnv(
		cel.StdLib(cel.StdLibSubset(celenv.NewLibrarySubset().AddExcludedFunctions(celenv.NewFunction(operators.Add)))),
		cel.Function(operators.Add, cel.Overload("plus", []*cel.Type{str, str}, str),
			cel.SingletonBinaryBinding(func(a, b ref.Val) ref.Val { return a.(types.String) + b.(types.String) })),
		cel.Variable("s", str),
	)
	if err != nil {
		t.Fatal(err)
	}
	ast, iss := env.Compile(`s + s`)
	if iss.Err() != nil {
		t.Fatal(iss.Err())
	}
	p, err := env.Program(ast, cel.CostTracking(nil), cel.CostLimit(100))
	if err != nil {
		t.Fatal(err)
	}
	out, _, err := p.Eval(map[string]any{"s": strings.Repeat("x", MaxStringBytes)})
	if err != nil || len(out.(types.String)) <= MaxStringBytes {
		t.Errorf("without the defence: %v; the test of the defence proves nothing", err)
	}
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	scope := NewScope().With("n", Dyn())
	p, issues := Compile(`lists.range(n).exists(i, lists.range(n).exists(j, i + j < 0))`, scope)
	if len(issues) > 0 {
		t.Fatal(issues)
	}
	why := errors.New("the worker stops")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	_, err := p.Eval(ctx, vars{"n": Int(3000)})
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, why) {
		t.Errorf("Eval = %v, want an *Error that wraps %v", err, why)
	}
}

func TestSourceLimits(t *testing.T) {
	t.Parallel()
	scope := NewScope().With("x", Dyn())
	for name, src := range map[string]string{
		"long":   strings.Repeat(" ", MaxSourceBytes) + "1",
		"deep":   strings.Repeat("(", 2*MaxSourceDepth) + "1" + strings.Repeat(")", 2*MaxSourceDepth),
		"nodes":  "[" + strings.Repeat("1,", MaxSourceNodes+1) + "1]",
		"lists":  strings.Repeat("[", 5_000),
		"macros": "x" + strings.Repeat(".map(a, a", 300) + strings.Repeat(")", 300),
		"regex":  `"a".matches("` + strings.Repeat("(a{1000})", 5) + `")`,
	} {
		if _, issues := Compile(src, scope); len(issues) != 1 {
			t.Errorf("%s: %d issues, want 1", name, len(issues))
		}
	}
	deep := strings.Repeat(`{"a":`, MaxJSONDepth) + "1" + strings.Repeat("}", MaxJSONDepth)
	if _, err := ParseJSON([]byte(deep)); err != nil {
		t.Errorf("JSON as deep as allowed: %v", err)
	}
	if _, err := ParseJSON([]byte("[" + deep + "]")); err == nil {
		t.Error("JSON deeper than allowed was accepted")
	}
	// What is written can be read back: a view inside of something built counts with it.
	v := NewList([]Value{parse(t, deep)})
	if _, err := AppendJSON(nil, v); err == nil {
		t.Error("a value deeper than allowed was written")
	}
	inner, _ := Lookup(parse(t, deep), "a")
	out, err := AppendJSON(nil, NewList([]Value{inner}))
	if err != nil {
		t.Errorf("a value as deep as allowed: %v", err)
	} else if _, err := ParseJSON(out); err != nil {
		t.Errorf("what was written cannot be read: %v", err)
	}
}

func TestDataIsNeverCode(t *testing.T) {
	t.Parallel()
	scope := NewScope().With("x", Dyn())
	for _, data := range []string{"${{ 1 + 1 }}", `" + uuid() + "`, "{{ x }}", "now()"} {
		p, issues := Compile(`[x, x + "", string(x), "%s".format([x]), toJson(x), parseJson(toJson(x)), x.replace("a", "b")]`, scope)
		if len(issues) > 0 {
			t.Fatal(issues)
		}
		out, err := p.Eval(context.Background(), vars{"x": String(data)})
		if err != nil {
			t.Fatal(err)
		}
		for i := range Len(out) {
			got, _ := Index(out, i)
			want := data
			if i == 4 {
				want = string(appendString(nil, data))
			}
			if i == 6 {
				want = strings.ReplaceAll(data, "a", "b")
			}
			if s, _ := Str(got); s != want {
				t.Errorf("item %d of %q = %q", i, data, s)
			}
		}
	}
}
