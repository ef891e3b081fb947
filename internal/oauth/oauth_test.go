package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// doerFunc answers requests.
type doerFunc func(*Request) (*Response, error)

func (f doerFunc) Do(_ context.Context, r *Request) (*Response, error) { return f(r) }

func answering(status int, body string) doerFunc {
	return func(*Request) (*Response, error) {
		return &Response{Status: status, Header: http.Header{}, Body: []byte(body)}, nil
	}
}

func plainSpec() *credential.Spec {
	return &credential.Spec{Method: credential.Method{ID: "oauth", Type: credential.OAuth2Code, Recipe: &credential.Recipe{
		Authorize: &credential.Authorize{URL: "https://idp.example.com/authorize?tenant=1"},
		Token:     &credential.Request{URL: "https://idp.example.com/token"},
	}}}
}

func values(pairs ...string) map[string]secret.Value {
	out := map[string]secret.Value{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = secret.New([]byte(pairs[i+1]))
	}
	return out
}

func grant(t *testing.T, spec *credential.Spec, fields ...string) *Grant {
	t.Helper()
	g, err := New(Input{
		Spec: spec, Fields: values(fields...), Client: values("client_id", "app", "client_secret", "s3cret value"), Now: time.Unix(1_800_000_000, 0),
		RedirectURI: "https://here.example.org/oauth/callback", Verifier: secret.New([]byte("verifier")), Callback: &Callback{Code: secret.New([]byte("the code"))},
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestExchangeAsRFC6749(t *testing.T) {
	t.Parallel()
	var sent *Request
	d := doerFunc(func(r *Request) (*Response, error) {
		sent = r
		return answering(200, `{"access_token":"at","refresh_token":"rt","token_type":"Bearer","expires_in":3600,"scope":"a b"}`)(r)
	})
	tokens, err := grant(t, plainSpec()).Run(t.Context(), d, Leg{Kind: LegExchange})
	if err != nil {
		t.Fatal(err)
	}
	form, err := url.ParseQuery(string(sent.Body))
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"grant_type": {"authorization_code"}, "code": {"the code"}, "redirect_uri": {"https://here.example.org/oauth/callback"}, "code_verifier": {"verifier"},
		"client_id": {"app"}, "client_secret": {"s3cret value"},
	}
	if form.Encode() != want.Encode() || sent.Method != "POST" || sent.URL.String() != "https://idp.example.com/token" || sent.Header.Get("Authorization") != "" {
		t.Errorf("sent %s %s %v %s", sent.Method, sent.URL, sent.Header, sent.Body)
	}
	if got := string(tokens.Fields[FieldRefresh].Reveal()); got != "rt" || !tokens.Expires.Equal(time.Unix(1_800_003_600, 0)) || strings.Join(tokens.Scopes, " ") != "a b" {
		t.Errorf("got %v", tokens)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", sent, sent, sent, sent); strings.Contains(text, "s3cret") {
		t.Errorf("a request prints its secrets: %s", text)
	}
}

func TestFaultsSayWhatIsKnown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		d    doerFunc
		want FaultKind
	}{
		"invalid_grant":   {answering(400, `{"error":"invalid_grant"}`), Refused},
		"with status 200": {answering(200, `{"error":"invalid_grant"}`), Refused},
		"invalid_client":  {answering(401, `{"error":"invalid_client"}`), Configuration},
		"401":             {answering(401, ``), Configuration},
		"500":             {answering(500, `{"error":"oops"}`), Ambiguous},
		"502 page":        {answering(502, `<html>invalid_grant`), Ambiguous},
		"503":             {answering(503, ``), Temporary},
		"429":             {answering(429, `{}`), Temporary},
		"307":             {answering(307, ``), Protocol},
		"not JSON":        {answering(200, `<html>`), Protocol},
		"no token":        {answering(200, `{}`), Protocol},
		"twice":           {answering(200, `{"access_token":"a","access_token":"b"}`), Protocol},
		"deep":            {answering(200, strings.Repeat("[", 100)+strings.Repeat("]", 100)), Protocol},
		"mac token":       {answering(200, `{"access_token":"a","token_type":"mac"}`), Protocol},
		"line end":        {answering(200, `{"access_token":"a\r\nX: y"}`), Protocol},
		"more scopes":     {answering(200, `{"access_token":"a","scope":"read admin"}`), Protocol},
		"unsent":          {func(*Request) (*Response, error) { return nil, fmt.Errorf("dial: %w", ErrUnsent) }, Unsent},
		"no answer":       {func(*Request) (*Response, error) { return nil, errors.New("reset") }, Ambiguous},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := grant(t, plainSpec(), FieldScope, "read", FieldRefresh, "rt").Run(t.Context(), c.d, Leg{Kind: LegRefresh})
			if err == nil || FaultOf(err).Kind != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestFaultsRepeatNothing(t *testing.T) {
	t.Parallel()
	const canary = "at_canary-0123456789/+="
	for _, body := range []string{
		`{"error":"` + canary + `"}`, `{"error":"invalid_grant","error_description":"` + canary + `"}`, canary, `{"access_token":"` + canary + `","token_type":"` + canary + `"}`,
		`{"access_token":"x","expires_in":"` + canary + `"}`, `{"access_token":"` + canary + `","scope":"` + canary + `"}`,
	} {
		for _, status := range []int{200, 400, 500} {
			_, err := grant(t, plainSpec(), FieldScope, "read", FieldRefresh, canary).Run(t.Context(), answering(status, body), Leg{Kind: LegRefresh})
			if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, FaultOf(err)), canary) {
				t.Errorf("%d %s: %v", status, body, err)
			}
		}
	}
}

// Sessions and revocations are talked about as everything else is: without what was entered or obtained.
func TestFaultsOfStepsRepeatNothing(t *testing.T) {
	t.Parallel()
	const canary = "canary-0123456789"
	d := answering(400, `{"error":"`+canary+`"}`)
	session := &credential.Spec{Method: credential.Method{ID: "s", Type: credential.Session, Fields: []credential.Field{{Name: "pin", Secret: true}}, Recipe: &credential.Recipe{
		Steps: []credential.Step{{Name: "login", Request: credential.Request{URL: "https://api.example.com/login", Params: map[string]string{"pin": "{pin}"}}}},
	}}}
	if _, err := grant(t, session, "pin", canary).Run(t.Context(), d, Leg{Kind: LegMint}); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("a session: %v", err)
	}
	spec := plainSpec()
	spec.Method.Recipe.Revoke = &credential.Request{URL: "https://idp.example.com/revoke"}
	if _, err := grant(t, spec, FieldRefresh, canary).Revoke(t.Context(), d); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("a revocation: %v", err)
	}
}

func TestNoNumberIsNoExpiry(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	for _, form := range []credential.ExpiryForm{credential.ExpirySeconds, credential.ExpiryMinutes, credential.ExpiryUnix, credential.ExpiryUnixMs} {
		if end, ok := expiry(&credential.Expiry{Form: form}, "NaN", now, 0); ok {
			t.Errorf("%s: NaN is %v", form, end)
		}
	}
}

func TestCallbackAttacks(t *testing.T) {
	t.Parallel()
	spec := plainSpec()
	spec.Method.Recipe.Issuer = "https://idp.example.com"
	good := []Pair{{"code", "c"}, {"state", "s"}, {"iss", "https://idp.example.com"}}
	with := func(p ...Pair) []Pair { return append(append([]Pair(nil), good...), p...) }
	for name, c := range map[string]struct {
		query []Pair
		ok    bool
	}{
		"honest":         {good, true},
		"no code":        {[]Pair{{"state", "s"}}, false},
		"other issuer":   {[]Pair{{"code", "c"}, {"state", "s"}, {"iss", "https://evil.example.org"}}, false},
		"issuer's tail":  {[]Pair{{"code", "c"}, {"state", "s"}, {"iss", "https://idp.example.com.evil.org"}}, false},
		"two codes":      {with(Pair{"code", "d"}), false},
		"two states":     {with(Pair{"state", "s"}), false},
		"implicit token": {with(Pair{"access_token", "t"}), false},
		"ID token":       {with(Pair{"id_token", "t"}), false},
		"error":          {with(Pair{"error", "access_denied"}), false},
		"long":           {with(Pair{"x", strings.Repeat("x", maxCallback)}), false},
	} {
		if _, err := ReadCallback(spec, c.query); (err == nil) != c.ok {
			t.Errorf("%s: got %v", name, err)
		}
	}
	spec.Method.Recipe.Issuer = ""
	for iss, ok := range map[string]bool{"https://idp.example.com/x": true, "https://evil.example.org": false, "idp.example.com": false} {
		if _, err := ReadCallback(spec, []Pair{{"code", "c"}, {"state", "s"}, {"iss", iss}}); (err == nil) != ok {
			t.Errorf("undeclared issuer %s: got %v", iss, err)
		}
	}
}

func TestAuthorizeURL(t *testing.T) {
	t.Parallel()
	spec := plainSpec()
	spec.Method.Recipe.Authorize.Scopes = []string{"offline_access", "a"}
	got, err := AuthorizeURL(&Start{Spec: spec, ClientID: "app", RedirectURI: "https://here.example.org/cb?x=1", State: "st", Challenge: "ch", Scopes: []string{"a", "b"}})
	want := "https://idp.example.com/authorize?tenant=1&response_type=code&client_id=app&redirect_uri=https%3A%2F%2Fhere.example.org%2Fcb%3Fx%3D1&scope=a+b+offline_access&state=st&code_challenge=ch&code_challenge_method=S256"
	if err != nil || got != want {
		t.Errorf("got  %s\nwant %s, %v", got, want, err)
	}
	if _, err := AuthorizeURL(&Start{Spec: spec, ClientID: "app", RedirectURI: "https://here.example.org", Challenge: "x"}); err == nil {
		t.Error("an authorize request without state")
	}
	if _, err := AuthorizeURL(&Start{Spec: spec, ClientID: "app", RedirectURI: "https://here.example.org", State: "x"}); err == nil {
		t.Error("an authorize request without a challenge")
	}
}

// FuzzAnswer reads answers in every format: nothing panics, and what is accepted can stand in a header.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		`{"access_token":"a","expires_in":1}`, `{"data":{"t":[{"x":"a"}]},"exp":"P1DT2H"}`, `access_token=a&x=1`, `<r><t>a</t><t>b</t></r>`, `a.eyJleHAiOjF9.b`,
	} {
		f.Add([]byte(s), uint8(0), "access_token", "expires_in")
		f.Add([]byte(s), uint8(3), "r.t.0", ".")
		f.Add([]byte(s), uint8(1), "claim:access_token.exp", "header:Date")
	}
	formats := []credential.AnswerFormat{"", credential.AnswerForm, credential.AnswerXML, credential.AnswerText, credential.AnswerNone}
	forms := []credential.ExpiryForm{"", credential.ExpiryMillis, credential.ExpiryUnix, credential.ExpiryISO, credential.ExpiryDuration, credential.ExpiryJWT}
	f.Fuzz(func(t *testing.T, body []byte, how uint8, access, expiry string) {
		spec := plainSpec()
		spec.Method.Recipe.Answer = &credential.Answer{
			Format: formats[int(how)%len(formats)], Access: access, Expiry: &credential.Expiry{Path: expiry, Form: forms[int(how/8)%len(forms)]},
			Keep: []credential.Keep{{Name: "kept", From: access}},
		}
		tokens, err := grant(t, spec, FieldRefresh, "rt").Run(t.Context(), answering(200, string(body)), Leg{Kind: LegRefresh})
		if err != nil {
			return
		}
		for name, v := range tokens.Fields {
			if strings.ContainsAny(string(v.Reveal()), "\r\n\x00") {
				t.Errorf("%s has line ends", name)
			}
		}
		if end := tokens.Expires; !end.IsZero() && end.After(time.Unix(1_800_000_000, 0).Add(maxLife+time.Hour)) {
			t.Errorf("a token that ends at %v", end)
		}
	})
}

func FuzzCallback(f *testing.F) {
	f.Add("code", "c", "iss", "https://idp.example.com")
	f.Add("code", "c", "error", "x")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		cb, err := ReadCallback(plainSpec(), []Pair{{a, b}, {c, d}})
		if err == nil && (cb.Code.Len() == 0 || a == c) {
			t.Errorf("accepted %q=%q, %q=%q", a, b, c, d)
		}
	})
}
