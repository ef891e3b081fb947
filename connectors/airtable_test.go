package connectors_test

import (
	"io/fs"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/connectors"
	"github.com/bulkheadhq/bulkhead/internal/connectorfile"
	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/oauth"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// TestAirtableTokenType: the vendor documents a token_type with a space behind it, which is taken; another type is not.
func TestAirtableTokenType(t *testing.T) {
	t.Parallel()
	text, err := fs.ReadFile(connectors.Files, "airtable/connector.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, problems := connectorfile.Decode("airtable/connector.yaml", text)
	report(t, problems)
	connect := func(kind string) error {
		spec := &credential.Spec{Method: doc.Manifest.Auth[0], Vars: doc.Manifest.Vars}
		cb, err := oauth.ReadCallback(spec, []oauth.Pair{{Name: "code", Value: "abc"}})
		if err != nil {
			return err
		}
		g, err := oauth.New(oauth.Input{
			Spec: spec, Client: map[string]secret.Value{"client_id": secret.New([]byte("id")), "client_secret": secret.New([]byte("cs"))}, Now: time.Now(), Callback: cb,
			RedirectURI: "https://bulkhead.example/oauth/callback", Verifier: secret.New([]byte("verifier-verifier-verifier-verifier-verifier")),
		})
		if err != nil {
			return err
		}
		_, err = g.Run(t.Context(), &byAddress{answers: map[string]string{
			"POST https://airtable.com/oauth2/v1/token":   `{"access_token":"at","refresh_token":"rt","token_type":"` + kind + `","scope":"data.records:read data.records:write schema.bases:read","expires_in":3600,"refresh_expires_in":5184000}`,
			"GET https://api.airtable.com/v0/meta/whoami": `{"id":"usrL2PNC5o3H4lBEi","scopes":["data.records:read","data.records:write","schema.bases:read"]}`,
		}}, oauth.Leg{Kind: oauth.LegExchange})
		return err
	}
	for _, kind := range []string{"Bearer ", "Bearer"} {
		if err := connect(kind); err != nil {
			t.Errorf("token_type %q: %v", kind, err)
		}
	}
	if err := connect("mac"); err == nil {
		t.Error("a token of another type is taken")
	}
}
