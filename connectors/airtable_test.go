package connectors_test

import (
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/oauth"
)

// TestAirtableTokenType: the vendor documents a token_type with a space behind it, which is taken; another type is not.
func TestAirtableTokenType(t *testing.T) {
	t.Parallel()
	m := manifest(t, "airtable")
	connect := func(kind string) error {
		spec := &credential.Spec{Method: m.Auth[0], Vars: m.Vars}
		_, err := exchange(t, spec, verifier, &byAddress{answers: map[string]string{
			"POST https://airtable.com/oauth2/v1/token":   `{"access_token":"at","refresh_token":"rt","token_type":"` + kind + `","scope":"data.records:read data.records:write schema.bases:read","expires_in":3600,"refresh_expires_in":5184000}`,
			"GET https://api.airtable.com/v0/meta/whoami": `{"id":"usrL2PNC5o3H4lBEi","scopes":["data.records:read","data.records:write","schema.bases:read"]}`,
		}}, oauth.Pair{Name: "code", Value: "abc"})
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
