package oauth

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// Providers repeat secrets where words are expected: as an error code, a scope, the name of an account. Those are stored and shown
// in clear, so they are looked through for everything that the grant knows to be secret, however it is written.

// shortestTold is the length from which a secret is looked for, in bytes. shortestForm is that for the forms that encode it.
const (
	shortestTold = 6
	shortestForm = 8
)

// secrets are what no text that is shown may hold.
func (g *Grant) secrets() [][]byte {
	out := slices.Clone(g.refused)
	add := func(v secret.Value) {
		if v.Len() >= shortestTold {
			out = append(out, v.Reveal())
		}
	}
	m := &g.in.Spec.Method
	for _, fields := range []map[string]secret.Value{g.fields, g.in.Fields, g.in.Client} {
		for name, v := range fields {
			if !plainField(name) && m.Hidden(name) {
				add(v)
			}
		}
	}
	add(g.in.Verifier)
	if g.in.Callback != nil {
		add(g.in.Callback.Code)
	}
	return out
}

// plainField reports fields of a record that no method declares and that are no secrets.
func plainField(name string) bool {
	return name == FieldScope || strings.HasPrefix(name, FieldScope+".") || name == FieldExpires || strings.HasSuffix(name, "."+FieldExpires) ||
		name == "client_id" || name == "account"
}

// tells reports whether a secret of the grant stands in a text: as it is, in any case, escaped for a URL, in hex or in base64.
func (g *Grant) tells(text string) bool {
	texts := []string{strings.ToLower(text)}
	for _, unescape := range []func(string) (string, error){url.PathUnescape, url.QueryUnescape} {
		if plain, err := unescape(text); err == nil && plain != text {
			texts = append(texts, strings.ToLower(plain))
		}
	}
	for _, v := range g.secrets() {
		for _, form := range forms(v) {
			if slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(t, form) }) {
				return true
			}
		}
	}
	return false
}

// forms are how a secret may be written, in lower case.
func forms(v []byte) []string {
	out := []string{strings.ToLower(string(v))}
	if len(v) < shortestForm {
		return out
	}
	out = append(out, hex.EncodeToString(v))
	for offset := range 3 {
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := e.EncodeToString(append(make([]byte, offset), v...))
			from := 0
			if offset > 0 {
				from = offset + 1
			}
			out = append(out, strings.ToLower(text[from:(offset+len(v))*8/6]))
		}
	}
	return out
}

// remember notes what an answer that says no brings as tokens: they are not used, and shown as little as others.
func (g *Grant) remember(rule *credential.Answer, a *answer) {
	for _, path := range []string{cmp.Or(rule.Access, FieldAccess), cmp.Or(rule.Refresh, FieldRefresh), cmp.Or(rule.ID, FieldID)} {
		if v, ok := a.at(path); ok && len(v) >= shortestTold {
			g.refused = append(g.refused, []byte(v))
		}
	}
}

// clean takes an error code away in which a secret stands, or that is a part of one.
func (g *Grant) clean(err error) error {
	if err == nil {
		return nil
	}
	f := FaultOf(err)
	part := func(v []byte) bool { return len(f.Code) >= shortestTold && strings.Contains(string(v), f.Code) }
	if f.Code != "" && (g.tells(f.Code) || slices.ContainsFunc(g.secrets(), part)) {
		f.Code = ""
	}
	return f
}

// quiet takes out of what was obtained what would be shown and holds a secret. A base URL with one is refused.
func (g *Grant) quiet(t *Tokens) error {
	t.Scopes = slices.DeleteFunc(t.Scopes, g.tells)
	if g.tells(t.Label) {
		t.Label = ""
	}
	if t.Base != nil && g.tells(t.Base.Host) {
		return protocol("the provider names a host in which a secret stands")
	}
	return nil
}
