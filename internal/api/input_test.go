package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMatchInput(t *testing.T) {
	t.Parallel()
	const order = `{"type":"object","required":["n"],"additionalProperties":false,"properties":{
		"n":{"type":"integer","minimum":1},"kind":{"enum":["new","old"]},"name":{"type":"string","minLength":1},"text":{"type":"string","maxLength":3,"pattern":"^[a-z]*$"},
		"lines":{"type":"array","items":{"$ref":"#/$defs/line"}},"either":{"anyOf":[{"type":"string"},{"type":"null"}]}},
		"$defs":{"line":{"type":"object","required":["sku"],"properties":{"sku":{"type":"string"}}}}}`
	for _, c := range []struct{ schema, event, want string }{
		{order, `{"body":{"n":1,"kind":"new","text":"abc","lines":[{"sku":"a"}],"either":null}}`, ""},
		{order, `{"body":{"n":1.0}}`, ""},
		{order, `{"body":{"n":"1","m":1}}`, "body.m: not allowed; body.n: want integer, got string"},
		{order, `{"body":{"a b":1}}`, `body.n: missing; body["a b"]: not allowed`},
		{order, `{"body":{"n":1,"name":""}}`, "body.name: want at least 1 character, got 0"},
		{order, `{"body":{"n":0,"kind":"secret"}}`, `body.kind: want one of "new", "old"; body.n: want at least 1`},
		{order, `{"body":{"n":1,"text":"SECRET"}}`, "body.text: want a match of ^[a-z]*$; body.text: want at most 3 characters, got 6"},
		{order, `{"body":{"n":1,"lines":[{"sku":"a"},{},{"sku":2}]}}`, "body.lines[1].sku: missing; body.lines[2].sku: want string, got number"},
		{order, `{"body":{"n":1,"either":2}}`, "body.either: matches none of the alternatives"},
		{order, `{"body":[]}`, "body: want object, got array"},
		{order, `{}`, "body: want object, got null"},
		{order, `{"Body":{"n":1}}`, "body: want object, got null"},
		{`false`, `{"body":1}`, "body: not allowed"},
		{`{}`, `{"body":1}`, ""},
	} {
		err := matchInput([]byte(c.schema), []byte(c.event))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.event, d)
		}
		if _, ok := errors.AsType[inputError](err); err != nil && !ok {
			t.Errorf("%s: the error is a %T", c.event, err)
		}
	}
}

// A schema that cannot be used lets nothing through, and never reads another document.
func TestUnusableInputSchema(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{
		`{"$ref":"https://example.com/schema"}`, `{"$ref":"https://json-schema.org/draft/2020-12/schema"}`, `{"$dynamicRef":"#a"}`,
		`{"pattern":"(a{500}){500}"}`, `{"pattern":"` + strings.Repeat("a", 2000) + `"}`, `{"enum":[` + strings.Repeat("1,", 2000) + `1]}`, `{"$ref":"file:///etc/passwd"}`, `{"$ref":"other"}`, `{"type":"nope"}`, `{"$ref":"#/$defs/none"}`,
	} {
		err := matchInput([]byte(schema), []byte(`{"body":{}}`))
		if _, ok := errors.AsType[inputError](err); !ok || !strings.HasPrefix(err.Error(), "the schema of the flow's input cannot be used") {
			t.Errorf("%s: %v", schema, err)
		}
	}
}

func TestInputProblemsAreBounded(t *testing.T) {
	t.Parallel()
	body := map[string]any{}
	for i := range 1000 {
		body[fmt.Sprint(i)+strings.Repeat("x", 1000)] = "secret"
	}
	event, err := json.Marshal(map[string]any{"body": body})
	if err != nil {
		t.Fatal(err)
	}
	err = matchInput([]byte(`{"additionalProperties":false}`), event)
	if err == nil || len(err.Error()) > 4000 || !strings.HasSuffix(err.Error(), "; and 980 more") || strings.Contains(err.Error(), "secret") {
		t.Errorf("error of %v", err)
	}
	// An exponent sets no size of a fraction.
	for _, number := range []string{"1e-999999999", "1e999999999"} {
		if err := matchInput([]byte(`{"minimum":1}`), []byte(`{"body":`+number+`}`)); err == nil {
			t.Errorf("%s is accepted", number)
		}
	}
}

func TestInputProblem(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	New(Options{}).fail(w, httptest.NewRequest(http.MethodPost, "/", nil), inputError("body.n: missing"))
	var got Problem
	if err := json.NewDecoder(w.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := Problem{Title: "the input is invalid", Status: 422, Code: CodeInvalidInput, Detail: "body.n: missing"}
	if d := cmp.Diff(want, got); d != "" || w.Code != 422 {
		t.Errorf("status %d (-want +got):\n%s", w.Code, d)
	}
}

// doubling is a schema of n levels, each of which checks the next one twice.
func doubling(n int, root, how, leaf string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{%s:{"$ref":"#/$defs/l0"},"$defs":{`, root)
	for i := range n {
		fmt.Fprintf(&b, `"l%d":{"%s":[{"$ref":"#/$defs/l%d"},{"$ref":"#/$defs/l%d"}]},`, i, how, i+1, i+1)
	}
	fmt.Fprintf(&b, `"l%d":%s}}`, n, leaf)
	return b.String()
}

// Without the bound a level more doubles the time. The number of levels is small enough for
// the red twin to end.
func TestTheCheckOfAnInputEnds(t *testing.T) {
	t.Parallel()
	const levels = 17
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	long, err := json.Marshal(strings.Repeat("a", 8<<10))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ schema, body string }{
		"all of":            {doubling(levels, `"if":true,"then"`, "allOf", `{"minimum":0}`), `1`},
		"any of":            {doubling(levels, `"if":true,"then"`, "anyOf", `{"minimum":9}`), `1`},
		"one of":            {doubling(levels, `"if":true,"then"`, "oneOf", `{"minimum":0}`), `1`},
		"not":               {doubling(levels, `"not"`, "anyOf", `false`), `1`},
		"a deep input":      {`{"items":{"$ref":"#"},"minItems":1}`, deep},
		"a long pattern":    {`{"allOf":[` + strings.Repeat(`{"pattern":"(a?){500}b"},`, 20) + `{}]}`, string(long)},
		"unevaluated parts": {`{"unevaluatedItems":false,"allOf":[` + strings.Repeat(`{"items":true},`, 400) + `{}]}`, `[` + strings.Repeat("1,", 10_000) + `1]`},
		"lists":             {`{"items":{"enum":[` + strings.Repeat("0,", 1500) + `2]}}`, `[` + strings.Repeat("1,", 1000) + `1]`},
	} {
		t.Run(name, func(t *testing.T) {
			err := matchInput([]byte(c.schema), []byte(`{"body":`+c.body+`}`))
			if err == nil || err.Error() != errInputWork.Error() {
				t.Errorf("error is %.200v, want that it was given up", err)
			}
			if _, ok := errors.AsType[inputError](err); !ok {
				t.Errorf("the error is a %T", err)
			}
		})
	}
}

func TestAnOrdinaryInputIsNotTooMuchWork(t *testing.T) {
	t.Parallel()
	const schema = `{"type":"array","items":{"type":"object","required":["sku","n"],"properties":{
		"sku":{"type":"string","pattern":"^[A-Z0-9-]+$"},"n":{"type":"integer","minimum":1},"kind":{"enum":["new","old"]}}}}`
	body := `[` + strings.Repeat(`{"sku":"AB-1234567","n":3,"kind":"new"},`, 20_000) + `{"sku":"A","n":1}]`
	if err := matchInput([]byte(schema), []byte(`{"body":`+body+`}`)); err != nil {
		t.Errorf("an input of %d bytes: %v", len(body), err)
	}
}
