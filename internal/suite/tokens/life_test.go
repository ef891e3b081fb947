package tokens

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/oauth"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/testkit/quirk"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// platform is a real vault, a server and an egress node with the real engine, in front of a fake provider.
type platform struct {
	*race
	idp    *quirk.Server
	server *server
	node   *node
	client id.Connection
	org    id.Customer
}

func newPlatform(t *testing.T, on ...quirk.Switch) *platform {
	t.Helper()
	return newPlatformAt(t, quirk.New(on...))
}

func newPlatformAt(t *testing.T, idp *quirk.Server) *platform {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r := &race{
		t: t, dir: t.TempDir() + "/keys", root: must(seal.RandomKey()).Bytes(), stop: ctx, owner: map[id.Connection]id.Customer{},
		instance: map[id.Customer]id.Instance{}, known: map[id.Connection]*wire.ConnectionStatus{},
	}
	r.open()
	p := &platform{race: r, idp: idp, org: id.NewCustomer(time.Now())}
	t.Cleanup(p.idp.Close)
	p.server = r.newServer()
	r.servers = append(r.servers, p.server)
	p.node = &node{slots: map[id.Connection]*lease.SlotRecord{}}
	r.enroll(&p.node.process, wire.RoleEgress, "default")
	client, err := egress.New(egress.Options{Dialer: p.idp, Roots: p.idp.Roots(), Recorder: egress.RecorderFunc(func(egress.Flow) {})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	n := p.node
	n.renewer = egress.NewRenewer(egress.RenewerConfig{
		Node: n.id, Sign: n.sign, Seal: n.seal, Minter: egress.NewEngine(client), Live: r.live, Log: slog.New(slog.DiscardHandler),
		Vault: egress.NewTokenVault(egress.TokenVaultConfig{
			Node: n.id, Sign: n.sign, Seal: n.seal, Authority: r.vault.Authority(), Ask: r.ask(&n.process), Key: func() (seal.PublicKey, bool) { return r.key, true },
		}),
	})
	p.call(lease.OpCustomer, &lease.CustomerCall{Customer: p.org}, nil)
	return p
}

// call asks the vault as the server.
func (p *platform) call(op string, m, answer wire.Message) {
	p.t.Helper()
	body, err := p.vault.Call(p.t.Context(), p.server.id, op, wire.AppendBody(nil, m))
	if err == nil && answer != nil {
		err = wire.ParseBody(body, answer)
	}
	if err != nil {
		p.t.Fatalf("%s: %v", op, err)
	}
}

func (p *platform) sealed(r *lease.Record) []byte {
	return must(seal.Seal(p.key, lease.PurposeVault, lease.ConnectionPlace(r.Customer, r.Connection), wire.AppendBody(nil, r)))
}

// save puts a record as the server does when somebody enters one.
func (p *platform) save(r *lease.Record) {
	p.t.Helper()
	p.call(lease.OpConnection, &lease.ConnectionCall{Customer: r.Customer, Connection: r.Connection, Record: p.sealed(r)}, nil)
}

func specBytes(m credential.Method) []byte { return must((&credential.Spec{Method: m}).Bytes()) }

func field(name, value string) lease.Field { return lease.Field{Name: name, Secret: []byte(value)} }

// register puts the organization's OAuth client.
func (p *platform) register(m credential.Method) {
	p.t.Helper()
	p.client = id.NewConnection(time.Now())
	p.save(&lease.Record{
		Connection: p.client, Customer: p.org, Connector: "crm", Kind: lease.KindOAuth2Client, Spec: specBytes(m), Hosts: []string{"*.example.com"},
		Binding: lease.Binding{Scheme: "https", Host: "idp.example.com"}, SharedWith: []string{lease.SharedWithAll},
		Fields: []lease.Field{field("client_id", quirk.ClientID), field("client_secret", quirk.ClientSecret)},
	})
}

// record is one of a new customer, without fields.
func (p *platform) record(m credential.Method) *lease.Record {
	p.t.Helper()
	c := id.NewCustomer(time.Now())
	p.call(lease.OpCustomer, &lease.CustomerCall{Customer: c}, nil)
	r := &lease.Record{
		Connection: id.NewConnection(time.Now()), Customer: c, Connector: "crm", Kind: lease.Kind(m.Kind()), Spec: specBytes(m),
		Binding: lease.Binding{Scheme: "https", Host: "api.example.com"},
	}
	if m.HasClient() {
		r.Client = p.client
	}
	return r
}

// order has the node carry an order out.
func (p *platform) order(op lease.OrderOp, r *lease.Record, x *lease.Exchange) *lease.OrderResult {
	p.t.Helper()
	o := &lease.Order{Server: p.server.id, Egress: p.node.id, Op: op, Customer: r.Customer, Connection: r.Connection, Issued: time.Now()}
	o.Nonce = [16]byte(must(seal.RandomKey()).Bytes()[:16])
	i := &lease.Identity{Node: p.node.id, Role: wire.RoleEgress, Sign: p.node.sign.Public(), Seal: p.node.seal.Public()}
	if x != nil {
		if err := lease.SealExchange(i, o, x); err != nil {
			p.t.Fatal(err)
		}
	}
	m := lease.SignOrder(p.server.sign, o)
	answer := p.node.renewer.Order(p.t.Context(), p.server.id, m)
	a, ok := answer.(*wire.OrderAnswer)
	if !ok {
		p.t.Fatalf("%s: %+v", op, answer)
	}
	return must(lease.CheckOrderResult(i, m, a))
}

// start begins an authorization, and lets the browser go and come back.
func (p *platform) start(r *lease.Record) *lease.Exchange {
	p.t.Helper()
	spec := must(credential.ParseSpec(r.Spec))
	x := &lease.Exchange{Browser: sha256.Sum256([]byte("cookie"))}
	s := &lease.StartAnswer{}
	p.call(lease.OpOAuthStart, &lease.StartCall{Customer: r.Customer, Connection: r.Connection, Client: r.Client, Draft: p.sealed(r), RedirectURI: quirk.RedirectURI, Browser: x.Browser}, s)
	u := must(oauth.AuthorizeURL(&oauth.Start{Spec: spec, ClientID: quirk.ClientID, RedirectURI: quirk.RedirectURI, State: s.State, Challenge: s.Challenge, Nonce: s.Nonce}))
	back, err := p.idp.Browse(u)
	if err != nil {
		p.t.Fatal(err, p.idp.Noted())
	}
	x.State = s.State
	for name, v := range back {
		x.Params = append(x.Params, wire.Pair{Name: name, Value: v[0]})
	}
	return x
}

func codeMethod() credential.Method {
	return credential.Method{ID: "oauth", Type: credential.OAuth2Code, Recipe: &credential.Recipe{
		Authorize: &credential.Authorize{URL: quirk.IDP + "/authorize"}, Token: &credential.Request{URL: quirk.IDP + "/token"}, Revoke: &credential.Request{URL: quirk.IDP + "/revoke"},
		Answer:  &credential.Answer{Keep: []credential.Keep{{Name: "team", From: "team.id"}, {Name: "team_name", From: "team.name"}}},
		Account: &credential.Account{ID: "{team}", Label: "{team_name}"},
	}}
}

// TestLifeOfAConnection drives an authorization, renewals and a revocation through the real vault and the real engine.
func TestLifeOfAConnection(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, quirk.Rotation, quirk.AnswerIDs, quirk.Revocation)
	m := codeMethod()
	p.register(m)
	r := p.record(m)
	x := p.start(r)

	stolen := *x
	stolen.Browser = sha256.Sum256([]byte("another cookie"))
	if got := p.order(lease.OrderExchange, r, &stolen); got.Code == lease.OrderOK {
		t.Error("a callback was accepted from another browser")
	}
	x = p.start(r)
	got := p.order(lease.OrderExchange, r, x)
	if got.Code != lease.OrderOK || got.Status.Version != 1 || time.Until(got.Status.Expires) < 59*time.Minute || got.Status.Refresh.IsZero() {
		t.Fatalf("exchange: %+v (%v)", got, p.idp.Noted())
	}
	account := must(lease.OpenAccount(p.server.seal, p.server.id, r.Connection, got.Status.Account))
	if account.ID != quirk.Account || account.Label != "Acme" {
		t.Errorf("account %+v", account)
	}
	if again := p.order(lease.OrderExchange, r, x); again.Code == lease.OrderOK {
		t.Error("a callback was accepted twice")
	}
	for want := uint64(2); want < 5; want++ {
		if got = p.order(lease.OrderRefresh, r, nil); got.Code != lease.OrderOK || got.Status.Version != want {
			t.Fatalf("refresh: %+v (%v)", got, p.idp.Noted())
		}
	}
	if got = p.order(lease.OrderRevoke, r, nil); got.Code != lease.OrderOK || got.Status.State != wire.ConnectionRevoked {
		t.Errorf("revoke: %+v", got)
	}
	if got = p.order(lease.OrderRefresh, r, nil); got.Code != lease.OrderDead {
		t.Errorf("a revoked connection: %+v", got)
	}
	if c := p.idp.Seen(); c.Exchanges != 1 || c.Refreshes != 3 || c.Reused != 0 || c.Revoked != 1 || c.Twice != 0 {
		t.Errorf("the provider saw %+v", c)
	}
}

// TestGrantIsTakenBack: the provider's word ends the connection, and nothing else does.
func TestGrantIsTakenBack(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, quirk.Rotation, quirk.AnswerIDs)
	m := codeMethod()
	p.register(m)
	r := p.record(m)
	if got := p.order(lease.OrderExchange, r, p.start(r)); got.Code != lease.OrderOK {
		t.Fatalf("exchange: %+v (%v)", got, p.idp.Noted())
	}
	p.idp.End()
	if got := p.order(lease.OrderRefresh, r, nil); got.Code != lease.OrderDead || got.Status.State != wire.ConnectionNeedsReconnect || got.Status.Error != "invalid_grant" {
		t.Errorf("got %+v", got)
	}
}

// TestForeignMethodGetsNoSecret: a server that was taken over has the client's secret sent nowhere else.
func TestForeignMethodGetsNoSecret(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.register(codeMethod())
	evil := codeMethod()
	evil.Recipe.Token.URL = quirk.Evil + "/token"
	r := p.record(evil)
	if got := p.order(lease.OrderExchange, r, p.start(r)); got.Code == lease.OrderOK {
		t.Errorf("got %+v", got)
	}
	if c := p.idp.Seen(); c.Leaked != 0 {
		t.Errorf("%d secrets went to another host", c.Leaked)
	}
}

// TestTokensWithoutABrowser: what a person enters is enough for sessions and clients.
func TestTokensWithoutABrowser(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		on     quirk.Switch
		method credential.Method
		fields []lease.Field
	}{
		"client credentials": {quirk.ClientCredentials, credential.Method{ID: "app", Type: credential.OAuth2Client, Recipe: &credential.Recipe{Token: &credential.Request{URL: quirk.IDP + "/token"}}}, nil},
		"session": {quirk.StepURL, credential.Method{
			ID: "session", Type: credential.Session, Fields: []credential.Field{{Name: "user"}, {Name: "user_password", Secret: true}},
			Recipe: &credential.Recipe{Steps: []credential.Step{
				{Name: "tenant", Request: credential.Request{URL: quirk.IDP + "/discover-tenant", Body: credential.BodyJSON, Text: `{"user": "{user}", "password": "{user_password}"}`}, Answer: credential.Answer{NoToken: true, Keep: []credential.Keep{
					{Name: "login_url", From: "login.url", Var: credential.Var{Type: credential.VarURL, Suffixes: []string{".example.com"}}}, {Name: "ticket", From: "login.ticket", Secret: true},
				}}},
				{Name: "login", Request: credential.Request{URL: "{login_url}", Params: map[string]string{"ticket": "{ticket}"}}, Answer: credential.Answer{Access: "session", Expiry: &credential.Expiry{Path: "valid_for", Form: credential.ExpiryDuration}}},
			}},
		}, []lease.Field{field("user", "ann"), field("user_password", "pass-word-1")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlatform(t, c.on)
			if c.method.HasClient() {
				p.register(c.method)
			}
			r := p.record(c.method)
			r.Fields = slices.Clone(c.fields)
			p.save(r)
			for range 2 {
				got := p.order(lease.OrderRefresh, r, nil)
				if got.Code != lease.OrderOK || time.Until(got.Status.Expires) < 59*time.Minute || strings.Contains(got.Message, "pass-word") {
					t.Fatalf("got %+v (%v)", got, p.idp.Noted())
				}
			}
		})
	}
}
