package connectors_test

import (
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/oauth"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// verifier is that of PKCE, for methods that have it.
const verifier = "verifier-verifier-verifier-verifier-verifier"

// exchange has a provider exchange a callback for tokens. pkce is the verifier, empty for methods without one.
func exchange(t *testing.T, spec *credential.Spec, pkce string, provider oauth.Doer, callback ...oauth.Pair) (*oauth.Tokens, error) {
	t.Helper()
	cb, err := oauth.ReadCallback(spec, callback)
	if err != nil {
		return nil, err
	}
	in := oauth.Input{
		Spec: spec, Client: map[string]secret.Value{"client_id": secret.New([]byte("id")), "client_secret": secret.New([]byte("cs"))}, Now: time.Now(), Callback: cb,
		RedirectURI: "https://bulkhead.example/oauth/callback",
	}
	if pkce != "" {
		in.Verifier = secret.New([]byte(pkce))
	}
	g, err := oauth.New(in)
	if err != nil {
		return nil, err
	}
	return g.Run(t.Context(), provider, oauth.Leg{Kind: oauth.LegExchange})
}
