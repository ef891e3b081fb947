package quirk

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

type request = credential.Request

// tokenRequest changes the token request.
func tokenRequest(change func(q *request)) func() credential.Method {
	return with(func(_ *method, r *recipe) { change(r.Token) })
}

func answered(a credential.Answer) func() credential.Method {
	return with(func(_ *method, r *recipe) { r.Answer = &a })
}

func expiring(e credential.Expiry) func() credential.Method {
	return answered(credential.Answer{Expiry: &e})
}

// ends checks that the end of the token is what the provider means.
func ends(l *life) error {
	if got, want := l.last.Expires, l.now().Add(Life); got.Sub(want).Abs() > 5*time.Second {
		return fmt.Errorf("the token ends at %v, not at %v", got, want)
	}
	return nil
}

func authBy(a credential.ClientAuth) func() credential.Method {
	return tokenRequest(func(q *request) { q.ClientAuth = a })
}

func withKey() map[string]secret.Value {
	return map[string]secret.Value{"client_id": secret.New([]byte(ClientID)), "private_key": secret.New(ClientKey()), "key_id": secret.New([]byte("k1"))}
}

// withCertificate is a client that proves itself by TLS.
func withCertificate() map[string]secret.Value {
	cert, _ := NewCertificate("client.example.net")
	return map[string]secret.Value{"client_id": secret.New([]byte(ClientID)), "certificate": secret.New(certPEM(cert)), "private_key": secret.New(keyPEM(cert))}
}

func certPEM(c tls.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
}

func keyPEM(c tls.Certificate) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// tokenCases are items 16 to 24.
func tokenCases() []testCase {
	xmlBody := `<request><control><id>{client_id}</id><secret>{client_secret}</secret></control>` +
		`<grant type="authorization_code"><code>{code}</code><redirect>{redirect_uri}</redirect><verifier>{code_verifier}</verifier></grant></request>`
	xmlRefresh := `<request><control><id>{client_id}</id><secret>{client_secret}</secret></control><grant type="refresh_token"><refresh>{refresh_token}</refresh></grant></request>`
	public := func() map[string]secret.Value {
		return map[string]secret.Value{"client_id": secret.New([]byte(ClientID))}
	}
	return []testCase{
		{on: []Switch{Basic}, method: authBy(credential.AuthBasic)},
		{on: []Switch{BasicRaw}, method: authBy(credential.AuthBasicRaw), twin: authBy(credential.AuthBasic)},
		{on: []Switch{BasicSecret}, method: authBy(credential.AuthBasicSecret)},
		{on: []Switch{PrivateKeyJWT}, client: withKey(), method: authBy(credential.AuthKeyJWT)},
		{on: []Switch{SecretJWT}, method: authBy(credential.AuthSecretJWT)},
		{on: []Switch{OwnAssertion}, client: withKey(), method: with(func(_ *method, r *recipe) {
			r.Token.ClientAuth = credential.AuthAssertion
			r.Assertion = &credential.Assertion{Issuer: "here.example.net", Audience: "https://revolut.example.com"}
		}), twin: authBy(credential.AuthKeyJWT)},
		{on: []Switch{TLSClient}, client: withCertificate(), method: authBy(credential.AuthTLS)},
		{on: []Switch{Public}, client: public(), method: authBy(credential.AuthNone), twin: authBy(credential.AuthBasic)},
		{on: []Switch{SignedRequest}, method: tokenRequest(func(q *request) {
			q.ClientAuth, q.Params = credential.AuthCustom, map[string]string{"client_id": "{client_id}"}
			q.Sign = &credential.Signing{Key: "{client_secret}", Message: "{now_ms}\n{body}"}
			q.SignPlaces = []credential.Place{{In: credential.InHeader, Name: "X-Sign", Format: "{signature}"}, {In: credential.InHeader, Name: "X-Timestamp", Format: "{now_ms}"}}
		})},
		{on: []Switch{JSONBody}, method: tokenRequest(func(q *request) { q.Body = credential.BodyJSON })},
		{on: []Switch{QueryBody}, method: tokenRequest(func(q *request) { q.Body = credential.BodyQuery })},
		{on: []Switch{XMLBody}, method: with(func(_ *method, r *recipe) {
			*r.Token = request{URL: IDP + "/token", Body: credential.BodyXML, Text: xmlBody, ClientAuth: credential.AuthCustom}
			r.Refresh = &credential.Refresh{Request: request{Text: xmlRefresh}}
			r.Answer = &credential.Answer{
				Format: credential.AnswerXML, Access: "response.result.token", Refresh: "response.result.refresh", Expiry: &credential.Expiry{Path: "response.result.life"},
			}
		}), check: ends},
		{on: []Switch{GetToken}, method: tokenRequest(func(q *request) { q.Method = "GET" })},
		{on: []Switch{TokenParams}, method: tokenRequest(func(q *request) { q.Params = map[string]string{"audience": API, "tenant_id": "{tenant}"} }), vars: tenantVars("acme")},
		{on: []Switch{TokenHeaders}, method: tokenRequest(func(q *request) { q.Headers = map[string]string{"X-Client-Version": "7", "X-Request-Id": "{uuid}"} })},
		{on: []Switch{TokenScope}, scopes: []string{"read", "write"}, method: tokenRequest(func(q *request) { q.Params = map[string]string{"scope": "{scope}"} })},
		{on: []Switch{TokenNonce}, method: with(func(_ *method, r *recipe) {
			r.Authorize.Params = map[string]string{"nonce": "{nonce}"}
			r.Token.Params = map[string]string{"nonce": "{nonce}"}
		})},
		{on: []Switch{NoRedirectURI}, method: tokenRequest(func(q *request) { q.Drop = []string{"redirect_uri"} })},
		{on: []Switch{TrailingSlash}, method: tokenRequest(func(q *request) { q.URL = IDP + "/token/" })},
		{on: []Switch{DecodedURL}, method: with(func(_ *method, r *recipe) { r.Authorize.Raw = []string{"redirect_uri"} })},
		{on: []Switch{OKFalse}, check: refusedAs("token_revoked"), method: answered(credential.Answer{
			Fail: []credential.Condition{{Path: "ok", Not: []string{"true"}}}, Refused: []string{"token_revoked"},
		})},
		{on: []Switch{CodeNotZero}, check: refusedAs("10010"), method: answered(credential.Answer{
			Access: "data.access_token", Refresh: "data.refresh_token", Expiry: &credential.Expiry{Path: "data.expires_in"},
			Fail: []credential.Condition{{Path: "code", Not: []string{"0"}}}, Error: "code", Refused: []string{"10010"},
		})},
		{on: []Switch{ErrorIn200}, check: refusedAs("bad_refresh_token"), method: answered(credential.Answer{Refused: []string{"bad_refresh_token"}})},
		{on: []Switch{Nested}, check: ends, method: answered(credential.Answer{
			Access: "data.tokens.0.access_token", Refresh: "data.tokens.0.refresh_token", Expiry: &credential.Expiry{Path: "data.tokens.0.expires_in"},
		})},
		{on: []Switch{CamelCase}, check: ends, method: answered(credential.Answer{Access: "accessToken", Refresh: "refreshToken", Expiry: &credential.Expiry{Path: "expiresIn"}})},
		{on: []Switch{CalledJWT}, check: ends, method: answered(credential.Answer{Access: "jwt"})},
		{on: []Switch{FormAnswer}, check: ends, method: answered(credential.Answer{Format: credential.AnswerForm})},
		{on: []Switch{NoExpiry}, check: ends, method: expiring(credential.Expiry{Default: 3600})},
		{on: []Switch{Milliseconds}, check: ends, method: expiring(credential.Expiry{Form: credential.ExpiryMillis})},
		{on: []Switch{UnixExpiry}, check: ends, method: expiring(credential.Expiry{Path: "expires_at", Form: credential.ExpiryUnix})},
		{on: []Switch{ISOExpiry}, check: ends, method: expiring(credential.Expiry{Path: "expires_at", Form: credential.ExpiryISO})},
		{on: []Switch{DateExpiry}, check: ends, method: expiring(credential.Expiry{Path: "expires", Form: credential.ExpiryDate, Layout: "02/01/2006 15:04:05"})},
		{on: []Switch{DurationExpiry}, check: ends, method: expiring(credential.Expiry{Form: credential.ExpiryDuration})},
		{on: []Switch{OtherExpiry}, check: ends, method: expiring(credential.Expiry{Path: "access_token_expiration", Form: credential.ExpiryMinutes})},
		{on: []Switch{JWTExpiry}, check: ends, method: expiring(credential.Expiry{Form: credential.ExpiryJWT})},
		{on: []Switch{ClockAhead}, check: ends, method: expiring(credential.Expiry{Path: "expires_at", Form: credential.ExpiryUnix})},
	}
}

// refusedAs checks that a grant that was taken back is known to be dead.
func refusedAs(code string) func(l *life) error {
	return func(l *life) error {
		l.s.End()
		err := l.refresh("")
		if err == nil {
			return errors.New("a grant that was taken back was renewed")
		}
		return wantRefused(err, code)
	}
}
