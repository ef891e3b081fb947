package quirk

import (
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/oauth"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

type place = credential.Place

func placed(places ...place) func() credential.Method {
	return with(func(m *method, _ *recipe) { m.Places = places })
}

func header(name, format string) place {
	return place{In: credential.InHeader, Name: name, Format: format}
}

// keyed is a method without tokens.
func keyed(t credential.Type, s *credential.Signing, places ...place) func() credential.Method {
	return func() credential.Method {
		m := credential.Method{ID: "key", Type: t, Sign: s, Places: places}
		if t == credential.HMAC {
			m.Fields = []credential.Field{{Name: "key"}, {Name: "secret", Secret: true}}
		}
		return m
	}
}

func bearer() credential.Method { return credential.Method{ID: "token", Type: credential.Bearer} }

// callCases are items 40 to 45.
func callCases() []testCase {
	pair := texts("key", Key, "secret", KeySecret, "token", "tok")
	aws := texts("access_key_id", Key, "secret_access_key", KeySecret, "token", "tok")
	one := texts("consumer_key", Key, "consumer_secret", KeySecret, "token", "tok", "token_secret", TokenSecret)
	signing := func(a credential.Algorithm) *credential.Signing {
		return &credential.Signing{Algorithm: a, Realm: "acme"}
	}
	auth := header("Authorization", "Bearer {access_token}")
	return []testCase{
		{on: []Switch{TokenScheme}, method: placed(header("Authorization", "Token {access_token}"))},
		{on: []Switch{TokenPair}, method: placed(header("Authorization", "Token token={access_token}"))},
		{on: []Switch{BareHeader}, method: placed(header("Authorization", "{access_token}"))},
		{on: []Switch{CustomHeader}, method: placed(header("X-Api-Key", "{access_token}"))},
		{on: []Switch{QueryToken}, method: placed(place{In: credential.InQuery, Name: "auth_token", Format: "{access_token}"})},
		{on: []Switch{BodyToken}, post: true, method: placed(place{In: credential.InBody, Name: "api_token", Format: "{access_token}"})},
		{on: []Switch{PathToken}, path: "/api/bot%7Btoken%7D/me", method: placed(place{In: credential.InPath, Name: "token", Format: "{access_token}"})},
		{on: []Switch{SeveralPlaces}, fields: texts("app", ClientID), method: with(func(m *method, _ *recipe) {
			m.Fields = []credential.Field{{Name: "app"}}
			m.Places = []place{auth, header("X-App", "{app}"), {In: credential.InQuery, Name: "extra", Format: "{app}"}}
		})},
		{on: []Switch{DateHeader}, method: placed(auth, header("X-Date", "{now_http}"))},
		{on: []Switch{VersionHeader}, vars: tenantVars("acme"), method: placed(auth, header("X-Api-Version", "2026-01/{tenant}"))},
		{on: []Switch{HMACCalls}, fields: pair, post: true, twin: bearer, method: keyed(credential.HMAC, &credential.Signing{
			Message: "{method}\n{path}\n{query}\n{body_hash}\n{now_ms}", Encoding: credential.Base64,
		}, header("X-Key", "{key}"), header("X-Timestamp", "{now_ms}"), header("X-Signature", "{signature}"))},
		{on: []Switch{AWSCalls}, fields: aws, post: true, twin: bearer, method: keyed(credential.SigV4, &credential.Signing{Region: "eu-west-1", Service: "execute-api"})},
		{on: []Switch{OAuth1Calls}, fields: one, twin: bearer, method: keyed(credential.OAuth1, signing(""))},
		{on: []Switch{OAuth1SHA256}, fields: one, twin: keyed(credential.OAuth1, signing("")), method: keyed(credential.OAuth1, signing(credential.HMACSHA256))},
		{on: []Switch{OAuth1Plain}, fields: one, twin: keyed(credential.OAuth1, signing("")), method: keyed(credential.OAuth1, signing(credential.PlainText))},
		{on: []Switch{WSSE}, fields: pair, twin: bearer, method: keyed(credential.HMAC, &credential.Signing{
			Algorithm: credential.SHA1, Message: "{nonce}{now_iso}{secret}", Encoding: credential.Base64,
		}, header("X-WSSE", `UsernameToken Username="{key}", PasswordDigest="{signature}", Nonce="{nonce}", Created="{now_iso}"`))},
		{on: []Switch{RedirectAway}, path: "/api/other", check: stays, method: plain, mutate: func(l *life) error {
			if err := l.connect(); err != nil {
				return nil //nolint:nilerr // the twin is about what follows
			}
			if err := l.call(Evil, "/api/me"); l.s.Seen().Leaked == 0 { // as a client that follows with what it sent
				return err
			}
			return errors.New("a token was sent to another origin")
		}},
		{on: []Switch{RetryAfter}, method: plain, check: later, mutate: atOnce},
		{on: []Switch{RateReset}, method: plain, check: later, mutate: atOnce},
		{on: []Switch{OwnBusy}, method: answered(credential.Answer{Temporary: []string{"ratelimited"}}), check: later},
		{on: []Switch{IssuerMetadata}, method: discovered(credential.Discovery{Issuer: IDP}), twin: discovered(credential.Discovery{Issuer: EU})},
		{on: []Switch{ResourceMetadata}, method: discovered(credential.Discovery{Resource: API + "/mcp", Hosts: []string{".example.com"}}), twin: discovered(credential.Discovery{Resource: API + "/mcp"})},
		{on: []Switch{Registration}, method: discovered(credential.Discovery{Issuer: IDP, Register: true, ClientName: "Here"}), client: map[string]secret.Value{}},
		{on: []Switch{ClientDocument}, method: func() credential.Method {
			m := discovered(credential.Discovery{Issuer: IDP, Document: documentURL})()
			m.Recipe.Token.ClientAuth = credential.AuthNone
			return m
		}, client: map[string]secret.Value{}},
	}
}

// discovered is a method whose URLs are found.
func discovered(d credential.Discovery) func() credential.Method {
	return with(func(_ *method, r *recipe) {
		r.Authorize.URL, r.Token.URL, r.Discovery = "", "", &d
	})
}

// later checks that "later" is understood, with its time.
func later(l *life) error {
	err := l.refresh("")
	if err == nil {
		return errors.New("the provider said later, and was not heard")
	}
	if f := oauth.FaultOf(err); f.Kind != oauth.Temporary || f.RetryAfter < 5*time.Second || f.RetryAfter > 9*time.Second {
		return fmt.Errorf("got %w after %v", err, f.RetryAfter)
	}
	return nil
}

// atOnce does not wait.
func atOnce(l *life) error { return errors.Join(l.connect(), l.refresh("")) }

// stays checks that a token does not follow a redirect.
func stays(l *life) error {
	_, err := l.answer(API, "/api/me")
	var f *egress.Fault
	if !errors.As(err, &f) || f.Type != egress.EgressDenied {
		return fmt.Errorf("the redirect was followed: %w", err)
	}
	if l.s.Seen().Leaked != 0 {
		return errors.New("a token was sent to another origin")
	}
	return nil
}
