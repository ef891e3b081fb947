package connect

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

// answering changes how the provider of the world answers.
func (w *world) answering(c *credential.Callback) {
	w.t.Helper()
	w.manifest.Auth[0].Recipe.Callback = c
	if _, err := w.templateFor(lease.SharedWithAll); err != nil {
		w.t.Fatal(err)
	}
}

// postAnswer sends what a page of the provider posts: it comes from another site, so that
// none of our cookies are with it.
func (b *browser) postAnswer(form string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "https://bulkhead.example/oauth/callback", strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "https://bakery.acme.example")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	for _, f := range change {
		f(r)
	}
	a := httptest.NewRecorder()
	b.w.pages.ServeHTTP(a, r.WithContext(b.w.t.Context()))
	return a
}

// An answer that the provider's page posts comes without cookies. It leads the browser to the
// callback and does nothing itself; there it is bound to the browser like any other.
func TestPostedCallbacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, path := w.link(nil)
	b := w.browser()
	state := b.authorize(path)
	form := url.Values{"code": {"a+b c&d"}, "state": {state}, "iss": {"https://bakery.acme.example"}, "user": {"<b>ann</b>\r\nSet-Cookie: x=y"}}.Encode()
	a := b.postAnswer(form)
	to := a.Header().Get("Location")
	if a.Code != http.StatusSeeOther || !strings.HasPrefix(to, "/oauth/callback?") || strings.ContainsAny(to, "\r\n<") || len(a.Result().Cookies()) != 0 {
		t.Fatalf("%d to %q", a.Code, to)
	}
	if a.Header().Get("Referrer-Policy") != "no-referrer" || a.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", a.Header())
	}
	if len(w.vault.orders) != 0 {
		t.Error("a posted answer was taken as it came")
	}
	if a := w.browser().get(to); a.Code != http.StatusForbidden || len(w.vault.orders) != 0 {
		t.Errorf("in another browser: %d", a.Code)
	}
	if a := b.get(to); a.Code != http.StatusOK || len(w.connections(w.customer)) != 1 {
		t.Errorf("in its own: %d %s", a.Code, a.Body)
	}
	for _, p := range w.vault.asked {
		if p.Name == "code" && p.Value != "a+b c&d" {
			t.Errorf("code %q", p.Value)
		}
	}
	for name, a := range map[string]*httptest.ResponseRecorder{
		"nothing":         b.postAnswer(""),
		"twice":           b.postAnswer("code=a&code=b&state=" + state),
		"too long":        b.postAnswer("code=" + strings.Repeat("a", maxCallback)),
		"too many":        b.postAnswer(strings.Repeat("a=1&", 20) + "x=" + strings.Join(strings.Split(strings.Repeat("y", 50), ""), "&z")),
		"malformed":       b.postAnswer("code=%zz"),
		"with a query":    b.postAnswer("code=a", func(r *http.Request) { r.URL.RawQuery = "state=" + state }),
		"not a form":      b.postAnswer(`{"code":"a"}`, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }),
		"without content": b.postAnswer(form, func(r *http.Request) { r.Header.Del("Content-Type") }),
	} {
		if a.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, a.Code, a.Header().Get("Location"))
		}
	}
}

var hiddenField = regexp.MustCompile(`name="(answer|form)" value="([^"]*)"`)

// confirmation reads the form of a page that asks.
func confirmation(a *httptest.ResponseRecorder) url.Values {
	form := url.Values{}
	for _, m := range hiddenField.FindAllStringSubmatch(a.Body.String(), -1) {
		form.Set(m[1], m[2])
	}
	return form
}

// sendConfirmation sends a form as a site would.
func (b *browser) sendConfirmation(form url.Values, site string) int {
	r := httptest.NewRequest(http.MethodPost, "https://bulkhead.example"+confirmPath, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", site)
	return b.send(r).Code
}

// An answer without a state connects nothing until the person who began says that it is
// theirs: anybody could have led the browser to the callback with a code of their own.
func TestAnswersWithoutStateAreConfirmed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.answering(&credential.Callback{Unstated: true})
	_, path := w.link(nil)
	b := w.browser()
	b.authorize(path)
	const evil = "/oauth/callback?code=of-the-attacker&installation=call-0800-evil"
	asked := b.get(evil)
	if asked.Code != http.StatusOK || !strings.Contains(asked.Body.String(), "Did you just install this at Acme Shop?") || !strings.Contains(asked.Body.String(), "Bakery Ltd") {
		t.Fatalf("%d %s", asked.Code, asked.Body)
	}
	if strings.Contains(asked.Body.String(), "0800") || strings.Contains(asked.Body.String(), "<script") {
		t.Error("the page shows what the request says")
	}
	if len(w.vault.orders) != 0 || len(w.connections(w.customer)) != 0 {
		t.Fatal("it was taken without a word of the person")
	}
	form := confirmation(asked)
	other := w.browser()
	_, path2 := w.link(nil)
	other.authorize(path2)
	forged := url.Values{"answer": {"Y29kZT1vdGhlcg"}, "form": form["form"]}
	for name, code := range map[string]int{
		"from another site":    b.sendConfirmation(form, "cross-site"),
		"from a sibling":       b.sendConfirmation(form, "same-site"),
		"of another answer":    b.sendConfirmation(forged, "same-origin"),
		"without a proof":      b.sendConfirmation(url.Values{"answer": form["answer"]}, "same-origin"),
		"in another browser":   other.sendConfirmation(form, "same-origin"),
		"in one that began no": w.browser().sendConfirmation(form, "same-origin"),
	} {
		if code != http.StatusForbidden {
			t.Errorf("%s: %d", name, code)
		}
	}
	if len(w.vault.orders) != 0 {
		t.Fatal("a forged confirmation was taken")
	}
	form = confirmation(b.get("/oauth/callback?code=mine&installation=7"))
	if code := b.sendConfirmation(form, "same-origin"); code != http.StatusOK || len(w.connections(w.customer)) != 1 {
		t.Errorf("confirmed: %d", code)
	}
	if got := w.vault.asked; len(got) != 2 || got[0].Value != "mine" || got[1].Name != "installation" {
		t.Errorf("exchanged with %+v", got)
	}
	orders := len(w.vault.orders)
	if code := b.sendConfirmation(form, "same-origin"); code != http.StatusOK || len(w.vault.orders) != orders || len(w.connections(w.customer)) != 1 {
		t.Errorf("confirmed twice: %d, %d orders more", code, len(w.vault.orders)-orders)
	}
}

// An installation that began at the provider, in a browser that began nothing here, connects
// nothing; nor does an answer without a state of a provider that would give it back.
func TestUnaskedAnswersAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, path := w.link(nil)
	b := w.browser()
	b.authorize(path)
	if a := b.get("/oauth/callback?code=abc"); a.Code != http.StatusForbidden {
		t.Errorf("without its state: %d", a.Code)
	}
	w.answering(&credential.Callback{Unstated: true})
	stranger := w.browser()
	a := stranger.get("/oauth/callback?code=abc&installation=7")
	if a.Code != http.StatusForbidden || !strings.Contains(a.Body.String(), "open the link that you were given first") {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	if len(w.vault.orders) != 0 {
		t.Error("an order was given")
	}
}

// A provider that sends its code by a webhook is refused where its client is entered, and by
// the page.
func TestCodesByWebhookAreNotServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, path := w.link(nil)
	w.manifest.Auth[0].Recipe.Callback = &credential.Callback{Webhook: &credential.Webhook{Code: "code", Match: "id", Param: "installation"}}
	var wrong InvalidError
	if _, err := w.templateFor(lease.SharedWithAll); !errors.As(err, &wrong) || !strings.Contains(err.Error(), "webhook") {
		t.Errorf("its client: %v", err)
	}
	if a := w.browser().get(path); a.Code != http.StatusGone {
		t.Errorf("a link from before: %d", a.Code)
	}
	if err := w.DeleteTemplate(t.Context(), w.org, w.template.ID); err != nil {
		t.Fatal(err)
	}
	_, path = w.link(func(e *LinkEntry) { e.Methods = []string{"oauth"} }) // with a client of their own
	b := w.browser()
	a := b.post(path, "method", "oauth", "var.shop", "bakery", "field.client_id", "theirs", "field.client_secret", "s3cret-of-theirs")
	if a.Code != http.StatusNotImplemented || len(w.vault.starts) != 0 {
		t.Errorf("the page: %d, %d starts", a.Code, len(w.vault.starts))
	}
}
