package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/bulkheadhq/bulkhead/internal/api"
)

// Connectors lists the connectors of the catalogue and of the organization.
func (c *Client) Connectors(ctx context.Context) (*api.ConnectorList, error) {
	return ask[api.ConnectorList](ctx, c, request{method: http.MethodGet, path: "/connectors"})
}

// Connector gets a connector with its manifest: the newest version that a range takes; empty: the newest release.
func (c *Client) Connector(ctx context.Context, name, versions string) (*api.ConnectorDetail, error) {
	q := url.Values{}
	if versions != "" {
		q.Set("version", versions)
	}
	return ask[api.ConnectorDetail](ctx, c, request{method: http.MethodGet, path: path("connectors", name), query: q})
}

// PublishConnector publishes a version of a connector of the organization.
func (c *Client) PublishConnector(ctx context.Context, r api.ConnectorRequest) (*api.Connector, error) {
	return ask[api.Connector](ctx, c, request{method: http.MethodPost, path: "/connectors", body: r})
}
