package expr

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTemplate(t *testing.T) {
	t.Parallel()
	for src, want := range map[string][]Part{
		"":                            nil,
		"plain $ text $$ {{ }}":       {{Text: "plain $ text $$ {{ }}"}},
		"${{ a.b }}":                  {{Source: "a.b", Offset: 4}},
		"${{a}}":                      {{Source: "a", Offset: 3}},
		"x ${{ a }} y":                {{Text: "x "}, {Source: "a", Offset: 6}, {Text: " y", Offset: 10}},
		"${{ a }}${{ b }}":            {{Source: "a", Offset: 4}, {Source: "b", Offset: 12}},
		"$${{ a }}":                   {{Text: "${{ a }}"}},
		"a$${{ b }}${{ c }}":          {{Text: "a${{ b }}"}, {Source: "c", Offset: 14}},
		`${{ {"a": {"b": 1}} }}`:      {{Source: `{"a": {"b": 1}}`, Offset: 4}},
		`${{ {"a":{"b":1}}}}`:         {{Source: `{"a":{"b":1}}`, Offset: 4}},
		`${{ "}}" + '}}' }}`:          {{Source: `"}}" + '}}'`, Offset: 4}},
		`${{ "\"}}" }}`:               {{Source: `"\"}}"`, Offset: 4}},
		`${{ r"\" + "}}" }}`:          {{Source: `r"\" + "}}"`, Offset: 4}},
		`${{ """a"}}""" }}`:           {{Source: `"""a"}}"""`, Offset: 4}},
		`${{ a[{"x": "y"}.x] }}!`:     {{Source: `a[{"x": "y"}.x]`, Offset: 4}, {Text: "!", Offset: 22}},
		"${{ a // }} no\n + 1 }}":     {{Source: "a // }} no\n + 1", Offset: 4}},
		"${{ xs.map(x, {'a': x}) }} ": {{Source: "xs.map(x, {'a': x})", Offset: 4}, {Text: " ", Offset: 26}},
	} {
		got, issues := ParseTemplate(src)
		if len(issues) > 0 {
			t.Errorf("%q: %v", src, issues)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", src, diff)
		}
	}
	for src, want := range map[string]Issue{
		"a ${{ b":     {Offset: 2, Length: 3, Message: "this ${{ has no closing }}"},
		"${{ }}":      {Offset: 0, Length: 6, Message: "there is no expression between ${{ and }}"},
		`${{ "a }}`:   {Offset: 0, Length: 3, Message: "this ${{ has no closing }}"},
		"${{ {a }}":   {Offset: 0, Length: 3, Message: "this ${{ has no closing }}"},
		"x${{\n\t}}y": {Offset: 1, Length: 7, Message: "there is no expression between ${{ and }}"},
	} {
		_, issues := ParseTemplate(src)
		if len(issues) != 1 || issues[0].Offset != want.Offset || issues[0].Length != want.Length || issues[0].Message != want.Message {
			t.Errorf("%q: %+v, want %+v", src, issues, want)
		}
	}
	if _, issues := ParseTemplate("${{ a }}" + strings.Repeat("x", MaxSourceBytes)); len(issues) != 1 {
		t.Error("a template longer than allowed was parsed")
	}
	long := strings.Repeat("x", 2*MaxSourceBytes)
	if parts, issues := ParseTemplate(long); len(issues) > 0 || len(parts) != 1 || parts[0].Text != long {
		t.Error("a long literal without expressions must pass")
	}
}

func TestReference(t *testing.T) {
	t.Parallel()
	for src, want := range map[string][]string{
		"trigger":                     {"trigger"},
		" trigger.body.id ":           {"trigger", "body", "id"},
		`trigger.headers["x-id"]`:     {"trigger", "headers", "x-id"},
		`trigger.headers['x-id'].a`:   {"trigger", "headers", "x-id", "a"},
		`a.b[0][12].c`:                {"a", "b", "[0]", "[12]", "c"},
		"a.b()":                       nil,
		"a + b":                       nil,
		"a.?b":                        nil,
		"a[b]":                        nil,
		"a[-1]":                       nil,
		"a[99999999999]":              nil,
		`a["\n"]`:                     nil,
		`a["[0]"]`:                    nil,
		"true":                        nil,
		"null":                        nil,
		"a.":                          nil,
		".a":                          nil,
		"a.1":                         nil,
		"1":                           nil,
		"":                            nil,
		`"a"`:                         nil,
		"a.b c":                       nil,
		"a.in":                        nil,
		`a["x"`:                       nil,
		"a[":                          nil,
		"for.x":                       nil,
		"steps.order.body.items[0].q": {"steps", "order", "body", "items", "[0]", "q"},
	} {
		got, ok := IsReference(src)
		if ok != (want != nil) {
			t.Errorf("IsReference(%q) = %v", src, ok)
		} else if diff := cmp.Diff(want, got); ok && diff != "" {
			t.Errorf("IsReference(%q) (-want +got):\n%s", src, diff)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		`"a\"b"`: `a"b`, `null`: "", `1.50`: "1.50", `true`: "true", `[1, "a"]`: `[1, "a"]`, `{"a":1}`: `{"a":1}`, `12345678901234567890`: "12345678901234567890",
	} {
		if got, err := Text(parse(t, src)); err != nil || got != want {
			t.Errorf("Text(%s) = %q, %v; want %q", src, got, err, want)
		}
	}
	if got, err := Text(Time(vars{}.Now())); err != nil || got != "2026-05-17T10:30:00Z" {
		t.Errorf("Text of a time = %q, %v", got, err)
	}
	if _, err := Text(FromNative([]byte("x"))); err == nil {
		t.Error("bytes print as text")
	}
}

func TestProgramReferences(t *testing.T) {
	t.Parallel()
	scope := NewScope().With("trigger", Dyn()).With("steps", Dyn()).With("lines", Dyn())
	for src, want := range map[string][]string{
		`trigger.body.id`: {"trigger.body.id"},
		`steps.order.body.lines.map(l, l.qty * trigger.factor)`: {"steps.order.body.lines", "trigger.factor"},
		`orElse(steps.a.b, trigger.c)`:                          {"steps.a.b", "trigger.c"},
		`has(steps.a.b) && steps.a.b == steps.a.b`:              {"steps.a.b"},
		`lines.map(lines, lines.x)`:                             {"lines"},
		`trigger.headers["x"].y`:                                {"trigger.headers"},
		`cel.bind(steps, trigger.a, steps.b)`:                   {"trigger.a"},
		`1 + 1`:                                                 {},
	} {
		p, issues := Compile(src, scope)
		if len(issues) > 0 {
			t.Errorf("%s: %v", src, issues)
			continue
		}
		if diff := cmp.Diff(want, p.References()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", src, diff)
		}
	}
}

func TestProgramType(t *testing.T) {
	t.Parallel()
	scope := NewScope().With("o", ObjectType(map[string]Type{"n": NumberType(), "i": IntType(), "s": StringType(), "l": ListType(StringType())}))
	for src, want := range map[string]string{
		`o`: "object", `o.n`: "number", `o.i + 1`: "whole number", `o.i / 2`: "number", `o.l`: "list of strings",
		`o.l.map(x, x + "a")`: "list of strings", `o.l.filter(x, x != "")`: "list of strings", `o.n > 1`: "boolean",
		`[o.i, o.n]`: "list of numbers", `o.i > 1 ? o.s : null`: "string", `now()`: "time", `toJson(o)`: "string",
		`o.l.transformMap(i, x, x)`: "object", `first(o.l)`: "string", `size(o.l)`: "whole number",
		`parseJson(o.s)`: "value", `o.l.exists(x, x == "a")`: "boolean", `o.l.exists_one(x, x == "a")`: "boolean",
		`orElse(o.s, "x")`: "string", `o.?s.orValue("x")`: "string", `o.?s`: "string", `sum([1])`: "number",
	} {
		p, issues := Compile(src, scope)
		if len(issues) > 0 {
			t.Errorf("%s: %v", src, issues)
		} else if p.Type().String() != want {
			t.Errorf("type of %s = %s, want %s", src, p.Type(), want)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"a ${{ b }} c", "$${{ ${{ '}}' }}", `${{ {"a":{}} }}`, "${{ r'\\' }}", "${{ a // }}\n}}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		parts, issues := ParseTemplate(s)
		for _, i := range issues {
			if i.Offset < 0 || i.Length < 0 || i.Offset+i.Length > len(s) {
				t.Fatalf("issue outside of %q: %+v", s, i)
			}
		}
		for _, p := range parts {
			if p.IsExpression() && !strings.HasPrefix(s[p.Offset:], p.Source) {
				t.Fatalf("expression %q is not at %d of %q", p.Source, p.Offset, s)
			}
			if path, ok := IsReference(p.Source); ok && len(path) == 0 {
				t.Fatalf("empty path of %q", p.Source)
			}
		}
		if len(issues) == 0 && !strings.Contains(s, openTag) && s != "" {
			if len(parts) != 1 || parts[0].Text != s {
				t.Fatalf("text %q became %v", s, parts)
			}
		}
	})
}
