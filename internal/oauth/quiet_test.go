package oauth

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/credential"
)

// written are the ways in which a provider may repeat a secret of plain characters.
func written(v string) map[string]string {
	out := map[string]string{
		"raw": v, "upper": strings.ToUpper(v), "lower": strings.ToLower(v), "inside": "bad token: " + v, "hex": hex.EncodeToString([]byte(v)),
		"HEX": strings.ToUpper(hex.EncodeToString([]byte(v))), "escaped": url.QueryEscape(v), "percent": "%" + strings.ReplaceAll(fmt.Sprintf("% x", v), " ", "%"),
	}
	for n := range 3 {
		out[fmt.Sprintf("base64+%d", n)] = base64.RawURLEncoding.EncodeToString([]byte("abc"[:n] + v + "z"))
	}
	return out
}

// quietGrant is one whose provider repeats things: every secret of it is told in every way as error code, scope and label.
func quietGrant(t *testing.T, kept string) *Grant {
	t.Helper()
	s := plainSpec()
	s.Method.Recipe.Answer = &credential.Answer{MoreScopes: true, Keep: []credential.Keep{{Name: "who", From: "who"}}}
	s.Method.Recipe.Account = &credential.Account{ID: "1", Label: "{who}"}
	s.Method.Recipe.Revoke = &credential.Request{URL: "https://idp.example.com/revoke"}
	return grant(t, s, FieldScope, "read", FieldRefresh, kept, FieldAccess, "Access"+kept, FieldExpires, "1900000000")
}

// TestWhatIsShownTellsNoSecret: error codes, scopes and labels are stored and shown in clear. Each secret is looked for in them.
func TestWhatIsShownTellsNoSecret(t *testing.T) {
	t.Parallel()
	const sent, made = "Rt7kZq2WnB4xLc9v", "Nw3hYp8TmD6sJf1u" // made: what this answer brings
	tried := 0
	for _, secret := range []string{sent, "Access" + sent, "s3cret value", made} {
		for how, text := range written(secret) {
			tried++
			refused := fmt.Sprintf(`{"error":%q,"access_token":%q}`, text, made)
			if _, err := quietGrant(t, sent).Run(t.Context(), answering(400, refused), Leg{Kind: LegRefresh}); err == nil || FaultOf(err).Code != "" {
				t.Errorf("code with %q as %s: %v", secret, how, err)
			}
			if _, err := quietGrant(t, sent).Revoke(t.Context(), answering(400, fmt.Sprintf(`{"error":%q,"access_token":%q}`, text, made))); err == nil || secret != made && FaultOf(err).Code != "" {
				t.Errorf("code of a revocation with %q as %s: %v", secret, how, err)
			}
			if secret == "s3cret value" && (how == "raw" || how == "upper" || how == "lower" || how == "inside") {
				continue // two scopes
			}
			granted := fmt.Sprintf(`{"access_token":%q,"scope":%q,"who":%q}`, made, "read "+strings.ReplaceAll(text, " ", ""), "Ann "+text)
			got, err := quietGrant(t, sent).Run(t.Context(), answering(200, granted), Leg{Kind: LegRefresh})
			if err != nil {
				t.Fatal(err)
			}
			if scopes := strings.Join(got.Scopes, " "); how != "inside" && scopes != "read" || strings.Contains(scopes, secret) {
				t.Errorf("scopes with %q as %s: %q", secret, how, scopes)
			}
			if got.Label != "" {
				t.Errorf("label with %q as %s: %q", secret, how, got.Label)
			}
		}
	}
	t.Logf("%d tellings of 4 secrets: none is repeated", tried)
}

// The red twin: what holds no secret is told, by the same provider on the same roads.
func TestWhatIsShownTwin(t *testing.T) {
	t.Parallel()
	const other = "Qm5vXe0RkG2yUa7i"
	for how, text := range written(other) {
		if how == "percent" || how == "escaped" || how == "base64+0" {
			continue // no error code has such characters, or it is written as the raw one
		}
		_, err := quietGrant(t, "Rt7kZq2WnB4xLc9v").Run(t.Context(), answering(400, fmt.Sprintf(`{"error":%q}`, text)), Leg{Kind: LegRefresh})
		if FaultOf(err).Code != text {
			t.Errorf("an error code as %s is %q", how, FaultOf(err).Code)
		}
		got, err := quietGrant(t, "Rt7kZq2WnB4xLc9v").Run(t.Context(), answering(200, fmt.Sprintf(`{"access_token":"x","scope":%q,"who":%q}`, "read "+text, text)), Leg{Kind: LegRefresh})
		if err != nil || !strings.Contains(strings.Join(got.Scopes, " "), text) || got.Label != text {
			t.Errorf("told as %s: %+v, %v", how, got, err)
		}
	}
}

// A host in which a token stands is refused: the hosts of connections and calls are in clear.
func TestNoHostTellsAToken(t *testing.T) {
	t.Parallel()
	s := plainSpec()
	s.Method.Recipe.Answer = &credential.Answer{Keep: []credential.Keep{{Name: "at", From: "at", Var: credential.Var{Type: "host", Suffixes: []string{".example.com"}}}}}
	s.Method.Recipe.BaseURL = "https://{at}"
	for host, refused := range map[string]bool{"rt7kzq2wnb4xlc9v.example.com": true, "eu.example.com": false} {
		got, err := grant(t, s, FieldRefresh, "Rt7kZq2WnB4xLc9v").Run(t.Context(), answering(200, fmt.Sprintf(`{"access_token":"x","at":%q}`, host)), Leg{Kind: LegRefresh})
		if (err != nil) != refused || (got == nil) != refused {
			t.Errorf("%s: %+v, %v", host, got, err)
		}
	}
}
