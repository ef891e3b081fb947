package connector

import (
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/credential"
)

func TestCheckAuth(t *testing.T) {
	t.Parallel()
	m := &Manifest{
		Vars: credential.Vars{"domain": {Type: credential.VarHost, Suffixes: []string{".example.com"}, Default: "login.example.com"}},
		Auth: []credential.Method{
			{ID: "key", Type: credential.Bearer},
			{ID: "oauth", Type: credential.OAuth2Client, Recipe: &credential.Recipe{Token: &credential.Request{URL: "https://{domain}/token"}}},
		},
	}
	if err := m.CheckAuth(); err != nil {
		t.Fatalf("got %v", err)
	}
	if m.Method("oauth") != &m.Auth[1] || m.Method("other") != nil {
		t.Error("methods are not found by their ids")
	}
	m.Auth[1].Recipe.Token.URL = "https://{other}/token"
	if err := m.CheckAuth(); err == nil || !strings.HasPrefix(err.Error(), "auth[1].recipe.token.url: ") {
		t.Errorf("got %v, want a problem with its place", err)
	}
}
