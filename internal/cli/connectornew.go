package cli

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/connectorfile"
	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/openapi"
)

type connectorsNew struct {
	Name      string   `arg:"" help:"Name of the connector."`
	BaseURL   string   `required:"" placeholder:"URL" help:"URL that the paths of requests follow, such as https://api.example.com/v2. The connector calls no other host."`
	Authorize string   `required:"" placeholder:"URL" help:"Authorization URL of the provider."`
	Token     string   `required:"" placeholder:"URL" help:"Token URL."`
	Revoke    string   `placeholder:"URL" help:"Revocation URL (RFC 7009), if there is one."`
	Issuer    string   `placeholder:"URL" help:"What the provider calls itself in iss, if it does."`
	Scope     []string `help:"Scopes that are asked for."`
	Title     string   `help:"Title; default: the name."`
	Docs      string   `placeholder:"URL" help:"The vendor's documentation."`
	Out       string   `short:"o" placeholder:"DIR" help:"Write connector.yaml here; default: connectors/NAME."`
	Force     bool     `help:"Overwrite a connector.yaml that exists."`
}

// Run implements the command.
func (m *connectorsNew) Run(c *console) error {
	manifest, err := m.manifest()
	if err != nil {
		return err
	}
	text, err := openapi.YAML(manifest)
	if err != nil {
		return err
	}
	dir := m.Out
	if dir == "" {
		dir = filepath.Join("connectors", m.Name)
	}
	name := filepath.Join(dir, "connector.yaml")
	if _, problems := connectorfile.Decode(name, text); len(problems) > 0 {
		if err := problems.Render(c.Err, style(c.Err)); err != nil {
			return err
		}
		return said(exitUsage)
	}
	if err := writeNew(name, text, m.Force); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "wrote %s\n", name)
	fmt.Fprintf(c.Err, "Next: bulkhead connectors publish %s\n      bulkhead templates put %s --customer '*' --field client_id=text:… --field client_secret=env:…\n", name, m.Name)
	return nil
}

// manifest is a connector of a provider that follows the specifications, with an action for each method: what the platform
// has to know of a provider so that customers can be connected. Actions with types are written into the file afterwards.
func (m *connectorsNew) manifest() (*connector.Manifest, error) {
	base, err := url.Parse(m.BaseURL)
	if err != nil || base.Host == "" {
		return nil, usage("--base-url: want a URL such as https://api.example.com/v2, not %q", m.BaseURL)
	}
	x := &connector.Manifest{
		Name: m.Name, Version: "1.0.0", Title: m.Title, Tier: connector.TierVerified, Docs: m.Docs,
		Provenance: connector.Provenance{Kind: "hand", Source: m.Docs},
		Hosts:      []string{base.Host}, BaseURL: strings.TrimSuffix(m.BaseURL, "/"),
		Auth: []credential.Method{{
			ID: "oauth", Type: credential.OAuth2Code,
			Recipe: &credential.Recipe{Issuer: m.Issuer, Authorize: &credential.Authorize{URL: m.Authorize, Scopes: m.Scope}, Token: &credential.Request{URL: m.Token}},
		}},
		Defaults: connector.Defaults{Idempotency: &connector.Idempotency{Unsafe: true}},
	}
	if x.Title == "" {
		x.Title = m.Name
	}
	x.Auth[0].Title = "Connect with " + x.Title
	if m.Revoke != "" {
		x.Auth[0].Recipe.Revoke = &credential.Request{URL: m.Revoke, Params: map[string]string{"token": "{token}"}}
	}
	path := connector.Input{Name: "path", In: connector.InPath, Type: connector.TypeString, Required: true, Raw: true}
	body := connector.Input{Name: "body", In: connector.InBody, Type: connector.TypeAny, Whole: true}
	for _, a := range []struct {
		name, title, method string
		inputs              []connector.Input
	}{
		{"get", "Get", "GET", []connector.Input{path}},
		{"post", "Post", "POST", []connector.Input{path, body}},
		{"put", "Put", "PUT", []connector.Input{path, body}},
		{"patch", "Patch", "PATCH", []connector.Input{path, body}},
		{"delete", "Delete", "DELETE", []connector.Input{path}},
	} {
		x.Actions = append(x.Actions, connector.Action{Name: a.name, Title: a.title, Method: a.method, Path: "/{path}", Inputs: a.inputs})
	}
	return x, nil
}
