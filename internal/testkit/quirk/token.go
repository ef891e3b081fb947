package quirk

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// asked is a token request, read.
type asked struct {
	r    *http.Request
	q    url.Values // the parameters, wherever they stood
	body []byte
	// public: this request is to carry no secret.
	refresh bool
}

// token answers the token endpoint, and the refresh endpoint when that is separate.
func (s *Server) token(w http.ResponseWriter, r *http.Request, body []byte, atRefresh bool) {
	if s.hostile(w, r, body) {
		return
	}
	a, why := s.read(r, body)
	if why != "" {
		s.refuse(w, 400, "invalid_request", why)
		return
	}
	if s.on[CallbackHost] && r.Host != "eu.example.com" {
		s.refuse(w, 400, "invalid_request", "another data centre")
		return
	}
	grantType := a.q.Get("grant_type")
	a.refresh = atRefresh || grantType == "refresh_token" || grantType == "fb_exchange_token" || grantType == "ig_refresh_token"
	if s.on[RefreshURL] && (grantType == "refresh_token") != atRefresh {
		s.refuse(w, 400, "invalid_request", "the other endpoint")
		return
	}
	if why := s.wrongClient(a); why != "" {
		s.refuse(w, 401, "invalid_client", why)
		return
	}
	if why := s.wrongRequest(a); why != "" {
		s.refuse(w, 400, "invalid_request", why)
		return
	}
	if a.refresh && !s.notLimited(w) {
		return
	}
	s.grantOf(w, a, grantType)
}

// notLimited answers the first refresh with "later", in the provider's way.
func (s *Server) notLimited(w http.ResponseWriter) bool {
	if s.limited || !s.on[RetryAfter] && !s.on[RateReset] && !s.on[OwnBusy] {
		return true
	}
	s.limited = true
	switch {
	case s.on[RetryAfter]:
		w.Header().Set("Retry-After", "7")
	case s.on[RateReset]:
		w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(s.Now().Add(8*time.Second).Unix(), 10))
	default:
		w.Header().Set("Retry-After", "7")
		reply(w, 400, map[string]any{"error": "ratelimited"})
		return false
	}
	reply(w, 429, map[string]any{"error": "too_many_requests"})
	return false
}

// read finds the parameters of a token request.
func (s *Server) read(r *http.Request, body []byte) (*asked, string) {
	a := &asked{r: r, body: body}
	method, kind := http.MethodPost, r.Header.Get("Content-Type")
	if s.on[GetToken] {
		method = http.MethodGet
	}
	if s.on[LongLived] || s.on[AccessRefresh] {
		method = r.Method
	}
	if r.Method != method {
		return nil, "method " + r.Method
	}
	var err error
	switch {
	case r.Method == http.MethodGet || s.on[QueryBody]:
		a.q, err = url.ParseQuery(r.URL.RawQuery)
	case s.on[JSONBody]:
		if kind != "application/json" {
			return nil, "content type " + kind
		}
		var m map[string]string
		if err = json.Unmarshal(body, &m); err == nil {
			a.q = url.Values{}
			for k, v := range m {
				a.q.Set(k, v)
			}
		}
	case s.on[XMLBody]:
		a.q, err = readXML(body)
	default:
		if kind != "application/x-www-form-urlencoded" {
			return nil, "content type " + kind
		}
		a.q, err = url.ParseQuery(string(body))
	}
	if err != nil {
		return nil, "body: " + err.Error()
	}
	return a, ""
}

// readXML reads <request><control><id/><secret/></control><grant type="…"><value/></grant></request>.
func readXML(body []byte) (url.Values, error) {
	var m struct {
		Control struct {
			ID     string `xml:"id"`
			Secret string `xml:"secret"`
		} `xml:"control"`
		Grant struct {
			Type     string `xml:"type,attr"`
			Code     string `xml:"code"`
			Refresh  string `xml:"refresh"`
			Redirect string `xml:"redirect"`
			Verifier string `xml:"verifier"`
		} `xml:"grant"`
	}
	if err := xml.Unmarshal(body, &m); err != nil {
		return nil, err
	}
	if m.Grant.Type == "" {
		return nil, errors.New("no grant")
	}
	return url.Values{
		"client_id": {m.Control.ID}, "client_secret": {m.Control.Secret}, "grant_type": {m.Grant.Type}, "code": {m.Grant.Code},
		"refresh_token": {m.Grant.Refresh}, "redirect_uri": {m.Grant.Redirect}, "code_verifier": {m.Grant.Verifier},
	}, nil
}

// wrongClient says what is wrong with the client's authentication, which is to be in one place and once.
func (s *Server) wrongClient(a *asked) string {
	user, password, basic := a.r.BasicAuth()
	places := 0
	if basic {
		places++
	}
	for _, name := range []string{"client_secret", "client_assertion"} {
		if a.q.Has(name) {
			places++
		}
	}
	if places > 1 {
		s.Counts.Twice++
		return "more than one authentication"
	}
	id := a.q.Get("client_id")
	secret := ClientSecret
	switch {
	case s.on[RenamedClient]:
		id = a.q.Get("client_key")
	case s.on[OwnClient]:
		return wrong(id != "own-client" || a.q.Get("client_secret") != "own-secret", "not the tenant's client")
	case s.on[JWTBearer] && a.q.Get("grant_type") != "refresh_token":
		return wrong(places > 0, "authentication beside the assertion")
	case s.on[RefreshBasic] && a.refresh, s.on[BasicRaw]:
		return wrong(!basic || user != ClientID || password != ClientSecret, "Basic, raw")
	case s.on[Basic]:
		u, errU := url.QueryUnescape(user)
		p, errP := url.QueryUnescape(password)
		return wrong(!basic || errU != nil || errP != nil || u != ClientID || p != ClientSecret, "Basic, encoded")
	case s.on[BasicSecret]:
		return wrong(!basic || user+":"+password != ClientSecret+":", "the secret as user")
	case s.on[PrivateKeyJWT], s.on[SecretJWT], s.on[OwnAssertion]:
		return s.wrongAssertion(a, a.q.Get("client_assertion"), id)
	case s.on[TLSClient]:
		if a.r.TLS == nil || len(a.r.TLS.PeerCertificates) == 0 || a.r.TLS.PeerCertificates[0].Subject.CommonName != "client.example.net" {
			return "client certificate"
		}
		return wrong(id != ClientID || places > 0, "client id")
	case s.on[Public], s.on[RefreshPublic] && a.refresh, s.on[ClientDocument]:
		return wrong(places > 0 || id != ClientID && id != documentURL, "a secret of a public client")
	case s.on[SignedRequest]:
		return wrong(a.r.Header.Get("X-Sign") != signed(a.r.Header.Get("X-Timestamp"), a.body) || places > 0, "signature")
	case s.on[Registration]:
		return wrong(id != "registered-1" || a.q.Get("client_secret") != "registered-secret", "registered client")
	}
	return wrong(id != ClientID || a.q.Get("client_secret") != secret, "client_secret in the body")
}

// signed is HMAC-SHA256 over time stamp and body.
func signed(stamp string, body []byte) string {
	h := hmac.New(sha256.New, []byte(ClientSecret))
	h.Write([]byte(stamp + "\n" + string(body)))
	return hex.EncodeToString(h.Sum(nil))
}

func wrong(is bool, why string) string {
	if is {
		return why
	}
	return ""
}

// wrongRequest says what is wrong with the rest of a token request.
func (s *Server) wrongRequest(a *asked) string {
	q, h := a.q, a.r.Header
	for _, c := range []struct {
		wrong bool
		why   string
	}{
		{s.on[TokenParams] && (q.Get("audience") != API || q.Get("tenant_id") != "acme"), "audience and tenant_id"},
		{s.on[TokenHeaders] && (h.Get("X-Client-Version") != "7" || h.Get("X-Request-Id") == ""), "headers"},
		{s.on[TokenScope] && q.Get("scope") != "read write", "scope"},
		{s.on[TokenNonce] && q.Get("nonce") == "", "nonce"},
		{s.on[NoRedirectURI] && q.Has("redirect_uri"), "redirect_uri is not known"},
		{s.on[NoPKCE] && q.Has("code_verifier"), "code_verifier is not known"},
		{s.on[NoEmpty] && hasEmpty(q), "empty parameter"},
		{s.on[ResourceParam] && q.Get("resource") != API, "resource"},
		{a.refresh && s.on[RefreshParams] && q.Get("refresh_flag") != "yes", "refresh_flag"},
		{a.refresh && s.on[RefreshHeaders] && h.Get("X-Refresh") != "1", "X-Refresh"},
		{a.refresh && s.on[RefreshScope] && q.Get("scope") != "read write", "scope on refresh"},
		{!a.refresh && s.on[RefreshParams] && q.Has("refresh_flag"), "refresh_flag too early"},
	} {
		if c.wrong {
			return c.why
		}
	}
	return ""
}

// grantOf answers a request that is otherwise well.
func (s *Server) grantOf(w http.ResponseWriter, a *asked, grantType string) {
	switch {
	case s.on[AdminConsent] && grantType == "client_credentials", s.on[ClientCredentials] && grantType == "client_credentials":
		s.answer(w, &grant{scope: a.q.Get("scope")}, false)
	case s.on[JWTBearer] && grantType == "urn:ietf:params:oauth:grant-type:jwt-bearer":
		if why := s.wrongAssertion(a, a.q.Get("assertion"), "service@example.com"); why != "" {
			s.refuse(w, 400, "invalid_grant", why)
			return
		}
		s.answer(w, &grant{}, false)
	case s.on[TextAssertion] && grantType == "urn:ietf:params:oauth:grant-type:saml2-bearer":
		if a.q.Get("assertion") != "PHNhbWw+" {
			s.refuse(w, 400, "invalid_grant", "assertion")
			return
		}
		s.answer(w, &grant{}, false)
	case grantType == "authorization_code":
		s.exchange(w, a)
	case grantType == "refresh_token":
		s.renew(w, a)
	case grantType == "fb_exchange_token" && s.on[LongLived], grantType == "ig_refresh_token" && s.on[AccessRefresh]:
		s.extend(w, a)
	default:
		s.refuse(w, 400, "unsupported_grant_type", grantType)
	}
}

func (s *Server) exchange(w http.ResponseWriter, a *asked) {
	c := s.codes[a.q.Get("code")]
	sum := sha256.Sum256([]byte(a.q.Get("code_verifier")))
	unbound := s.on[Install] || s.on[Unstated]
	switch {
	case c == nil:
		s.refuse(w, 400, "invalid_grant", "unknown code")
	case c.used: // RFC 6749 section 4.1.2: what was issued for it ends
		c.grant.revoked = true
		s.refuse(w, 400, "invalid_grant", "code used twice")
	case c.redirect != a.q.Get("redirect_uri") && !s.on[NoRedirectURI] && !unbound:
		s.refuse(w, 400, "invalid_grant", "redirect_uri "+a.q.Get("redirect_uri"))
	case !s.on[NoPKCE] && !unbound && base64.RawURLEncoding.EncodeToString(sum[:]) != c.challenge:
		s.refuse(w, 400, "invalid_grant", "code_verifier")
	default:
		c.used = true
		s.Counts.Exchanges++
		s.answer(w, c.grant, false)
	}
}

// renew answers a refresh token. One that comes again ends the grant, where tokens rotate (RFC 9700 section 4.14.2).
func (s *Server) renew(w http.ResponseWriter, a *asked) {
	t := s.tokens[a.q.Get("refresh_token")]
	switch {
	case t == nil || !t.refresh || t.grant.revoked:
		s.dead(w, "refresh token is not known")
	case t.used:
		s.Counts.Reused++
		t.grant.revoked = true
		s.dead(w, "refresh token used twice")
	case s.on[LateRefresh] && s.Now().Before(t.expires.Add(-2*time.Minute)):
		s.refuse(w, 400, "unsupported_grant_type", "too early: the token is good for a while")
	case s.on[SecondResource] && a.q.Get("resource") == EU:
		reply(w, 200, map[string]any{"access_token": s.issue(t.grant, "other", false, Life), "expires_in": int(Life / time.Second)})
	default:
		s.Counts.Refreshes++
		if s.on[Extends] {
			for _, other := range s.tokens {
				if other.grant == t.grant && !other.refresh {
					other.expires = s.Now().Add(Life)
				}
			}
			w.Header().Set("Content-Type", "text/plain")
			_, _ = w.Write([]byte("OK"))
			return
		}
		if s.on[Rotation] || s.on[TwoTokens] {
			t.used = true
		}
		if t.set == "user" {
			s.userAnswer(w, t.grant)
			return
		}
		s.answer(w, t.grant, true)
	}
}

// dead refuses a grant in the provider's words.
func (s *Server) dead(w http.ResponseWriter, why string) {
	s.note("dead: %s", why)
	switch {
	case s.on[OKFalse]:
		reply(w, 200, map[string]any{"ok": false, "error": "token_revoked"})
	case s.on[CodeNotZero]:
		reply(w, 200, map[string]any{"code": 10010, "message": "refresh token invalid", "data": map[string]any{}})
	case s.on[ErrorIn200]:
		reply(w, 200, map[string]any{"error": "bad_refresh_token", "error_description": why})
	case s.on[OwnRefusal]:
		reply(w, 400, map[string]any{"errorCode": "E-TOKEN-GONE"})
	default:
		s.refuse(w, 400, "invalid_grant", why)
	}
}

// extend answers an access token with one that lives longer.
func (s *Server) extend(w http.ResponseWriter, a *asked) {
	name := "fb_exchange_token"
	if s.on[AccessRefresh] {
		name = "access_token"
	}
	t := s.tokens[a.q.Get(name)]
	if t == nil || t.refresh || t.grant.revoked || a.r.Method != http.MethodGet {
		s.dead(w, "access token is not known")
		return
	}
	s.Counts.Refreshes++
	reply(w, 200, map[string]any{"access_token": s.issue(t.grant, "long", false, 60*24*time.Hour), "token_type": "bearer", "expires_in": int(60 * 24 * time.Hour / time.Second)})
}

// userAnswer is the answer to the refresh of the second token.
func (s *Server) userAnswer(w http.ResponseWriter, g *grant) {
	reply(w, 200, map[string]any{
		"ok": true, "access_token": s.issue(g, "user", false, UserLife), "refresh_token": s.issue(g, "user", true, 100*24*time.Hour),
		"token_type": "user", "expires_in": int(UserLife / time.Second),
	})
}

// wrongAssertion checks a signed JWT: RS256 or HS256, issuer, audience, life.
func (s *Server) wrongAssertion(a *asked, jwt, issuer string) string {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return "no assertion"
	}
	header, claims := section(parts[0]), section(parts[1])
	if s.on[OwnAssertion] {
		issuer = "here.example.net"
	}
	audience := IDP + "/token"
	if s.on[OwnAssertion] {
		audience = "https://revolut.example.com"
	}
	if a.q.Has("client_assertion") && a.q.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		return "client_assertion_type"
	}
	exp, _ := claims["exp"].(float64)
	if int64(exp) < s.Now().Unix() || int64(exp) > s.Now().Add(time.Hour).Unix() || claims["iss"] != issuer || claims["aud"] != audience {
		return "claims " + strconv.FormatInt(int64(exp), 10)
	}
	alg := "RS256"
	if s.on[SecretJWT] {
		alg = "HS256"
	}
	if header["alg"] != alg || !verified(alg, jwt) {
		return "signature of the assertion"
	}
	return ""
}
