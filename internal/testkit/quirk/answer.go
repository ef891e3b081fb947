package quirk

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// answer gives tokens out, in the provider's form.
func (s *Server) answer(w http.ResponseWriter, g *grant, renewed bool) {
	life := s.TokenLife
	access := s.issue(g, "main", false, life)
	refresh := ""
	withRefresh := !s.on[AccessRefresh] && !s.on[LongLived] && !s.on[AdminConsent] && !s.on[ClientCredentials] && !s.on[JWTBearer] && !s.on[TextAssertion]
	if withRefresh && (!renewed || !s.on[KeepRefresh]) {
		refresh = s.issue(g, "main", true, life)
	}
	m := map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": int(life / time.Second)}
	if refresh != "" {
		m["refresh_token"] = refresh
	}
	s.tellExpiry(m, s.Now().Add(life))
	s.more(m, g, renewed)
	s.worse(m)
	switch {
	case s.on[Nested]:
		reply(w, 200, map[string]any{"data": map[string]any{"tokens": []any{m}}})
	case s.on[CodeNotZero]:
		reply(w, 200, map[string]any{"code": 0, "data": m})
	case s.on[CamelCase]:
		reply(w, 200, map[string]any{"accessToken": access, "refreshToken": refresh, "expiresIn": 3600})
	case s.on[CalledJWT]:
		reply(w, 200, map[string]any{"jwt": access, "refresh_token": refresh, "expires_in": 3600})
	case s.on[FormAnswer]:
		w.Header().Set("Content-Type", "application/x-www-form-urlencoded")
		_, _ = w.Write([]byte(url.Values{"access_token": {access}, "refresh_token": {refresh}, "expires_in": {"3600"}, "token_type": {"bearer"}}.Encode()))
	case s.on[XMLBody]:
		w.Header().Set("Content-Type", "application/xml")
		_, _ = w.Write([]byte("<response><result><token>" + access + "</token><refresh>" + refresh + "</refresh><life>3600</life></result></response>"))
	case s.on[CookieToken]:
		w.Header().Set("Set-Cookie", "B1SESSION="+access+"; HttpOnly; Secure")
		reply(w, 200, map[string]any{"SessionTimeout": 60, "refresh_token": refresh})
	case s.on[HeaderToken]:
		w.Header().Set("X-Auth-Token", access)
		reply(w, 200, map[string]any{"refresh_token": refresh, "expires_in": 3600})
	default:
		reply(w, 200, m)
	}
}

// tellExpiry tells the end in the provider's form.
func (s *Server) tellExpiry(m map[string]any, end time.Time) {
	set := func(name string, v any) {
		delete(m, "expires_in")
		if name != "" {
			m[name] = v
		}
	}
	switch {
	case s.on[NoExpiry], s.on[JWTExpiry], s.on[Introspection]:
		set("", nil)
	case s.on[Milliseconds]:
		set("expires_in", int64(Life/time.Millisecond))
	case s.on[UnixExpiry], s.on[ClockAhead]:
		set("expires_at", end.Unix())
	case s.on[ISOExpiry]:
		set("expires_at", end.UTC().Format("2006-01-02T15:04:05.000Z"))
	case s.on[DateExpiry]:
		set("expires", end.UTC().Format("02/01/2006 15:04:05"))
	case s.on[DurationExpiry]:
		set("expires_in", "PT1H")
	case s.on[OtherExpiry]:
		set("access_token_expiration", strconv.Itoa(int(Life/time.Minute)))
	}
}

// more adds what else the provider's answer holds.
func (s *Server) more(m map[string]any, g *grant, renewed bool) {
	switch {
	case s.on[InstanceURL]:
		m["instance_url"] = EU
	case s.on[AnswerIDs]:
		m["team"] = map[string]any{"id": Account, "name": "Acme"}
	case s.on[OKFalse]:
		m["ok"] = true
	case s.on[TwoTokens]:
		if !renewed {
			m["token_type"] = "bot"
			m["authed_user"] = map[string]any{
				"access_token": s.issue(g, "user", false, UserLife), "refresh_token": s.issue(g, "user", true, 100*24*time.Hour),
				"expires_in": int(UserLife / time.Second), "token_type": "user",
			}
		} else {
			m["token_type"] = "bot"
		}
	case s.on[SessionExchange]:
		delete(m, "expires_in")
	}
}

// unsigned is a JWT that nobody has signed.
func unsigned(claims map[string]any) string {
	b, _ := json.Marshal(claims)
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(b) + ".x"
}

func section(text string) map[string]any {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	var m map[string]any
	_ = json.Unmarshal(b, &m)
	return m
}

// clientKey is the RSA key of the client, made once.
var clientKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// ClientKey is the client's private key in PEM, PKCS #8.
func ClientKey() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(clientKey())
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// verified checks the signature of a JWT.
func verified(alg, jwt string) bool {
	i := strings.LastIndexByte(jwt, '.')
	signature, err := base64.RawURLEncoding.DecodeString(jwt[i+1:])
	if err != nil {
		return false
	}
	sum := sha256.Sum256([]byte(jwt[:i]))
	if alg == "HS256" {
		h := hmac.New(sha256.New, []byte(ClientSecret))
		h.Write([]byte(jwt[:i]))
		return hmac.Equal(h.Sum(nil), signature)
	}
	return rsa.VerifyPKCS1v15(&clientKey().PublicKey, crypto.SHA256, sum[:], signature) == nil
}
