package connector

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestMethods(t *testing.T) {
	t.Parallel()
	m := &Manifest{
		Vars: []Var{{Name: "domain", Suffixes: []string{".example.com"}, Default: "login.example.com"}},
		Auth: json.RawMessage(`[{"id":"key","type":"bearer"},{"id":"oauth","type":"oauth2_client","recipe":{"token":{"url":"https://{domain}/token"}}}]`),
	}
	methods, err := m.Methods()
	if err != nil || len(methods) != 2 || methods[1].ID != "oauth" {
		t.Fatalf("got %v, %v", methods, err)
	}
	m.Auth = json.RawMessage(`[{"id":"key","type":"bearer"},{"id":"oauth","type":"oauth2_client","recipe":{"token":{"url":"https://{other}/token"}}}]`)
	if _, err := m.Methods(); err == nil || !strings.HasPrefix(err.Error(), "auth[1].recipe.token.url: ") {
		t.Errorf("got %v, want a problem with its place", err)
	}
}
