package connectors_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/oauth"
)

// answering is a provider with one answer for tokens, which notes where it was asked for them, and with an organization.
type answering struct{ asked, body, org string }

// Do implements oauth.Doer.
func (a *answering) Do(_ context.Context, r *oauth.Request) (*oauth.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/org") {
		a.org = r.URL.Host
		return &oauth.Response{Status: 200, Body: []byte(`{"org":[{"id":"4150868000000225013","company_name":"Zylker"}]}`), Sent: time.Now()}, nil
	}
	a.asked = r.URL.String()
	return &oauth.Response{Status: 200, Body: []byte(a.body), Sent: time.Now()}, nil
}

// TestZohoDataCentre: the data centre of a customer comes from the callback and the answer, only those of the manifest are
// taken, and the organization there names the account.
func TestZohoDataCentre(t *testing.T) {
	t.Parallel()
	m := manifest(t, "zoho-crm")
	spec := &credential.Spec{Method: m.Auth[0], Vars: m.Vars, Values: map[string]string{"accounts": "accounts.zoho.com", "api": "www.zohoapis.com"}}
	if hosts := spec.Method.Recipe.Bound(); len(hosts) != 8 || hosts[0] != "www.zohoapis.com" {
		t.Errorf("bound to %v", hosts)
	}
	connect := func(accounts, api string) (string, string, error) {
		d := &answering{body: `{"access_token":"1000.at","refresh_token":"1000.rt","api_domain":"` + api + `","token_type":"Bearer","expires_in":3600}`}
		got, err := exchange(t, spec, "", d, oauth.Pair{Name: "code", Value: "1000.abc"}, oauth.Pair{Name: "location", Value: "eu"}, oauth.Pair{Name: "accounts-server", Value: accounts})
		if err != nil {
			return d.asked, "", err
		}
		return d.asked, got.Base.String() + " for " + got.Account + " at " + d.org, nil
	}
	asked, base, err := connect("https://accounts.zoho.eu", "https://www.zohoapis.eu")
	if err != nil || !strings.HasPrefix(asked, "https://accounts.zoho.eu/oauth/v2/token") || base != "https://www.zohoapis.eu/crm/v8 for 4150868000000225013 at www.zohoapis.eu" {
		t.Errorf("asked %s, bound to %s: %v", asked, base, err)
	}
	for name, c := range map[string][2]string{
		"another accounts server": {"https://accounts.evil.example", "https://www.zohoapis.eu"},
		"one that looks alike":    {"https://accounts.zoho.eu.evil.example", "https://www.zohoapis.eu"},
		"no accounts server":      {"", "https://www.zohoapis.eu"},
	} {
		if asked, _, err := connect(c[0], c[1]); err == nil || asked != "" {
			t.Errorf("%s: asked %s: %v", name, asked, err)
		}
	}
	for name, api := range map[string]string{
		"another host": "https://evil.example", "one below": "https://x.www.zohoapis.eu", "without TLS": "http://www.zohoapis.eu", "none": "", "a port": "https://www.zohoapis.eu:8443",
	} {
		if _, base, err := connect("https://accounts.zoho.eu", api); err == nil {
			t.Errorf("%s: bound to %s", name, base)
		}
	}
}
