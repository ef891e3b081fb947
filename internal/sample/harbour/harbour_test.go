package harbour

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

const back = "http://127.0.0.1:1/back"

// world is a provider and a client of it.
type world struct {
	*Provider
	t *testing.T
}

func start(t *testing.T, file string) *world {
	t.Helper()
	p, err := Start(Options{Address: "127.0.0.1:0", File: file, Redirect: []string{back}, Accounts: []Account{{ID: "acme", Name: "Acme"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return &world{p, t}
}

func (w *world) send(method, path string, form url.Values, header ...string) *http.Response {
	w.t.Helper()
	r := httptest.NewRequest(method, w.URL+path, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for n := 0; n < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	rec := httptest.NewRecorder()
	w.server.Handler.ServeHTTP(rec, r)
	return rec.Result()
}

func asked(change ...string) url.Values {
	sum := sha256.Sum256([]byte("verifier"))
	q := url.Values{
		"client_id": {ClientID}, "redirect_uri": {back}, "response_type": {"code"}, "scope": {"parcels.read"}, "state": {"s1"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}, "account": {"acme"}, "decision": {"allow"},
	}
	for n := 0; n < len(change); n += 2 {
		q.Set(change[n], change[n+1])
	}
	return q
}

// code is what a person brings back who agrees.
func (w *world) code() string {
	w.t.Helper()
	a := w.send(http.MethodPost, "/authorize", asked())
	u, err := url.Parse(a.Header.Get("Location"))
	if err != nil || a.StatusCode != http.StatusSeeOther || u.Query().Get("state") != "s1" || u.Query().Get("iss") != w.URL {
		w.t.Fatalf("%d %s", a.StatusCode, a.Header.Get("Location"))
	}
	return u.Query().Get("code")
}

// tokens asks for tokens; the second status is that of the answer.
func (w *world) tokens(form ...string) (access, refresh string, status int) {
	w.t.Helper()
	q := url.Values{"client_id": {ClientID}, "client_secret": {w.Secret()}, "code_verifier": {"verifier"}, "redirect_uri": {back}}
	for n := 0; n < len(form); n += 2 {
		q.Set(form[n], form[n+1])
	}
	a := w.send(http.MethodPost, "/token", q)
	var m struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.NewDecoder(a.Body).Decode(&m); err != nil {
		w.t.Fatal(err)
	}
	return m.Access, m.Refresh, a.StatusCode
}

func (w *world) call(access string) int {
	return w.send(http.MethodGet, "/v1/account", nil, "Authorization", "Bearer "+access).StatusCode
}

func TestTokensRotateAndEnd(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "provider.json")
	w := start(t, file)
	code := w.code()
	for _, wrong := range [][]string{{"client_secret", "x"}, {"code_verifier", "x"}, {"redirect_uri", back + "/"}, {"grant_type", "password"}} {
		if _, _, status := w.tokens(append([]string{"grant_type", "authorization_code", "code", code}, wrong...)...); status < 400 {
			t.Errorf("%v: %d", wrong, status)
		}
	}
	access, refresh, status := w.tokens("grant_type", "authorization_code", "code", code)
	if status != http.StatusOK || w.call(access) != http.StatusOK || w.call(refresh) != http.StatusUnauthorized {
		t.Fatalf("exchange: %d", status)
	}
	newer, next, status := w.tokens("grant_type", "refresh_token", "refresh_token", refresh)
	if status != http.StatusOK || w.call(newer) != http.StatusOK || w.call(access) != http.StatusUnauthorized {
		t.Fatalf("refresh: %d", status)
	}
	w = start(t, file) // it knows what it has granted
	if w.call(newer) != http.StatusOK {
		t.Error("a grant is forgotten")
	}
	if _, _, status = w.tokens("grant_type", "refresh_token", "refresh_token", refresh); status != http.StatusBadRequest {
		t.Errorf("a refresh token is taken twice: %d", status)
	}
	if _, _, status = w.tokens("grant_type", "refresh_token", "refresh_token", next); status != http.StatusBadRequest || w.call(newer) != http.StatusUnauthorized {
		t.Errorf("the grant lives on: %d", status)
	}
	if g := w.Grants(); len(g) != 1 || g[0].Reused != 1 || g[0].Renewals != 1 || g[0].Revoked.IsZero() {
		t.Errorf("grants = %+v", g)
	}
}

func TestGrantsAreRevoked(t *testing.T) {
	t.Parallel()
	w := start(t, "")
	code := w.code()
	access, _, _ := w.tokens("grant_type", "authorization_code", "code", code)
	other, _, _ := w.tokens("grant_type", "authorization_code", "code", w.code())
	if a := w.send(http.MethodPost, "/revoke", url.Values{"token": {access}}); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the client: %d", a.StatusCode)
	}
	w.send(http.MethodPost, "/revoke", url.Values{"client_id": {ClientID}, "client_secret": {w.Secret()}, "token": {access}})
	if w.call(access) != http.StatusUnauthorized || w.call(other) != http.StatusOK {
		t.Error("not this grant was revoked, or others too")
	}
}

func TestWhatIsWrongLeadsNowhere(t *testing.T) {
	t.Parallel()
	w := start(t, "")
	for _, change := range [][]string{
		{"client_id", "x"}, {"redirect_uri", "https://evil.example"}, {"response_type", "token"}, {"code_challenge", ""}, {"code_challenge_method", "plain"}, {"account", "x"},
	} {
		if a := w.send(http.MethodPost, "/authorize", asked(change...)); a.StatusCode != http.StatusBadRequest || a.Header.Get("Location") != "" {
			t.Errorf("%v: %d", change, a.StatusCode)
		}
		a := w.send(http.MethodGet, "/authorize?"+asked(change...).Encode(), nil)
		if text, _ := io.ReadAll(a.Body); change[0] != "account" && a.StatusCode != http.StatusBadRequest || strings.Contains(string(text), "evil") {
			t.Errorf("%v: %d", change, a.StatusCode)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "http://rebound.example/client-secret", nil)
	rec := httptest.NewRecorder()
	w.server.Handler.ServeHTTP(rec, r)
	if rec.Code != http.StatusMisdirectedRequest {
		t.Errorf("another name leads here: %d", rec.Code)
	}
	for _, at := range []string{"0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.com:0"} {
		if _, err := Start(Options{Address: at}); err == nil {
			t.Errorf("it serves at %s", at)
		}
	}
}

func TestAKeyBooksOnce(t *testing.T) {
	t.Parallel()
	w := start(t, "")
	access, _, _ := w.tokens("grant_type", "authorization_code", "code", w.code())
	book := func(key, order string) string {
		r := httptest.NewRequest(http.MethodPost, w.URL+"/v1/parcels", strings.NewReader(`{"order":"`+order+`"}`))
		r.Header.Set("Authorization", "Bearer "+access)
		r.Header.Set("Idempotency-Key", key)
		rec := httptest.NewRecorder()
		w.server.Handler.ServeHTTP(rec, r)
		return rec.Body.String()
	}
	if a, b, c := book("k", "1"), book("k", "1"), book("l", "1"); a != b || a == c {
		t.Errorf("booked %s %s %s", a, b, c)
	}
	if got := book("m", ""); !strings.Contains(got, "error") {
		t.Errorf("a parcel without an order: %s", got)
	}
}
