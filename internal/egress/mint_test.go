package egress

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/oauth"
	"github.com/bulkheadhq/bulkhead/internal/testkit/quirk"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func idpMethod(change ...func(*credential.Method)) credential.Method {
	m := credential.Method{ID: "oauth", Type: credential.OAuth2Code, Recipe: &credential.Recipe{
		Authorize: &credential.Authorize{URL: quirk.IDP + "/authorize", PKCE: credential.PKCEOff}, Token: &credential.Request{URL: quirk.IDP + "/token"},
	}}
	for _, f := range change {
		f(&m)
	}
	return m
}

// minting is an engine in front of a provider.
type minting struct {
	*Engine
	t      *testing.T
	s      *quirk.Server
	client *Client
	method credential.Method
	raws   []lease.Raw
}

func newMinting(t *testing.T, m credential.Method, on ...quirk.Switch) *minting {
	t.Helper()
	s := quirk.New(append(on, quirk.NoPKCE)...)
	t.Cleanup(s.Close)
	c, err := New(Options{Dialer: s, Roots: s.Roots(), Recorder: RecorderFunc(func(Flow) {})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &minting{Engine: NewEngine(c), t: t, s: s, client: c, method: m}
}

func (m *minting) spec(method credential.Method) []byte {
	m.t.Helper()
	b, err := (&credential.Spec{Method: method}).Bytes()
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

func field(name, value string) lease.Field { return lease.Field{Name: name, Secret: []byte(value)} }

// work is one on a record with fields.
func (m *minting) work(g lease.Grant, fields ...lease.Field) *lease.Work {
	now := time.Now()
	return &lease.Work{
		Fence: 7, Grant: g, RedirectURI: quirk.RedirectURI,
		Record: lease.Record{
			Connection: id.NewConnection(now), Customer: id.NewCustomer(now), Kind: lease.KindOAuth2, Spec: m.spec(m.method), Fields: fields,
			Binding: lease.Binding{Scheme: "https", Host: "*.example.com"},
		},
		Client: &lease.Record{Kind: lease.KindOAuth2Client, Spec: m.spec(m.method), Fields: []lease.Field{field("client_id", quirk.ClientID), field("client_secret", quirk.ClientSecret)}},
	}
}

// callback is what a browser brings back.
func (m *minting) callback() []wire.Pair {
	m.t.Helper()
	u, err := oauth.AuthorizeURL(&oauth.Start{Spec: &credential.Spec{Method: m.method}, ClientID: quirk.ClientID, RedirectURI: quirk.RedirectURI, State: "st"})
	if err != nil {
		m.t.Fatal(err)
	}
	back, err := m.s.Browse(u)
	if err != nil {
		m.t.Fatal(err, m.s.Noted())
	}
	var out []wire.Pair
	for name, v := range back {
		out = append(out, wire.Pair{Name: name, Value: v[0]})
	}
	return out
}

func (m *minting) commit(r *lease.Raw) error {
	m.raws = append(m.raws, *r)
	return nil
}

// connected is the record of a connection that has its first tokens.
func (m *minting) connected() *lease.Record {
	m.t.Helper()
	made := m.Mint(m.t.Context(), m.work(lease.GrantExchange), m.callback(), m.commit)
	if made.Outcome != lease.OutcomeSaved {
		m.t.Fatalf("the exchange ended with %d: %s %s (%v)", made.Outcome, made.Reason, made.Message, m.s.Noted())
	}
	return made.Record
}

// refresh is a work to renew a record.
func (m *minting) refresh(r *lease.Record) *lease.Work {
	w := m.work(lease.GrantRefresh)
	w.Record.Fields, w.Record.Expires, w.Record.Binding, w.Record.Connection = slices.Clone(r.Fields), r.Expires, r.Binding, r.Connection
	return w
}

func TestMintCommitsBeforeReading(t *testing.T) {
	t.Parallel()
	m := newMinting(t, idpMethod(), quirk.Rotation)
	made := m.Mint(t.Context(), m.work(lease.GrantExchange), m.callback(), func(*lease.Raw) error { return errors.New("no vault") })
	if made.Outcome != lease.OutcomeUnsure || made.Record != nil {
		t.Errorf("an answer that was not committed was used: %+v", made)
	}
	r := m.connected()
	if len(m.raws) != 1 || len(r.Field("refresh_token")) == 0 || time.Until(r.Expires) < 59*time.Minute {
		t.Fatalf("%d answers committed, expires %v", len(m.raws), r.Expires)
	}
	// The node dies behind the commit of a refresh: the next one reads what was committed and sends nothing.
	w := m.refresh(r)
	m.raws = nil
	if first := m.Mint(t.Context(), m.refresh(r), nil, m.commit); first.Outcome != lease.OutcomeSaved {
		t.Fatal(first.Reason)
	}
	w.Raw = m.raws
	before := m.s.Seen()
	again := m.Mint(t.Context(), w, nil, func(*lease.Raw) error { return errors.New("nothing is to be committed") })
	if again.Outcome != lease.OutcomeSaved || m.s.Seen() != before || before.Reused != 0 {
		t.Errorf("what was committed was not read: %+v, %+v", again, m.s.Seen())
	}
	if string(again.Record.Field("access_token")) == string(r.Field("access_token")) {
		t.Error("the new token was lost")
	}
}

func TestMintSendsTheSecretWhereItWasEnteredFor(t *testing.T) {
	t.Parallel()
	evil := idpMethod(func(m *credential.Method) { m.Recipe.Token.URL = quirk.Evil + "/token" })
	for name, c := range map[string]struct {
		client credential.Method
		leaks  bool
	}{
		"defence":  {idpMethod(), false},
		"red twin": {evil, true}, // had the client been entered for this method, its secret would go there
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMinting(t, idpMethod()) // its own server: what one case leaks is not counted in the other
			w := m.work(lease.GrantExchange)
			w.Record.Spec, w.Client.Spec = m.spec(evil), m.spec(c.client)
			if made := m.Mint(t.Context(), w, m.callback(), m.commit); made.Outcome == lease.OutcomeSaved && !c.leaks {
				t.Error("saved")
			}
			if got := m.s.Seen().Leaked; (got > 0) != c.leaks {
				t.Errorf("%d secrets went to another host", got)
			}
		})
	}
}

func TestMintKeepsWhatWasObtained(t *testing.T) {
	t.Parallel()
	t.Run("second set", func(t *testing.T) {
		t.Parallel()
		m := newMinting(t, idpMethod(func(m *credential.Method) {
			m.Recipe.Answer = &credential.Answer{Types: []string{"bot", "user"}, Sets: []credential.Set{{
				Name: "user", Access: "authed_user.access_token", Refresh: "authed_user.refresh_token", Expiry: &credential.Expiry{Path: "authed_user.expires_in"},
			}}}
		}), quirk.TwoTokens)
		r := m.connected()
		if string(r.Field("user.access_token")) == "" || time.Until(r.Expires) > quirk.UserLife {
			t.Fatalf("expires %v", r.Expires)
		}
		both := m.Mint(t.Context(), aged(m.refresh(r)), nil, m.commit)
		if both.Outcome != lease.OutcomeSaved || both.Reason != "" || m.s.Seen().Refreshes != 2 {
			t.Fatalf("got %+v, %v", both, m.s.Noted())
		}
		broken := aged(m.refresh(both.Record))
		for i := range broken.Record.Fields {
			if broken.Record.Fields[i].Name == "user.refresh_token" {
				broken.Record.Fields[i].Secret = []byte("broken")
			}
		}
		first := m.Mint(t.Context(), broken, nil, m.commit)
		if first.Outcome != lease.OutcomeSaved || first.Reason != "invalid_grant" || string(first.Record.Field("refresh_token")) == string(both.Record.Field("refresh_token")) {
			t.Errorf("the first token was lost with the second: %+v", first)
		}
	})
	t.Run("later step", func(t *testing.T) {
		t.Parallel()
		m := newMinting(t, idpMethod(), quirk.Rotation)
		r := m.connected()
		m.method.Recipe.Steps = []credential.Step{{Name: "look", Repeat: true, Request: credential.Request{URL: quirk.IDP + "/nowhere", Method: "GET"}, Answer: credential.Answer{NoToken: true}}}
		made := m.Mint(t.Context(), m.refresh(r), nil, m.commit)
		if made.Outcome != lease.OutcomeSaved || string(made.Record.Field("refresh_token")) == string(r.Field("refresh_token")) || time.Now().Before(made.Record.Expires) {
			t.Errorf("got %+v", made)
		}
	})
}

// aged makes all tokens of a work nearly over.
func aged(w *lease.Work) *lease.Work {
	for i := range w.Record.Fields {
		if strings.HasSuffix(w.Record.Fields[i].Name, "expires_at") {
			w.Record.Fields[i].Secret = []byte("1")
		}
	}
	return w
}

func TestMintOutcomes(t *testing.T) {
	t.Parallel()
	m := newMinting(t, idpMethod(func(m *credential.Method) { m.Recipe.Revoke = &credential.Request{URL: quirk.IDP + "/revoke"} }), quirk.Rotation, quirk.Revocation)
	r := m.connected()
	for name, c := range map[string]struct {
		work     *lease.Work
		callback []wire.Pair
		want     lease.Outcome
	}{
		"refused code":   {m.work(lease.GrantExchange), []wire.Pair{{Name: "code", Value: "other"}, {Name: "state", Value: "st"}}, lease.OutcomeRefused},
		"person said no": {m.work(lease.GrantExchange), []wire.Pair{{Name: "error", Value: "access_denied"}, {Name: "state", Value: "st"}}, lease.OutcomeRefused},
		"unknown token":  {m.refresh(&lease.Record{Fields: []lease.Field{field("refresh_token", "unknown")}}), nil, lease.OutcomeRefused},
		"nothing to try": {m.refresh(&lease.Record{}), nil, lease.OutcomeRefused},
		"revoked":        {func() *lease.Work { w := m.refresh(r); w.Grant = lease.GrantRevoke; return w }(), nil, lease.OutcomeRevoked},
	} {
		made := m.Mint(t.Context(), c.work, c.callback, m.commit)
		if made.Outcome != c.want || made.Denied != (name == "person said no") {
			t.Errorf("%s: got outcome %d, reason %s, denied %v", name, made.Outcome, made.Reason, made.Denied)
		}
	}
	if got := m.s.Seen().Revoked; got != 1 {
		t.Errorf("%d revocations", got)
	}
	wrong := m.refresh(r)
	wrong.Client.Fields[1].Secret = []byte("wrong")
	if made := m.Mint(t.Context(), wrong, nil, m.commit); made.Outcome != lease.OutcomeFailed {
		t.Errorf("a client that is not accepted ends the connection: %d", made.Outcome)
	}
	m.s.Close()
	if made := m.Mint(t.Context(), m.refresh(r), nil, m.commit); made.Outcome != lease.OutcomeFailed {
		t.Errorf("a provider that cannot be reached: %d", made.Outcome)
	}
}

func TestMintBindsOnce(t *testing.T) {
	t.Parallel()
	m := newMinting(t, idpMethod(func(m *credential.Method) {
		m.Recipe.Answer = &credential.Answer{Keep: []credential.Keep{{Name: "instance", From: "instance_url", Var: credential.Var{Type: credential.VarURL, Suffixes: []string{".example.com"}}}}}
		m.Recipe.BaseURL = "{instance}/v1"
	}), quirk.InstanceURL)
	r := m.connected()
	if b := r.Binding; b.Host != "eu.example.com" || b.BasePath != "/v1" || b.Scheme != "https" {
		t.Fatalf("bound to %+v", b)
	}
	r.Binding.Host = "api.example.com" // as if the first answer had said so
	if made := m.Mint(t.Context(), m.refresh(r), nil, m.commit); made.Outcome != lease.OutcomeSaved || made.Record.Binding.Host != "api.example.com" {
		t.Errorf("a later answer moves the connection: %+v", made.Record)
	}
	w := m.work(lease.GrantExchange)
	w.Record.Binding.Host = "*.example.org"
	if made := m.Mint(t.Context(), w, m.callback(), m.commit); made.Outcome == lease.OutcomeSaved {
		t.Errorf("bound outside of the record: %+v", made.Record.Binding)
	}
}

// Where a provider has data centres of several names, the first answer chooses one of those that the record lists, and no other.
func TestMintBindsToOneOfSeveralHosts(t *testing.T) {
	t.Parallel()
	hosts := []string{"api.example.net", "eu.example.com"}
	m := newMinting(t, idpMethod(func(m *credential.Method) {
		m.Recipe.Answer = &credential.Answer{Keep: []credential.Keep{{Name: "instance", From: "instance_url", Var: credential.Var{Type: credential.VarURL, Suffixes: hosts}}}}
		m.Recipe.BaseURL = "{instance}/v1"
	}), quirk.InstanceURL)
	if diff := cmp.Diff(hosts, m.method.Recipe.Bound()); diff != "" {
		t.Fatal(diff)
	}
	w := m.work(lease.GrantExchange)
	w.Record.Binding, w.Record.Hosts = lease.Binding{Scheme: "https", Host: hosts[0]}, hosts
	made := m.Mint(t.Context(), w, m.callback(), m.commit)
	if made.Outcome != lease.OutcomeSaved || made.Record.Binding.Host != "eu.example.com" || made.Record.Binding.BasePath != "/v1" || len(made.Record.Hosts) != 0 {
		t.Fatalf("the exchange ended with %d: %s, %+v", made.Outcome, made.Message, made.Record)
	}
	r := made.Record
	r.Binding.Host = "api.example.net" // as if the first answer had said so
	if made := m.Mint(t.Context(), m.refresh(r), nil, m.commit); made.Outcome != lease.OutcomeSaved || made.Record.Binding.Host != "api.example.net" {
		t.Errorf("a later answer moves the connection: %+v", made.Record)
	}
	w = m.work(lease.GrantExchange)
	w.Record.Binding, w.Record.Hosts = lease.Binding{Scheme: "https", Host: hosts[0]}, hosts[:1]
	if made := m.Mint(t.Context(), w, m.callback(), m.commit); made.Outcome == lease.OutcomeSaved {
		t.Errorf("bound outside of the record: %+v", made.Record.Binding)
	}
}

// A recipe may fix the host of the base URL and leave its path to the first answer.
func TestMintBindsToAPath(t *testing.T) {
	t.Parallel()
	m := newMinting(t, idpMethod(func(m *credential.Method) {
		m.Recipe.Answer = &credential.Answer{Keep: []credential.Keep{{Name: "org", From: "team.id", Var: credential.Var{Type: credential.VarSegment}}}}
		m.Recipe.BaseURL = "https://api.example.com/ex/{org}/v1"
	}), quirk.AnswerIDs)
	w := m.work(lease.GrantExchange)
	w.Record.Binding = lease.Binding{Scheme: "https", Host: m.method.Recipe.Bound()[0]}
	made := m.Mint(t.Context(), w, m.callback(), m.commit)
	if made.Outcome != lease.OutcomeSaved {
		t.Fatalf("the exchange ended with %d: %s (%v)", made.Outcome, made.Message, m.s.Noted())
	}
	path := made.Record.Binding.BasePath
	if b := made.Record.Binding; b.Host != "api.example.com" || !strings.HasPrefix(path, "/ex/") || !strings.HasSuffix(path, "/v1") {
		t.Fatalf("bound to %+v", b)
	}
	r := made.Record
	r.Binding.BasePath = "/ex/another/v1" // as if the first answer had said so
	if made := m.Mint(t.Context(), m.refresh(r), nil, m.commit); made.Outcome != lease.OutcomeSaved || made.Record.Binding.BasePath != "/ex/another/v1" {
		t.Errorf("a later answer moves the connection: %+v", made.Record)
	}
}

func TestMintLosesNoAnswerToSize(t *testing.T) {
	t.Parallel()
	c := &committer{Doer: answers(strings.Repeat("x", lease.MaxRaw+1)), commit: func(*lease.Raw) error { return nil }}
	c.begin(oauth.Leg{Kind: oauth.LegRefresh}, true)
	if _, err := c.Do(t.Context(), nil); err == nil || oauth.FaultOf(err).Kind == oauth.Unsent {
		t.Errorf("got %v", err)
	}
}

type answers string

func (a answers) Do(context.Context, *oauth.Request) (*oauth.Response, error) {
	return &oauth.Response{Status: 200, Body: []byte(a)}, nil
}
