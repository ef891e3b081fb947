package quirk

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/dial"
	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/oauth"
)

// attack is one way to get a code, a token or a secret that is not meant for one, with its red twin: the same way without the
// defence, which has to work.
type attack struct {
	name string
	// accepted reports whether it works.
	accepted func(t *testing.T) bool
	twin     func(t *testing.T) bool
}

// connects reports whether a connection is made with a provider in a mode.
func connects(m func() credential.Method, on ...Switch) func(t *testing.T) bool {
	return func(t *testing.T) bool {
		t.Helper()
		l := newLife(t, &testCase{on: on, scopes: []string{"read"}}, m())
		err := l.connect()
		return err == nil || l.s.Seen().Leaked > 0
	}
}

// taken reports whether a recipe is accepted.
func taken(change func(m *method, r *recipe)) func(t *testing.T) bool {
	return func(t *testing.T) bool {
		t.Helper()
		m := with(change)()
		return m.Check("method", nil) == nil
	}
}

// follower is a sender that follows redirects as browsers do, which the engine's does not.
type follower struct{ s *Server }

func (f follower) Do(ctx context.Context, r *oauth.Request) (*oauth.Response, error) {
	d := &http.Transport{DialContext: f.s.DialContext, TLSClientConfig: f.s.srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()}
	d.TLSClientConfig.RootCAs = f.s.Roots()
	defer d.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL.String(), strings.NewReader(string(r.Body)))
	if err != nil {
		return nil, err
	}
	req.Header = r.Header
	a, err := (&http.Client{Transport: d}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = a.Body.Close() }()
	body, err := io.ReadAll(a.Body)
	return &oauth.Response{Status: a.StatusCode, Header: a.Header, Body: body}, err
}

func attacks() []attack {
	nothing := func(*method, *recipe) {}
	narrow := with(func(_ *method, r *recipe) {
		r.Answer = &credential.Answer{Keep: []keep{urlKeep("instance", "instance_url")}}
		r.BaseURL = "{instance}"
	})
	wide := with(func(_ *method, r *recipe) {
		r.Answer = &credential.Answer{Keep: []keep{{Name: "instance", From: "instance_url"}}}
		r.Account = &credential.Account{ID: "{instance}"}
	})
	return []attack{
		{"PKCE downgraded to plain", taken(func(_ *method, r *recipe) { r.Authorize.PKCE = "plain" }), taken(nothing)},
		{"code of another browser", connects(plain, Injected), connects(with(func(_ *method, r *recipe) { r.Authorize.PKCE = credential.PKCEOff }), Injected, NoPKCE)},
		{"mix-up by iss", connects(with(func(_ *method, r *recipe) { r.Issuer = IDP }), WrongIssuer), connects(with(func(_ *method, r *recipe) { r.Issuer = Evil }), WrongIssuer)},
		{"mix-up without a declared issuer", connects(plain, WrongIssuer), connects(plain, Issuer)},
		{"implicit grant", taken(func(_ *method, r *recipe) { r.Authorize.Params = map[string]string{"response_type": "token"} }), taken(nothing)},
		{"hybrid grant", taken(func(_ *method, r *recipe) { r.Authorize.Params = map[string]string{"response_type": "code id_token"} }), taken(nothing)},
		{"password grant", taken(func(_ *method, r *recipe) { r.Token.Params = map[string]string{"grant_type": "password"} }), taken(nothing)},
		{"token in the callback", connects(plain, HiddenToken), connects(plain)},
		{"307 from the token endpoint", connects(plain, Redirect307), followed(Redirect307)},
		{"token endpoint over http", taken(func(_ *method, r *recipe) { r.Token.URL = "http://idp.example.com/token" }), taken(nothing)},
		{"token endpoint with a bad certificate", untrusted(false), untrusted(true)},
		{"redirect to a private address", connects(plain, RedirectInside), followed(Redirect307)},
		{"token endpoint at a private address", reaches("10.0.0.1:443"), reaches("10.0.0.1:443", "10.0.0.0/8")},
		{"token endpoint at the metadata service", reaches("169.254.169.254:80"), reaches("169.254.169.254:80", "169.254.169.254/32")},
		{"token endpoint at our own loopback", reaches("127.0.0.1:443"), reaches("127.0.0.1:443", "127.0.0.0/8")},
		{"scope upgrade", connects(plain, MoreScope), connects(with(func(_ *method, r *recipe) { r.Answer = &credential.Answer{MoreScopes: true} }), MoreScope)},
		{"token_type confusion", connects(plain, OtherType), connects(with(func(_ *method, r *recipe) { r.Answer = &credential.Answer{Types: []string{"mac"}} }), OtherType)},
		{"ID token for another client", identity(map[string]any{"aud": "other"}), identity(nil)},
		{"ID token with another azp", identity(map[string]any{"aud": []string{ClientID, "other"}, "azp": "other"}), identity(map[string]any{"aud": []string{ClientID, "other"}, "azp": ClientID})},
		{"ID token of another request", identity(map[string]any{"nonce": "other"}), identity(nil)},
		{"ID token of another issuer", identity(map[string]any{"iss": Evil}), identity(nil)},
		{"ID token that has expired", identity(map[string]any{"exp": 1}), identity(nil)},
		{"token host named by the answer", connects(narrow, HostileHost), connects(wide, HostileHost)},
		{"huge answer", connects(plain, Huge), connects(plain)},
		{"late answer", hurried(Late), hurried()},
		{"duplicate parameters", twice(oauth.Pair{Name: "code", Value: "x"}), twice()},
		{"secret sent twice", taken(func(_ *method, r *recipe) {
			r.Token.ClientAuth, r.Token.Params = credential.AuthBasic, map[string]string{"client_secret": "{client_secret}"}
		}), taken(nothing)},
		{"tenant that escapes the URL", tenant("acme.evil.org/"), tenant("acme")},
	}
}

// followed reports whether a secret leaks when redirects are followed.
func followed(on ...Switch) func(t *testing.T) bool {
	return func(t *testing.T) bool {
		t.Helper()
		l := newLife(t, &testCase{on: on}, plain())
		g, err := l.grant(oauth.Input{Callback: &oauth.Callback{}})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = g.Run(t.Context(), follower{l.s}, oauth.Leg{Kind: oauth.LegExchange})
		return l.s.Seen().Leaked > 0
	}
}

// untrusted reports whether a token endpoint is spoken to whose certificate nobody vouches for.
func untrusted(known bool) func(t *testing.T) bool {
	return func(t *testing.T) bool {
		t.Helper()
		l := newLife(t, &testCase{}, plain())
		if !known {
			other := New()
			t.Cleanup(other.Close)
			var err error
			if l.c, err = egress.New(egress.Options{Dialer: l.s, Roots: other.Roots(), Recorder: egress.RecorderFunc(func(egress.Flow) {})}); err != nil {
				t.Fatal(err)
			}
		}
		return l.connect() == nil
	}
}

// reaches reports whether the dialer of the product, with networks that the operator allows, would connect to an address.
func reaches(address string, allow ...string) func(t *testing.T) bool {
	return func(t *testing.T) bool {
		t.Helper()
		var p dial.Policy
		for _, a := range allow {
			p.Allow = append(p.Allow, netip.MustParsePrefix(a))
		}
		return dial.New(p).Check("idp.example.com", netip.MustParseAddrPort(address)) == nil
	}
}

// identity reports whether an ID token is accepted.
func identity(claims map[string]any) func(t *testing.T) bool {
	return func(t *testing.T) bool {
		t.Helper()
		m := with(func(_ *method, r *recipe) {
			r.Issuer = IDP
			r.Authorize.Params = map[string]string{"nonce": "{nonce}"}
		})()
		all := map[string]any{"iss": IDP, "aud": ClientID, "nonce": "n", "exp": time.Now().Add(time.Hour).Unix(), "sub": Account}
		for k, v := range claims {
			all[k] = v
		}
		b, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		jwt := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","jku":"`+Evil+`/keys"}`)) + "." + base64.RawURLEncoding.EncodeToString(b) + "."
		g, err := oauth.New(oauth.Input{Spec: &credential.Spec{Method: m}, Client: texts("client_id", ClientID, "client_secret", "s"), Now: time.Now(), Nonce: "n", Callback: &oauth.Callback{}})
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		_, err = g.Run(t.Context(), doerFunc(func() *oauth.Response {
			asked++
			return &oauth.Response{Status: 200, Body: []byte(`{"access_token":"a","id_token":"` + jwt + `"}`)}
		}), oauth.Leg{Kind: oauth.LegExchange})
		if asked != 1 {
			t.Errorf("%d requests: the token's jku was followed", asked)
		}
		return err == nil
	}
}

type doerFunc func() *oauth.Response

func (f doerFunc) Do(context.Context, *oauth.Request) (*oauth.Response, error) { return f(), nil }

// hurried connects with little patience, where the answer is late.
func hurried(on ...Switch) func(t *testing.T) bool {
	return func(t *testing.T) bool {
		t.Helper()
		l := newLife(t, &testCase{on: on}, plain())
		g, err := l.grant(oauth.Input{Callback: &oauth.Callback{}})
		if err != nil {
			t.Fatal(err)
		}
		d := l.c.Tokens(id.Customer{}, id.Connection{})
		t.Cleanup(d.Close)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if len(on) > 0 { // the deadline passes when the request has arrived
			l.s.Slow = func(*http.Request) { cancel() }
		}
		_, err = g.Run(ctx, d, oauth.Leg{Kind: oauth.LegExchange})
		return oauth.FaultOf(err).Kind != oauth.Ambiguous // an answer, though it is a refusal
	}
}

func twice(more ...oauth.Pair) func(t *testing.T) bool {
	return func(t *testing.T) bool {
		t.Helper()
		_, err := oauth.ReadCallback(&credential.Spec{Method: plain()}, append([]oauth.Pair{{Name: "code", Value: "c"}, {Name: "state", Value: "s"}}, more...))
		return err == nil
	}
}

func tenant(value string) func(t *testing.T) bool {
	return func(t *testing.T) bool {
		t.Helper()
		_, err := oauth.New(oauth.Input{Spec: &credential.Spec{Method: tenantMethod(), Vars: credential.Vars{"tenant": {}}, Values: map[string]string{"tenant": value}}})
		return err == nil
	}
}

func TestAttacks(t *testing.T) {
	t.Parallel()
	accepted, all := 0, attacks()
	for _, a := range all {
		if a.accepted(t) {
			accepted++
			t.Errorf("%s: accepted", a.name)
		}
		if !a.twin(t) {
			t.Errorf("%s: its red twin does not work, so that the defence proves nothing", a.name)
		}
	}
	t.Logf("attacks accepted: %d of %d", accepted, len(all))
}

// TestEchoedSecretsStayInside sees to it that what a provider repeats of a token request comes out nowhere.
func TestEchoedSecretsStayInside(t *testing.T) {
	t.Parallel()
	for _, auth := range []credential.ClientAuth{credential.AuthBody, credential.AuthBasic, credential.AuthBasicSecret, credential.AuthSecretJWT} {
		l := newLife(t, &testCase{on: []Switch{EchoToken}}, authBy(auth)())
		err := l.connect()
		text := fmt.Sprintf("%v %+v %#v", err, err, oauth.FaultOf(err))
		for _, s := range append(l.s.Secrets(), verifier) {
			if err == nil || strings.Contains(text, s) {
				t.Errorf("%s: %s", auth, text)
			}
		}
	}
}
