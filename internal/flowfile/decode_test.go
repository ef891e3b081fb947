package flowfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/source"
)

const minimal = `bulkhead: 1
integration: a
flows: {main: {trigger: {manual: {}}, steps: [{id: a, set: %s}]}}
`

// setValue decodes a value in the place of a set step.
func setValue(t *testing.T, text string) *flow.Value {
	t.Helper()
	doc := mustDecode(t, "value", []byte(fmt.Sprintf(minimal, text)))
	return doc.Integration.Flows[0].Steps[0].Set
}

func TestScalars(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want string }{
		{`1`, `1`},
		{`-0`, `-0`},
		{`1.50`, `1.50`},
		{`1e400`, `1e400`},
		{`123456789012345678901234567890`, `123456789012345678901234567890`},
		{`true`, `true`},
		{`FALSE`, `false`},
		{`~`, `null`},
		{`null`, `null`},
		{`Null`, `null`},
		{`"yes"`, `"yes"`},
		{`'no'`, `"no"`},
		{`y`, `"y"`},
		{`12:30:45`, `"12:30:45"`},
		{`2026-01-01`, `"2026-01-01"`},
		{`1.2.3`, `"1.2.3"`},
		{`a b`, `"a b"`},
		{`"$${{ x }}"`, `"$${{ x }}"`},
		{`"${{ 1 + 1 }}"`, `"${{ 1 + 1 }}"`},
		{`{b: 1, a: [x, {}]}`, `{"b":1,"a":["x",{}]}`},
		{`{1: a, true: b}`, `{"1":"a","true":"b"}`},
		{`"\u00e9\x41\t"`, `"éA\t"`},
	}
	for _, tt := range tests {
		got, err := setValue(t, tt.in).MarshalJSON()
		if err != nil || string(got) != tt.want {
			t.Errorf("set: %s: got %s, %v, want %s", tt.in, got, err, tt.want)
		}
	}
	if v := setValue(t, `"$${{ x }}"`); v.Kind != flow.String || v.Text != "${{ x }}" {
		t.Errorf("escaped braces: got %v %q, want the text ${{ x }}", v.Kind, v.Text)
	}
}

// TestBlockExpression: the line feed that a block scalar leaves at its end does not make a text of an expression.
func TestBlockExpression(t *testing.T) {
	t.Parallel()
	text := "bulkhead: 1\nintegration: a\nflows:\n  main:\n    trigger: {manual: {}}\n    steps:\n      - id: a\n        set: |\n          ${{\n            [1,\n             2]\n          }}\n"
	v := mustDecode(t, "block", []byte(text)).Integration.Flows[0].Steps[0].Set
	if v.Kind != flow.Expression || !strings.HasPrefix(v.Parts[0].Expr.Source, "[1,") {
		t.Errorf("got %v %+v, want one expression", v.Kind, v.Parts)
	}
}

func TestJSONAndYAMLMeanTheSame(t *testing.T) {
	t.Parallel()
	for _, name := range validFiles(t) {
		root, _, _ := load(name, read(t, name))
		b, err := mustDecode(t, name, read(t, name)).Integration.Encode()
		if err != nil {
			t.Fatal(err)
		}
		asJSON, _, problems := load(name, b)
		if asJSON == nil || asJSON.Form != source.FlowForm || len(problems) > 0 {
			t.Errorf("%s: canonical form is not read as JSON: %v", name, problems)
		}
		if root.Form != source.BlockForm {
			t.Errorf("%s: is not read as YAML", name)
		}
	}
	doc := mustDecode(t, "pair", []byte(`{"bulkhead":1,"integration":"a","flows":{"main":{"trigger":{"manual":{}},"steps":[{"id":"a","set":"\ud83d\ude00"}]}}}`))
	if got := doc.Integration.Flows[0].Steps[0].Set.Text; got != "😀" {
		t.Errorf("surrogate pair: got %q", got)
	}
}

func TestByteOrderMarkAndLineEnds(t *testing.T) {
	t.Parallel()
	plain := fmt.Sprintf(minimal, "text")
	want := mustDecode(t, "plain", []byte(plain)).Integration.Digest()
	for name, text := range map[string]string{
		"mark": "\xef\xbb\xbf" + plain,
		"crlf": strings.ReplaceAll(plain, "\n", "\r\n"),
	} {
		if got := mustDecode(t, name, []byte(text)).Integration.Digest(); got != want {
			t.Errorf("%s: the digest differs", name)
		}
	}
	_, problems := Decode("crlf", []byte(strings.ReplaceAll(plain, "\n", "\r\n")[:20]+"é\r\nx: 1\r\n"))
	if len(problems) == 0 || strings.ContainsRune(problems[0].Source, '\r') {
		t.Errorf("carriage return in the shown line: %+v", problems)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	steps := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "{id: s%d, set: 1}, ", i)
		}
		return b.String()
	}
	nested := strings.Repeat("{id: x, switch: [{else: true, steps: [", 20) + "{id: y, set: 1}" + strings.Repeat("]}]}", 20)
	flowOf := func(s string) string {
		return "bulkhead: 1\nintegration: a\nflows: {main: {trigger: {manual: {}}, steps: [" + s + "]}}\n"
	}
	tests := map[string]string{
		"file size":       "bulkhead: 1 #" + strings.Repeat("x", flow.MaxFileBytes),
		"depth":           fmt.Sprintf(minimal, strings.Repeat("[", 100)+strings.Repeat("]", 100)),
		"depth JSON":      `{"bulkhead":1,"integration":"a","flows":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`,
		"steps":           flowOf(steps(flow.MaxSteps + 1)),
		"step depth":      flowOf(nested),
		"expression":      fmt.Sprintf(minimal, `"${{ '`+strings.Repeat("x", flow.MaxExpressionBytes)+`' }}"`),
		"template":        fmt.Sprintf(minimal, `"`+strings.Repeat("x", flow.MaxTemplateBytes)+`${{ 1 }}"`),
		"title":           "title: " + strings.Repeat("x", flow.MaxTextBytes+1) + "\n" + fmt.Sprintf(minimal, "1"),
		"labels":          strings.Replace(fmt.Sprintf(minimal, "1"), "steps:", "labels: {a: x, b: x, c: x, d: x, e: x, f: x, g: x, h: x, i: x}, steps:", 1),
		"deep YAML":       strings.Repeat("[", 200_000),
		"deep YAML maps":  strings.Repeat("{a: ", 100_000),
		"deep indents":    strings.Repeat("- ", 200_000) + "x",
		"many keys":       "x: {" + strings.Repeat("a, ", 50_000) + "}",
		"one wide line":   `{"é": [` + strings.Repeat("1, ", 300_000) + "1]}",
		"many values":     "x: [" + strings.Repeat("1, ", 300_000) + "1]",
		"dashes":          strings.Repeat("- ", 60_000) + "\n]",
		"unclosed quotes": strings.Repeat(`"`, 500_001),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc, problems := Decode("limit", []byte(text))
			if doc != nil || len(problems) == 0 {
				t.Fatal("was accepted")
			}
			if len(problems) > source.MaxProblems+10 {
				t.Errorf("%d problems reported", len(problems))
			}
			var out bytes.Buffer
			if err := problems.Render(&out, source.Plain); err != nil || out.Len() > 200_000 {
				t.Errorf("rendering takes %d bytes, %v", out.Len(), err)
			}
		})
	}
}

func TestProblemFormats(t *testing.T) {
	t.Parallel()
	p := source.Problem{Severity: source.SeverityError, File: "a.yaml", Line: 3, Column: 5, Length: 3, Path: "x.y", Message: "bad \x1b[31m", Suggestion: "write \x07", Source: "abc\tdef\x1b[2J"}
	var plain, colour bytes.Buffer
	if err := p.Render(&plain, source.Plain); err != nil {
		t.Fatal(err)
	}
	want := "a.yaml:3:5: x.y: bad �[31m\n    3 | abc def�[2J\n      |     ^^^\n      = write �\n"
	if plain.String() != want {
		t.Errorf("plain: got %q, want %q", plain.String(), want)
	}
	if err := p.Render(&colour, source.Colour); err != nil || !strings.Contains(colour.String(), "\x1b[1;31m") || strings.Contains(colour.String(), "\x1b[2J") {
		t.Errorf("colour: got %q, %v", colour.String(), err)
	}
	b, err := json.Marshal(p)
	if err != nil || !strings.Contains(string(b), `"line":3,"column":5,"length":3,"path":"x.y"`) {
		t.Errorf("JSON: got %s, %v", b, err)
	}
	long := source.Problem{File: "a", Line: 1, Column: 500, Length: 1000, Message: "m", Source: strings.Repeat("x", 1000)}
	plain.Reset()
	if err := long.Render(&plain, source.Plain); err != nil || len([]rune(strings.Split(plain.String(), "\n")[1])) > 150 {
		t.Errorf("a long line is shown whole: %v", err)
	}
}

func TestFindAndNotYet(t *testing.T) {
	t.Parallel()
	doc := mustDecode(t, "everything", read(t, "testdata/valid/everything.yaml"))
	for path := range flow.Walk("flows.main.steps", doc.Integration.Flow("main").Steps) {
		if _, ok := doc.Find(path + ".id"); !ok {
			t.Errorf("the place of %s is not known", path)
		}
	}
	if _, ok := doc.Find("flows.main.nothing"); ok {
		t.Error("a path that is not there was found")
	}
	for _, p := range doc.NotYet() {
		if p.Severity != source.SeverityWarning || p.Line < 2 || p.Path == "" {
			t.Errorf("not yet without a place: %+v", p)
		}
	}
}

func TestDecodeTestsValid(t *testing.T) {
	t.Parallel()
	doc := mustDecode(t, "everything", read(t, "testdata/valid/everything.yaml"))
	tests, problems := DecodeTests("all.test.yaml", read(t, "testdata/all.test.yaml"), doc.Integration)
	if tests == nil {
		t.Fatal(problems)
	}
	c := tests.Cases[0]
	if c.Flow != "main" || len(c.Connections) != 2 || !c.Connections[1].AnyOrder || c.Connections[1].Calls[0].Times != 3 ||
		c.Connections[0].Calls[0].Answer.Status != 200 || c.Connections[0].Calls[1].Answer.Fail != "timeout" || c.Callbacks[0].Step != "answer" || c.Events[0].Step != "button" ||
		c.Now.IsZero() || c.Seed != 7 || c.Output == nil || c.Answer == nil || c.Answer.Status != 201 {
		t.Errorf("case: got %+v", c)
	}
	if f := tests.Cases[1].Fault; f == nil || f.Type != "no-stock" || f.Step != "risky" || tests.Cases[1].Line <= c.Line {
		t.Errorf("second case: got %+v", tests.Cases[1])
	}
	_, problems = DecodeTests("bad.test.yaml", []byte("cases:\n  - {name: a, flow: mian, config: {nmae: x}, connections: {shp: []}, callbacks: {asnwer: {}}, events: {answer: {}}, fault: {type: x, step: nothing}}\n"), doc.Integration)
	if len(problems) != 6 {
		t.Errorf("wrong names: got %d problems, want 6: %v", len(problems), problems)
	}
}

func BenchmarkDecode(b *testing.B) {
	text := read(b, "testdata/valid/order-to-erp.yaml")
	for b.Loop() {
		if doc, problems := Decode("b", text); doc == nil {
			b.Fatal(problems)
		}
	}
}
