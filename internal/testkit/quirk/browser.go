package quirk

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
)

// ErrRefused is what a browser sees when the provider shows an error instead of going on.
var ErrRefused = errors.New("the provider shows an error page")

// Browse does what a person's browser does with an authorize URL whose request is granted, and returns the query of the callback.
func (s *Server) Browse(authorize string) (url.Values, error) {
	u, err := url.Parse(authorize)
	if err != nil {
		return nil, err
	}
	if i := strings.IndexByte(authorize, '#'); i >= 0 && s.on[Fragment] { // the page of the provider reads it
		u = &url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawQuery: authorize[i+1:]}
	}
	rec := httptest.NewRecorder()
	s.mu.Lock()
	s.authorize(rec, u)
	s.mu.Unlock()
	if rec.Code != http.StatusFound {
		return nil, ErrRefused
	}
	back, err := url.Parse(rec.Header().Get("Location"))
	if err != nil {
		return nil, err
	}
	return back.Query(), nil
}

// authorize answers the request that a browser carries.
func (s *Server) authorize(w http.ResponseWriter, u *url.URL) {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		s.refuse(w, 400, "invalid_request", "query")
		return
	}
	if why := s.wrongAuthorize(u, q); why != "" {
		s.refuse(w, 400, "invalid_request", why)
		return
	}
	g := &grant{scope: strings.Join(s.scopes(q.Get("scope")), " ")}
	c := &code{grant: g, redirect: q.Get("redirect_uri"), challenge: q.Get("code_challenge"), resource: q.Get("resource")}
	value := give("code-")
	s.codes[value] = c
	back := url.Values{}
	s.bringBack(back, q, value)
	to := RedirectURI
	separator := "&"
	if !strings.Contains(to, "?") {
		separator = "?"
	}
	w.Header().Set("Location", to+separator+back.Encode())
	w.WriteHeader(http.StatusFound)
}

// bringBack fills the callback.
func (s *Server) bringBack(back, q url.Values, value string) {
	name, state := "code", "state"
	switch {
	case s.on[OtherCode]:
		name = "spapi_oauth_code"
	case s.on[AdminConsent]:
		name, value = "tenant", "acme"
		back.Set("admin_consent", "True")
	case s.on[CodeByWebhook]:
		name = ""
		back.Set("installationId", "inst-7")
		s.webhook, _ = json.Marshal(map[string]any{"data": map[string]any{"installation": map[string]any{"uuid": "inst-7", "code": value}}})
	case s.on[StatePayload]:
		state = "payload"
	}
	if name != "" {
		back.Set(name, value)
	}
	if !s.on[Unstated] {
		back.Set(state, q.Get(state))
	}
	if s.on[CallbackData] {
		back.Set("realmId", "realm-9")
	}
	if s.on[CallbackHost] {
		back.Set("accounts-server", EU)
	}
	if s.on[Issuer] {
		back.Set("iss", IDP)
	}
	switch {
	case s.on[WrongIssuer]:
		back.Set("iss", Evil)
	case s.on[HiddenToken]:
		back.Set("access_token", "at-of-somebody")
	case s.on[TwiceCode]:
		back.Add("code", value)
	case s.on[Injected]: // the attacker's own code, or one that was stolen
		other := give("code-")
		s.codes[other] = &code{grant: &grant{}, redirect: RedirectURI, challenge: "of-another-browser"}
		back.Set("code", other)
	}
	if s.on[Install] || s.on[Unstated] {
		back.Set("installation_id", "77")
	}
}

// wrongAuthorize says what is wrong with an authorize request; empty is nothing.
func (s *Server) wrongAuthorize(u *url.URL, q url.Values) string {
	path := u.Path
	for _, prefix := range []string{"/t/acme", "/t/common"} {
		path = strings.TrimPrefix(path, prefix)
	}
	wantPath := "/authorize"
	client, wantType := "client_id", "code"
	switch {
	case s.on[Fragment]:
		wantPath = "/app"
	case s.on[Install], s.on[Unstated]:
		wantPath, client, wantType = "/install/my-app", "", ""
	case s.on[RenamedClient]:
		client = "client_key"
	case s.on[NoResponseType]:
		wantType = ""
	}
	checks := []struct {
		wrong bool
		why   string
	}{
		{path != wantPath, "path " + path},
		{s.on[Tenant] && !strings.HasPrefix(u.Path, "/t/acme/"), "tenant"},
		{s.on[TenantFallback] && !strings.HasPrefix(u.Path, "/t/common/"), "fallback tenant"},
		{client != "" && q.Get(client) != ClientID && q.Get(client) != "own-client" && q.Get(client) != documentURL && q.Get(client) != "registered-1", "client " + client},
		{client == "" && (q.Has("client_id") || q.Has("redirect_uri")), "an installation URL takes no client"},
		{client != "" && q.Get("redirect_uri") != RedirectURI, "redirect_uri"},
		{q.Get("response_type") != wantType, "response_type"},
		{q.Get("state") == "" && q.Get("payload") == "", "state"},
		{s.on[StatePayload] && q.Get("payload") == "", "payload"},
		{s.on[FixedParams] && (q.Get("access_type") != "offline" || q.Get("prompt") != "consent"), "access_type=offline&prompt=consent"},
		{s.on[NoPKCE] && q.Has("code_challenge"), "unknown parameter code_challenge"},
		{!s.on[NoPKCE] && client != "" && (q.Get("code_challenge") == "" || q.Get("code_challenge_method") != "S256"), "PKCE"},
		{s.on[RawScopes] && strings.Contains(u.RawQuery, "scope=read%3A"), "encoded scope"},
		{s.on[DecodedURL] && !strings.Contains(u.RawQuery, "redirect_uri=https://"), "encoded redirect_uri"},
		{s.on[NoEmpty] && hasEmpty(q), "empty parameter"},
		{s.on[UserScopes] && q.Get("user_scope") != "users:read,search:read", "user_scope"},
		{s.on[ResourceParam] && q.Get("resource") != API, "resource"},
		{s.on[TokenNonce] && q.Get("nonce") == "", "nonce"},
	}
	for _, c := range checks {
		if c.wrong {
			return c.why
		}
	}
	if s.on[OfflineScope] && !slices.Contains(s.scopes(q.Get("scope")), "offline_access") {
		return "offline_access"
	}
	if (s.on[CommaScopes] || s.on[PlusScopes] || s.on[RawScopes]) && !slices.Equal(s.scopes(q.Get("scope")), []string{"read:all", "write:all"}) {
		return "scope " + q.Get("scope")
	}
	return ""
}

func hasEmpty(q url.Values) bool {
	for _, v := range q {
		if slices.Contains(v, "") {
			return true
		}
	}
	return false
}

// scopes splits a scope parameter.
func (s *Server) scopes(text string) []string {
	separator := " "
	switch {
	case s.on[CommaScopes] || s.on[UserScopes]:
		separator = ","
	case s.on[PlusScopes]:
		separator = "+"
	}
	return strings.Split(text, separator)
}
