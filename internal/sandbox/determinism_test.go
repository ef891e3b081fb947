package sandbox

import (
	"testing"
	"time"
)

// mixed depends on everything that could differ between two runs.
const mixed = `
const keys = Object.keys({z: 1, a: 2, 5: 3, 1: 4});
export default async (input) => {
	const m = new Map(Object.entries(input));
	const r = [Math.random(), Math.random()];
	await null;
	return [keys, [...m.keys()], r, Date.now(), new Date(0).toString(), new Date().toLocaleString(),
		(1234.5).toLocaleString(), "ä".localeCompare("z"), [3, 1, 2].sort(), new Error("x").stack];
}`

func TestDeterministic(t *testing.T) {
	e := newEngine(t)
	run := func(call Call) string {
		t.Helper()
		p, err := e.Compile(mixed, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		call.Input = []byte(`{"q": 1, "b": 2, "aa": 3}`)
		result, err := e.Run(p, call)
		if err != nil {
			t.Fatal(err)
		}
		return string(result.Output)
	}
	base := Call{Now: recorded, Seed: [2]uint64{3, 4}}
	first := run(base)
	for range 5 {
		if again := run(base); again != first {
			t.Fatalf("got %s, then %s", first, again)
		}
	}
	for name, other := range map[string]Call{
		"time":          {Now: recorded.Add(time.Millisecond), Seed: base.Seed},
		"first seed":    {Now: recorded, Seed: [2]uint64{5, 4}},
		"second seed":   {Now: recorded, Seed: [2]uint64{3, 5}},
		"swapped seeds": {Now: recorded, Seed: [2]uint64{4, 3}},
	} {
		if got := run(other); got == first {
			t.Errorf("another %s changes nothing: %s", name, got)
		}
	}
	zone := time.FixedZone("east", 3600)
	if got := run(Call{Now: recorded.In(zone), Seed: base.Seed}); got != first {
		t.Errorf("the zone of the recorded time shows: %s, want %s", got, first)
	}
}

// TestDateStands proves that the clock does not move while code runs.
func TestDateStands(t *testing.T) {
	result, err := runCode(t, `export default () => { const a = Date.now(); for (let i = 0; i < 2e5; i++); return Date.now() - a }`, "1", Limits{})
	if err != nil || string(result.Output) != "0" {
		t.Errorf("got %s, %v, want 0", result.Output, err)
	}
}

// TestRandomSequence pins the numbers, which resumed executions of older releases depend on.
func TestRandomSequence(t *testing.T) {
	result, err := runCode(t, `export default () => [1, 2, 3].map(() => Math.random())`, "1", Limits{})
	want := "[0.7693732693650721,0.6164362237391213,0.7844280016590215]"
	if err != nil || string(result.Output) != want {
		t.Errorf("got %s, %v, want %s", result.Output, err, want)
	}
}

// TestNothingSurvives proves that runs of one program, and of one engine, share nothing that code can change.
func TestNothingSurvives(t *testing.T) {
	e := newEngine(t)
	p, err := e.Compile(`
		let n = 0;
		const literal = {n: 0};
		const tag = (s) => s;
		export default () => {
			const before = [n++, literal.n++, globalThis.x, Object.prototype.y, Array.prototype.map.z, Math.w, tag`+"`a`"+`.v, /a/g.lastIndex, Symbol.for("s").description];
			globalThis.x = Object.prototype.y = Array.prototype.map.z = Math.w = 1;
			Math.random = () => 4;
			Date.now = () => 4;
			return before.map(String);
		}`, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := `["0","0","undefined","undefined","undefined","undefined","undefined","0","s"]`
	for i := range 3 {
		result, err := e.Run(p, Call{Input: []byte("1"), Now: recorded})
		if err != nil || string(result.Output) != want {
			t.Errorf("run %d: got %s, %v, want %s", i, result.Output, err, want)
		}
	}
}

// TestRunsSideBySide proves that one engine and one program may serve many goroutines.
func TestRunsSideBySide(t *testing.T) {
	e := newEngine(t)
	p, err := e.Compile(small, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	const runs = 8
	outputs := make(chan string, runs)
	for range runs {
		go func() {
			result, err := e.Run(p, Call{Input: []byte(smallInput), Now: recorded, Limits: Limits{Memory: 1 << 30}})
			if err != nil {
				outputs <- err.Error()
				return
			}
			outputs <- string(result.Output)
		}()
	}
	for range runs {
		if got, want := <-outputs, `{"points":80,"grade":"A"}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
