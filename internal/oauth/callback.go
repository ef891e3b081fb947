package oauth

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// Limits of a callback.
const (
	maxCallback       = 16 << 10
	maxCallbackParams = 50
)

// Callback is what a browser has brought back, checked.
type Callback struct {
	Code secret.Value
	// Kept are the values that the recipe keeps.
	Kept map[string]secret.Value
}

// ReadCallback checks the query of a callback against the recipe: one value for each parameter (RFC 6749 section 3.1), the
// issuer (RFC 9207 section 2.4), no tokens in the URL. The state, by which the caller has found the start that this belongs to,
// is not checked here. A provider's refusal is a [Fault] of kind Refused with its code.
func ReadCallback(spec *credential.Spec, query []Pair) (*Callback, error) {
	params, err := callbackParams(query)
	if err != nil {
		return nil, err
	}
	g, err := New(Input{Spec: spec})
	if err != nil {
		return nil, err
	}
	rule := g.recipe.Callback
	if rule == nil {
		rule = &credential.Callback{}
	}
	if err := g.checkIssuer(params["iss"]); err != nil {
		return nil, err
	}
	if code, failed := params["error"]; failed {
		return nil, &Fault{Kind: Refused, Code: plainCode(code), Message: "the provider did not authorize"}
	}
	for _, name := range []string{"access_token", "id_token", "refresh_token"} {
		if _, ok := params[name]; ok {
			return nil, protocol("the callback carries a token, which only implicit flows do")
		}
	}
	cb := &Callback{Kept: map[string]secret.Value{}, Code: secret.New([]byte(params[cmp.Or(rule.Code, "code")]))}
	if err := keepParams(cb, rule.Keep, params); err != nil {
		return nil, err
	}
	if cb.Code.Len() == 0 && rule.Webhook == nil {
		return nil, protocol("the callback carries no code")
	}
	return cb, nil
}

func keepParams(cb *Callback, keeps []credential.Keep, params map[string]string) error {
	for i := range keeps {
		k := &keeps[i]
		v, err := keepValue(k, params[k.From])
		if err != nil {
			return err
		}
		if v != "" {
			cb.Kept[k.Name] = secret.New([]byte(v))
		}
	}
	return nil
}

// keepValue checks a value by its rule; empty is nothing to keep.
func keepValue(k *credential.Keep, v string) (string, error) {
	if v == "" {
		v = k.Default
	}
	if v == "" {
		if k.Required {
			return "", protocol(fmt.Sprintf("the provider did not send %s", k.Name))
		}
		return "", nil
	}
	if len(v) > MaxToken || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", protocol(fmt.Sprintf("%s is too long or has control characters", k.Name))
	}
	if !k.Ruled() {
		return v, nil
	}
	accepted, err := k.Accept(v)
	if err != nil {
		return "", protocol(fmt.Sprintf("%s is not accepted: %v", k.Name, err))
	}
	return accepted, nil
}

func callbackParams(query []Pair) (map[string]string, error) {
	if len(query) > maxCallbackParams {
		return nil, protocol("the callback has too many parameters")
	}
	out := map[string]string{}
	size := 0
	for _, p := range query {
		if _, twice := out[p.Name]; twice {
			return nil, protocol("a parameter of the callback comes twice")
		}
		if size += len(p.Name) + len(p.Value); size > maxCallback {
			return nil, protocol("the callback is too long")
		}
		out[p.Name] = p.Value
	}
	return out, nil
}

// checkIssuer compares iss (RFC 9207). Without a declared issuer, an iss is one of the hosts of the recipe.
func (g *Grant) checkIssuer(iss string) error {
	if g.recipe.Issuer != "" {
		want, err := g.expandURL(g.recipe.Issuer, nil)
		if err != nil {
			return err
		}
		if iss != "" && iss != want.String() {
			return protocol("the callback is of another issuer")
		}
		return nil
	}
	if iss == "" {
		return nil
	}
	u, err := url.Parse(iss)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return protocol("the callback's issuer is not a URL")
	}
	for _, template := range []string{g.recipe.Authorize.URL, g.recipe.Token.URL} {
		if own, err := g.expandURL(template, nil); err == nil && own.Host == u.Host {
			return nil
		}
	}
	return protocol("the callback is of another issuer")
}

// State is the state in the query of a callback by the name that the recipe gives it; empty if there is none.
func State(recipe *credential.Recipe, query []Pair) string {
	name := "state"
	if recipe.Callback != nil {
		name = cmp.Or(recipe.Callback.State, name)
	}
	for _, p := range query {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// ReadWebhook reads the code out of a webhook (item 12 of the survey), which has been verified, and what the callback's
// parameter has to equal.
func ReadWebhook(recipe *credential.Recipe, body []byte) (code secret.Value, match string, err error) {
	if recipe.Callback == nil || recipe.Callback.Webhook == nil {
		return secret.Value{}, "", configured("this provider sends no code by a webhook")
	}
	if len(body) > MaxAnswer {
		return secret.Value{}, "", protocol("the webhook is too large")
	}
	var tree any
	if err := json.Unmarshal(body, &tree); err != nil {
		return secret.Value{}, "", protocol("the webhook is not JSON")
	}
	w := recipe.Callback.Webhook
	text, _ := lookup(tree, w.Code)
	match, _ = lookup(tree, w.Match)
	if text == "" || match == "" {
		return secret.Value{}, "", protocol("the webhook carries no code")
	}
	return secret.New([]byte(text)), match, nil
}

// JoinWebhook puts the code of a webhook to the callback that it belongs to.
func JoinWebhook(recipe *credential.Recipe, cb *Callback, query []Pair, code secret.Value, match string) error {
	params, err := callbackParams(query)
	if err != nil {
		return err
	}
	if got := params[recipe.Callback.Webhook.Param]; got == "" || got != match {
		return protocol("the webhook belongs to another callback")
	}
	cb.Code = code
	return nil
}
