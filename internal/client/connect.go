package client

import (
	"context"
	"net/http"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// FindConnections lists connections of a customer, of a connector, or of a health; empty
// means any.
func (c *Client) FindConnections(ctx context.Context, customer, connector, health string, l List) (*api.Page[api.Connection], error) {
	q := l.query()
	for name, value := range map[string]string{"customer": customer, "connector": connector, "health": health} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return ask[api.Page[api.Connection]](ctx, c, request{method: http.MethodGet, path: "/connections", query: q})
}

// MakeConnection saves what was entered for a connector as a new connection. The server
// seals it as soon as it is read.
func (c *Client) MakeConnection(ctx context.Context, r api.ConnectionRequest) (*api.Connection, error) {
	return ask[api.Connection](ctx, c, request{method: http.MethodPost, path: "/connections", body: r})
}

// ReplaceConnection is MakeConnection in place of what was entered before.
func (c *Client) ReplaceConnection(ctx context.Context, n id.Connection, r api.ConnectionRequest) (*api.Connection, error) {
	return ask[api.Connection](ctx, c, request{method: http.MethodPut, path: path("connections", n.String()), body: r})
}

// RenameConnection changes what a connection is called.
func (c *Client) RenameConnection(ctx context.Context, n id.Connection, name string) (*api.Connection, error) {
	return ask[api.Connection](ctx, c, request{method: http.MethodPatch, path: path("connections", n.String()), body: api.ConnectionChange{Name: name}})
}

// Templates lists connection templates; of all connectors when the name is empty.
func (c *Client) Templates(ctx context.Context, connector string, l List) (*api.Page[api.Template], error) {
	q := l.query()
	if connector != "" {
		q.Set("connector", connector)
	}
	return ask[api.Page[api.Template]](ctx, c, request{method: http.MethodGet, path: "/connection-templates", query: q})
}

// Template gets a connection template.
func (c *Client) Template(ctx context.Context, t id.Template) (*api.Template, error) {
	return ask[api.Template](ctx, c, request{method: http.MethodGet, path: path("connection-templates", t.String())})
}

// PutTemplate saves a connection template; a zero id makes a new one.
func (c *Client) PutTemplate(ctx context.Context, t id.Template, r api.TemplateRequest) (*api.Template, error) {
	if t.IsZero() {
		return ask[api.Template](ctx, c, request{method: http.MethodPost, path: "/connection-templates", body: r})
	}
	return ask[api.Template](ctx, c, request{method: http.MethodPut, path: path("connection-templates", t.String()), body: r})
}

// DeleteTemplate destroys the client of a connection template.
func (c *Client) DeleteTemplate(ctx context.Context, t id.Template) error {
	return c.ask(ctx, request{method: http.MethodDelete, path: path("connection-templates", t.String())}, nil)
}

// ConnectLinks lists connect links; of all customers when the reference is empty.
func (c *Client) ConnectLinks(ctx context.Context, customer string, l List) (*api.Page[api.ConnectLink], error) {
	q := l.query()
	if customer != "" {
		q.Set("customer", customer)
	}
	return ask[api.Page[api.ConnectLink]](ctx, c, request{method: http.MethodGet, path: "/connect-links", query: q})
}

// MakeConnectLink makes a connect link. Its address is in this answer only.
func (c *Client) MakeConnectLink(ctx context.Context, r api.ConnectLinkRequest) (*api.NewConnectLink, error) {
	return ask[api.NewConnectLink](ctx, c, request{method: http.MethodPost, path: "/connect-links", body: r})
}

// RevokeConnectLink ends a connect link.
func (c *Client) RevokeConnectLink(ctx context.Context, l id.Link) error {
	return c.ask(ctx, request{method: http.MethodDelete, path: path("connect-links", l.String())}, nil)
}

// Notices lists notices of a customer, or of all when the reference is empty.
func (c *Client) Notices(ctx context.Context, customer string, unseen bool, l List) (*api.Page[api.Notice], error) {
	q := l.query()
	if customer != "" {
		q.Set("customer", customer)
	}
	if unseen {
		q.Set("unseen", "true")
	}
	return ask[api.Page[api.Notice]](ctx, c, request{method: http.MethodGet, path: "/notices", query: q})
}

// SeeNotice notes that somebody has seen a notice.
func (c *Client) SeeNotice(ctx context.Context, n id.Notice) error {
	return c.ask(ctx, request{method: http.MethodPost, path: path("notices", n.String(), "seen")}, nil)
}

// Brand gets how the organization looks on hosted pages.
func (c *Client) Brand(ctx context.Context) (*api.Brand, error) {
	return ask[api.Brand](ctx, c, request{method: http.MethodGet, path: "/brand"})
}

// PutBrand sets how the organization looks on hosted pages.
func (c *Client) PutBrand(ctx context.Context, b api.Brand) (*api.Brand, error) {
	return ask[api.Brand](ctx, c, request{method: http.MethodPut, path: "/brand", body: b})
}

// PlanRevocation asks what would be revoked, and what was done with it.
func (c *Client) PlanRevocation(ctx context.Context, r api.RevocationRequest) (*api.RevocationPlan, error) {
	return ask[api.RevocationPlan](ctx, c, request{method: http.MethodPost, path: "/revocations/plan", body: r})
}

// RevokeConnections revokes connections; send it until nothing remains.
func (c *Client) RevokeConnections(ctx context.Context, r api.RevocationRequest) (*api.Revocation, error) {
	return ask[api.Revocation](ctx, c, request{method: http.MethodPost, path: "/revocations", body: r})
}
