package trigger

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// inHeaders are the headers of an event, changed or left out (an empty value) as a test says.
func inHeaders(changes ...string) []string {
	h := map[string]string{
		"Ce-Specversion": "1.0", "Ce-Id": "A234-1234-1234", "Ce-Source": "/mycontext/9", "Ce-Type": "com.example.someevent",
		"Ce-Subject": "order/4711", "Content-Type": "application/json",
	}
	for i := 0; i+1 < len(changes); i += 2 {
		h[changes[i]] = changes[i+1]
	}
	var list []string
	for name, v := range h {
		if v != "" {
			list = append(list, name+": "+v)
		}
	}
	return list
}

func structured(change string) string {
	return `{"specversion":"1.0","id":"A234-1234-1234","source":"/mycontext/9","type":"com.example.someevent","subject":"order/4711"` + change + `}`
}

const structuredHeader = "Content-Type: application/cloudevents+json; charset=utf-8"

func TestBothModesOfCloudEventsAreOneEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	n := r.deploy(webhook(open()), "{}")
	url := r.hookURL(n)
	shown := func(a response) map[string]any {
		e := r.event(n, a.execution(t))
		headers := map[string]any{}
		for name, v := range e["headers"].(map[string]any) {
			if strings.HasPrefix(name, "ce-") || name == "content-type" {
				headers[name] = v
			}
		}
		return map[string]any{"body": e["body"], "id": e["id"], "source": e["source"], "type": e["type"], "headers": headers}
	}
	want := map[string]any{
		"body": map[string]any{"a": 1.0}, "id": "A234-1234-1234", "source": "/mycontext/9", "type": "com.example.someevent",
		"headers": map[string]any{
			"ce-specversion": "1.0", "ce-id": "A234-1234-1234", "ce-source": "/mycontext/9", "ce-type": "com.example.someevent",
			"ce-subject": "order/4711", "content-type": "application/json",
		},
	}
	for name, got := range map[string]response{
		"binary":              r.post(url, `{"a":1}`, inHeaders()...),
		"structured":          r.post(url, structured(`,"data":{"a":1}`), structuredHeader, "Ce-Id: forged", "Ce-Other: forged"),
		"structured and told": r.post(url, structured(`,"datacontenttype":"application/json","data":{"a":1}`), structuredHeader),
		"structured base64":   r.post(url, structured(`,"data_base64":"eyJhIjoxfQ=="`), structuredHeader),
	} {
		if diff := cmp.Diff(want, shown(got)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	text := r.post(url, structured(`,"datacontenttype":"text/xml","data_base64":"`+base64.StdEncoding.EncodeToString([]byte("<ü/>"))+`"`), structuredHeader)
	if got := shown(text)["body"]; got != "<ü/>" {
		t.Errorf("text in base64 is %v", got)
	}
	none := r.post(url, structured(""), structuredHeader)
	if got := shown(none)["body"]; got != nil {
		t.Errorf("no data is %v", got)
	}
	encoded := r.post(url, `{}`, inHeaders("Ce-Id", `"Euro%20%E2%82%AC \"x\""`)...)
	if got := shown(encoded)["id"]; got != `Euro € "x"` {
		t.Errorf("an encoded id is %v", got)
	}
}

func TestWhatIsNoCloudEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	n := r.deploy(webhook(open()), "{}")
	url := r.hookURL(n)
	for name, headers := range map[string][]string{
		"no id":           inHeaders("Ce-Id", ""),
		"another version": inHeaders("Ce-Specversion", "0.3"),
		"a bad encoding":  inHeaders("Ce-Id", "%zz"),
		"two sources":     append(inHeaders(), "Ce-Source: /other"),
		"a long type":     inHeaders("Ce-Type", strings.Repeat("x", maxAttribute+1)),
	} {
		e := r.event(n, r.post(url, `{}`, headers...).execution(t))
		if e["type"] != "webhook" || e["id"] != nil {
			t.Errorf("with %s the event is %v of type %v, want a request like any other", name, e["id"], e["type"])
		}
	}
	for body, want := range map[string]int{
		`[]`:                             400,
		`{"specversion":"1.0","id":"a"}`: 400,
		structured(`,"data":1,"data_base64":"eyJhIjoxfQ=="`):                400,
		structured(`,"data_base64":"%"`):                                    400,
		structured(`,"data_base64":7`):                                      400,
		structured(`,"Bad-Name":"x"`):                                       400,
		structured(`,"long":"` + strings.Repeat("x", maxAttribute+1) + `"`): 400,
		structured(`,"list":[1]`):                                           400,
		structured(`,"datacontenttype":"image/png","data_base64":"//79"`):   415,
		strings.Replace(structured(""), `"1.0"`, `"2.0"`, 1):                400,
	} {
		if got := r.post(url, body, structuredHeader); got.status != want {
			t.Errorf("%.80s: %d, want %d", body, got.status, want)
		}
	}
}

// signed is a webhook with a signature over the body.
func signed() flow.Webhook {
	return flow.Webhook{Verify: flow.Verify{HMAC: &flow.VerifyHMAC{
		Header: "X-Signature", Algorithm: "sha256", Secrets: []flow.SecretRef{"config.s"},
	}}}
}

func TestAVerifiedSenderSaysWhichDeliveryItIs(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	secret := []byte("a secret of thirty-two characters")
	sign := func(body string) string {
		m := hmac.New(sha256.New, secret)
		m.Write([]byte(body))
		return "X-Signature: " + hex.EncodeToString(m.Sum(nil))
	}
	twice := func(url string, first, second func() response) bool {
		t.Helper()
		a, b := first(), second()
		return a.execution(t) == b.execution(t)
	}
	i := webhook(signed())
	n := r.deploy(i, fmt.Sprintf(`{"s":%q}`, secret))
	url := r.hookURL(n)
	post := func(body string, headers ...string) func() response {
		return func() response { return r.post(url, body, append(headers, sign(body))...) }
	}
	if !twice(url, post(`{"a":1}`, inHeaders()...), post(`{"a":1}`, inHeaders()...)) {
		t.Error("an event that came twice started the flow twice")
	}
	if !twice(url, post(`{"a":1}`, inHeaders()...), post(structured(`,"data":{"a":1}`), structuredHeader)) {
		t.Error("an event that came in both modes started the flow twice")
	}
	if twice(url, post(`{}`, inHeaders()...), post(`{}`, inHeaders("Ce-Source", "/other")...)) {
		t.Error("the same id of another source was dropped")
	}
	if twice(url, post(`{}`), post(`{}`)) {
		t.Error("requests without an id are one")
	}

	own := signed()
	own.Dedupe = value(`${{ trigger.type }}`)
	i = webhook(own)
	n = r.deploy(i, fmt.Sprintf(`{"s":%q}`, secret))
	url = r.hookURL(n)
	if !twice(url, post(`{}`, inHeaders("Ce-Id", "a")...), post(`{}`, inHeaders("Ce-Id", "b")...)) {
		t.Error("dedupe by the type of an event does not work")
	}

	// The red twin of the rule: without a proof nobody can have another's event dropped.
	n = r.deploy(webhook(open()), "{}")
	url = r.hookURL(n)
	if twice(url, func() response { return r.post(url, `{}`, inHeaders()...) }, func() response { return r.post(url, `{}`, inHeaders()...) }) {
		t.Error("the word of a sender that nobody knows was taken")
	}
}

func TestStandardWebhooksAreKnownByTheirID(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Options{})
	key := []byte("a secret of thirty-two characters")
	i := webhook(flow.Webhook{Verify: flow.Verify{StandardWebhooks: &flow.VerifyStandard{Secret: "config.s"}}})
	n := r.deploy(i, fmt.Sprintf(`{"s":"whsec_%s"}`, base64.StdEncoding.EncodeToString(key)))
	url := r.hookURL(n)
	post := func(delivery, body string) response {
		stamp := fmt.Sprint(time.Now().Unix())
		m := hmac.New(sha256.New, key)
		m.Write([]byte(delivery + "." + stamp + "." + body))
		return r.post(url, body, "Webhook-Id: "+delivery, "Webhook-Timestamp: "+stamp,
			"Webhook-Signature: v1,"+base64.StdEncoding.EncodeToString(m.Sum(nil)))
	}
	first := post("msg_1", `{}`).execution(t)
	if again := post("msg_1", `{}`).execution(t); again != first {
		t.Error("a delivery that was repeated started the flow twice")
	}
	if other := post("msg_2", `{}`).execution(t); other == first {
		t.Error("another delivery was dropped")
	}
}
