package expr

import (
	"context"
	"testing"
	"time"
)

// vars are fixed variables for tests, with a fixed host.
type vars map[string]Value

func (v vars) Resolve(name string) (Value, bool) {
	x, ok := v[name]
	return x, ok
}

func (v vars) Now() time.Time { return time.Date(2026, 5, 17, 10, 30, 0, 0, time.UTC) }
func (v vars) UUID() string   { return "0197a2f0-0000-7000-8000-000000000001" }

func parse(t testing.TB, s string) Value {
	t.Helper()
	v, err := ParseJSON([]byte(s))
	if err != nil {
		t.Fatalf("ParseJSON(%s): %v", s, err)
	}
	return v
}

func TestEval(t *testing.T) {
	t.Parallel()
	scope := NewScope().With("trigger", Dyn()).With("line", Dyn())
	v := vars{
		"trigger": parse(t, `{"body": {"id": 12345678901234567890, "price": 1.50, "n": null, "items": [{"q": 2, "p": 1.25}, {"q":1,"p":3}]}}`),
		"line":    parse(t, `{"qty": 3}`),
	}
	for _, tc := range []struct{ src, want string }{
		{`1 + 2`, `3`},
		{`7 / 2`, `3.5`},
		{`6 / 2`, `3`},
		{`trigger.body.id`, `12345678901234567890`},
		{`trigger.body.id + 1`, `12345678901234567891`},
		{`{"p": trigger.body.price}`, `{"p":1.50}`},
		{`trigger.body.price * 2`, `3`},
		{`trigger.body.items.map(i, i.q * i.p)`, `[2.5,3]`},
		{`sum(trigger.body.items.map(i, i.q * i.p))`, `5.5`},
		{`sum(trigger.body.items, i, i.q * i.p)`, `5.5`},
		{`orElse(trigger.body.x.y, "d")`, `"d"`},
		{`orElse(trigger.body.n, "d")`, `"d"`},
		{`orElse(trigger.body.n.x, "d")`, `"d"`},
		{`decimal("19.90") * 2`, `39.80`},
		{`round(2.675, 2)`, `2.68`},
		{`line.qty + 1`, `4`},
		{`"a" + string(trigger.body.price)`, `"a1.50"`},
		{`[1,2,3].exists(x, x == 2.0)`, `true`},
		{`trigger.body.price == 1.5`, `true`},
		{`2 in [1, 2.0]`, `true`},
		{`has(trigger.body.nope.x)`, `false`},
		{`now()`, `"2026-05-17T10:30:00Z"`},
		{`uuid()`, `"0197a2f0-0000-7000-8000-000000000001"`},
		{`9223372036854775807 + 1`, `9223372036854775808`},
		{`trigger.body.items[1].p > 2.5 ? "big" : null`, `"big"`},
		{`"abcd".substring(trigger.body.items[0].q)`, `"cd"`},
	} {
		p, issues := Compile(tc.src, scope)
		if len(issues) > 0 {
			t.Errorf("%s: %v", tc.src, issues)
			continue
		}
		out, err := p.Eval(context.Background(), v)
		if err != nil {
			t.Errorf("%s: %v", tc.src, err)
			continue
		}
		got, err := AppendJSON(nil, out)
		if err != nil || string(got) != tc.want {
			t.Errorf("%s = %s, %v; want %s", tc.src, got, err, tc.want)
		}
	}
}
