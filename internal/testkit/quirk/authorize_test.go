package quirk

import (
	"context"
	"errors"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/oauth"
)

func contextOf(*life) context.Context { return context.Background() }

type (
	method = credential.Method
	recipe = credential.Recipe
	keep   = credential.Keep
)

func tenantVars(fallback string) credential.Vars {
	return credential.Vars{"tenant": {Pattern: "[a-z]+", Default: fallback}}
}

func tenantMethod() credential.Method {
	m := plain()
	m.Recipe.Authorize.URL, m.Recipe.Token.URL = IDP+"/t/{tenant}/authorize", IDP+"/t/{tenant}/token"
	return m
}

// tampered sends the browser to a URL that was changed.
func tampered(change func(string) string) func(l *life) error {
	return func(l *life) error {
		u, err := oauth.AuthorizeURL(&oauth.Start{Spec: l.spec, ClientID: ClientID, RedirectURI: RedirectURI, State: "state-1", Challenge: "x"})
		if err != nil {
			return err
		}
		_, err = l.browse(change(u))
		return err
	}
}

// authorizeCases are items 1 to 15.
func authorizeCases() []testCase {
	two := []string{"read:all", "write:all"}
	return []testCase{
		{on: []Switch{Tenant}, method: tenantMethod, vars: tenantVars(""), values: map[string]string{"tenant": "acme"}},
		{on: []Switch{TenantFallback}, method: tenantMethod, vars: tenantVars("common")},
		{on: []Switch{FixedParams}, method: with(func(_ *method, r *recipe) {
			r.Authorize.Params = map[string]string{"access_type": "offline", "prompt": "consent"}
		})},
		{on: []Switch{NoPKCE}, method: with(func(_ *method, r *recipe) { r.Authorize.PKCE = credential.PKCEOff })},
		{on: []Switch{CommaScopes}, scopes: two, method: with(func(_ *method, r *recipe) { r.Authorize.Separator = "," })},
		{on: []Switch{PlusScopes}, scopes: two, method: with(func(_ *method, r *recipe) { r.Authorize.Separator = "+" })},
		{on: []Switch{RawScopes}, scopes: two, method: with(func(_ *method, r *recipe) { r.Authorize.Raw = []string{"scope"} })},
		{on: []Switch{RenamedClient}, method: with(func(_ *method, r *recipe) {
			r.Authorize.Rename = map[string]string{"client_id": "client_key"}
			r.Token.Rename = map[string]string{"client_id": "client_key"}
		})},
		{on: []Switch{NoResponseType}, method: with(func(_ *method, r *recipe) { r.Authorize.Drop = []string{"response_type"} })},
		// No scopes are asked for: the parameter must not be there.
		{on: []Switch{NoEmpty}, method: plain, mutate: tampered(func(u string) string { return u + "&scope=" })},
		{on: []Switch{Fragment}, method: with(func(_ *method, r *recipe) {
			r.Authorize.URL, r.Authorize.Fragment = IDP+"/app", true
		}), twin: with(func(_ *method, r *recipe) { r.Authorize.URL = IDP + "/app/" })},
		{on: []Switch{OfflineScope}, scopes: []string{"read"}, method: with(func(_ *method, r *recipe) { r.Authorize.Scopes = []string{"offline_access"} })},
		{on: []Switch{UserScopes}, scopes: []string{"chat:write"}, sets: map[string][]string{"user_scope": {"users:read"}}, method: with(func(_ *method, r *recipe) {
			r.Authorize.Separator, r.Authorize.ScopeSets = ",", map[string][]string{"user_scope": {"search:read"}}
		})},
		{on: []Switch{Install}, method: installed(false)},
		{on: []Switch{Unstated}, method: installed(true)},
		{on: []Switch{OtherCode}, method: with(func(_ *method, r *recipe) { r.Callback = &credential.Callback{Code: "spapi_oauth_code"} })},
		{on: []Switch{AdminConsent}, method: with(func(_ *method, r *recipe) {
			r.Callback = &credential.Callback{Code: "tenant", Keep: []keep{{Name: "directory", From: "tenant", Var: credential.Var{Type: credential.VarSegment}, Required: true}}}
			r.Authorize.Scopes = []string{".default"}
			r.Token.Params = map[string]string{"grant_type": "client_credentials", "scope": "{scope}"}
			r.Token.Drop = []string{"code", "redirect_uri", "code_verifier"}
			r.Refresh = &credential.Refresh{By: credential.ByMint}
		}), check: kept("directory", "acme")},
		{on: []Switch{CodeByWebhook}, method: with(func(_ *method, r *recipe) {
			r.Callback = &credential.Callback{Webhook: &credential.Webhook{Code: "data.installation.code", Match: "data.installation.uuid", Param: "installationId"}}
		})},
		{on: []Switch{StatePayload}, method: with(func(_ *method, r *recipe) {
			r.Authorize.Rename = map[string]string{"state": "payload"}
			r.Callback = &credential.Callback{State: "payload"}
		})},
		{on: []Switch{CallbackData}, path: "/api/company/realm-9", method: with(func(_ *method, r *recipe) {
			r.Callback = &credential.Callback{Keep: []keep{{Name: "realm", From: "realmId", Required: true, Var: credential.Var{Type: credential.VarSegment}}}}
			proved(r, API+"/api/company/{realm}", "{realm}")
		}), check: func(l *life) error {
			if l.last.Account != "realm-9" {
				return errors.New("the account is not known")
			}
			return nil
		}},
		{on: []Switch{CallbackHost}, method: with(func(_ *method, r *recipe) {
			r.Callback = &credential.Callback{Keep: []keep{{Name: "accounts", From: "accounts-server", Required: true, Var: credential.Var{Type: credential.VarURL, Suffixes: []string{".example.com"}}}}}
			r.Token.URL = "{accounts}/token"
		})},
		{on: []Switch{Issuer}, method: with(func(_ *method, r *recipe) { r.Issuer = IDP }), twin: with(func(_ *method, r *recipe) { r.Issuer = EU })},
	}
}

// installed is a provider whose apps are installed: the URL names the app, and who starts is not known to it.
func installed(unstated bool) func() credential.Method {
	return with(func(_ *method, r *recipe) {
		r.Authorize.URL, r.Authorize.PKCE = IDP+"/install/my-app", credential.PKCEOff
		r.Authorize.Drop = []string{"client_id", "response_type", "redirect_uri", "scope"}
		r.Callback = &credential.Callback{Unstated: unstated, Keep: []keep{{Name: "installation", From: "installation_id", Required: true, Var: credential.Var{Type: credential.VarSegment}}}}
		proved(r, API+"/api/installations/{installation}", "{installation}")
	})
}

// proved takes what a browser brings as the account, after the new token has shown that it is: whoever comes back may have
// changed it.
func proved(r *recipe, url, account string) {
	r.Steps = []credential.Step{{Name: "account", Answer: credential.Answer{NoToken: true}, Request: request{
		URL: url, Method: "GET", Body: credential.BodyNone, ClientAuth: credential.AuthCustom, Headers: map[string]string{"Authorization": "Bearer {access_token}"},
	}}}
	r.Account = &credential.Account{ID: account}
}

// kept checks a value that was kept.
func kept(name, want string) func(l *life) error {
	return func(l *life) error {
		if got := string(l.fields[name].Reveal()); got != want {
			return errors.New(name + " is " + strings.ToUpper(got))
		}
		return nil
	}
}
