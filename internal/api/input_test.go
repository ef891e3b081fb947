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
		"n":{"type":"integer","minimum":1},"kind":{"enum":["new","old"]},"text":{"type":"string","maxLength":3,"pattern":"^[a-z]*$"},
		"lines":{"type":"array","items":{"$ref":"#/$defs/line"}},"either":{"anyOf":[{"type":"string"},{"type":"null"}]}},
		"$defs":{"line":{"type":"object","required":["sku"],"properties":{"sku":{"type":"string"}}}}}`
	for _, c := range []struct{ schema, event, want string }{
		{order, `{"body":{"n":1,"kind":"new","text":"abc","lines":[{"sku":"a"}],"either":null}}`, ""},
		{order, `{"body":{"n":1.0}}`, ""},
		{order, `{"body":{"n":"1","m":1}}`, "body.m: not allowed; body.n: want integer, got string"},
		{order, `{"body":{"a b":1}}`, `body.n: missing; body["a b"]: not allowed`},
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
		`{"$ref":"https://example.com/schema"}`, `{"$ref":"file:///etc/passwd"}`, `{"$ref":"other"}`, `{"type":"nope"}`, `{"$ref":"#/$defs/none"}`,
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
