package connectors_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/oauth"
)

// byAddress is a provider that answers by address and notes what it was asked. What it does not know is not found.
type byAddress struct {
	answers map[string]string
	asked   []string
}

// Do implements oauth.Doer.
func (a *byAddress) Do(_ context.Context, r *oauth.Request) (*oauth.Response, error) {
	at := r.Method + " " + r.URL.String()
	a.asked = append(a.asked, at)
	body, known := a.answers[at]
	if !known {
		return &oauth.Response{Status: 404, Body: []byte(`{"code":404,"message":"Not Found"}`), Sent: time.Now()}, nil
	}
	return &oauth.Response{Status: 200, Body: []byte(body), Sent: time.Now()}, nil
}

// TestJiraSite: a grant may be good for several sites. The connection is of the one that the person named, and only when the
// token is good for it.
func TestJiraSite(t *testing.T) {
	t.Parallel()
	m := manifest(t, "jira")
	const (
		token = "POST https://auth.atlassian.com/oauth/token"
		site  = "GET https://acme.atlassian.net/_edge/tenant_info"
		who   = "GET https://api.atlassian.com/ex/jira/35273b54-3f06/rest/api/3/myself"
	)
	a := &byAddress{answers: map[string]string{
		token: `{"access_token":"at","refresh_token":"rt","expires_in":3600,"token_type":"Bearer","scope":"offline_access read:jira-work write:jira-work read:jira-user"}`,
		site:  `{"cloudId":"35273b54-3f06"}`,
		who:   `{"accountId":"5b10a2844c20165700ede21g","displayName":"Mia Krystof"}`,
	}}
	connect := func(name string) (string, error) {
		spec := &credential.Spec{Method: m.Auth[0], Vars: m.Vars, Values: map[string]string{"site": name}}
		got, err := exchange(t, spec, verifier, a, oauth.Pair{Name: "code", Value: "abc"})
		if err != nil {
			return "", err
		}
		return got.Base.String(), nil
	}
	base, err := connect("acme")
	if err != nil || base != "https://api.atlassian.com/ex/jira/35273b54-3f06/rest/api/3" || !slices.Equal(a.asked, []string{token, site, who}) {
		t.Errorf("connected to %q by %q: %v", base, a.asked, err)
	}
	delete(a.answers, who)
	if base, err := connect("acme"); err == nil {
		t.Errorf("connected to %q with a token that is not good for it", base)
	}
	if base, err := connect("other"); err == nil {
		t.Errorf("connected to %q, a site that is not there", base)
	}
}
