package suite

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

const hookFlows = `integration: hooks
title: Hooks
connections:
  api: {connector: http, title: Api}
flows:
  open:
    trigger: {webhook: {methods: [POST, PUT], verify: none, dedupe: "${{ trigger.headers['x-delivery'] }}"}}
    labels: {n: "${{ trigger.body.n }}"}
    steps:
      - {id: out, return: {n: "${{ trigger.body.n }}", q: "${{ trigger.query.q }}", method: "${{ trigger.method }}"}}
  sync:
    trigger: {webhook: {verify: none, respond: sync, dedupe: "${{ trigger.headers['x-delivery'] }}"}}
    steps:
      - {id: call, uses: api.request, with: {method: POST, path: /sync, body: "${{ trigger.body }}"}}
      - {id: answer, respond: {status: 201, headers: {X-Count: "${{ string(steps.call.body.n) }}"}, body: {n: "${{ steps.call.body.n }}"}}}
      - {id: after, uses: api.request, with: {method: POST, path: /sync-after, body: {}}}
  silent:
    trigger: {webhook: {verify: none, respond: sync}}
    steps:
      - {id: out, set: 1}
  broken:
    trigger: {webhook: {verify: none, respond: sync}}
    steps:
      - {id: out, raise: {type: no-stock, message: None left}}
  form:
    trigger: {webhook: {verify: none, respond: sync}}
    steps:
      - {id: out, respond: {body: "${{ trigger.body }}"}}
`

func driveWebhooks(d *drive) {
	t := d.t
	i := d.put(hookFlows, nil)
	a := d.send("POST", d.hook(i, "open")+"?q=1&q=2", `{"n": 7}`, "X-Note", "seen", "Authorization", "Bearer hidden-4711", "Cookie", "hidden=4711")
	x := a.execution(t)
	same(t, "output", d.output(x), `{"n":7,"q":"1","method":"POST"}`)
	ev := d.event(x)
	headers, _ := ev["headers"].(map[string]any)
	same[any](t, "trigger.headers", headers["x-note"], "seen")
	same[any](t, "trigger.type", ev["type"], "webhook")
	if text := fmt.Sprint(ev); strings.Contains(text, "4711") {
		t.Errorf("the event holds what proves who the sender is: %s", text)
	}
	same[any](t, "trigger.source", ev["source"], "/instances/"+i.String()+"/flows/open")
	customer, _ := ev["customer"].(map[string]any)
	same[any](t, "customer.id", customer["id"], d.customer.String())

	a = d.send("POST", d.hook(i, "sync"), `{"n": 1}`)
	same(t, "sync", a.status, 201)
	same(t, "sync cookie", a.header.Get("Set-Cookie"), "")
	same(t, "sync header and body", a.header.Get("X-Count")+a.body, `1{"n":1}`)
	d.eventually("the step after the answer", func() bool { return len(d.out.bodies("/sync-after")) == 1 })
	same(t, "sync without an answer", d.send("POST", d.hook(i, "silent"), `{}`).status, 204)
	same(t, "sync that faults", d.send("POST", d.hook(i, "broken"), `{}`).status, 500)
	form := "application/x-www-form-urlencoded"
	same(t, "a form", d.send("POST", d.hook(i, "form"), "a=1&b=x+y&a=2", "Content-Type", form).body, `{"a":"1","b":"x y"}`)
	same(t, "a text", d.send("POST", d.hook(i, "form"), "hello", "Content-Type", "text/plain").body, `"hello"`)
	same(t, "broken JSON", d.send("POST", d.hook(i, "form"), "{", "Content-Type", "application/json").status, 400)
	same(t, "files", d.send("POST", d.hook(i, "form"), "--x--", "Content-Type", "multipart/form-data; boundary=x").status, 415)

	// What is no address gets one answer, whatever the reason.
	url := d.hook(i, "open")
	base, token := url[:strings.LastIndex(url, "/")+1], url[strings.LastIndex(url, "/")+1:]
	other := strings.Repeat("a", len(token))
	first := d.send("POST", base+other, "{}")
	same(t, "an unknown address", first.status, 404)
	for _, c := range [][2]string{
		{"GET", other},
		{"DELETE", other},
		{"POST", "a"},
		{"POST", ""},
		{"POST", token + "a"},
		{"POST", token[:len(token)-1] + "!"},
		{"POST", strings.ToUpper(token)},
		{"POST", token + "/"},
		{"OPTIONS", other},
	} {
		a := d.send(c[0], base+c[1], "{}")
		a.header.Del("Date")
		a.header.Del("X-Request-Id")
		want := first.header.Clone()
		want.Del("Date")
		want.Del("X-Request-Id")
		if a.status != 404 || a.body != first.body || !maps.EqualFunc(a.header, want, slices.Equal) {
			t.Errorf("%s %s: %d %v %s, want as any other: %v %s", c[0], c[1], a.status, a.header, a.body, want, first.body)
		}
	}
	a = d.send("GET", url, "")
	same(t, "a method that is not declared", fmt.Sprint(a.status, a.header.Get("Allow")), "405POST, PUT")
	same(t, "a method that is", d.send("PUT", url, `{"n":1}`).status, 202)
	same(t, "a body that is too large", d.send("POST", url, `"`+strings.Repeat("x", 10<<20)+`"`).status, 413)

	// A new address: the old one ends.
	h, err := d.RotateHook(t.Context(), i, "open", 0)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the new address", d.send("POST", h.URL, `{"n":1}`).status, 202)
	d.eventually("the end of the old address", func() bool { return d.send("POST", url, `{"n":1}`).status == 404 })
	d.rejects(i, "open: method", "open: too-large", "form: malformed", "form: unsupported")
}

// rejects waits until the rejections of an instance are those.
func (d *drive) rejects(i id.Instance, want ...string) {
	d.t.Helper()
	slices.Sort(want)
	var got []string
	d.eventually("the rejections "+strings.Join(want, ", "), func() bool {
		p, err := d.Rejections(d.t.Context(), i)
		if err != nil {
			d.t.Fatal(err)
		}
		got = nil
		for _, r := range p.Items {
			got = append(got, r.Flow+": "+r.Reason)
			if r.At.IsZero() {
				d.t.Errorf("rejection without a time: %+v", r)
			}
		}
		slices.Sort(got)
		got = slices.Compact(got)
		return len(got) >= len(want)
	})
	same(d.t, "rejections", fmt.Sprint(got), fmt.Sprint(want))
}

func driveDeliveries(d *drive) {
	t := d.t
	flows := strings.ReplaceAll(hookFlows, "path: /sync", "path: /delivered")
	// Who repeats a delivery learns what the first was answered where it proves who it is.
	flows = strings.Replace(flows, "verify: none, respond: sync, dedupe", "verify: {header: {name: X-Key, secret: config.key}}, respond: sync, dedupe", 1)
	flows = strings.Replace(flows, "flows:\n", "config:\n  key: {type: secret, title: Key, required: true}\nflows:\n", 1)
	i := d.put(flows, map[string]string{"key": "hidden-4711"})
	one := d.send("POST", d.hook(i, "open")+"?q=1", `{"n": 1}`, "X-Delivery", "d-1").execution(t)
	same(t, "the same delivery", d.send("POST", d.hook(i, "open"), `{"n": 1}`, "X-Delivery", "d-1").execution(t), one)
	if d.send("POST", d.hook(i, "open"), `{"n": 1}`, "X-Delivery", "d-2").execution(t) == one {
		t.Error("another delivery is taken for the first")
	}
	third, fourth := d.send("POST", d.hook(i, "open"), `{"n": 1}`), d.send("POST", d.hook(i, "open"), `{"n": 1}`)
	if third.execution(t) == fourth.execution(t) {
		t.Error("two requests without an id are taken for one")
	}
	d.becomes(one, "completed")
	same(t, "executions", len(d.of(i, "open")), 4)
	first := d.send("POST", d.hook(i, "sync"), `{"n": 1}`, "X-Delivery", "d-1", "X-Key", "hidden-4711")
	calls := len(d.of(i, "sync"))
	again := d.send("POST", d.hook(i, "sync"), `{"n": 1}`, "X-Delivery", "d-1", "X-Key", "hidden-4711")
	same(t, "a synchronous delivery", fmt.Sprint(again.status, again.header.Get("X-Count"), again.body), fmt.Sprint(first.status, first.header.Get("X-Count"), first.body))
	same(t, "executions of it", len(d.of(i, "sync")), calls)
}

const proofFlows = `integration: proofs
title: Proofs
config:
  secret: {type: secret, title: Secret, required: true}
  old: {type: secret, title: Old}
  whsec: {type: secret, title: Standard, required: true}
  unset: {type: secret, title: Not set}
flows:
  hmac:
    trigger: {webhook: {respond: sync, verify: {hmac: {header: X-Signature, algorithm: sha256, prefix: "sha256=", secrets: [config.secret, config.old], signed: "{timestamp}.{body}", timestamp: {header: X-Timestamp, tolerance: PT5M}}}}}
    steps: [{id: out, respond: {body: "${{ trigger.headers }}"}}]
  standard:
    trigger: {webhook: {verify: {standard-webhooks: {secret: config.whsec}}}}
    steps: [{id: out, set: 1}]
  header:
    trigger: {webhook: {verify: {header: {name: X-Api-Key, secret: config.secret}}}}
    steps: [{id: out, set: 1}]
  basic:
    trigger: {webhook: {verify: {basic: {username: shop, password: config.secret}}}}
    steps: [{id: out, set: 1}]
  bearer:
    trigger: {webhook: {verify: {bearer: {secret: config.secret}}}}
    steps: [{id: out, set: 1}]
  jwt:
    trigger: {webhook: {verify: {jwt: {algorithm: HS256, secret: config.secret, issuer: shop, audience: us}}}}
    steps: [{id: out, set: 1}]
  unset:
    trigger: {webhook: {verify: {bearer: {secret: config.unset}}}}
    steps: [{id: out, set: 1}]
`

func mac(key, data string) []byte {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(data))
	return h.Sum(nil)
}

func token(key, alg string, claims map[string]any) string {
	part := func(v any) string {
		b, _ := json.Marshal(v) // maps of texts and numbers print
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(map[string]any{"alg": alg, "typ": "JWT"}) + "." + part(claims)
	if alg == "none" {
		return text + "."
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(mac(key, text))
}

// proof is one request that says who sent it.
type attempt struct {
	name, flow string
	headers    []string
	want       int
}

func attempts(body string, now time.Time) []attempt {
	const key = "first-secret-4711"
	at := func(d time.Duration) string { return strconv.FormatInt(now.Add(d).Unix(), 10) }
	signed := func(k, stamp, text string) []string {
		return []string{"X-Timestamp", stamp, "X-Signature", "sha256=" + hex.EncodeToString(mac(k, stamp+"."+text))}
	}
	standard := func(k, stamp string) []string {
		return []string{"Webhook-Id", "m1", "Webhook-Timestamp", stamp, "Webhook-Signature", "v1," + base64.StdEncoding.EncodeToString(mac(k, "m1."+stamp+"."+body))}
	}
	claims := func(change string, v any) map[string]any {
		m := map[string]any{"iss": "shop", "aud": "us", "exp": now.Add(time.Hour).Unix()}
		if m[change] = v; v == nil {
			delete(m, change)
		}
		return m
	}
	auth := func(text string) []string { return []string{"Authorization", text} }
	basic := func(user, password string) []string {
		return auth("Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
	}
	return []attempt{
		{"hmac", "hmac", signed(key, at(0), body), 200},
		{"hmac, the secret before", "hmac", signed("old-secret-4711", at(0), body), 200},
		{"hmac, forged", "hmac", signed("forged", at(0), body), 401},
		{"hmac, of another body", "hmac", signed(key, at(0), body+" "), 401},
		{"hmac, stale", "hmac", signed(key, at(-time.Hour), body), 401},
		{"hmac, of the future", "hmac", signed(key, at(time.Hour), body), 401},
		{"hmac, another time than signed", "hmac", append(signed(key, at(-time.Hour), body), "X-Timestamp", at(0)), 401},
		{"hmac, absent", "hmac", nil, 401},
		{"standard", "standard", standard("standard-secret-4711", at(0)), 202},
		{"standard, forged", "standard", standard(key, at(0)), 401},
		{"standard, stale", "standard", standard("standard-secret-4711", at(-time.Hour)), 401},
		{"header", "header", []string{"X-Api-Key", key}, 202},
		{"header, wrong", "header", []string{"X-Api-Key", key + "1"}, 401},
		{"basic", "basic", basic("shop", key), 202},
		{"basic, wrong password", "basic", basic("shop", ""), 401},
		{"basic, wrong name", "basic", basic("shop2", key), 401},
		{"bearer", "bearer", auth("Bearer " + key), 202},
		{"bearer, wrong", "bearer", auth("Bearer " + key[1:]), 401},
		{"bearer, absent", "bearer", nil, 401},
		{"jwt", "jwt", auth("Bearer " + token(key, "HS256", claims("x", 1))), 202},
		{"jwt, forged", "jwt", auth("Bearer " + token("forged", "HS256", claims("x", 1))), 401},
		{"jwt, none", "jwt", auth("Bearer " + token("", "none", claims("x", 1))), 401},
		{"jwt, expired", "jwt", auth("Bearer " + token(key, "HS256", claims("exp", now.Add(-time.Hour).Unix()))), 401},
		{"jwt, without an end", "jwt", auth("Bearer " + token(key, "HS256", claims("exp", nil))), 401},
		{"jwt, of another issuer", "jwt", auth("Bearer " + token(key, "HS256", claims("iss", "other"))), 401},
		{"jwt, for others", "jwt", auth("Bearer " + token(key, "HS256", claims("aud", "them"))), 401},
		{"a secret that is missing", "unset", auth("Bearer "), 401},
		{"a secret that is missing, guessed", "unset", auth("Bearer x"), 401},
	}
}

func driveProofs(d *drive) {
	t := d.t
	i := d.put(proofFlows, map[string]string{
		"secret": "first-secret-4711", "old": "old-secret-4711", "whsec": "whsec_" + base64.StdEncoding.EncodeToString([]byte("standard-secret-4711")),
	})
	const body = `{"n": 1}`
	refused := ""
	good := map[string]int{}
	for _, c := range attempts(body, time.Now()) {
		a := d.send("POST", d.hook(i, c.flow), body, c.headers...)
		if a.status != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, a.status, a.body, c.want)
		}
		if a.status == http.StatusUnauthorized {
			if refused == "" {
				refused = a.body
			}
			same(t, c.name+": what a refused sender is told", a.body, refused)
		} else {
			good[c.flow]++
		}
		if strings.Contains(a.body, "sha256=") {
			t.Errorf("%s: the flow sees the signature: %s", c.name, a.body)
		}
	}
	for _, f := range []string{"hmac", "standard", "header", "basic", "bearer", "jwt", "unset"} {
		same(t, "executions of "+f, len(d.of(i, f)), good[f])
	}
	d.rejects(i, "hmac: bad-signature", "hmac: expired", "hmac: no-signature", "standard: bad-signature", "standard: expired", "header: bad-signature", "basic: bad-signature",
		"bearer: bad-signature", "bearer: no-signature", "jwt: bad-signature", "jwt: expired", "unset: no-secret", "unset: no-signature")
}

func driveLarge(d *drive) {
	t := d.t
	i := d.put(strings.ReplaceAll(strings.ReplaceAll(proofFlows, "integration: proofs", "integration: large"), `"${{ trigger.headers }}"`, `{size: "${{ size(trigger.body.pad) }}"}`), map[string]string{
		"secret": "large-4711", "whsec": "whsec_" + base64.StdEncoding.EncodeToString([]byte("standard-secret-4711")),
	})
	const size = 10<<20 - 10
	body := `{"pad":"` + strings.Repeat("x", size) + `"}`
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	signature := "sha256=" + hex.EncodeToString(mac("large-4711", stamp+"."+body))
	a := d.send("POST", d.hook(i, "hmac"), body, "X-Timestamp", stamp, "X-Signature", signature)
	same(t, "10 MiB", fmt.Sprintf("%d %s", a.status, a.body), fmt.Sprintf(`200 {"size":%d}`, size))
	forged := strings.Replace(body, "xx", "xy", 1)
	same(t, "10 MiB, forged", d.send("POST", d.hook(i, "hmac"), forged, "X-Timestamp", stamp, "X-Signature", signature).status, 401)
}
