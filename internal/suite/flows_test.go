package suite

import (
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// marks are everything that is planted in one system.
type marks struct {
	token, user, password, header, query, keyed                                            *mark // credentials
	plain, hidden                                                                          *mark // config values
	trigger, path, search, label, back, number                                             *mark // events
	codeIn, logIn                                                                          *mark // events that code steps turn around
	answerBody, answerHeader, answerText, answerLarge, answerFile, answerError, answerHeld *mark
	codeOut, logOut                                                                        *mark // what they make of them
	raised                                                                                 *mark
}

func newMarks() *marks {
	m := &marks{
		token: newPlain(credential, "bearer token"), user: newMark(identifier, "basic user"), keyed: newMark(credential, "key as basic user"), password: newMark(credential, "basic password"),
		header: newMark(credential, "header value"), query: newMark(credential, "query value"),
		plain: newMark(config, "config value"), hidden: newMark(config, "secret config value"),
		trigger: newMark(event, "trigger body"), path: newPlain(event, "path segment"), search: newMark(event, "query text"), label: newMark(event, "label"),
		back: newMark(event, "callback body"), number: newMark(event, "field name"),
		codeIn: newMark(event, "code input"), logIn: newMark(event, "log input"), raised: newMark(event, "raised message"),
		answerBody: newMark(answer, "answer body"), answerHeader: newPlain(answer, "answer header"), answerText: newMark(answer, "text answer"),
		answerLarge: newMark(answer, "large answer"), answerFile: newMark(answer, "file answer"), answerError: newPlain(answer, "error answer"), answerHeld: newMark(answer, "last answer"),
	}
	m.codeOut, m.logOut = m.codeIn.derived(product, "code output"), m.logIn.derived(product, "console.log")
	return m
}

func (m *marks) all() []*mark {
	return []*mark{
		m.token, m.user, m.password, m.header, m.query, m.keyed, m.plain, m.hidden, m.trigger, m.path, m.search, m.label, m.back, m.number, m.codeIn, m.logIn, m.raised,
		m.answerBody, m.answerHeader, m.answerText, m.answerLarge, m.answerFile, m.answerError, m.answerHeld, m.codeOut, m.logOut,
	}
}

// ownedBy says whose marks these are.
func (m *marks) ownedBy(owner string) *marks {
	for _, x := range m.all() {
		x.owner = owner
	}
	return m
}

// of are the marks of some classes.
func (m *marks) of(classes ...class) (out []*mark) {
	for _, x := range m.all() {
		for _, c := range classes {
			if x.class == c {
				out = append(out, x)
			}
		}
	}
	return out
}

func (m *marks) event() map[string]any {
	return map[string]any{
		"text": m.trigger.value, "path": m.path.value, "query": m.search.value, "label": m.label.value,
		"code": m.codeIn.value, "log": m.logIn.value, "raised": m.raised.value, m.number.core: 1,
	}
}

func (m *marks) config() map[string]string {
	return map[string]string{"plain": m.plain.value, "hidden": m.hidden.value}
}

// accounts are a credential of every kind, and the ones of connections that cannot work.
func (m *marks) accounts(url, closed string) map[string]account {
	field := func(name string, v *mark) lease.Field { return lease.Field{Name: name, Secret: []byte(v.value)} }
	text := func(name, v string) lease.Field { return lease.Field{Name: name, Secret: []byte(v)} }
	header := []lease.Field{text("name", "X-Api-Key"), field("value", m.header)}
	query := []lease.Field{text("name", "api_key"), field("value", m.query)}
	return map[string]account{
		"bearer":  bearer(url, m.token.value),
		"basic":   {url: url, kind: lease.KindBasic, fields: []lease.Field{field("username", m.user), field("password", m.password)}},
		"header":  {url: url, kind: lease.KindHeader, fields: header},
		"query":   {url: url, kind: lease.KindQuery, fields: query},
		"keyed":   {url: url, kind: lease.KindBasic, fields: []lease.Field{field("username", m.keyed), text("password", "")}},
		"denied":  {url: "http://10.255.0.1", kind: lease.KindHeader, fields: header},
		"refused": {url: closed, kind: lease.KindQuery, fields: query},
		"unsafe":  {url: "https" + url[len("http"):], kind: lease.KindQuery, fields: query},
	}
}

const flowsHead = `bulkhead: 1
integration: suite
title: Suite
config:
  plain: {type: string, title: Plain}
  hidden: {type: secret, title: Hidden}
connections:
  bearer: {connector: http, title: Bearer}
  basic: {connector: http, title: Basic}
  header: {connector: http, title: Header}
  query: {connector: http, title: Query}
  keyed: {connector: http, title: Key as user}
  denied: {connector: http, title: Denied}
  refused: {connector: http, title: Refused}
  unsafe: {connector: http, title: Another protocol}
flows:
`

// everything uses every kind of step and of credential, and stops twice: in a request
// that the world holds, while its worker and its sandbox live, and for a callback.
const everything = `
  everything:
    trigger: {webhook: {methods: [POST], verify: none}}
    labels: {order: "${{ trigger.body.label }}"}
    steps:
      - id: first
        uses: bearer.request
        with: {method: POST, path: "/answer/${{ trigger.body.path }}", query: {q: "${{ trigger.body.query }}"}, headers: {X-Config: "${{ config.plain }}"}, body: "${{ trigger.body }}"}
      - {id: second, uses: basic.request, with: {method: GET, path: /text}}
      - {id: third, uses: header.request, with: {method: POST, path: /answer/3, form: {text: "${{ steps.first.body.text }}"}}}
      - {id: fourth, uses: query.request, with: {method: PUT, path: /answer/4, body: {text: "${{ steps.second.body }}"}}}
      - {id: large, uses: bearer.request, with: {method: GET, path: /large}}
      - {id: file, uses: bearer.request, with: {method: GET, path: /file, response: file}}
      - id: code
        with: {code: "${{ trigger.body.code }}", log: "${{ trigger.body.log }}", answer: "${{ steps.first.body }}"}
        code: |
          export default ({ code, log, answer }) => {
            const turn = (s) => [...s].reverse().join("");
            console.log("turned", turn(log));
            console.error({ deep: { log: turn(log) } });
            return { out: turn(code), n: answer.n };
          };
      - {id: keep, state: {put: last, value: "${{ steps.first.body.text }}"}}
      - {id: kept, state: {get: last}}
      - {id: sub, call: {flow: sub, with: {text: "${{ steps.kept }}", out: "${{ steps.code.out }}"}, wait: true}}
      - {id: both, fork: {branches: {one: [{id: one, uses: header.request, with: {path: /text}}], two: [{id: two, set: "${{ steps.second.body + config.plain }}"}]}}}
      - {id: held, uses: bearer.request, with: {method: POST, path: /hold/everything, body: {out: "${{ steps.code.out }}"}}}
      - id: called
        wait: {callback: {timeout: P1D, notify: [{id: ask, uses: bearer.request, with: {method: POST, path: /callback, body: {url: "${{ callback.url }}"}}}]}}
      - id: done
        return: {called: "${{ steps.called.body }}", code: "${{ steps.code.out }}", text: "${{ steps.second.body }}", sub: "${{ steps.sub }}", held: "${{ steps.held.body }}"}
  spin:
    trigger: {webhook: {methods: [POST], verify: none}}
    steps:
      - {id: s, timeout: PT50S, with: {v: "${{ trigger.body }}"}, code: "export default ({v}) => { for (;;) v.n = v.code.length }"}
  sub:
    trigger: {call: {input: {type: object}}}
    steps:
      - {id: inner, uses: basic.request, with: {method: POST, path: /answer/sub, body: "${{ trigger.body }}"}}
      - {id: out, return: {text: "${{ steps.inner.body.text }}", in: "${{ trigger.body.out }}"}}
`

// failure is a flow of one step that ends badly (or, for echoes, well) in its own way.
type failure struct {
	name, step string
	want       string // status or error type
}

// failures are all ways to fail. Each gets the whole trigger.
func failures() []failure {
	return []failure{
		{"not-found", `{id: s, uses: bearer.request, with: {method: POST, path: "/status/404/${{ trigger.body.path }}", body: "${{ trigger.body }}"}}`, "not-found"},
		{"unauthorized", `{id: s, uses: basic.request, with: {path: /status/401}}`, "auth"},
		{"forbidden", `{id: s, uses: header.request, with: {path: /status/403}}`, "auth"},
		{"invalid", `{id: s, uses: query.request, with: {method: POST, path: /status/422, body: "${{ trigger.body }}"}}`, "invalid-input"},
		{"limited", `{id: s, uses: query.request, with: {path: /status/429}}`, "rate-limited"},
		{"failing", `{id: s, uses: query.request, with: {method: POST, path: /status/500, body: "${{ trigger.body }}"}, retry: {attempts: 2, delay: PT0.01S}}`, "upstream"},
		{"gateway", `{id: s, uses: bearer.request, with: {path: /status/502}}`, "upstream"},
		{"timeout", `{id: s, uses: query.request, with: {path: "/hang/${{ trigger.body.path }}", query: {q: "${{ trigger.body.query }}"}}, timeout: PT0.3S}`, "timeout"},
		{"denied", `{id: s, uses: denied.request, with: {path: "/${{ trigger.body.path }}"}}`, "egress-denied"},
		{"refused", `{id: s, uses: refused.request, with: {path: "/${{ trigger.body.path }}", query: {q: "${{ trigger.body.query }}"}}}`, "upstream"},
		{"no-tls", `{id: s, uses: unsafe.request, with: {path: "/${{ trigger.body.path }}", query: {q: "${{ trigger.body.query }}"}}}`, "upstream"},
		{"broken-json", `{id: s, uses: bearer.request, with: {path: /broken-json, response: json}}`, "*"},
		{"cut", `{id: s, uses: query.request, with: {path: /cut}}`, "upstream"},
		{"garbage", `{id: s, uses: bearer.request, with: {path: "/garbage/${{ trigger.body.path }}"}}`, "upstream"},
		{"bad-gzip", `{id: s, uses: header.request, with: {path: /bad-gzip}}`, "*"},
		{"headers", `{id: s, uses: header.request, with: {path: /headers}}`, "*"},
		{"redirect-bearer", `{id: s, uses: bearer.request, with: {path: /redirect}}`, "*"},
		{"redirect-header", `{id: s, uses: header.request, with: {path: /redirect}}`, "*"},
		{"redirect-query", `{id: s, uses: query.request, with: {path: /redirect}}`, "*"},
		{"echo-bearer", `{id: s, uses: bearer.request, with: {method: POST, path: /echo, body: "${{ trigger.body }}"}}`, "completed"},
		{"echo-basic", `{id: s, uses: basic.request, with: {path: /echo/gzip}}`, "completed"},
		{"echo-keyed", `{id: s, uses: keyed.request, with: {path: /echo}}`, "completed"},
		{"echo-header", `{id: s, uses: header.request, with: {path: /echo}}`, "completed"},
		{"echo-query", `{id: s, uses: query.request, with: {path: /echo}}`, "completed"},
		{"echo-file", `{id: s, uses: basic.request, with: {path: /echo, response: text}}`, "completed"},
		{"echo-500", `{id: s, uses: query.request, with: {path: /echo/500}}`, "upstream"},
		{"bad-path", `{id: s, uses: bearer.request, with: {path: "/${{ rawPath(trigger.body.text + '/../..') }}"}}`, "invalid-input"},
		{"bad-header", `{id: s, uses: bearer.request, with: {path: /text, headers: {X-A: "${{ trigger.body.text + '\\r\\nX: y' }}"}}}`, "invalid-input"},
		{"expression", `{id: s, set: "${{ trigger.body[trigger.body.text] }}"}`, "expression"},
		{"conversion", `{id: s, set: "${{ int(trigger.body.text) }}"}`, "expression"},
		{"parsing", `{id: s, set: "${{ parseJson(trigger.body.text) }}"}`, "expression"},
		{"raise", `{id: s, raise: {type: no-stock, message: "none of ${{ trigger.body.raised }} ${{ config.plain }}"}}`, "no-stock"},
		{"throw", `{id: s, with: {v: "${{ trigger.body }}"}, code: "export default ({v}) => { console.log([...v.log].reverse().join('')); throw new Error([...v.code].reverse().join('')) }"}`, "code"},
		{"throw-object", `{id: s, with: {v: "${{ trigger.body }}"}, code: "export default ({v}) => { throw {toString() { return v.text }, v} }"}`, "code"},
		{"code-type", `{id: s, with: {v: "${{ trigger.body }}"}, code: "export default ({v}) => v.text.no.such[v.code]()"}`, "code"},
		{"code-stack", `{id: s, with: {v: "${{ trigger.body }}"}, code: "const f = (v) => f(v + v.text) + 1; export default ({v}) => f(v)"}`, "code"},
		{"code-cycle", `{id: s, with: {v: "${{ trigger.body }}"}, code: "export default ({v}) => { v.self = v; return v }"}`, "code"},
		{"code-memory", `{id: s, with: {v: "${{ trigger.body.code }}"}, code: "export default ({v}) => { const all = []; for (;;) all.push((v + all.length).repeat(4096)) }"}`, "*"},
		{"code-endless", `{id: s, timeout: PT1S, with: {v: "${{ trigger.body.code }}"}, code: "export default ({v}) => { for (;;) v.length }"}`, "*"},
	}
}

func failureFlows() string {
	text := ""
	for _, f := range failures() {
		text += "  " + f.name + ":\n    trigger: {webhook: {methods: [POST], verify: none}}\n    labels: {order: \"${{ trigger.body.label }}\"}\n    steps:\n      - " + f.step + "\n"
	}
	return text
}
