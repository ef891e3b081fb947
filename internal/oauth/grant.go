package oauth

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// Names of fields of a credential record that the engine reads and writes. Of a set of tokens they begin with its name and a dot.
const (
	FieldAccess  = "access_token"
	FieldRefresh = "refresh_token"
	FieldID      = "id_token"
	// FieldExpires is when the access token ends, Unix seconds; absent when unknown.
	FieldExpires = "expires_at"
	// FieldScope are the scopes that were asked for, joined by spaces; FieldScope + "." + PARAM are those of a scope set.
	FieldScope = "scope"
)

// Input is what a grant is made of.
type Input struct {
	Spec *credential.Spec
	// Fields are those of the connection's record: entered, kept, tokens. Client are those of the client's.
	Fields map[string]secret.Value
	Client map[string]secret.Value
	// Now is the present time.
	Now time.Time
	// RedirectURI, Verifier and Nonce are those of the authorize request that a code belongs to, Callback is what came back.
	RedirectURI string
	Verifier    secret.Value
	Nonce       string
	Callback    *Callback
}

// Grant is the work on the tokens of one connection.
type Grant struct {
	in     Input
	recipe *credential.Recipe
	values map[string]string // of the variables
	rules  map[string]*credential.Var
	fields map[string]secret.Value // as they are now
	got    map[string]secret.Value // what is new
	once   map[string]string       // nonce and uuid of the request that is being made
	scopes []string
	// refused are tokens of answers that said no: see remember.
	refused [][]byte
}

// New checks the input and makes a Grant.
func New(in Input) (*Grant, error) {
	m := &in.Spec.Method
	if !m.Obtains() || m.Recipe == nil {
		return nil, configured("this connection obtains no tokens")
	}
	values, err := in.Spec.Vars.Accept(in.Spec.Values)
	if err != nil {
		return nil, configured(err.Error())
	}
	g := &Grant{in: in, recipe: m.Recipe, values: values, fields: maps.Clone(in.Fields), got: map[string]secret.Value{}, rules: map[string]*credential.Var{}}
	if g.fields == nil {
		g.fields = map[string]secret.Value{}
	}
	g.learn()
	if in.Callback != nil {
		for name, v := range in.Callback.Kept {
			g.set(name, v)
		}
	}
	return g, nil
}

// learn notes the rules of kept values that may stand in URLs.
func (g *Grant) learn() {
	for _, k := range g.recipe.Kept() {
		if k.Ruled() {
			g.rules[k.Name] = &k.Var
		}
	}
}

// set makes a value known, and new.
func (g *Grant) set(name string, v secret.Value) {
	g.fields[name] = v
	g.got[name] = v
}

func (g *Grant) has(name string) bool { return g.fields[name].Len() > 0 }

// text gives what templates call name, unescaped; extra holds what only this request has.
func (g *Grant) text(name string, extra map[string]string) (string, error) {
	if v, ok := extra[name]; ok {
		return v, nil
	}
	if v, ok := Moment(name, g.in.Now); ok {
		return v, nil
	}
	switch name {
	case "nonce", "uuid":
		if g.once[name] == "" {
			g.once[name] = Unique(name)
		}
		return g.once[name], nil
	case FieldScope:
		return strings.Join(g.asked(""), g.separator()), nil
	}
	if v, ok := g.in.Client[name]; ok {
		return string(v.Reveal()), nil
	}
	if v, ok := g.fields[name]; ok {
		return string(v.Reveal()), nil
	}
	if v, ok := g.values[name]; ok {
		return v, nil
	}
	if outer, member, ok := strings.Cut(name, "."); ok {
		if v, ok := g.fields[outer]; ok {
			return memberOf(v.Reveal(), member)
		}
	}
	return "", nil
}

// memberOf reads a member of a field that holds JSON, such as an uploaded service account.
func memberOf(text []byte, member string) (string, error) {
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		return "", configured("a field that should hold JSON does not")
	}
	v, _ := lookup(tree, member)
	return v, nil
}

// separator stands between scopes.
func (g *Grant) separator() string {
	if g.recipe.Authorize != nil {
		return cmp.Or(g.recipe.Authorize.Separator, " ")
	}
	return " "
}

// asked are the scopes that were asked for; set is a parameter of a scope set, or empty.
func (g *Grant) asked(set string) []string {
	name := FieldScope
	if set != "" {
		name += "." + set
	}
	return strings.Fields(string(g.fields[name].Reveal()))
}

// expand fills a template whose result is text.
func (g *Grant) expand(template string, extra map[string]string, escape func(string) string) (string, error) {
	return credential.Expand(template, func(name string) (string, error) {
		v, err := g.text(name, extra)
		if err == nil && escape != nil {
			v = escape(v)
		}
		return v, err
	})
}

// expandURL fills a URL template. Values with a rule are checked by it again, all others are escaped.
func (g *Grant) expandURL(template string, extra map[string]string) (*url.URL, error) {
	text, err := credential.Expand(template, func(name string) (string, error) {
		if v, ok := g.values[name]; ok && g.rules[name] == nil {
			return v, nil
		}
		v, err := g.text(name, extra)
		if err != nil {
			return "", err
		}
		if rule := g.rules[name]; rule != nil {
			if v, err = rule.Accept(v); err != nil {
				return "", protocol(fmt.Sprintf("{%s} decides on a URL, and %v", name, err))
			}
			return v, nil
		}
		return strings.ReplaceAll(url.QueryEscape(v), "+", "%20"), nil
	})
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, configured("a URL of the recipe cannot be used")
	}
	return u, nil
}

// Due are the sets of tokens that end before a moment, the main one as the empty name; those whose end is unknown are not.
func (g *Grant) Due(at time.Time) []string {
	var due []string
	for _, set := range g.sets() {
		if end := g.end(set); !end.IsZero() && end.Before(at) {
			due = append(due, set)
		}
	}
	return due
}

// sets are the names of the sets of tokens that there are and can be refreshed on their own; the main one is empty.
func (g *Grant) sets() []string {
	out := []string{""}
	if g.recipe.Answer == nil {
		return out
	}
	for _, s := range g.recipe.Answer.Sets {
		if g.has(s.Name + "." + FieldRefresh) {
			out = append(out, s.Name)
		}
	}
	return out
}

// end is when the access token of a set ends.
func (g *Grant) end(set string) time.Time {
	text := string(g.fields[within(set, FieldExpires)].Reveal())
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// within is the name of a field of a set.
func within(set, field string) string {
	if set == "" {
		return field
	}
	return set + "." + field
}

// expires is the first end of all tokens, zero when none is known.
func (g *Grant) expires() time.Time {
	var first time.Time
	for name := range g.fields {
		if set, ok := strings.CutSuffix(name, FieldExpires); ok && (set == "" || strings.HasSuffix(set, ".")) {
			if end := g.end(strings.TrimSuffix(set, ".")); !end.IsZero() && (first.IsZero() || end.Before(first)) {
				first = end
			}
		}
	}
	return first
}

// Margin is how long before its end a token of a life is refreshed.
func Margin(r *credential.Recipe, life time.Duration) time.Duration {
	const usual = 15 * time.Minute
	if r.Margin > 0 {
		return r.Margin.Duration()
	}
	return min(usual, life/2)
}

// Tokens is what a leg has brought. A leg that fails in a further step, behind the request that may have used up what was
// there, returns both: tokens to save, whose end is now, and the fault.
type Tokens struct {
	// Fields are the new and changed fields of the record.
	Fields map[string]secret.Value
	// Expires is the first end of all tokens, zero when unknown.
	Expires time.Time
	// Scopes are what was granted.
	Scopes []string
	// Account and Label are those of the recipe; empty when it does not tell.
	Account, Label string
	// Base is the connection's base URL if answers decide on it, else nil.
	Base *url.URL
}

// tokens gathers what a finished leg has brought.
func (g *Grant) tokens() (*Tokens, error) {
	t := &Tokens{Fields: g.got, Expires: g.expires(), Scopes: slices.Clone(g.scopes)}
	if a := g.recipe.Account; a != nil {
		var err error
		if t.Account, err = g.expand(a.ID, nil, nil); err != nil {
			return nil, err
		}
		if t.Label, err = g.expand(a.Label, nil, nil); err != nil {
			return nil, err
		}
	}
	if g.recipe.BaseURL != "" {
		base, err := g.expandURL(g.recipe.BaseURL, nil)
		if err != nil {
			return nil, err
		}
		t.Base = base
	}
	if err := g.quiet(t); err != nil {
		return nil, err
	}
	return t, nil
}
