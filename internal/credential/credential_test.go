package credential

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// salesforce has a tenant's host with a fallback, and a base URL that the answer decides on.
const salesforce = `{"id":"oauth","type":"oauth2_code","recipe":{
 "authorize":{"url":"https://{domain}/services/oauth2/authorize","scopes":["refresh_token"]},
 "token":{"url":"https://{domain}/services/oauth2/token"},
 "answer":{"keep":[{"name":"instance_url","from":"instance_url","type":"url","suffixes":[".salesforce.com"],"required":true},{"name":"user","from":"id"}]},
 "introspect":{"name":"introspect","url":"https://{domain}/services/oauth2/introspect","params":{"token":"{access_token}"},"answer":{"no_token":true,"expiry":{"path":"exp","form":"unix"}}},
 "revoke":{"url":"https://{domain}/services/oauth2/revoke"},
 "base_url":"{instance_url}/services/data/v60.0","account":{"id":"{user}"}}}`

func hostVars() Vars {
	return Vars{"domain": {Type: VarHost, Suffixes: []string{".salesforce.com", ".my.salesforce.com"}, Default: "login.salesforce.com"}}
}

func method(t *testing.T, text string) *Method {
	t.Helper()
	m, err := ParseMethod([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSpecHasOneForm(t *testing.T) {
	t.Parallel()
	s := &Spec{Method: *method(t, salesforce), Vars: hostVars(), Values: map[string]string{"domain": "acme.my.salesforce.com"}}
	text, err := s.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseSpec(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, again); diff != "" {
		t.Error(diff)
	}
	for name, other := range map[string]string{
		"spaces": " " + string(text), "unknown": strings.Replace(string(text), `"id"`, `"di"`, 1), "case": strings.Replace(string(text), `"id"`, `"Id"`, 1),
		"twice": strings.Replace(string(text), `"id":"oauth"`, `"id":"x","id":"oauth"`, 1), "more": string(text) + "{}", "large": strings.Repeat(" ", MaxSpec) + string(text),
		"value": strings.Replace(string(text), "acme.my.salesforce.com", "acme.example.com", 1),
	} {
		if _, err := ParseSpec([]byte(other)); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	client := &Spec{Method: *method(t, salesforce), Vars: hostVars()}
	if !s.SameMethod(client) {
		t.Error("the method of the client is another one")
	}
	client.Method.Recipe.Token.URL = "https://login.salesforce.com/other"
	if s.SameMethod(client) {
		t.Error("a method with another token URL is the same")
	}
}

func TestCheckNamesThePlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ from, to, at string }{
		"scheme":       {"https://{domain}/services/oauth2/token", "http://{domain}/services/oauth2/token", "m.recipe.token.url"},
		"user":         {"https://{domain}/services/oauth2/token", "https://me@{domain}/token", "m.recipe.token.url"},
		"half a host":  {"https://{domain}/services/oauth2/token", "https://x.{domain}/token", "m.recipe.token.url"},
		"unknown name": {"https://{domain}/services/oauth2/token", "https://{what}/token", "m.recipe.token.url"},
		"token host":   {"https://{domain}/services/oauth2/token", "https://{access_token}.salesforce.com/token", "m.recipe.token.url"},
		"kept text":    {"https://{domain}/services/oauth2/token", "https://{domain}/{user}", "m.recipe.token.url"},
		"kept anyhow":  {`"type":"url","suffixes":[".salesforce.com"],`, `"type":"url",`, "m.recipe.answer.keep[0].suffixes"},
		"one label":    {`"suffixes":[".salesforce.com"]`, `"suffixes":[".com"]`, "m.recipe.answer.keep[0].suffixes[0]"},
		"base":         {`"base_url":"{instance_url}/`, `"base_url":"https://{user}/`, "m.recipe.base_url"},
		"plain":        {`"scopes":["refresh_token"]`, `"pkce":"plain"`, "m.recipe.authorize.pkce"},
		"implicit":     {`"scopes":["refresh_token"]`, `"params":{"response_type":"token"}`, "m.recipe.authorize.params.response_type"},
		"fragment":     {`"scopes":["refresh_token"]`, `"params":{"response_mode":"fragment"}`, "m.recipe.authorize.params.response_mode"},
		"password":     {`oauth2/token"}`, `oauth2/token","params":{"grant_type":"password"}}`, "m.recipe.token.params.grant_type"},
		"header":       {`oauth2/token"}`, `oauth2/token","headers":{"Transfer-Encoding":"chunked"}}`, "m.recipe.token.headers.Transfer-Encoding"},
		"no recipe":    {`"type":"oauth2_code"`, `"type":"bearer"`, "m.recipe"},
		"no authorize": {`"type":"oauth2_code"`, `"type":"oauth2_client"`, "m.recipe.authorize"},
		"type":         {`"type":"oauth2_code"`, `"type":"magic"`, "m.type"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(salesforce, c.from) {
				t.Fatalf("no %q in the method", c.from)
			}
			var problems Problems
			if err := method(t, strings.Replace(salesforce, c.from, c.to, 1)).Check("m", hostVars()); !errors.As(err, &problems) {
				t.Fatalf("got %v, want problems", err)
			}
			if problems[0].At != c.at {
				t.Errorf("got %v, want a problem at %s", problems, c.at)
			}
		})
	}
	if err := method(t, salesforce).Check("m", hostVars()); err != nil {
		t.Error(err)
	}
}

func TestHostTemplates(t *testing.T) {
	t.Parallel()
	vars := Vars{
		"region": {Enum: []string{"eu", "us"}}, "shop": {Pattern: "[a-z0-9-]+"}, "tenant": {Type: VarSegment}, "domain": {Type: VarHost, Suffixes: []string{".example.com"}}, "note": {Type: VarText},
	}
	for url, ok := range map[string]bool{
		"https://{region}.api.example.com/token": true, "https://{shop}.example.com/{tenant}/token": true, "https://{domain}/token?x={region}": true, "https://a.{shop}.example.com/": true,
		"https://{shop}.com/": false, "https://{shop}/": false, "https://example.{shop}/": false, "https://{tenant}.example.com/": false, "https://{domain}.example.com/": false, "https://{domain}x/": false,
		"https://example.com/{note}": false, "https:///x": false, "https://example.com/\\x": false, "ftp://example.com/": false, "http://localhost:1234/token": true, "http://example.com/token": false,
		"https://{shop}.{region}.com/": false, "https://{shop}.{region}.example.com/": true, "https://{shop}.10.0.0.1/": false,
	} {
		c := vars.checker()
		if c.url("url", url); (len(c.problems) == 0) != ok {
			t.Errorf("%s: got %v, want ok %v", url, c.problems, ok)
		}
	}
}

func TestAccountsAreNotWhatABrowserSays(t *testing.T) {
	t.Parallel()
	m := &Method{ID: "m", Type: OAuth2Code, Recipe: &Recipe{
		Authorize: &Authorize{URL: "https://idp.example.com/authorize"}, Token: &Request{URL: "https://idp.example.com/token"},
		Callback: &Callback{Keep: []Keep{{Name: "realm", From: "realmId", Var: Var{Type: VarSegment}}}}, Account: &Account{ID: "{realm}"},
	}}
	var problems Problems
	if err := m.Check("m", nil); !errors.As(err, &problems) || problems[0].At != "m.recipe.account.id" {
		t.Errorf("an account of the callback alone: %v", err)
	}
	m.Recipe.Steps = []Step{{Name: "company", Request: Request{URL: "https://api.example.com/companies/{realm}", ClientAuth: AuthCustom}, Answer: Answer{NoToken: true}}}
	if err := m.Check("m", nil); err != nil {
		t.Errorf("an account that a step proves: %v", err)
	}
	m.Recipe.Account.ID, m.Recipe.Steps = "me", nil
	if err := m.Check("m", nil); err != nil {
		t.Errorf("another account: %v", err)
	}
}

func TestPatternsAreAnchored(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{`a)|(?:b`, `\Qa`, `[`, `a)\z|(?:`} {
		if _, err := compile(pattern); err == nil {
			t.Errorf("%s is a pattern", pattern)
		}
	}
	v := Var{Pattern: `acme|[a-z]{2}`}
	for value, ok := range map[string]bool{"acme": true, "eu": true, "acmes": false, "xacme": false} {
		if _, err := v.Accept(value); (err == nil) != ok {
			t.Errorf("%s: %v", value, err)
		}
	}
}

func TestValuesStayInside(t *testing.T) {
	t.Parallel()
	host := Var{Type: VarHost, Suffixes: []string{".example.com", "one.example.org"}}
	url := Var{Type: VarURL, Suffixes: []string{".example.com"}}
	for _, c := range []struct {
		v     Var
		value string
		want  string // empty: refused
	}{
		{Var{}, "acme", "acme"},
		{Var{}, "acme.evil", ""},
		{Var{}, "a/b", ""},
		{Var{}, "a@b", ""},
		{Var{}, "a#b", ""},
		{Var{}, "a?b", ""},
		{Var{}, "a:1", ""},
		{Var{}, "a%2e", ""},
		{Var{}, "-a", ""},
		{Var{}, strings.Repeat("a", 64), ""},
		{Var{Pattern: ".*"}, "a.b", ""},
		{Var{Pattern: "eu|us"}, "eux", ""},
		{Var{Pattern: "eu|us"}, "us", "us"},
		{Var{Enum: []string{"eu"}}, "us", ""},
		{Var{Type: VarSegment}, "contoso.onmicrosoft.com", "contoso.onmicrosoft.com"},
		{Var{Type: VarSegment}, "..", ""},
		{Var{Type: VarSegment}, "a/..", ""},
		{host, "Acme.Example.com", "acme.example.com"},
		{host, "one.example.org", "one.example.org"},
		{host, "two.one.example.org", ""},
		{host, "example.com", ""},
		{host, "evilexample.com", ""},
		{host, "acme.example.com.evil.org", ""},
		{host, "acme.example.com:8080", ""},
		{host, "a@acme.example.com", ""},
		{host, "acme..example.com", ""},
		{host, "acme.example.com.", ""},
		{host, "ａcme.example.com", ""},
		{Var{Type: VarHost, Suffixes: []string{".0.0.1"}}, "127.0.0.1", ""},
		{url, "https://eu.example.com", "https://eu.example.com"},
		{url, "https://eu.example.com/", "https://eu.example.com"},
		{url, "https://eu.example.com:443/x/y/", "https://eu.example.com/x/y"},
		{url, "http://eu.example.com", ""},
		{url, "https://eu.example.com:8443", ""},
		{url, "https://u:p@eu.example.com", ""},
		{url, "https://evil.org/eu.example.com", ""},
		{url, "https://evil.org#.example.com", ""},
		{url, "https://eu.example.com/../x", ""},
		{url, "https://eu.example.com?x=1", ""},
		{url, "https://evil.org\\.example.com", ""},
		{Var{Type: VarText}, "a b/c", "a b/c"},
		{Var{Type: VarText}, "a\nb", ""},
		{Var{Type: VarText}, "{access_token}", ""},
	} {
		got, err := c.v.Accept(c.value)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, ErrValue) {
			t.Errorf("%s %q: got %q, %v; want %q", c.v.Type, c.value, got, err, c.want)
		}
	}
}

func TestExpand(t *testing.T) {
	t.Parallel()
	got, err := Expand(`{"a": "{x}", {not a name}, {x.y}}{`, func(n string) (string, error) { return "<" + n + ">", nil })
	if want := `{"a": "<x>", {not a name}, <x.y>}{`; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if diff := cmp.Diff([]string{"x", "y"}, Uses("{x}{y}{x}")); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseSpec(f *testing.F) {
	f.Add([]byte(`{"method":` + salesforce + `}`))
	f.Add([]byte(`{"method":{"id":"key","type":"api_key","places":[{"in":"header","name":"X-Api-Key","format":"{api_key}"}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSpec(text)
		if err != nil {
			return
		}
		if again, err := s.Bytes(); err != nil || string(again) != string(text) {
			t.Errorf("read %q, which is written as %q", text, again)
		}
	})
}

func TestAnyHostIsForPeopleOnly(t *testing.T) {
	t.Parallel()
	v := Vars{"server": {Type: VarHost, Suffixes: []string{AnyHost}}}
	if err := v.Check("vars"); err != nil {
		t.Error(err)
	}
	if got, err := v.Accept(map[string]string{"server": "Git.Acme.example"}); err != nil || got["server"] != "git.acme.example" {
		t.Errorf("a host name: %v, %v", got, err)
	}
	for _, bad := range []string{"127.0.0.1", "localhost", "a.example/x", "a.example:8080", "user@a.example", "[::1]"} {
		if _, err := v.Accept(map[string]string{"server": bad}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	m := Method{ID: "oauth", Type: OAuth2Code, Recipe: &Recipe{
		Authorize: &Authorize{URL: "https://login.example.com/authorize"},
		Token:     &Request{URL: "https://login.example.com/token"},
		Answer: &Answer{Keep: []Keep{{
			Name: "api", From: "api", Var: Var{Type: VarURL, Suffixes: []string{AnyHost}},
		}}},
	}}
	if err := m.Check("auth[0]", nil); err == nil || !strings.Contains(err.Error(), "does not decide on any host") {
		t.Errorf("an answer decides on any host: %v", err)
	}
}
