package quirk

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/dial"
	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/oauth"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// peers are providers that others have written.
type peers struct {
	OIDC string `json:"oidc"`
	Mock string `json:"mock"`
}

// startPeers runs them with Node. BULKHEAD_PEERS is a directory in which npm has installed oidc-provider and
// oauth2-mock-server, see script/peers.
func startPeers(t *testing.T) *peers {
	t.Helper()
	dir := os.Getenv("BULKHEAD_PEERS")
	if dir == "" {
		t.Skip("BULKHEAD_PEERS is not set: script/peers runs this test")
	}
	text, err := os.ReadFile("testdata/peers.mjs")
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(dir, "peers.mjs")
	if err := os.WriteFile(at, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", at)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	p := &peers{}
	if err := json.NewDecoder(out).Decode(p); err != nil {
		t.Fatal(err)
	}
	return p
}

// surf follows a provider's redirects as a browser with cookies, up to our callback.
func surf(t *testing.T, to string) []oauth.Pair {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []oauth.Pair
	c := &http.Client{Jar: jar, Timeout: 20 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Hostname() != "here.example.net" {
			return nil
		}
		for name, v := range r.URL.Query() {
			out = append(out, oauth.Pair{Name: name, Value: v[0]})
		}
		return http.ErrUseLastResponse
	}}
	a, err := c.Get(to)
	if err != nil {
		t.Fatal(err)
	}
	_ = a.Body.Close()
	if out == nil {
		t.Fatalf("the provider answers %d and sends nobody back", a.StatusCode)
	}
	return out
}

// peerLife goes to a provider over loopback and comes back with a code, which it gives for tokens.
func peerLife(t *testing.T, m credential.Method) (l *life, exchange func() error) {
	t.Helper()
	if err := m.Check("method", nil); err != nil {
		t.Fatal(err)
	}
	policy := dial.Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	c, err := egress.New(egress.Options{Dialer: dial.New(policy), Recorder: egress.RecorderFunc(func(egress.Flow) {})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	l = &life{
		c: c, of: &testCase{}, spec: &credential.Spec{Method: m, Values: map[string]string{}}, fields: map[string]secret.Value{},
		client: texts("client_id", ClientID, "client_secret", ClientSecret),
	}
	sum := sha256.Sum256([]byte(verifier))
	start := &oauth.Start{Spec: l.spec, ClientID: ClientID, RedirectURI: RedirectURI, State: "state-1", Challenge: base64.RawURLEncoding.EncodeToString(sum[:]), Nonce: "nonce-1"}
	u, err := oauth.AuthorizeURL(start)
	if err != nil {
		t.Fatal(err)
	}
	l.fields[oauth.FieldScope] = secret.New([]byte(strings.Join(start.Asked()[""], " ")))
	query := surf(t, u)
	if got := oauth.State(m.Recipe, query); got != "state-1" {
		t.Errorf("state %q", got)
	}
	cb, err := oauth.ReadCallback(l.spec, query)
	if err != nil {
		t.Fatal(err)
	}
	exchange = func() error {
		return l.run(oauth.Input{RedirectURI: RedirectURI, Verifier: secret.New([]byte(verifier)), Nonce: "nonce-1", Callback: cb}, oauth.Leg{Kind: oauth.LegExchange})
	}
	if err := exchange(); err != nil {
		t.Fatal(err)
	}
	return l, exchange
}

func wantGone(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || oauth.FaultOf(err).Kind != oauth.Refused {
		t.Errorf("%s: got %v, want a refusal", what, err)
	}
}

// TestPeers drives the engine against providers of others: the certified oidc-provider with rotation and PKCE required, and
// oauth2-mock-server.
func TestPeers(t *testing.T) {
	t.Parallel()
	at := startPeers(t)
	refresh := oauth.Leg{Kind: oauth.LegRefresh}
	certified := credential.Method{ID: "oidc", Type: credential.OAuth2Code, Recipe: &credential.Recipe{
		Issuer:    at.OIDC,
		Authorize: &credential.Authorize{URL: at.OIDC + "/auth", Scopes: []string{"openid", "offline_access"}, Params: map[string]string{"prompt": "consent", "nonce": "{nonce}"}},
		Token:     &credential.Request{URL: at.OIDC + "/token", ClientAuth: credential.AuthBasic}, Revoke: &credential.Request{URL: at.OIDC + "/token/revocation"},
		Answer:  &credential.Answer{Keep: []credential.Keep{{Name: "subject", From: "claim:id_token.sub"}}},
		Account: &credential.Account{ID: "{subject}"},
	}}
	t.Run("oidc-provider", func(t *testing.T) {
		t.Parallel()
		l, exchange := peerLife(t, certified)
		if l.last.Account != Account || l.last.Expires.IsZero() {
			t.Errorf("got %+v", l.last)
		}
		first := l.fields[oauth.FieldRefresh]
		for range 3 {
			if err := l.run(oauth.Input{}, refresh); err != nil {
				t.Fatal(err)
			}
		}
		newest := l.fields[oauth.FieldRefresh]
		if newest.Equal(first) {
			t.Error("the provider does not rotate")
		}
		l.fields[oauth.FieldRefresh] = first
		wantGone(t, "a refresh token that was used", l.run(oauth.Input{}, refresh))
		l.fields[oauth.FieldRefresh] = newest
		wantGone(t, "the newest, after a reuse", l.run(oauth.Input{}, refresh))
		wantGone(t, "a code that was used", exchange())
		if l, _ = peerLife(t, certified); l.revoke() != nil {
			t.Error("not revoked")
		}
		wantGone(t, "a refresh token that was revoked", l.run(oauth.Input{}, refresh))
	})
	t.Run("oauth2-mock-server", func(t *testing.T) {
		t.Parallel()
		l, _ := peerLife(t, credential.Method{ID: "mock", Type: credential.OAuth2Code, Recipe: &credential.Recipe{
			Authorize: &credential.Authorize{URL: at.Mock + "/authorize", Scopes: []string{"read"}}, Token: &credential.Request{URL: at.Mock + "/token", ClientAuth: credential.AuthBasic},
			Answer: &credential.Answer{MoreScopes: true}, Revoke: &credential.Request{URL: at.Mock + "/revoke"},
		}})
		if l.last.Expires.IsZero() {
			t.Error("no end")
		}
		if err := l.run(oauth.Input{}, refresh); err != nil {
			t.Errorf("refresh: %v", err)
		}
		if err := l.revoke(); err != nil {
			t.Errorf("revoke: %v", err)
		}
	})
}
