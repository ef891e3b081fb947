package quirk

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/oauth"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

func wantRefused(err error, code string) error {
	if f := oauth.FaultOf(err); f.Kind != oauth.Refused || f.Code != code {
		return fmt.Errorf("got %w, want a refusal with %s", err, code)
	}
	return nil
}

func refreshing(r credential.Refresh) func() credential.Method {
	return with(func(_ *method, q *recipe) { q.Refresh = &r })
}

func get(url string, params map[string]string) request {
	return request{URL: url, Method: "GET", Params: params, ClientAuth: credential.AuthCustom}
}

func urlKeep(name, from string) keep {
	return keep{Name: name, From: from, Required: true, Var: credential.Var{Type: credential.VarURL, Suffixes: []string{".example.com"}}}
}

func session(steps ...credential.Step) func() credential.Method {
	return func() credential.Method {
		return credential.Method{
			ID: "session", Type: credential.Session, Recipe: &credential.Recipe{Steps: steps},
			Fields: []credential.Field{{Name: "user"}, {Name: "user_password", Secret: true}},
		}
	}
}

// lifeCases are items 25 to 39, 43 and 45.
func lifeCases() []testCase {
	entered := map[string]secret.Value{"user": secret.New([]byte("ann")), "user_password": secret.New([]byte("pass-word-1"))}
	custom := request{ClientAuth: credential.AuthCustom}
	return []testCase{
		{on: []Switch{InstanceURL}, method: with(func(_ *method, r *recipe) {
			r.Answer = &credential.Answer{Keep: []keep{urlKeep("instance_url", "instance_url")}}
			r.BaseURL = "{instance_url}/services"
		}), check: func(l *life) error {
			if l.last.Base == nil || l.last.Base.String() != EU+"/services" {
				return errors.New("the base URL is not known")
			}
			return nil
		}},
		{on: []Switch{AnswerIDs}, method: with(func(m *method, r *recipe) {
			r.Answer = &credential.Answer{Keep: []keep{{Name: "team", From: "team.id"}, {Name: "team_name", From: "team.name"}}}
			r.Account = &credential.Account{ID: "{team}", Label: "{team_name}"}
			m.Places = []credential.Place{{In: credential.InHeader, Name: "Authorization", Format: "Bearer {access_token}"}, {In: credential.InHeader, Name: "X-Team", Format: "{team}"}}
		}), check: func(l *life) error {
			if l.last.Account != Account || l.last.Label != "Acme" {
				return errors.New("the account is not known")
			}
			return nil
		}},
		{on: []Switch{TwoTokens}, method: twoTokens, check: checkTwo},
		{on: []Switch{SecondResource}, method: with(func(m *method, r *recipe) {
			r.Steps = []credential.Step{{Name: "other", Set: "other", Repeat: true, Request: request{
				URL: IDP + "/token", ClientAuth: credential.AuthBody, Params: map[string]string{"grant_type": "refresh_token", "refresh_token": "{refresh_token}", "resource": EU},
			}}}
		}), check: checkOther},
		{on: []Switch{CookieToken}, method: with(func(m *method, r *recipe) {
			r.Answer = &credential.Answer{Access: "cookie:B1SESSION", Expiry: &credential.Expiry{Path: "SessionTimeout", Form: credential.ExpiryMinutes}}
			m.Places = []credential.Place{{In: credential.InCookie, Name: "B1SESSION", Format: "{access_token}"}}
		}), check: ends},
		{on: []Switch{HeaderToken}, method: answered(credential.Answer{Access: "header:X-Auth-Token"}), check: ends},
		{on: []Switch{SessionExchange}, method: with(func(m *method, r *recipe) {
			login := get(IDP+"/rest-login", map[string]string{"access_token": "{access_token}", "version": "*"})
			r.Steps = []credential.Step{{Name: "login", Set: "rest", Repeat: true, Request: login, Answer: credential.Answer{
				Access: "BhRestToken", Expiry: &credential.Expiry{Default: 600}, Keep: []keep{urlKeep("rest_url", "restUrl")},
			}}}
			r.Answer = &credential.Answer{Expiry: &credential.Expiry{Default: 600}}
			r.BaseURL = "{rest_url}"
			m.Places = []credential.Place{{In: credential.InQuery, Name: "BhRestToken", Format: "{rest.access_token}"}}
		}), check: func(l *life) error {
			if l.last.Base == nil || l.last.Base.Host != "eu.example.com" {
				return errors.New("the base URL is not known")
			}
			return nil
		}},
		{on: []Switch{StepURL}, fields: entered, check: ends, method: session(
			credential.Step{Name: "tenant", Request: request{URL: IDP + "/discover-tenant", Body: credential.BodyJSON, Text: `{"user": "{user}", "password": "{user_password}"}`}, Answer: credential.Answer{
				NoToken: true, Keep: []keep{urlKeep("login_url", "login.url"), {Name: "ticket", From: "login.ticket", Secret: true}},
			}},
			credential.Step{Name: "login", Request: request{URL: "{login_url}", Params: map[string]string{"ticket": "{ticket}"}}, Answer: credential.Answer{
				Access: "session", Expiry: &credential.Expiry{Path: "valid_for", Form: credential.ExpiryDuration},
			}},
		)},
		{on: []Switch{JWTBearer}, fields: map[string]secret.Value{"service_account": secret.New(serviceAccount())}, method: func() credential.Method {
			return credential.Method{ID: "jwt", Type: credential.OAuth2JWT, Fields: []credential.Field{{Name: "service_account", Secret: true, Multiline: true}}, Recipe: &credential.Recipe{
				Token:     &request{URL: IDP + "/token", ClientAuth: credential.AuthCustom},
				Assertion: &credential.Assertion{Key: "{service_account.private_key}", KeyID: "{service_account.private_key_id}", Issuer: "{service_account.client_email}", Subject: "{service_account.client_email}", Claims: map[string]string{"scope": "read"}},
			}}
		}},
		{on: []Switch{TextAssertion}, fields: entered, method: session(
			credential.Step{Name: "assertion", Request: request{URL: IDP + "/assertion", Params: map[string]string{"user_id": "{user}"}}, Answer: credential.Answer{
				Format: credential.AnswerText, NoToken: true, Keep: []keep{{Name: "saml", From: ".", Secret: true}},
			}},
			credential.Step{Name: "token", Request: request{URL: IDP + "/token", Params: map[string]string{
				"grant_type": "urn:ietf:params:oauth:grant-type:saml2-bearer", "assertion": "{saml}", "client_id": ClientID, "client_secret": "{client_secret}",
			}}},
		)},
		{on: []Switch{ClientCredentials}, method: func() credential.Method {
			return credential.Method{ID: "app", Type: credential.OAuth2Client, Recipe: &credential.Recipe{Token: &request{URL: IDP + "/token"}}}
		}},
		{on: []Switch{RefreshURL}, method: refreshing(credential.Refresh{Request: request{URL: IDP + "/refresh"}})},
		{on: []Switch{Rotation}, method: plain, check: checkRotation, mutate: func(l *life) error {
			if err := l.connect(); err != nil {
				return nil //nolint:nilerr // the twin is about what follows
			}
			old := l.fields[oauth.FieldRefresh]
			if err := l.refresh(""); err != nil {
				return nil //nolint:nilerr // the same
			}
			l.fields[oauth.FieldRefresh] = old // as if the new one had not been kept
			return l.refresh("")
		}},
		{on: []Switch{KeepRefresh}, method: plain, check: func(l *life) error { return errors.Join(l.refresh(""), l.refresh("")) }, mutate: func(l *life) error {
			if err := errors.Join(l.connect(), l.refresh("")); err != nil {
				return nil //nolint:nilerr // the twin is about what follows
			}
			l.fields[oauth.FieldRefresh] = l.last.Fields[oauth.FieldRefresh] // only what came last
			return l.refresh("")
		}},
		{on: []Switch{LongLived}, method: with(func(_ *method, r *recipe) {
			r.Refresh = &credential.Refresh{By: credential.ByAccessToken, Request: longLived("fb_exchange_token")}
			r.Steps = []credential.Step{{Name: "long", Request: longLived("fb_exchange_token")}}
		}), check: longLife},
		{on: []Switch{AccessRefresh}, method: with(func(_ *method, r *recipe) {
			r.Refresh = &credential.Refresh{By: credential.ByAccessToken, Request: request{
				Method: "GET", ClientAuth: credential.AuthBody, Params: map[string]string{"grant_type": "ig_refresh_token", "access_token": "{access_token}"},
			}}
		})},
		{on: []Switch{Extends}, method: refreshing(credential.Refresh{Extends: true, Answer: &credential.Answer{Format: credential.AnswerNone, Expiry: &credential.Expiry{Default: 3600}}})},
		{on: []Switch{RefreshParams}, method: refreshing(credential.Refresh{Request: request{Params: map[string]string{"refresh_flag": "yes"}}})},
		{on: []Switch{RefreshHeaders}, method: refreshing(credential.Refresh{Request: request{Headers: map[string]string{"X-Refresh": "1"}}})},
		{on: []Switch{RefreshPublic}, method: refreshing(credential.Refresh{Request: request{ClientAuth: credential.AuthNone}})},
		{on: []Switch{RefreshScope}, scopes: []string{"read", "write"}, method: refreshing(credential.Refresh{Request: request{Params: map[string]string{"scope": "{scope}"}}})},
		{on: []Switch{RefreshBasic}, method: refreshing(credential.Refresh{Request: request{ClientAuth: credential.AuthBasicRaw}})},
		{on: []Switch{LateRefresh}, method: with(func(_ *method, r *recipe) { r.Margin = 60 })},
		{on: []Switch{Introspection}, check: ends, method: with(func(_ *method, r *recipe) {
			r.Introspect = &credential.Step{Name: "introspect", Request: request{URL: IDP + "/introspect"}}
		})},
		{on: []Switch{OwnRefusal}, check: refusedAs("E-TOKEN-GONE"), method: answered(credential.Answer{Error: "errorCode", Refused: []string{"E-TOKEN-GONE"}})},
		{on: []Switch{OwnClient}, method: plain, client: texts("client_id", "own-client", "client_secret", "own-secret"), mutate: func(l *life) error {
			l.client = texts("client_id", ClientID, "client_secret", ClientSecret)
			return l.drive()
		}},
		{on: []Switch{LookUp}, path: "/api/cloud-1/me", check: kept("cloud", "cloud-1"), method: with(func(_ *method, r *recipe) {
			look := custom
			look.URL, look.Method, look.Headers = IDP+"/resources", "GET", map[string]string{"Authorization": "Bearer {access_token}"}
			r.Steps = []credential.Step{{Name: "resources", Request: look, Answer: credential.Answer{NoToken: true, Keep: []keep{{Name: "cloud", From: "0.id", Required: true}}}}}
		})},
		{on: []Switch{Revocation}, check: revoked, method: with(func(_ *method, r *recipe) { r.Revoke = &request{URL: IDP + "/revoke"} })},
		{on: []Switch{RevokeGet}, check: revoked, method: with(func(_ *method, r *recipe) {
			r.Revoke = &request{URL: IDP + "/grants/{access_token}", Method: "DELETE", Body: credential.BodyNone, ClientAuth: credential.AuthCustom, Headers: map[string]string{"X-Client": "{client_id}"}}
		})},
		{on: []Switch{ResourceParam}, method: with(func(_ *method, r *recipe) {
			r.Authorize.Params, r.Token.Params = map[string]string{"resource": API}, map[string]string{"resource": API}
		})},
	}
}

func longLived(name string) request {
	return request{
		URL: IDP + "/token", Method: "GET", ClientAuth: credential.AuthBody,
		Params: map[string]string{"grant_type": "fb_exchange_token", name: "{access_token}"},
	}
}

func longLife(l *life) error {
	if l.last.Expires.Sub(l.now()) < 59*24*time.Hour {
		return errors.New("the token is short-lived")
	}
	return nil
}

func serviceAccount() []byte {
	return []byte(`{"type":"service_account","client_email":"service@example.com","private_key_id":"k1","private_key":"` +
		strings.ReplaceAll(string(ClientKey()), "\n", `\n`) + `"}`)
}

func revoked(l *life) error {
	if err := l.revoke(); err != nil {
		return err
	}
	if l.s.Seen().Revoked != 1 || l.use() == nil {
		return errors.New("the token lives on")
	}
	return nil
}

// checkRotation renews again and again; the provider sees no token twice.
func checkRotation(l *life) error {
	for range 5 {
		if err := errors.Join(l.refresh(""), l.use()); err != nil {
			return err
		}
	}
	if c := l.s.Seen(); c.Reused != 0 || c.Refreshes != 5 {
		return fmt.Errorf("the provider saw %+v", c)
	}
	return nil
}

// twoTokens is a provider that gives a bot's and a user's token at once (26).
func twoTokens() credential.Method {
	return with(func(_ *method, r *recipe) {
		r.Answer = &credential.Answer{Types: []string{"bot", "user"}, Sets: []credential.Set{{
			Name: "user", Access: "authed_user.access_token", Refresh: "authed_user.refresh_token", Expiry: &credential.Expiry{Path: "authed_user.expires_in"},
		}}}
	})()
}

// checkTwo renews both tokens, and sees that a failure of the second loses nothing of the first.
func checkTwo(l *life) error {
	if d := l.last.Expires.Sub(l.now()); d > UserLife {
		return fmt.Errorf("the first of both ends in %v", d)
	}
	main, user := l.fields[oauth.FieldAccess], l.fields["user."+oauth.FieldAccess]
	if err := errors.Join(l.refresh("user"), l.refresh("")); err != nil {
		return err
	}
	if l.fields[oauth.FieldAccess].Equal(main) || l.fields["user."+oauth.FieldAccess].Equal(user) {
		return errors.New("a token was not renewed")
	}
	first := l.fields[oauth.FieldRefresh]
	l.fields["user."+oauth.FieldRefresh] = secret.New([]byte("broken"))
	if err := l.refresh("user"); err == nil || oauth.FaultOf(err).Kind != oauth.Refused {
		return errors.New("a broken token was renewed")
	}
	if !l.fields[oauth.FieldRefresh].Equal(first) {
		return errors.New("the first token was lost")
	}
	return l.use()
}

// checkOther calls the other resource with its own token.
func checkOther(l *life) error {
	other := l.fields["other."+oauth.FieldAccess]
	if other.Len() == 0 {
		return errors.New("there is no token for the other resource")
	}
	if err := l.call(EU, "/api/me"); err == nil {
		return errors.New("the other resource took the main token")
	}
	m := l.spec.Method.Places
	l.spec.Method.Places = []credential.Place{{In: credential.InHeader, Name: "Authorization", Format: "Bearer {other.access_token}"}}
	err := l.call(EU, "/api/me")
	l.spec.Method.Places = m
	return err
}
