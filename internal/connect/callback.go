package connect

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// confirmPath takes the word of a person that an answer without a state is theirs.
const confirmPath = CallbackPath + "/confirm"

// cookieState keeps the state of a visit for providers that do not give it back. Like the
// browser's cookie it is of this host only, and not for scripts.
const cookieState = "__Host-bulkhead-state"

// errNotServed means that a provider answers in a way that cannot be taken here.
var errNotServed = errors.New("the provider sends its code by a webhook, which is not served")

// served refuses methods whose answers cannot be taken safely. A code that comes by a
// webhook belongs to no browser: whoever can have one sent would choose to whom it is given.
func served(m *credential.Method) error {
	if m.Recipe != nil && m.Recipe.Callback != nil && m.Recipe.Callback.Webhook != nil {
		return errNotServed
	}
	return nil
}

// isUnstated reports whether a provider gives no state back.
func isUnstated(m *credential.Method) bool {
	return m.Recipe != nil && m.Recipe.Callback != nil && m.Recipe.Callback.Unstated
}

// postCallback takes an answer that a page of the provider has posted (OAuth 2.0 Form Post
// Response Mode). Such a request comes from another site, and so without our cookies: nothing
// is done with it but to send the browser on to the same callback with GET, where the cookies
// are (RFC 6265bis section 5.6.7.1) and everything is checked. What is posted goes nowhere
// but to this address.
func (s *Service) postCallback(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxCallback)
	err := r.ParseForm()
	var params []wire.Pair
	ok := false
	if err == nil && r.URL.RawQuery == "" {
		params, ok = callbackParams(r.PostForm.Encode())
	}
	if !ok || len(params) == 0 {
		s.unreadable(w, "")
		return
	}
	query := url.Values{}
	for _, p := range params {
		query.Set(p.Name, p.Value)
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	http.Redirect(w, r, CallbackPath+"?"+query.Encode(), http.StatusSeeOther)
}

func (s *Service) unreadable(w http.ResponseWriter, again string) {
	s.result(w, http.StatusBadRequest, nil, again, "That did not work", "The way back from the provider could not be read. Nothing was connected.")
}

// unasked finds the visit that an answer without a state may belong to: the one that this
// browser began, at a provider that gives none back.
func (s *Service) unasked(r *http.Request) (*store.Visit, string, error) {
	state := secretCookie(r, cookieState)
	if state == "" {
		return nil, "", store.ErrNotFound
	}
	v, err := s.db.System(r.Context()).Visit(sha256.Sum256([]byte(state)), time.Now())
	if err != nil {
		return nil, "", err
	}
	if v.Browser != browserHash(secretCookie(r, cookieBrowser)) && !off(browsersBound) {
		return nil, "", store.ErrNotFound
	}
	if !s.unstated(r.Context(), v) {
		return nil, "", store.ErrNotFound
	}
	return v, state, nil
}

// answerToken proves that a browser was asked about this very answer to a visit.
func answerToken(cookie string, v *store.Visit, answer string) string {
	is := sha256.Sum256([]byte(answer))
	sum := keyed(cookie, []byte("connect answer\x00"), v.State[:], is[:])
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// askPerson has a person confirm an answer that carries no state. That it came to the right browser
// does not show that this browser asked for it: somebody could have led it here with a code of
// an account of their own (RFC 9700 section 4.7). The answer waits in the page, and nowhere
// else.
func (s *Service) askPerson(w http.ResponseWriter, r *http.Request, v *store.Visit) {
	l, err := s.db.System(r.Context()).Link(v.Link)
	if err != nil {
		s.result(w, http.StatusGone, nil, "", "This link cannot be used", "It was taken back meanwhile. Nothing was connected.")
		return
	}
	of := &visitor{link: l}
	if err := s.read(r.Context(), of); err != nil {
		s.broken(w, r, of.brand, err)
		return
	}
	answer := base64.RawURLEncoding.EncodeToString([]byte(r.URL.RawQuery))
	title := of.offer.manifest.Title
	p := &page{
		Result: true, Tone: "ask", Heading: "Did you just install this at " + title + "?", Action: confirmPath, Confirm: "Yes, connect " + title,
		Form: answerToken(secretCookie(r, cookieBrowser), v, answer), Hidden: []hidden{{"answer", answer}},
		Lines: []string{"It will be connected to " + of.brand.Title + forCustomer(of.customer()) + ".", "If you did not do this yourself a moment ago, close this page: nothing is connected then."},
	}
	p.dress(of.brand)
	s.show(w, http.StatusOK, p)
}

func forCustomer(name string) string {
	if name == "" {
		return ""
	}
	return ", for " + name
}

// confirm takes the answer that a person has confirmed.
func (s *Service) confirm(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	again := secretCookie(r, cookieLink)
	if err := r.ParseForm(); err != nil {
		s.unreadable(w, again)
		return
	}
	v, state, err := s.unasked(r)
	if errors.Is(err, store.ErrNotFound) && s.already(w, r, wire.Pair{Value: secretCookie(r, cookieState)}) {
		return
	}
	if err != nil {
		s.strange(w, r, again, err)
		return
	}
	answer := r.PostForm.Get("answer")
	fromHere := http.NewCrossOriginProtection().Check(r) == nil &&
		hmac.Equal([]byte(r.PostForm.Get("form")), []byte(answerToken(secretCookie(r, cookieBrowser), v, answer)))
	if !fromHere && !off(formsBound) {
		s.strange(w, r, again, store.ErrNotFound)
		return
	}
	query, err := base64.RawURLEncoding.Strict().DecodeString(answer)
	params, ok := callbackParams(string(query))
	if err != nil || !ok {
		s.unreadable(w, again)
		return
	}
	s.land(w, r, v, &lease.Exchange{State: state, Browser: browserHash(secretCookie(r, cookieBrowser)), Params: params})
}

// strange refuses an answer that belongs to nothing, or says what failed.
func (s *Service) strange(w http.ResponseWriter, r *http.Request, again string, err error) {
	if !errors.Is(err, store.ErrNotFound) {
		s.broken(w, r, nil, err)
		return
	}
	s.result(w, http.StatusForbidden, nil, again, "That did not work",
		"This answer does not belong to anything that was begun in this browser, or it came too late. Nothing was connected.",
		"If you began at the other side, such as in its app store: open the link that you were given first, and continue from there.")
}
