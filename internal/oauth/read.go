package oauth

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// target says into which set of tokens an answer goes, and what is to be expected of it.
type target struct {
	set string
	// expiry replaces that of the answer's rule.
	expiry *credential.Expiry
	// extends: no token in it means that the present ones live on.
	extends bool
	// first: the answer to an authorize request, whose ID token bears its nonce.
	first bool
}

// read takes the tokens and kept values of an answer.
func (g *Grant) read(rule *credential.Answer, r *Response, t target) error {
	if rule == nil {
		rule = &credential.Answer{}
	}
	a, err := g.accept(rule, r)
	if err != nil {
		return err
	}
	if rule.NoToken {
		return g.keep(rule, a)
	}
	access, found := a.at(cmp.Or(rule.Access, FieldAccess))
	switch {
	case found && access != "":
		if err := g.tokenType(rule, a); err != nil {
			return err
		}
		if err := g.takeScopes(rule, a, t); err != nil {
			return err
		}
		if err := g.take(t.set, FieldAccess, access); err != nil {
			return err
		}
	case !t.extends:
		return protocol("the answer brings no token")
	}
	for field, path := range map[string]string{FieldRefresh: cmp.Or(rule.Refresh, FieldRefresh), FieldID: cmp.Or(rule.ID, FieldID)} {
		if v, ok := a.at(path); ok && v != "" {
			if err := g.take(t.set, field, v); err != nil {
				return err
			}
		}
	}
	if err := g.checkID(t); err != nil {
		return err
	}
	expiry := rule.Expiry
	if t.expiry != nil {
		expiry = t.expiry
	}
	if err := g.takeExpiry(t.set, expiry, a); err != nil {
		return err
	}
	if t.set == "" {
		if err := g.takeSets(rule, a); err != nil {
			return err
		}
	}
	return g.keep(rule, a)
}

// accept parses an answer and refuses one that says no, in its status or in its body (21).
func (g *Grant) accept(rule *credential.Answer, r *Response) (*answer, error) {
	success := r.Status >= http.StatusOK && r.Status < http.StatusMultipleChoices
	tree, err := parse(rule.Format, r)
	if err != nil && !success && rule.Format != credential.AnswerJSON && rule.Format != "" {
		tree, err = parse(credential.AnswerJSON, r) // errors are JSON also where answers are not
	}
	if err != nil {
		if success {
			return nil, err
		}
		return nil, rejected(rule, "", r, g.in.Now)
	}
	a := &answer{tree: tree, header: r.Header, sent: cmp.Or(r.Sent, g.in.Now), token: func(name string) []byte { return g.fields[name].Reveal() }}
	code, _ := a.at(cmp.Or(rule.Error, "error"))
	failed := !success || a.failing()
	for i := range rule.Fail {
		failed = failed || a.holds(&rule.Fail[i])
	}
	if failed {
		g.remember(rule, a)
		return nil, rejected(rule, code, r, g.in.Now)
	}
	return a, nil
}

// failing reports whether there is a member "error" that says something.
func (a *answer) failing() bool {
	m, ok := a.tree.(map[string]any)
	if !ok {
		return false
	}
	switch e := m["error"].(type) {
	case nil:
		return false
	case string:
		return e != ""
	case bool:
		return e
	case map[string]any:
		return len(e) > 0
	}
	return false
}

// take notes a token.
func (g *Grant) take(set, field, value string) error {
	if len(value) > MaxToken || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return protocol("a token is too long or has control characters")
	}
	g.set(within(set, field), secret.New([]byte(value)))
	return nil
}

// tokenType refuses tokens that are not used as Bearer (RFC 6749 section 7.1: a client must not use a type that it does not know).
func (g *Grant) tokenType(rule *credential.Answer, a *answer) error {
	kind, _ := a.at("token_type")
	if kind == "" || strings.EqualFold(kind, "bearer") {
		return nil
	}
	for _, other := range rule.Types {
		if strings.EqualFold(kind, other) {
			return nil
		}
	}
	return protocol("the token is of a type that is not known")
}

// takeScopes notes what was granted, and refuses more than was asked for.
func (g *Grant) takeScopes(rule *credential.Answer, a *answer, t target) error {
	text, _ := a.at(cmp.Or(rule.Scope, "scope"))
	granted := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
	asked := g.asked("")
	if t.set != "" {
		return nil
	}
	if len(granted) == 0 {
		granted = asked // RFC 6749 section 5.1: the same as was asked for
	}
	g.scopes = granted
	if rule.MoreScopes || len(asked) == 0 {
		return nil
	}
	for _, s := range granted {
		if !slices.ContainsFunc(asked, func(a string) bool { return sameScope(a, s) }) && !identityScope(s) {
			return protocol("the provider granted a scope that was not asked for; the recipe says more_scopes where that is usual")
		}
	}
	return nil
}

// sameScope also takes the short name of a scope that is a URL, as some providers write one for the other.
func sameScope(a, b string) bool {
	return strings.EqualFold(a, b) || strings.EqualFold(a[strings.LastIndexByte(a, '/')+1:], b[strings.LastIndexByte(b, '/')+1:])
}

// identityScope are the scopes of OpenID Connect, which grant nothing over data of others.
func identityScope(s string) bool {
	switch s[strings.LastIndexByte(s, '/')+1:] {
	case "openid", "profile", "email", "offline_access", "userinfo.email", "userinfo.profile":
		return true
	}
	return false
}

// takeSets notes the further tokens of an answer (26).
func (g *Grant) takeSets(rule *credential.Answer, a *answer) error {
	for i := range rule.Sets {
		s := &rule.Sets[i]
		access, ok := a.at(s.Access)
		if !ok || access == "" {
			continue
		}
		if err := g.take(s.Name, FieldAccess, access); err != nil {
			return err
		}
		if s.Refresh != "" {
			if v, ok := a.at(s.Refresh); ok && v != "" {
				if err := g.take(s.Name, FieldRefresh, v); err != nil {
					return err
				}
			}
		}
		if s.Expiry != nil {
			if err := g.takeExpiry(s.Name, s.Expiry, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// keep notes the values that the recipe keeps (25).
func (g *Grant) keep(rule *credential.Answer, a *answer) error {
	for i := range rule.Keep {
		k := &rule.Keep[i]
		v, _ := a.at(k.From)
		if v == "" && g.has(k.Name) {
			continue // an earlier answer told
		}
		kept, err := keepValue(k, v)
		if err != nil {
			return err
		}
		if kept != "" {
			g.set(k.Name, secret.New([]byte(kept)))
		}
	}
	return nil
}

// checkID checks what an ID token says about whom it is for (OpenID Connect Core section 3.1.3.7). It came over TLS from the
// token endpoint, so its signature proves nothing more, and no key is ever fetched because a token names it.
func (g *Grant) checkID(t target) error {
	token, fresh := g.got[within(t.set, FieldID)]
	if !fresh || g.recipe.Issuer == "" && g.in.Nonce == "" {
		return nil
	}
	claims, ok := claimsOf(token.Reveal())
	if !ok {
		return protocol("the ID token is not a JWT")
	}
	client := string(g.in.Client["client_id"].Reveal())
	audience, _ := scalar(claims["aud"])
	if !slices.Contains(strings.Fields(audience), client) {
		return protocol("the ID token is for another client")
	}
	if azp, ok := scalar(claims["azp"]); ok && azp != client {
		return protocol("the ID token was made for another client")
	}
	if nonce, _ := scalar(claims["nonce"]); t.first && g.wantsNonce() && nonce != g.in.Nonce {
		return protocol("the ID token answers another request")
	}
	if exp, ok := scalar(claims["exp"]); ok {
		if n, err := strconv.ParseFloat(exp, 64); err != nil || time.Unix(int64(n), 0).Before(g.in.Now.Add(-maxSkew)) {
			return protocol("the ID token has expired")
		}
	}
	if g.recipe.Issuer == "" {
		return nil
	}
	want, err := g.expandURL(g.recipe.Issuer, nil)
	if err != nil {
		return err
	}
	if iss, _ := scalar(claims["iss"]); iss != want.String() && !sameButScheme(iss, want) {
		return protocol("the ID token is of another issuer")
	}
	return nil
}

// sameButScheme takes issuers that write themselves without "https://", as Google did.
func sameButScheme(iss string, want *url.URL) bool { return iss == want.Host+want.Path }

// wantsNonce reports whether the authorize request carries a nonce.
func (g *Grant) wantsNonce() bool {
	if g.recipe.Authorize == nil {
		return false
	}
	for _, v := range g.recipe.Authorize.Params {
		if slices.Contains(credential.Uses(v), "nonce") {
			return true
		}
	}
	return false
}
