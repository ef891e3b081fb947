package worker

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// echo answers a request with what it was: method, path, query, headers, body.
func echo(r *wire.Request) *wire.Response {
	type object = map[string]any
	query, headers := [][2]string{}, [][2]string{}
	for _, p := range r.Query {
		query = append(query, [2]string{p.Name, p.Value})
	}
	for _, p := range r.Headers {
		headers = append(headers, [2]string{p.Name, p.Value})
	}
	b, err := json.Marshal(object{"method": r.Method, "path": r.Path, "query": query, "headers": headers, "body": string(r.Body), "type": r.ContentType})
	if err != nil {
		panic(err)
	}
	return jsonAnswer(200, string(b))
}

// world answers by path: /status/404, /json, /text, …; everything else is echoed.
func world() func(r *wire.Request) *wire.Response {
	var mu sync.Mutex
	seen := map[string]int{}
	return func(r *wire.Request) *wire.Response {
		mu.Lock()
		seen[r.Path]++
		n := seen[r.Path]
		mu.Unlock()
		switch {
		case r.Path == "/404":
			return refusal("not-found", 404)
		case r.Path == "/500":
			return refusal("upstream", 500)
		case r.Path == "/401":
			return refusal("auth", 401)
		case strings.HasPrefix(r.Path, "/flaky/"):
			if n < 3 {
				return refusal("upstream", 503)
			}
			return jsonAnswer(200, fmt.Sprintf(`{"try":%d}`, n))
		case r.Path == "/text":
			return &wire.Response{Status: 200, Headers: []wire.Pair{{Name: "content-type", Value: "text/plain"}}, Body: []byte("hello"), Text: true}
		case r.Path == "/bytes":
			return &wire.Response{Status: 200, Headers: []wire.Pair{{Name: "content-type", Value: "image/png"}}, Body: []byte{1, 2, 3}}
		case r.Path == "/empty":
			return &wire.Response{Status: 204}
		case r.Path == "/broken":
			return jsonAnswer(200, `{"a":`)
		case r.Path == "/pages":
			return page(r)
		}
		return echo(r)
	}
}

// page answers one of three pages of two, linked by header and by cursor.
func page(r *wire.Request) *wire.Response {
	at := 1
	for _, p := range r.Query {
		if p.Name == "page" || p.Name == "after" {
			_, _ = fmt.Sscan(p.Value, &at)
		}
	}
	body := fmt.Sprintf(`[{"n":%d},{"n":%d}]`, 2*at-1, 2*at)
	cursor := fmt.Sprint(at + 1)
	out := jsonAnswer(200, "")
	if at < 3 {
		out.Headers = append(out.Headers, wire.Pair{Name: "link", Value: fmt.Sprintf(`<https://x.example/v2/pages?page=1>; rel="first", <https://x.example/v2/pages?size=2&page=%d>; rel="next"`, at+1)})
	} else {
		cursor = "null"
	}
	for _, p := range r.Query {
		if p.Name == "after" || p.Name == "wrapped" {
			body = fmt.Sprintf(`{"items":%s,"next":%s}`, body, cursor)
			break
		}
	}
	out.Body = []byte(body)
	return out
}

func TestSteps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		steps string
		event string // body; empty: null
		want  string // output, or TYPE@STEP: message
	}{
		{"literals keep their form", `
      - {id: a, set: {n: 1.50, big: 12345678901234567890, t: "x", l: [1, null, true], o: {}}}`, "", `{"n":1.50,"big":12345678901234567890,"t":"x","l":[1,null,true],"o":{}}`},
		{"a template prints", `
      - {id: a, set: "n=${{ trigger.body.n }}, s=${{ trigger.body.s }}, $${{ }}"}`, `{"n":1.0,"s":null}`, `"n=1.0, s=, ${{ }}"`},
		{"a skipped step is null", `
      - {id: a, if: "${{ false }}", set: 1}
      - {id: b, set: "${{ orElse(steps.a, 2) }}"}`, "", "2"},
		{"a condition that is none", `
      - {id: a, if: "${{ trigger.body.x }}", set: 1}`, `{"x":1}`, "expression@a: a condition must be true or false, this one is a number"},
		{"a missing field", `
      - {id: a, set: "${{ trigger.body.x }}"}`, `{"y":1}`, `expression@a: trigger.body has no field "x"; did you mean y?`},
		{"switch", `
      - {id: a, switch: [{when: "${{ trigger.body.n > 2 }}", steps: [{id: b, set: big}]}, {when: "${{ trigger.body.n > 1 }}", steps: [{id: c, set: middle}]}, {else: true, steps: [{id: d, set: small}]}]}
      - {id: e, set: "${{ steps.a }}!"}`, `{"n":2}`, `"middle!"`},
		{"switch without a match", `
      - {id: a, switch: [{when: "${{ false }}", steps: [{id: b, set: 1}]}]}`, "", "null"},
		{"return ends the flow", `
      - {id: a, switch: [{else: true, steps: [{id: b, return: {x: 1}}]}]}
      - {id: c, raise: {type: never, message: nope}}`, "", `{"x":1}`},
		{"raise", `
      - {id: a, raise: {type: no-stock, message: "no ${{ trigger.body.sku }}"}}`, `{"sku":"x"}`, "no-stock@a: no x"},
		{
			"try catches", `
      - {id: a, try: [{id: b, uses: api.request, with: {path: /404}}], catch: {when: "${{ error.status == 404 }}", steps: [{id: c, set: "${{ error }}"}]}}`, "",
			`{"type":"not-found","message":"the service answered 404","status":404,"step":"b","attempts":1}`,
		},
		{"catch looks at the fault", `
      - {id: a, try: [{id: b, uses: api.request, with: {path: /500}}], catch: {when: "${{ error.status == 404 }}", steps: [{id: c, set: 1}]}}`, "", "upstream@b: the service answered 500"},
		{
			"an action", `
      - {id: a, uses: api.request, with: {method: POST, path: "/a/${{ trigger.body.p }}/x", query: {q: "${{ trigger.body.p }}", l: [1, 2], nothing: null}, headers: {X-A: "v ${{ 1 + 1 }}"}, body: {a: "${{ trigger.body }}"}}}
      - {id: b, set: "${{ steps.a.body }}"}`, `{"p":"a/b ?"}`,
			`{"body":"{\"a\":{\"p\":\"a/b ?\"}}","headers":[["X-A","v 2"]],"method":"POST","path":"/a/a%2Fb%20%3F/x","query":[["q","a/b ?"],["l","1"],["l","2"]],"type":"application/json"}`,
		},
		{"a form", `
      - {id: a, uses: api.request, with: {method: POST, path: /f, form: {a: "1 & 2", b: ["x", "y"]}}}
      - {id: b, set: "${{ [steps.a.body.body, steps.a.body.type] }}"}`, "", `["a=1+%26+2&b=x&b=y","application/x-www-form-urlencoded"]`},
		{"a text body", `
      - {id: a, uses: api.request, with: {method: POST, path: /f, headers: {Content-Type: text/csv}, body: "a,b"}}
      - {id: b, set: "${{ [steps.a.body.body, steps.a.body.type] }}"}`, "", `["a,b","text/csv"]`},
		{"rawPath is not escaped", `
      - {id: a, uses: api.request, with: {path: "/v1/${{ rawPath(trigger.body.p) }}"}}
      - {id: b, set: "${{ steps.a.body.path }}"}`, `{"p":"a/b"}`, `"/v1/a/b"`},
		{"a path cannot go up", `
      - {id: a, uses: api.request, with: {path: "/a/${{ trigger.body.p }}"}}`, `{"p":".."}`, `invalid-input@a: the path has a segment that is no name: ".."`},
		{"not even raw", `
      - {id: a, uses: api.request, with: {path: "/a/${{ rawPath(trigger.body.p) }}"}}`, `{"p":"x/%2e%2e/y"}`, `invalid-input@a: the path has a segment that is no name: "%2e%2e"`},
		{"a path cannot lose a segment", `
      - {id: a, uses: api.request, with: {method: DELETE, path: "/a/${{ trigger.body.p }}"}}`, `{"p":null}`, `invalid-input@a: the path needs trigger.body.p, which is empty`},
		{"a header has one line", `
      - {id: a, uses: api.request, with: {path: /a, headers: {X-A: "${{ trigger.body }}"}}}`, `"a\r\nX-B: c"`, `invalid-input@a: header "X-A" has a line end`},
		{"answers by type", `
      - {id: a, uses: api.request, with: {path: /text}}
      - {id: b, uses: api.request, with: {path: /empty}}
      - {id: c, uses: api.request, with: {path: /bytes}}
      - {id: d, uses: api.request, with: {path: /json, response: text}}
      - {id: e, set: "${{ [steps.a.body, steps.b.body, steps.b.status, steps.c.body, steps.d.body.startsWith('{')] }}"}`, "", `["hello",null,204,{"name":"bytes","size":3,"type":"image/png"},true]`},
		{"an answer that is not JSON", `
      - {id: a, uses: api.request, with: {path: /broken}}`, "", `upstream@a: the answer is not JSON: invalid JSON at byte 5: the text ends where a value is expected`},
		{"retry", `
      - {id: a, uses: api.request, with: {path: /flaky/1}, retry: {attempts: 3, delay: PT0.001S}}
      - {id: b, set: "${{ steps.a.body }}"}`, "", `{"try":3}`},
		{"retry ends", `
      - {id: a, try: [{id: b, uses: api.request, with: {path: /flaky/1}, retry: {attempts: 2, delay: PT0.001S}}], catch: {steps: [{id: c, set: "${{ error.attempts }}"}]}}`, "", `2`},
		{"retry asks when", `
      - {id: a, try: [{id: b, uses: api.request, with: {path: /flaky/1}, retry: {attempts: 5, delay: PT0.001S, when: "${{ error.attempts < 2 }}"}}], catch: {steps: [{id: c, set: "${{ error.attempts }}"}]}}`, "", `2`},
		{"retry never repeats auth", `
      - {id: a, try: [{id: b, uses: api.request, with: {path: /401}, retry: {attempts: 5, delay: PT0.001S}}], catch: {steps: [{id: c, set: "${{ error.attempts }}"}]}}`, "", `1`},
		{"retry of several steps", `
      - {id: a, try: [{id: b, try: [{id: x, uses: api.request, with: {path: /flaky/1}}], catch: {when: "${{ false }}", steps: [{id: y, set: 1}]}, retry: {attempts: 3, delay: PT0.001S}}], catch: {steps: [{id: c, set: caught}]}}
      - {id: z, set: "${{ steps.a.body }}"}`, "", `{"try":3}`},
		{"for with results", `
      - {id: a, for: {each: "${{ trigger.body }}", as: n}, steps: [{id: b, set: "${{ n * 10 + index }}"}], result: "${{ steps.b }}"}`, `[1,2,3]`, `[10,21,32]`},
		{"for without results", `
      - {id: a, for: {each: "${{ trigger.body }}"}, steps: [{id: b, set: "${{ item }}"}]}`, `[1,2,3]`, `{"count":3,"failed":0,"errors":[]}`},
		{"for in parallel keeps the order", `
      - {id: a, for: {each: "${{ trigger.body }}", parallel: 8}, steps: [{id: b, uses: api.request, with: {path: "/n/${{ item }}"}}], result: "${{ steps.b.body.path }}"}`, `[1,2,3,4]`, `["/n/1","/n/2","/n/3","/n/4"]`},
		{"for in batches", `
      - {id: a, for: {each: "${{ trigger.body }}", as: l, batch: 2}, steps: [{id: b, set: "${{ l }}"}], result: "${{ sum(l) }}"}`, `[1,2,3,4,5]`, `[3,7,5]`},
		{"for over nothing", `
      - {id: a, for: {each: "${{ trigger.body }}"}, steps: [{id: b, set: 1}], result: "${{ steps.b }}"}`, `[]`, `[]`},
		{"for stops at a fault", `
      - {id: a, for: {each: "${{ trigger.body }}"}, steps: [{id: b, if: "${{ item == 2 }}", raise: {type: two, message: nope}}]}`, `[1,2,3]`, `two@a[1].b: nope`},
		{
			"for goes on", `
      - {id: a, for: {each: "${{ trigger.body }}", on_error: continue}, steps: [{id: b, if: "${{ item == 2 }}", raise: {type: two, message: nope}}]}`, `[1,2,3]`,
			`{"count":3,"failed":1,"errors":[{"index":1,"type":"two","message":"nope","status":0,"step":"a[1].b","attempts":1}]}`,
		},
		{"for nested", `
      - {id: a, for: {each: "${{ trigger.body }}", as: row}, steps: [{id: b, for: {each: "${{ row }}", as: cell}, steps: [{id: c, set: "${{ cell * 2 }}"}], result: "${{ steps.c }}"}], result: "${{ steps.b }}"}`, `[[1],[2,3]]`, `[[2],[4,6]]`},
		{"for over links", `
      - {id: a, for: {each: {uses: api.request, with: {path: /pages, query: {size: 2}}}, as: x}, steps: [{id: b, set: 1}], result: "${{ x.n }}"}`, "", `[1,2,3,4,5,6]`},
		{"for over cursors", `
      - {id: a, for: {each: {uses: api.request, with: {path: /pages, query: {after: "${{ cursor }}", wrapped: 1}}, items: "${{ result.body.items }}", cursor: "${{ result.body.next }}"}, batch: 4, as: l}, steps: [{id: b, set: 1}], result: "${{ size(l) }}"}`, "", `[4,2]`},
		{"for over rows of a text", `
      - {id: a, for: {each: {rows: "${{ trigger.body }}", format: csv, delimiter: ";"}, as: r}, steps: [{id: b, set: 1}], result: "${{ r }}"}`, `"a;b\n1;\"x;y\"\n2\n"`, `[{"a":"1","b":"x;y"},{"a":"2","b":""}]`},
		{"for over rows without names", `
      - {id: a, for: {each: {rows: "${{ trigger.body }}", format: csv, header: false}, as: r}, steps: [{id: b, set: 1}], result: "${{ r }}"}`, `"1,2\n3,4"`, `[["1","2"],["3","4"]]`},
		{"for over lines", `
      - {id: a, for: {each: {rows: "${{ trigger.body }}", format: json-lines}, as: r}, steps: [{id: b, set: 1}], result: "${{ r.n }}"}`, `"{\"n\":1}\n\n{\"n\":2.50}\n"`, `[1,2.50]`},
		{"a broken line", `
      - {id: a, for: {each: {rows: "${{ trigger.body }}", format: json-lines}, as: r}, steps: [{id: b, set: 1}], result: "${{ r.n }}"}`, `"{\"n\":1}\n{\n"`, `invalid-input@a: row 2 cannot be read: invalid JSON at byte 1: expected a key in double quotes`},
		{"fork", `
      - {id: a, fork: {branches: {x: [{id: b, set: 1}], y: [{id: c, uses: api.request, with: {path: /text}}, {id: d, set: "${{ steps.c.body }}"}]}}}`, "", `{"x":1,"y":"hello"}`},
		{"fork faults as partial", `
      - {id: a, fork: {branches: {x: [{id: b, set: 1}], y: [{id: c, uses: api.request, with: {path: /404}}]}}}`, "", `partial@a: 1 of 2 branches faulted: y: not-found: the service answered 404`},
		{"fork settles", `
      - {id: a, fork: {settle: true, branches: {x: [{id: b, set: 1}], y: [{id: c, raise: {type: t, message: m}}]}}}`, "", `{"x":{"ok":true,"value":1},"y":{"ok":false,"error":{"type":"t","message":"m","status":0,"step":"c","attempts":1}}}`},
		{"state", `
      - {id: a, state: {get: k, default: 7}}
      - {id: b, state: {put: k, value: {x: 1}}}
      - {id: c, state: {get: k}}
      - {id: d, state: {increment: n}}
      - {id: e, state: {increment: n, by: 1.5}}
      - {id: f, state: {delete: k}}
      - {id: g, state: {get: k}}
      - {id: h, set: "${{ [steps.a, steps.c, steps.e, steps.g] }}"}`, "", `[7,{"x":1},2.5,null]`},
		{"a short wait", `
      - {id: a, wait: {for: PT0.001S}}
      - {id: b, set: done}`, "", `"done"`},
		{"a wait until", `
      - {id: a, wait: {until: "${{ trigger.body }}"}}
      - {id: b, set: done}`, `"2020-01-01T00:00:00Z"`, `"done"`},
		{"call without waiting", `
      - {id: a, call: {flow: other, with: {x: 1}, wait: false}}
      - {id: b, set: "${{ steps.a.startsWith('exe_') }}"}`, "", `true`},
		{"now and uuid", `
      - {id: a, set: {t: "${{ now() }}", same: "${{ now() == now() }}", u: "${{ uuid() != uuid() }}"}}
      - {id: b, set: "${{ [steps.a.same, steps.a.u] }}"}`, "", `[true,true]`},
		{"a timeout of several steps", `
      - {id: a, timeout: PT0.01S, try: [{id: b, wait: {for: PT4S}}], catch: {steps: [{id: c, set: caught}]}}`, "", `timeout@a: the step took longer than 10ms`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, steps(t, strings.TrimPrefix(c.steps, "\n")+"\n  other: {trigger: {call: {}}, steps: [{id: x, set: 1}]}\n"))
			h.egress = world()
			event := c.event
			if event == "" {
				event = "null"
			}
			got := h.once("main", `{"body":`+event+`}`)
			if diff := cmp.Diff(c.want, describe(t, got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// describe is the output, or the fault in one line.
func describe(t testing.TB, o outcomeOf) string {
	t.Helper()
	switch o.Status {
	case wire.StatusCompleted:
		return o.Output
	case wire.StatusFaulted:
		f, err := parseFault([]byte(o.Output))
		if err != nil {
			t.Fatal(err)
		}
		if f.Type != o.Type || f.Step != o.Step {
			t.Errorf("the fault is %s@%s inside and %s@%s outside", f.Type, f.Step, o.Type, o.Step)
		}
		return f.Type + "@" + f.Step + ": " + f.Message
	}
	return fmt.Sprintf("status %d", o.Status)
}
