package oauth

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/credential"
)

// LegKind is what a leg does.
type LegKind string

// The kinds of legs.
const (
	LegExchange LegKind = "exchange" // a code becomes tokens
	LegMint     LegKind = "mint"     // tokens of the client, the assertion, or the entered fields
	LegRefresh  LegKind = "refresh"
)

// Leg is one way to get tokens. Set is which set of tokens a refresh is for; empty is the main one.
type Leg struct {
	Kind LegKind
	Set  string
}

// Renewal is the leg that keeps a set of tokens alive; ok is false when nothing does, and a person has to reconnect.
func (g *Grant) Renewal(set string) (leg Leg, ok bool) {
	switch g.renewBy() {
	case credential.ByMint:
		return Leg{Kind: LegMint}, true
	case credential.ByNothing:
		return Leg{}, false
	case credential.ByAccessToken:
		return Leg{LegRefresh, set}, g.has(within(set, FieldAccess))
	default:
		return Leg{LegRefresh, set}, g.has(within(set, FieldRefresh))
	}
}

// renewBy is how tokens are renewed. A client credentials or JWT grant has no refresh token (RFC 6749 section 4.4.3).
func (g *Grant) renewBy() credential.RefreshBy {
	if r := g.recipe.Refresh; r != nil && r.By != "" {
		return r.By
	}
	if g.in.Spec.Method.Type == credential.OAuth2Code {
		return credential.ByRefreshToken
	}
	return credential.ByMint
}

// Consumes reports whether the first request of a leg uses something up that cannot be had again: a code, a refresh token.
func (g *Grant) Consumes(leg Leg) bool { return leg.Kind != LegMint }

// Run makes a leg. The answer to the first request that d makes for it is worth committing before it is returned, when the leg
// [Grant.Consumes] something: nothing is read of an answer before d returns it.
func (g *Grant) Run(ctx context.Context, d Doer, leg Leg) (*Tokens, error) {
	if leg.Kind == LegMint && g.recipe.Token == nil {
		t, err := g.session(ctx, d)
		return t, g.clean(err)
	}
	req, err := g.first(leg)
	if err != nil {
		return nil, err
	}
	r, err := send(ctx, d, req)
	if err != nil {
		return nil, err
	}
	t, err := g.finish(ctx, d, leg, r)
	return t, g.clean(err)
}

// send sends one request.
func send(ctx context.Context, d Doer, req *Request) (*Response, error) {
	r, err := d.Do(ctx, req)
	switch {
	case err == nil:
		return r, nil
	case errors.Is(err, ErrUnsent):
		return nil, &Fault{Kind: Unsent, Message: "the provider cannot be reached", cause: err}
	default:
		return nil, &Fault{Kind: Ambiguous, Message: "the provider did not answer", cause: err}
	}
}

// first builds the request that a leg begins with.
func (g *Grant) first(leg Leg) (*Request, error) {
	token := g.recipe.Token
	switch leg.Kind {
	case LegExchange:
		if g.in.Callback == nil {
			return nil, configured("there is no callback to exchange")
		}
		standard := []Pair{{"grant_type", "authorization_code"}, {"code", string(g.in.Callback.Code.Reveal())}, {"redirect_uri", g.in.RedirectURI}}
		if g.recipe.Authorize != nil && g.recipe.Authorize.PKCE != credential.PKCEOff {
			standard = append(standard, Pair{"code_verifier", string(g.in.Verifier.Reveal())})
		}
		return g.make(token, token.ClientAuth, standard, map[string]string{"code_verifier": string(g.in.Verifier.Reveal()), "nonce": g.in.Nonce})
	case LegMint:
		return g.make(token, token.ClientAuth, g.mintParams(), nil)
	default:
		return g.refreshRequest(leg.Set)
	}
}

func (g *Grant) mintParams() []Pair {
	switch g.in.Spec.Method.Type {
	case credential.OAuth2JWT:
		return []Pair{{"grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"}, {"assertion", "-"}}
	case credential.OAuth2Client:
		scope, _ := g.text(FieldScope, nil)
		return []Pair{{"grant_type", "client_credentials"}, {"scope", scope}}
	default:
		return nil
	}
}

// refreshRequest is the token request with what the recipe says otherwise (30, 34).
func (g *Grant) refreshRequest(set string) (*Request, error) {
	var spec credential.Request
	if g.recipe.Token != nil {
		spec = *g.recipe.Token
	}
	if r := g.recipe.Refresh; r != nil {
		spec = merged(spec, r.Request)
	}
	extra := map[string]string{}
	for _, field := range []string{FieldAccess, FieldRefresh} {
		if v, ok := g.fields[within(set, field)]; ok {
			extra[field] = string(v.Reveal())
		}
	}
	var standard []Pair
	if g.renewBy() == credential.ByRefreshToken {
		standard = []Pair{{"grant_type", "refresh_token"}, {"refresh_token", extra[FieldRefresh]}}
	}
	return g.make(&spec, spec.ClientAuth, standard, extra)
}

// merged is a request with the fields of another that are set.
func merged(r, over credential.Request) credential.Request {
	r.URL = cmp.Or(over.URL, r.URL)
	r.Method = cmp.Or(over.Method, r.Method)
	r.Body = cmp.Or(over.Body, r.Body)
	r.Text = cmp.Or(over.Text, r.Text)
	r.ClientAuth = cmp.Or(over.ClientAuth, r.ClientAuth)
	if over.Params != nil {
		r.Params = over.Params
	}
	if over.Headers != nil {
		r.Headers = over.Headers
	}
	if over.Rename != nil {
		r.Rename = over.Rename
	}
	if over.Drop != nil {
		r.Drop = over.Drop
	}
	if over.Sign != nil {
		r.Sign, r.SignPlaces = over.Sign, over.SignPlaces
	}
	return r
}

// finish reads the answer of the first request and makes the steps that follow.
func (g *Grant) finish(ctx context.Context, d Doer, leg Leg, r *Response) (*Tokens, error) {
	rule, t := g.recipe.Answer, target{set: leg.Set, first: leg.Kind == LegExchange}
	if leg.Kind == LegRefresh && g.recipe.Refresh != nil {
		rule = cmp.Or(g.recipe.Refresh.Answer, rule)
		t.extends = g.recipe.Refresh.Extends
	}
	if leg.Set != "" {
		t.expiry = g.setExpiry(leg.Set)
	}
	if err := g.read(rule, r, t); err != nil {
		return nil, err
	}
	if err := g.further(ctx, d, leg); err != nil {
		return &Tokens{Fields: g.got, Expires: g.in.Now, Scopes: g.scopes}, err
	}
	return g.tokens()
}

// further makes what follows the first request.
func (g *Grant) further(ctx context.Context, d Doer, leg Leg) error {
	if leg.Set == "" {
		for i := range g.recipe.Steps {
			s := &g.recipe.Steps[i]
			if leg.Kind == LegRefresh && !s.Repeat {
				continue
			}
			if err := g.step(ctx, d, s); err != nil {
				return err
			}
		}
	}
	return g.introspect(ctx, d)
}

func (g *Grant) setExpiry(set string) *credential.Expiry {
	i := slices.IndexFunc(g.recipe.Answer.Sets, func(s credential.Set) bool { return s.Name == set })
	if i < 0 || g.recipe.Answer.Sets[i].Expiry == nil {
		return nil
	}
	e := *g.recipe.Answer.Sets[i].Expiry
	e.Path = "" // its own refresh brings it at the usual place
	if g.recipe.Answer.Expiry != nil {
		e.Path = g.recipe.Answer.Expiry.Path
	}
	return &e
}

// session makes all steps of a method that has nothing else.
func (g *Grant) session(ctx context.Context, d Doer) (*Tokens, error) {
	for i := range g.recipe.Steps {
		if err := g.step(ctx, d, &g.recipe.Steps[i]); err != nil {
			return nil, err
		}
	}
	if err := g.introspect(ctx, d); err != nil {
		return nil, err
	}
	return g.tokens()
}

// step makes one further request.
func (g *Grant) step(ctx context.Context, d Doer, s *credential.Step) error {
	req, err := g.make(&s.Request, cmp.Or(s.ClientAuth, credential.AuthCustom), nil, nil)
	if err != nil {
		return err
	}
	r, err := send(ctx, d, req)
	if err != nil {
		return err
	}
	return g.read(&s.Answer, r, target{set: s.Set})
}

// introspect asks for an end that nothing else told (36, RFC 7662).
func (g *Grant) introspect(ctx context.Context, d Doer) error {
	s := g.recipe.Introspect
	if s == nil || g.has(FieldExpires) {
		return nil
	}
	token := string(g.fields[FieldAccess].Reveal())
	req, err := g.make(&s.Request, g.authOf(s.ClientAuth), []Pair{{"token", token}}, nil)
	if err != nil {
		return err
	}
	r, err := send(ctx, d, req)
	if err != nil {
		return err
	}
	rule := s.Answer
	a, err := g.accept(&rule, r)
	if err != nil {
		return err
	}
	if active, ok := a.at("active"); ok && active != "true" {
		return &Fault{Kind: Refused, Message: "the provider says that the new token is not active"}
	}
	if rule.Expiry == nil {
		rule.Expiry = &credential.Expiry{Path: "exp", Form: credential.ExpiryUnix}
	}
	if err := g.takeExpiry("", rule.Expiry, a); err != nil {
		return err
	}
	return g.keep(&rule, a)
}

// authOf is a way of authentication, or that of the token request.
func (g *Grant) authOf(auth credential.ClientAuth) credential.ClientAuth {
	if auth == "" && g.recipe.Token != nil {
		return g.recipe.Token.ClientAuth
	}
	return auth
}

// Revoke gives the tokens up (RFC 7009): the refresh token of every set, or else its access token. It returns false when the
// recipe has no way to do so. Tokens that the provider does not know any more are given up.
func (g *Grant) Revoke(ctx context.Context, d Doer) (bool, error) {
	offered, err := g.revoke(ctx, d)
	return offered, g.clean(err)
}

func (g *Grant) revoke(ctx context.Context, d Doer) (bool, error) {
	spec := g.recipe.Revoke
	if spec == nil {
		return false, nil
	}
	auth := g.authOf(spec.ClientAuth)
	for _, set := range g.all() {
		hint := FieldRefresh
		if !g.has(within(set, FieldRefresh)) {
			hint = FieldAccess
		}
		token := string(g.fields[within(set, hint)].Reveal())
		if token == "" {
			continue
		}
		extra := map[string]string{FieldAccess: string(g.fields[within(set, FieldAccess)].Reveal()), FieldRefresh: string(g.fields[within(set, FieldRefresh)].Reveal())}
		req, err := g.make(spec, auth, []Pair{{"token", token}, {"token_type_hint", hint}}, extra)
		if err != nil {
			return false, err
		}
		r, err := send(ctx, d, req)
		if err != nil {
			return false, err
		}
		if err := g.given(r); err != nil {
			return false, g.clean(err)
		}
	}
	return true, nil
}

// given judges the answer to a revocation.
func (g *Grant) given(r *Response) error {
	if r.Status == http.StatusNotFound || r.Status == http.StatusGone {
		return nil
	}
	_, err := g.accept(&credential.Answer{Format: credential.AnswerNone}, r)
	if err == nil {
		return nil
	}
	if f := FaultOf(err); r.Status >= 400 && r.Status < 500 {
		if tree, e := parseJSON(r.Body); e == nil {
			if code, _ := lookup(tree, "error"); code == "invalid_token" || code == "invalid_grant" {
				return nil
			}
		}
		return f
	}
	return err
}

// all are the names of all sets that hold tokens.
func (g *Grant) all() []string {
	out := []string{""}
	if g.recipe.Answer != nil {
		for _, s := range g.recipe.Answer.Sets {
			out = append(out, s.Name)
		}
	}
	for _, s := range g.recipe.Steps {
		if s.Set != "" && !slices.Contains(out, s.Set) {
			out = append(out, s.Set)
		}
	}
	return out
}
