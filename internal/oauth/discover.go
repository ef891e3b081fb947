package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/secret"
)

// Discovered is what discovery has found.
type Discovered struct {
	// Method is the method with URLs and issuer filled in, and without its discovery.
	Method credential.Method
	// Client are the fields of a client that was registered (RFC 7591), or whose id is a document; nil when neither is wanted.
	Client map[string]secret.Value
}

// Discover finds the URLs of a provider (RFC 9728, RFC 8414), and registers a client if the recipe says so (RFC 7591). Nothing of
// it is secret before it is done. values are those of the variables.
func Discover(ctx context.Context, d Doer, spec *credential.Spec, redirectURI string) (*Discovered, error) {
	g, err := New(Input{Spec: spec})
	if err != nil {
		return nil, err
	}
	rule := g.recipe.Discovery
	if rule == nil {
		return nil, configured("the recipe has no discovery")
	}
	f := &finder{g: g, d: d, rule: rule}
	issuer := rule.Issuer
	if rule.Resource != "" {
		if issuer, err = f.resource(ctx); err != nil {
			return nil, err
		}
	}
	at, err := g.expandURL(issuer, nil)
	if err != nil {
		return nil, err
	}
	f.hosts = append(f.hosts, at.Hostname())
	meta, err := f.metadata(ctx, at)
	if err != nil {
		return nil, err
	}
	out := &Discovered{Method: spec.Method}
	if out.Method.Recipe, err = f.filled(at, meta); err != nil {
		return nil, err
	}
	switch {
	case rule.Document != "":
		out.Client = map[string]secret.Value{"client_id": secret.New([]byte(rule.Document))}
	case rule.Register:
		out.Client, err = f.register(ctx, meta, redirectURI)
	}
	return out, err
}

type finder struct {
	g     *Grant
	d     Doer
	rule  *credential.Discovery
	hosts []string
}

// get reads a well-known document of a URL: its path stands behind the well-known one (RFC 8414 section 3.1).
func (f *finder) get(ctx context.Context, at *url.URL, name string) (map[string]any, error) {
	u := *at
	u.Path, u.RawPath, u.RawQuery = "/.well-known/"+name+strings.TrimRight(at.Path, "/"), "", ""
	r, err := send(ctx, f.d, &Request{Method: http.MethodGet, URL: &u, Header: http.Header{"Accept": {"application/json"}}})
	if err != nil {
		return nil, err
	}
	return f.object(r, http.StatusOK)
}

func (f *finder) object(r *Response, status int) (map[string]any, error) {
	if r.Status != status {
		return nil, rejected(&credential.Answer{}, "", r, f.g.in.Now)
	}
	tree, err := parse(credential.AnswerJSON, r)
	if err != nil {
		return nil, err
	}
	m, ok := tree.(map[string]any)
	if !ok {
		return nil, protocol("the provider's metadata are no object")
	}
	return m, nil
}

// resource finds the issuer of a protected resource (RFC 9728 section 3).
func (f *finder) resource(ctx context.Context) (string, error) {
	at, err := f.g.expandURL(f.rule.Resource, nil)
	if err != nil {
		return "", err
	}
	f.hosts = append(f.hosts, at.Hostname())
	m, err := f.get(ctx, at, "oauth-protected-resource")
	if err != nil {
		return "", err
	}
	if got, _ := scalar(m["resource"]); got != at.String() {
		return "", protocol("the metadata are of another resource")
	}
	issuer, _ := lookup(m, "authorization_servers.0")
	u, err := url.Parse(issuer)
	if err != nil || !f.mayBe(u) {
		return "", protocol("the resource names an issuer whose host is not one of the recipe's")
	}
	return issuer, nil
}

// metadata reads those of an issuer; what they say of themselves must be it (RFC 8414 section 3.3).
func (f *finder) metadata(ctx context.Context, at *url.URL) (map[string]any, error) {
	m, err := f.get(ctx, at, "oauth-authorization-server")
	if err != nil {
		return nil, err
	}
	if got, _ := scalar(m["issuer"]); got != at.String() {
		return nil, protocol("the metadata are of another issuer")
	}
	return m, nil
}

// mayBe reports whether a URL that was found may be used.
func (f *finder) mayBe(u *url.URL) bool {
	if u == nil || u.Scheme != "https" || u.User != nil || u.Fragment != "" || strings.ContainsAny(u.String(), "{}") {
		return false
	}
	host := strings.ToLower(u.Hostname())
	return slices.Contains(f.hosts, host) || credential.BelowAny(host, f.rule.Hosts)
}

func (f *finder) endpoint(m map[string]any, name string) (string, error) {
	text, ok := scalar(m[name])
	if !ok || text == "" {
		return "", nil
	}
	if u, err := url.Parse(text); err != nil || !f.mayBe(u) {
		return "", protocol("the metadata name an endpoint whose host is not one of the recipe's")
	}
	return text, nil
}

// filled is the recipe with what was found.
func (f *finder) filled(issuer *url.URL, m map[string]any) (*credential.Recipe, error) {
	r := *f.g.recipe
	r.Discovery, r.Issuer = nil, issuer.String()
	authorize, err := f.endpoint(m, "authorization_endpoint")
	if err != nil {
		return nil, err
	}
	token, err := f.endpoint(m, "token_endpoint")
	if err != nil {
		return nil, err
	}
	revoke, err := f.endpoint(m, "revocation_endpoint")
	if err != nil {
		return nil, err
	}
	if r.Authorize != nil && r.Authorize.URL == "" {
		a := *r.Authorize
		a.URL = authorize
		r.Authorize = &a
	}
	if r.Token == nil {
		r.Token = &credential.Request{}
	}
	if r.Token.URL == "" {
		t := *r.Token
		t.URL = token
		r.Token = &t
	}
	if r.Revoke == nil && revoke != "" {
		r.Revoke = &credential.Request{URL: revoke}
	}
	return &r, nil
}

// register makes a client.
func (f *finder) register(ctx context.Context, m map[string]any, redirectURI string) (map[string]secret.Value, error) {
	at, err := f.endpoint(m, "registration_endpoint")
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(at)
	if err != nil || at == "" {
		return nil, configured("the provider registers no clients")
	}
	body, err := json.Marshal(map[string]any{
		"client_name": f.rule.ClientName, "redirect_uris": []string{redirectURI}, "grant_types": []string{"authorization_code", "refresh_token"},
		"response_types": []string{"code"}, "token_endpoint_auth_method": "client_secret_post",
	})
	if err != nil {
		return nil, configured("the registration cannot be encoded")
	}
	header := http.Header{"Accept": {"application/json"}, "Content-Type": {"application/json"}}
	r, err := send(ctx, f.d, &Request{Method: http.MethodPost, URL: u, Header: header, Body: body})
	if err != nil {
		return nil, err
	}
	answer, err := f.object(r, http.StatusCreated)
	if err != nil {
		return nil, err
	}
	out := map[string]secret.Value{}
	for _, name := range []string{"client_id", "client_secret"} {
		if v, ok := scalar(answer[name]); ok && v != "" {
			out[name] = secret.New([]byte(v))
		}
	}
	if out["client_id"].Len() == 0 {
		return nil, protocol("the registration has no client id")
	}
	return out, nil
}
