package trigger

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

func TestAWebhookStartsAFlow(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o store.Options) {
		r := newRig(t, o)
		n := r.deploy(webhook(open()), "{}")
		got := r.post(r.hookURL(n)+"?a=1&b=%C3%A9&a=2", `{"id": 12345678901234567890, "text":"<ü>"}`,
			"Content-Type: application/json", "X-One: 1", "X-One: 2", "Authorization: Bearer s", "Cookie: c=d")
		e := r.event(n, got.execution(t))
		if _, err := time.Parse(time.RFC3339Nano, e["time"].(string)); err != nil {
			t.Error(err)
		}
		delete(e, "time")
		for _, name := range []string{"accept-encoding", "user-agent", "content-length"} {
			delete(e["headers"].(map[string]any), name)
			delete(e["headers_all"].(map[string]any), name)
		}
		want := map[string]any{
			"body":        map[string]any{"id": 12345678901234567890.0, "text": "<ü>"},
			"method":      "POST",
			"headers":     map[string]any{"content-type": "application/json", "x-one": "1"},
			"headers_all": map[string]any{"content-type": []any{"application/json"}, "x-one": []any{"1", "2"}},
			"query":       map[string]any{"a": "1", "b": "é"},
			"source":      "/instances/" + n.id.String() + "/flows/hook",
			"type":        "webhook",
			"customer": map[string]any{
				"id": n.customer.String(), "external_id": e["customer"].(map[string]any)["external_id"], "name": "Müller & Co",
				"timezone": "Europe/Berlin", "locale": "de", "attributes": map[string]any{"plan": "gold"},
			},
		}
		if diff := cmp.Diff(want, e); diff != "" {
			t.Error(diff)
		}
	})
}

func TestBodiesAreReadByTheirType(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	n := r.deploy(webhook(open()), "{}")
	url := r.hookURL(n)
	for _, tt := range []struct {
		kind, body string
		want       any // or an int: the status
	}{
		{"application/json", `[1, {"a":null}]`, []any{1.0, map[string]any{"a": nil}}},
		{"application/json; charset=utf-8", `"x"`, "x"},
		{"application/vnd.api+json", ` 7 `, 7.0},
		{"application/json", ``, nil},
		{"", `{"a":1}`, map[string]any{"a": 1.0}},
		{"", `plain`, "plain"},
		{"text/plain", `{"a":1}`, `{"a":1}`},
		{"application/xml", "<a>\"\\\x01</a>", "<a>\"\\\x01</a>"},
		{"application/x-www-form-urlencoded", "a=1&b=%22&a=2", map[string]any{"a": "1", "b": `"`}},
		{"application/json", `{"a":1`, 400},
		{"application/json", `1,"customer":{"id":"other"}`, 400},
		{"application/json", `{"a":1,"a":2}`, 400},
		{"application/json", "\xff", 400},
		{"application/json; =", `{}`, 400},
		{"application/x-www-form-urlencoded", "a=%zz", 400},
		{"application/x-www-form-urlencoded", strings.Repeat("a&", 3) + manyFields(1001), 413},
		{"application/octet-stream", "\xff\xfe", 415},
		{"multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"/etc/passwd\"\r\n\r\n1\r\n--x--\r\n", 415},
	} {
		headers := []string{"Content-Type: " + tt.kind}
		if tt.kind == "" {
			headers = nil
		}
		got := r.post(url, tt.body, headers...)
		if status, refused := tt.want.(int); refused {
			if got.status != status {
				t.Errorf("%s %q: status %d, want %d", tt.kind, tt.body, got.status, status)
			}
			continue
		}
		e := r.event(n, got.execution(t))
		if diff := cmp.Diff(tt.want, e["body"]); diff != "" {
			t.Errorf("%s %q: %s", tt.kind, tt.body, diff)
		}
	}
}

func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("f" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("y", i/26) + "&")
	}
	return b.String()
}

// Whoever guesses learns nothing: every address that takes nothing answers the same bytes.
func TestUnknownAddressesAnswerTheSame(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	n := r.deploy(webhook(open()), "{}")
	url := r.hookURL(n)
	closed := r.deploy(webhook(open()), "{}")
	old := r.hookURL(closed)
	r.redeploy(closed, &flow.Integration{Flows: []flow.Flow{{Name: "other", Trigger: flow.Trigger{Manual: &flow.Input{}}}}}, "{}")
	want := r.post(r.url+Path+strings.Repeat("a", 52), "{}")
	if want.status != http.StatusNotFound {
		t.Fatalf("status %d", want.status)
	}
	for what, u := range map[string]string{
		"too short": r.url + Path + "abc", "longer": url + "a", "a path below": url + "/x", "nothing": r.url + Path,
		"one letter off": url[:len(url)-1] + string('a'+'b'-url[len(url)-1]&1), "closed": old, "upper case": r.url + Path + strings.ToUpper(url[len(url)-52:]),
	} {
		for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
			got := r.do(method, u, strings.NewReader("{}"))
			if got.status != want.status || got.body != want.body || len(got.header) != len(want.header) {
				t.Errorf("%s %s: %+v, want %+v", method, what, got, want)
			}
		}
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	w := open()
	w.Methods = []string{http.MethodGet, http.MethodPut}
	url := r.hookURL(r.deploy(webhook(w), "{}"))
	for method, want := range map[string]int{http.MethodGet: 202, http.MethodPut: 202, http.MethodPost: 405, http.MethodHead: 405} {
		got := r.do(method, url, nil)
		if got.status != want || want == 405 && got.header.Get("Allow") != "GET, PUT" {
			t.Errorf("%s: %+v", method, got)
		}
	}
}

func TestAddressesLastAndRotate(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o store.Options) {
		r := newRig(t, o)
		n := r.deploy(webhook(open()), "{}")
		first := r.hookURL(n)
		if r.redeploy(n, webhook(open()), "{}"); r.hookURL(n) != first {
			t.Error("a deployment changed the address")
		}
		second, err := r.e.RotateHook(context.Background(), n.customer, n.id, "hook", time.Hour)
		if err != nil || second == first || r.hookURL(n) != second {
			t.Fatalf("rotated to %q, %v", second, err)
		}
		for _, u := range []string{first, second} {
			if got := r.post(u, "{}"); got.status != 202 {
				t.Errorf("within the overlap: %+v", got)
			}
		}
		third, err := r.e.RotateHook(context.Background(), n.customer, n.id, "hook", 0)
		if err != nil {
			t.Fatal(err)
		}
		// Another server, or this one after the age of what it remembers:
		r.door = NewDoor(Options{Engine: r.e, Vault: r})
		for u, want := range map[string]bool{first: false, second: false, third: true} {
			if _, err := r.door.find(context.Background(), u[len(u)-52:]); (err == nil) != want {
				t.Errorf("%s: found is not %v: %v", u, want, err)
			}
		}
		r.redeploy(n, &flow.Integration{Flows: []flow.Flow{{Name: "x", Trigger: flow.Trigger{Manual: &flow.Input{}}}}}, "{}")
		if _, err := r.e.HookURL(context.Background(), n.customer, n.id, "hook"); err == nil {
			t.Error("a flow that is gone has an address")
		}
		if r.redeploy(n, webhook(open()), "{}"); r.hookURL(n) != third {
			t.Error("a flow that came back has another address")
		}
	})
}

func TestADuplicateIsAnsweredAsTheFirst(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, o store.Options) {
		r := newRig(t, o)
		w := open()
		w.Dedupe = value(`${{ trigger.headers["x-delivery-id"] }}/${{ trigger.body.items[1].id }}`)
		n := r.deploy(webhook(w), "{}")
		url := r.hookURL(n)
		send := func(delivery, body string) string {
			return r.post(url, body, "Content-Type: application/json", "X-Delivery-Id: "+delivery).execution(t).String()
		}
		first := send("1", `{"items":[0,{"id":7}]}`)
		if again := send("1", `{"items":[5,{"id":7}]}`); again != first {
			t.Errorf("the duplicate is %s, want %s", again, first)
		}
		for _, other := range []string{send("2", `{"items":[0,{"id":7}]}`), send("1", `{"items":[0,{"id":8}]}`)} {
			if other == first {
				t.Error("another delivery was dropped")
			}
		}
		if without := send("1", `{}`); without == send("1", `{}`) {
			t.Error("deliveries without an id are dropped")
		}
	})
}
