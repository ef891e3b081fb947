package quirk

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/oauth"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// wantHandled is how many switches are handled. It may only grow.
const wantHandled = 112

// life is that of one connection.
type life struct {
	s      *Server
	c      *egress.Client
	of     *testCase
	spec   *credential.Spec
	fields map[string]secret.Value
	client map[string]secret.Value
	last   *oauth.Tokens
	offset atomic.Int64 // of the clock, both sides
}

// testCase is one switch and the recipe that handles it.
type testCase struct {
	on     []Switch // the first is counted
	method func() credential.Method
	vars   credential.Vars
	values map[string]string
	fields map[string]secret.Value // entered
	client map[string]secret.Value // nil: the usual one
	scopes []string
	sets   map[string][]string
	path   string // of calls
	post   bool   // calls have a body
	// check is made after the first call.
	check func(l *life) error
	// twin is the method that must fail; nil is that of a provider without quirks.
	twin func() credential.Method
	// mutate, when set, makes the twin of the switch instead: the engine's own way is left.
	mutate func(l *life) error
}

// plain is the method of a provider as the specifications want it.
func plain() credential.Method {
	return credential.Method{ID: "oauth", Type: credential.OAuth2Code, Recipe: &credential.Recipe{
		Authorize: &credential.Authorize{URL: IDP + "/authorize"}, Token: &credential.Request{URL: IDP + "/token"},
	}}
}

// with changes the plain method.
func with(change func(m *credential.Method, r *credential.Recipe)) func() credential.Method {
	return func() credential.Method {
		m := plain()
		change(&m, m.Recipe)
		return m
	}
}

func texts(pairs ...string) map[string]secret.Value {
	out := map[string]secret.Value{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = secret.New([]byte(pairs[i+1]))
	}
	return out
}

func newLife(t *testing.T, c *testCase, m credential.Method) *life {
	t.Helper()
	s := New(c.on...)
	t.Cleanup(s.Close)
	l := &life{s: s, of: c, fields: map[string]secret.Value{}, client: c.client}
	s.Now = l.theirs
	var err error
	if l.c, err = egress.New(egress.Options{Dialer: s, Roots: s.Roots(), Recorder: egress.RecorderFunc(func(egress.Flow) {})}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.c.Close)
	if l.client == nil {
		l.client = texts("client_id", ClientID, "client_secret", ClientSecret)
	}
	maps.Copy(l.fields, c.fields)
	l.spec = &credential.Spec{Method: m, Vars: c.vars, Values: c.values}
	if l.spec.Values == nil {
		l.spec.Values = map[string]string{}
	}
	return l
}

func (l *life) now() time.Time { return time.Now().Add(time.Duration(l.offset.Load())) }

func (l *life) theirs() time.Time {
	if slices.Contains(l.of.on, ClockAhead) {
		return l.now().Add(3 * time.Hour)
	}
	return l.now()
}

func (l *life) grant(in oauth.Input) (*oauth.Grant, error) {
	in.Spec, in.Fields, in.Client, in.Now = l.spec, l.fields, l.client, l.now()
	return oauth.New(in)
}

// run makes a leg and takes what it brings.
func (l *life) run(in oauth.Input, leg oauth.Leg) error {
	g, err := l.grant(in)
	if err != nil {
		return err
	}
	d := l.c.Tokens(id.Customer{}, id.Connection{})
	defer d.Close()
	t, err := g.Run(contextOf(l), d, leg)
	if t != nil {
		maps.Copy(l.fields, t.Fields)
		l.last = t
	}
	return err
}

const verifier = "a-verifier-of-forty-three-characters-at-least-0"

// connect obtains the first tokens.
func (l *life) connect() error {
	m := &l.spec.Method
	switch {
	case !m.Obtains():
		return nil
	case m.Type != credential.OAuth2Code:
		return l.run(oauth.Input{}, oauth.Leg{Kind: oauth.LegMint})
	}
	if m.Recipe.Discovery != nil {
		if err := l.discover(); err != nil {
			return err
		}
	}
	sum := sha256.Sum256([]byte(verifier))
	start := &oauth.Start{
		Spec: l.spec, ClientID: string(l.client["client_id"].Reveal()), RedirectURI: RedirectURI, State: "state-1",
		Challenge: base64.RawURLEncoding.EncodeToString(sum[:]), Nonce: "nonce-1", Scopes: l.of.scopes, Sets: l.of.sets,
	}
	u, err := oauth.AuthorizeURL(start)
	if err != nil {
		return err
	}
	for set, scopes := range start.Asked() {
		name := oauth.FieldScope
		if set != "" {
			name += "." + set
		}
		l.fields[name] = secret.New([]byte(strings.Join(scopes, " ")))
	}
	cb, err := l.browse(u)
	if err != nil {
		return err
	}
	return l.run(oauth.Input{RedirectURI: RedirectURI, Verifier: secret.New([]byte(verifier)), Nonce: "nonce-1", Callback: cb}, oauth.Leg{Kind: oauth.LegExchange})
}

// discover finds the URLs of the provider.
func (l *life) discover() error {
	d := l.c.Tokens(id.Customer{}, id.Connection{})
	defer d.Close()
	found, err := oauth.Discover(contextOf(l), d, l.spec, RedirectURI)
	if err != nil {
		return err
	}
	l.spec.Method = found.Method
	if found.Client != nil {
		l.client = found.Client
	}
	return l.spec.Method.Check("method", l.of.vars)
}

// browse goes to the provider and comes back.
func (l *life) browse(u string) (*oauth.Callback, error) {
	back, err := l.s.Browse(u)
	if err != nil {
		return nil, err
	}
	var query []oauth.Pair
	for name, v := range back {
		query = append(query, oauth.Pair{Name: name, Value: v[0]})
	}
	r := l.spec.Method.Recipe
	if got := oauth.State(r, query); got != "state-1" && (r.Callback == nil || !r.Callback.Unstated) {
		return nil, errors.New("no start is known by this state")
	}
	cb, err := oauth.ReadCallback(l.spec, query)
	if err != nil || r.Callback == nil || r.Callback.Webhook == nil {
		return cb, err
	}
	code, match, err := oauth.ReadWebhook(r, l.s.Webhook())
	if err != nil {
		return nil, err
	}
	return cb, oauth.JoinWebhook(r, cb, query, code, match)
}

// call uses the connection.
func (l *life) call(host, path string) error {
	_, err := l.answer(host, path)
	return err
}

func (l *life) answer(host, path string) (*egress.Answer, error) {
	m := &l.spec.Method
	b := egress.Binding{Scheme: "https", Host: strings.TrimPrefix(host, "https://")}
	lease, err := egress.NewLease(egress.LeaseSpec{Binding: b, Credential: egress.Credential{Kind: egress.Kind(m.Kind()), Spec: l.spec, Fields: l.fields}})
	if err != nil {
		return nil, err
	}
	c := &egress.Call{Lease: lease, Path: path, Query: []egress.Pair{{Name: "v", Value: "1 a/b"}, {Name: "a", Value: "~"}}}
	if l.of.post {
		c.Method, c.Body = "POST", []byte(`{"name":"x"}`)
	}
	return l.c.Do(contextOf(l), c)
}

func (l *life) use() error {
	host := API
	if l.last != nil && l.last.Base != nil {
		host = "https://" + l.last.Base.Host
	}
	return l.call(host, cmp.Or(l.of.path, "/api/me"))
}

// refresh renews the tokens of a set when their margin has come.
func (l *life) refresh(set string) error {
	g, err := l.grant(oauth.Input{})
	if err != nil {
		return err
	}
	leg, ok := g.Renewal(set)
	if !ok {
		return errors.New("there is nothing to renew the token with")
	}
	if end := l.last.Expires; !end.IsZero() {
		at := end.Add(-oauth.Margin(l.spec.Method.Recipe, end.Sub(l.now())))
		l.offset.Add(int64(max(at.Sub(l.now())+time.Second, 0)))
	}
	return l.run(oauth.Input{}, leg)
}

// revoke gives the tokens up.
func (l *life) revoke() error {
	g, err := l.grant(oauth.Input{})
	if err != nil {
		return err
	}
	d := l.c.Tokens(id.Customer{}, id.Connection{})
	defer d.Close()
	offered, err := g.Revoke(contextOf(l), d)
	if err == nil && !offered {
		err = errors.New("no way to revoke")
	}
	return err
}

// drive lives a whole life: connect, call, check, refresh, call.
func (l *life) drive() error {
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"connect", l.connect},
		{"call", l.use},
		{"check", func() error {
			if l.of.check == nil {
				return nil
			}
			return l.of.check(l)
		}},
		{"refresh", func() error {
			if !l.spec.Method.Obtains() || slices.ContainsFunc(l.of.on, final) {
				return nil
			}
			return l.refresh("")
		}},
		{"call again", func() error {
			if slices.ContainsFunc(l.of.on, final) {
				return nil
			}
			return l.use()
		}},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w (the provider noted %v)", step.name, err, l.s.Noted())
		}
	}
	return nil
}

// final reports whether the check of a switch ends the connection.
func final(w Switch) bool {
	switch w {
	case OKFalse, CodeNotZero, ErrorIn200, OwnRefusal, Revocation, RevokeGet:
		return true
	}
	return false
}

func TestSwitches(t *testing.T) {
	t.Parallel()
	all := slices.Concat(authorizeCases(), tokenCases(), lifeCases(), callCases())
	var handled atomic.Int64
	seen := map[Switch]bool{}
	t.Run("switch", func(t *testing.T) {
		for i := range all {
			c := &all[i]
			if seen[c.on[0]] {
				t.Fatalf("%s is there twice", c.on[0])
			}
			seen[c.on[0]] = true
			t.Run(string(c.on[0]), func(t *testing.T) {
				t.Parallel()
				m := c.method()
				if err := m.Check("method", c.vars); err != nil {
					t.Fatalf("the recipe: %v", err)
				}
				if err := newLife(t, c, m).drive(); err != nil {
					t.Fatal(err)
				}
				twin := plain
				if c.twin != nil {
					twin = c.twin
				}
				l := newLife(t, c, twin())
				drive := l.drive
				if c.mutate != nil {
					drive = func() error { return c.mutate(l) }
				}
				if err := drive(); err == nil {
					t.Fatal("the switch changes nothing: a recipe that knows nothing of it works too")
				}
				handled.Add(1)
			})
		}
	})
	total := switches(t)
	t.Logf("switches handled: %d of %d", handled.Load(), total)
	if len(seen) != total {
		t.Errorf("%d switches have a case, there are %d", len(seen), total)
	}
	if !t.Failed() && handled.Load() < wantHandled {
		t.Errorf("%d switches are handled, %d were", handled.Load(), wantHandled)
	}
}

// switches counts the constants of type Switch.
func switches(t *testing.T) int {
	t.Helper()
	f, err := parser.ParseFile(gotoken.NewFileSet(), "switch.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(f, func(node ast.Node) bool {
		if v, ok := node.(*ast.ValueSpec); ok {
			n += len(v.Names)
		}
		return true
	})
	return n
}
