package oauth

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/credential"
)

// Start is what an authorize request is made with.
type Start struct {
	Spec     *credential.Spec
	ClientID string
	// RedirectURI is registered at the provider, byte for byte.
	RedirectURI string
	State       string
	// Challenge is the S256 challenge of PKCE (RFC 7636 section 4.2).
	Challenge string
	Nonce     string
	// Scopes are asked for beside those of the recipe; Sets are those of the recipe's scope sets, by parameter.
	Scopes []string
	Sets   map[string][]string
}

// Asked are all scopes of a start, by parameter: the recipe's and its own, each once. "" is the parameter scope. What is asked
// for is part of the record: the fields "scope" and "scope.PARAM", joined by spaces.
func (s *Start) Asked() map[string][]string {
	a := s.Spec.Method.Recipe.Authorize
	out := map[string][]string{"": once(s.Scopes, a.Scopes)}
	for set, scopes := range a.ScopeSets {
		out[set] = once(s.Sets[set], scopes)
	}
	return out
}

func once(lists ...[]string) []string {
	var out []string
	for _, list := range lists {
		for _, s := range list {
			if s != "" && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// Pair is a parameter.
type Pair struct{ Name, Value string }

// AuthorizeURL is where the browser is sent.
func AuthorizeURL(s *Start) (string, error) {
	recipe := s.Spec.Method.Recipe
	if recipe == nil || recipe.Authorize == nil {
		return "", configured("this method has no authorize request")
	}
	if s.State == "" || s.RedirectURI == "" || s.ClientID == "" && !unnamed(recipe.Authorize) {
		return "", configured("an authorize request needs state, redirect URI and client id")
	}
	g, err := New(Input{Spec: s.Spec})
	if err != nil {
		return "", err
	}
	a := recipe.Authorize
	extra := map[string]string{"client_id": s.ClientID, "redirect_uri": s.RedirectURI, "state": s.State, "nonce": s.Nonce}
	base, err := credential.Expand(a.URL, func(name string) (string, error) {
		if v, ok := g.values[name]; ok {
			return v, nil
		}
		return url.QueryEscape(extra[name]), nil
	})
	if err != nil {
		return "", err
	}
	if _, err := url.Parse(base); err != nil {
		return "", configured("the authorize URL of the recipe cannot be used")
	}
	params, err := g.authorizeParams(a, s, extra)
	if err != nil {
		return "", err
	}
	return attach(base, encodeParams(params, a.Raw), a.Fragment), nil
}

// unnamed reports whether the request carries no client id: installations, whose URL names the app.
func unnamed(a *credential.Authorize) bool { return slices.Contains(a.Drop, "client_id") }

func (g *Grant) authorizeParams(a *credential.Authorize, s *Start, extra map[string]string) ([]Pair, error) {
	asked := s.Asked()
	separator := cmp.Or(a.Separator, " ")
	params := []Pair{
		{"response_type", "code"},
		{"client_id", s.ClientID},
		{"redirect_uri", s.RedirectURI},
		{"scope", strings.Join(asked[""], separator)},
		{"state", s.State},
	}
	if a.PKCE != credential.PKCEOff {
		if s.Challenge == "" {
			return nil, configured("PKCE needs a challenge")
		}
		params = append(params, Pair{"code_challenge", s.Challenge}, Pair{"code_challenge_method", "S256"})
	}
	params = reshape(params, a.Rename, a.Drop)
	for _, set := range slices.Sorted(maps.Keys(a.ScopeSets)) {
		params = put(params, set, strings.Join(asked[set], separator))
	}
	for _, name := range slices.Sorted(maps.Keys(a.Params)) {
		v, err := g.expand(a.Params[name], extra, nil)
		if err != nil {
			return nil, err
		}
		params = put(params, name, v)
	}
	return slices.DeleteFunc(params, func(p Pair) bool { return p.Value == "" }), nil
}

// reshape renames and drops standard parameters.
func reshape(params []Pair, rename map[string]string, drop []string) []Pair {
	out := params[:0]
	for _, p := range params {
		if slices.Contains(drop, p.Name) {
			continue
		}
		if other := rename[p.Name]; other != "" {
			p.Name = other
		}
		out = append(out, p)
	}
	return out
}

// put sets a parameter, in its place if it is there.
func put(params []Pair, name, value string) []Pair {
	for i := range params {
		if params[i].Name == name {
			params[i].Value = value
			return params
		}
	}
	return append(params, Pair{name, value})
}

// encodeParams writes parameters as a query. Values of raw ones keep all that a query may hold.
func encodeParams(params []Pair, raw []string) string {
	var b strings.Builder
	for _, p := range params {
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(p.Name))
		b.WriteByte('=')
		if slices.Contains(raw, p.Name) || slices.Contains(raw, "*") {
			b.WriteString(barely(p.Value))
		} else {
			b.WriteString(url.QueryEscape(p.Value))
		}
	}
	return b.String()
}

// barely escapes what would end the value or break the URL.
func barely(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("&#%\"<>\\^`{|}", c) >= 0 {
			b.WriteString(url.PathEscape(string(rune(c))))
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// attach puts parameters behind a URL that may have a query, or behind "#".
func attach(base, query string, fragment bool) string {
	if fragment {
		if strings.Contains(base, "#") {
			return base + "?" + query
		}
		return base + "#" + query
	}
	switch {
	case query == "":
		return base
	case !strings.Contains(base, "?"):
		return base + "?" + query
	case strings.HasSuffix(base, "?") || strings.HasSuffix(base, "&"):
		return base + query
	default:
		return base + "&" + query
	}
}
