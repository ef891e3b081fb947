package sandbox

import (
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// hostile is code that tries to escape, hang, exhaust or confuse. Every case must end in one of the kinds it names (an
// empty kind is a clean value), soon, and without the engine being abandoned unless it says so.
var hostile = []struct {
	name, source string
	kinds        []Kind
	abandoned    bool // a built-in that does not come back is acceptable here
}{
	{"loop", `export default () => { for (;;); }`, []Kind{KindTimeout}, false},
	{"loop in top level", `for (;;); export default () => 1`, []Kind{KindTimeout}, false},
	{"loop that catches", `export default () => { for (;;) { try { for (;;); } catch {} finally { continue } } }`, []Kind{KindTimeout}, false},
	{"loop in finally", `export default () => { try { for (;;); } finally { for (;;); } }`, []Kind{KindTimeout}, false},
	{"loop in microtasks", `export default () => new Promise(() => { const f = () => Promise.resolve().then(f); f() })`, []Kind{KindTimeout}, false},
	{"loop in async", `export default async () => { for (;;) await null }`, []Kind{KindTimeout}, false},
	{"loop in a floating promise", `export default () => { (async () => { for (;;) await null })(); return 1 }`, []Kind{KindTimeout}, false},
	{"loop in a generator", `export default () => { function* g() { for (;;) yield 1 } let n = 0; for (const x of g()) n += x; return n }`, []Kind{KindTimeout}, false},
	{"loop in a getter of the result", `export default () => ({get a() { for (;;); }})`, []Kind{KindTimeout}, false},
	{"loop in toJSON", `export default () => ({toJSON() { for (;;); }})`, []Kind{KindTimeout}, false},
	{"loop in then", `export default () => ({then() { for (;;); }})`, []Kind{KindTimeout}, false},
	{"loop in a getter of then", `export default () => ({get then() { for (;;); }})`, []Kind{KindTimeout}, false},
	{"loop in the message of an error", `export default () => { throw {get message() { for (;;); }} }`, []Kind{KindTimeout}, false},
	{"loop in the name of an error", `export default () => { const e = new Error("x"); Object.defineProperty(e, "name", {get() { for (;;); }}); throw e }`, []Kind{KindTimeout}, false},
	{"loop in console", `export default () => { console.log({get a() { for (;;); }}) }`, []Kind{KindTimeout}, false},
	{"loop in a sort", `export default () => [3, 1, 2].sort(() => { for (;;); })`, []Kind{KindTimeout}, false},
	{"loop in a replacer", `export default () => "aaa".replace(/a/g, () => { for (;;); })`, []Kind{KindTimeout}, false},
	{"loop in a trap of the result", `export default () => new Proxy({}, {ownKeys() { for (;;); }})`, []Kind{KindTimeout}, false},
	{"loop in iterator return", `export default () => { for (const x of {[Symbol.iterator]: () => ({next: () => ({value: 1}), return() { for (;;); }})}) break }`, []Kind{KindTimeout}, false},
	{"endless iterator into a set", `export default () => new Set((function* () { for (;;) yield 1 })())`, []Kind{KindTimeout}, false},

	{"recursion caught", `export default () => { const f = () => { try { f() } catch { f() } }; f() }`, []Kind{KindThrow, KindTimeout}, false},
	{"recursion in getters", `export default () => { const o = {get a() { return this.a }}; return o }`, []Kind{KindThrow}, false},
	{"recursion in traps", `export default () => { const p = new Proxy({}, {get: (t, k, r) => r[k]}); return p }`, []Kind{KindThrow}, false},
	{"recursion in constructors", `class A { constructor() { new A() } } export default () => new A()`, []Kind{KindThrow}, false},
	{"recursion in instanceof", `export default () => { class A { static [Symbol.hasInstance](x) { return x instanceof A } } return 1 instanceof A }`, []Kind{KindThrow}, false},
	{"recursion in valueOf", `export default () => { const o = {valueOf() { return +o }}; return +o }`, []Kind{KindThrow}, false},
	{"recursion in toJSON", `export default () => { const o = {toJSON() { return {o} }}; return o }`, []Kind{KindResult, KindThrow}, false},
	{"recursion in bound apply", `export default () => { const f = () => Reflect.apply(f, null, []); f() }`, []Kind{KindThrow}, false},

	{"escape through a frame", `export default () => { try { null.x } catch (e) { return typeof e.constructor.constructor("return process")() } }`, []Kind{KindThrow}, false},
	{"escape through console", `export default () => console.log.constructor.constructor("return this")()`, []Kind{KindThrow}, false},
	{"escape through arguments", `export default function () { return Object.getPrototypeOf(arguments).constructor.constructor("return this")() }`, []Kind{KindThrow}, false},
	{"escape through import.meta", `export default () => import.meta.constructor`, []Kind{""}, false},
	{"escape through a template", "export default () => `${(() => {}).constructor`return this`()}`", []Kind{KindThrow}, false},
	{"host objects", `export default () => [Error.prepareStackTrace, Error.captureStackTrace, globalThis.constructor.name, Object.keys(globalThis)].map(String)`, []Kind{""}, false},

	{"polluted toJSON", `Object.prototype.toJSON = () => "polluted"; export default () => ({a: 1})`, []Kind{""}, false},
	{"polluted getter", `Object.defineProperty(Object.prototype, "a", {get() { throw new Error("p") }}); export default (x) => ({b: x})`, []Kind{""}, false},
	{"polluted setter", `Object.defineProperty(Object.prototype, "b", {set() { throw new Error("p") }}); export default () => JSON.parse('{"b": 1}')`, []Kind{""}, false},
	{"polluted length", `Array.prototype.length = 5; Object.prototype.length = 1e15; export default () => [[], {}]`, []Kind{"", KindResult}, false},
	{"polluted then", `Object.prototype.then = (resolve) => resolve(1); export default async () => ({a: 1})`, []Kind{"", KindThrow, KindResult}, false},
	{"polluted index", `Object.defineProperty(Array.prototype, 0, {get() { return () => 1 }}); export default () => new Array(2)`, []Kind{"", KindResult}, false},
	{"replaced JSON", `JSON.stringify = () => "{"; JSON.parse = null; delete globalThis.JSON; export default () => ({a: 1})`, []Kind{""}, false},
	{"replaced Promise", `globalThis.Promise = class {}; Promise.prototype.then = 1; export default async () => 1`, []Kind{""}, false},
	{"replaced Object", `globalThis.Object = null; globalThis.Array = null; globalThis.Error = null; export default () => { throw [1].map((x) => x) }`, []Kind{KindThrow}, false},
	{"broken species", `export default () => { const a = [1]; a.constructor = {[Symbol.species]: function () { return {} }}; return a.map((x) => x) }`, []Kind{"", KindThrow}, false},
	{"frozen world", `Object.freeze(Object.prototype); Object.freeze(globalThis); export default () => ({a: 1})`, []Kind{""}, false},
	{"text as result", `export default () => ({toJSON: () => '"},"injected":{"'})`, []Kind{""}, false},
	{"changing getter", `export default () => { let n = 0; return {get a() { return n++ ? () => 1 : 1 }} }`, []Kind{"", KindResult}, false},
	{"lying array", `export default () => new Proxy([], {get: (t, k) => k === "length" ? 2 ** 53 : undefined})`, []Kind{KindResult, KindTimeout}, false},
	{"lying keys", `export default () => new Proxy({}, {ownKeys: () => ["a", "a"], getOwnPropertyDescriptor: () => ({enumerable: true, configurable: true, value: 1})})`, []Kind{"", KindThrow}, false},
	{"revoked proxy", `export default () => { const {proxy, revoke} = Proxy.revocable({}, {}); revoke(); return proxy }`, []Kind{KindThrow}, false},
	{"revoked proxy thrown", `export default () => { const {proxy, revoke} = Proxy.revocable({}, {}); revoke(); throw proxy }`, []Kind{KindThrow}, false},
	{"revoked proxy logged", `export default () => { const {proxy, revoke} = Proxy.revocable([], {}); revoke(); console.log(proxy); return 1 }`, []Kind{""}, false},
	{"promise that resolves to itself", `export default () => { let r; const p = new Promise((x) => { r = x }); r(p); return p }`, []Kind{KindThrow}, false},
	{"forged promise", `export default () => Object.create(Promise.prototype)`, []Kind{KindThrow, KindResult}, false},

	{"backtracking", `export default () => /^(([a-z])+.)+[A-Z]([a-z])+$/.test("a".repeat(1e5))`, []Kind{"", KindTimeout}, true},
	{"backtracking with backreference", `export default () => /(a+)+b\1/.test("a".repeat(40))`, []Kind{KindTimeout}, true},
	{"backtracking with lookahead", `export default () => /(?=(a+)+b)a/.test("a".repeat(40))`, []Kind{KindTimeout}, true},
	{"backtracking from lastIndex", `export default () => { const r = /(a|aa)+$/g; r.lastIndex = 1; return r.test("a".repeat(60) + "b") }`, []Kind{KindTimeout}, true},
	{"large pattern", `export default () => new RegExp("(a{1000}){1000}").test("a")`, []Kind{"", KindThrow, KindTimeout}, true},
	{"deep pattern", `export default () => new RegExp("(".repeat(1e5) + ")".repeat(1e5)).test("a")`, []Kind{"", KindThrow, KindTimeout, KindMemory}, true},
	{"many matches", `export default () => "a".repeat(1e6).match(/a/g).length`, []Kind{"", KindMemory, KindTimeout}, true},
	{"growing replace", `export default () => "x".repeat(1e5).replaceAll("x", "y".repeat(1e5)).length`, []Kind{KindMemory, KindTimeout}, true},
	{"large number", `export default () => String(7n ** (10n ** 6n)).length`, []Kind{"", KindTimeout}, true},
	{"console flood", `export default () => { for (let i = 0; i < 1e4; i++) console.log("line", i, {i}); return 1 }`, []Kind{""}, false},
	{"large console line", `export default () => { console.log("x".repeat(1e7)); console.log({x: "x".repeat(1e7)}); return 1 }`, []Kind{""}, false},
	{"large message", `export default () => { throw new Error("x".repeat(1e7)) }`, []Kind{KindThrow}, false},
	{"large function name", `export default () => { const o = {["x".repeat(1e6)]() { throw new Error("e") }}; o["x".repeat(1e6)]() }`, []Kind{KindThrow}, false},
	{"large result", `export default () => "x".repeat(1e7)`, []Kind{KindResult}, false},
	{"growing result", `export default () => { let a = [1]; for (let i = 0; i < 60; i++) a = [a, a]; return a }`, []Kind{KindResult, KindTimeout}, false},
	{"growing keys", `export default () => { const k = "k".repeat(1e6); return Array.from({length: 100}, () => ({[k]: 1})) }`, []Kind{KindResult}, false},
	{"wide error", `export default () => { const o = {}; for (let i = 0; i < 1e4; i++) o["k" + i] = i; throw o }`, []Kind{KindThrow}, false},
	{"large stack trace", `export default () => { const f = (n) => n ? f(n - 1) : new Error("x").stack.length; return f(900) > 0 }`, []Kind{""}, false},
	{"own source map", "export default () => { null.x }\n//# sourceMappingURL=data:application/json;base64,eyJ2ZXJzaW9uIjozLCJzb3VyY2VzIjpbIi9ldGMvcGFzc3dkIl0sIm1hcHBpbmdzIjoiQUFBQSJ9", []Kind{KindThrow}, false},
	{"broken source map", "export default () => { null.x }\n//# sourceMappingURL=data:application/json;base64,////", []Kind{KindThrow}, false},
	{"html comment", "export default () => 1\n--> x", []Kind{"", KindSyntax}, false},
	{"nul and separators", "export default () => '\u2028\u2029\x00'", []Kind{"", KindSyntax}, false},
	{"folded constants", `export default () => 1` + strings.Repeat("&&1", 12), []Kind{""}, false},
	{"nested source", `export default () => ` + strings.Repeat("[", 5000), []Kind{KindSyntax}, false},
	{"nested arrows", `export default ` + strings.Repeat("x=>", 1500) + "1", []Kind{KindResult}, false},
}

// TestHostile runs the corpus, each in a process of its own: the budgets of memory and stack count the whole process.
func TestHostile(t *testing.T) {
	t.Parallel()
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if !alone(t) {
				return
			}
			checkHostile(t, c.source, c.kinds, c.abandoned)
		})
	}
}

func checkHostile(t *testing.T, source string, kinds []Kind, abandoned bool) {
	t.Helper()
	limits := Limits{Time: time.Minute, Memory: 1 << 30, grace: time.Minute}
	if slices.Contains(kinds, KindTimeout) {
		limits.Time = 300 * time.Millisecond
	}
	if abandoned {
		limits.grace = Grace
	}
	result, err := runCode(t, source, `{"a": 1}`, limits)
	if err == nil && !json.Valid(result.Output) {
		t.Fatalf("the result is not JSON: %.200q", result.Output)
	}
	kind := Kind("")
	var e *Error
	if err != nil {
		if !errors.As(err, &e) {
			t.Fatalf("untyped error %v", err)
		}
		kind = e.Kind
		if len(e.Message) > MaxMessage+10 || len(e.Stack) > MaxFrames {
			t.Errorf("a message of %d bytes and %d frames", len(e.Message), len(e.Stack))
		}
		if e.Abandoned && !abandoned {
			t.Errorf("the engine was abandoned")
		}
	}
	if !slices.Contains(kinds, kind) {
		t.Errorf("got %q %.200s %v, want one of %q", kind, result.Output, err, kinds)
	}
	size := 0
	for _, l := range result.Logs {
		size += len(l.Text)
	}
	if size > 70<<10 || len(result.Logs) > 210 {
		t.Errorf("%d log lines of %d bytes", len(result.Logs), size)
	}
}

// patience is how long a run may take that ends for another reason than time, on a machine with much else to do.
const patience = 5 * time.Minute

// TestMemory runs what exhausts memory. It does not run beside other tests: the budget counts the whole process.
func TestMemory(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, c := range []struct{ name, source string }{
		{"objects", `export default () => { const a = []; for (;;) a.push({a: 1}) }`},
		{"texts", `export default () => { const a = []; for (let i = 0;; i++) a.push("x".repeat(1e4) + i) }`},
		{"doubling text", `export default () => { let s = "x"; for (;;) s += s }`},
		{"buffers", `export default () => { const a = []; for (;;) a.push(new Uint8Array(1e6)) }`},
		{"map", `export default () => { const m = new Map(); for (let i = 0;; i++) m.set(i, {}) }`},
		{"closures", `export default () => { let f = null; for (;;) { const g = f; f = () => g } }`},
		{"promises", `export default async () => { const a = []; for (;;) a.push(Promise.resolve()) }`},
		{"errors", `export default () => { const a = []; for (;;) a.push(new Error("x")) }`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := runCode(t, c.source, "1", Limits{Time: patience, Memory: 32 << 20})
			var e *Error
			if !errors.As(err, &e) || e.Kind != KindMemory {
				t.Errorf("got %v, want a memory error", err)
			}
		})
	}
}

// TestGarbage proves that the budget is about what is in use, not about what was thrown away.
func TestGarbage(t *testing.T) {
	if !alone(t) {
		return
	}
	runtime.GC() // what other tests left lets the heap grow further before the next collection
	result, err := runCode(t, `export default () => { let n = 0; for (let i = 0; i < 6e5; i++) n += [i, {i}, "x".repeat(100)].length; return n }`,
		"1", Limits{Time: patience, Memory: 48 << 20})
	if err != nil || string(result.Output) != "1800000" {
		t.Errorf("got %s, %v", result.Output, err)
	}
}
