package client

import (
	"context"
	"net/http"

	"github.com/bulkheadhq/bulkhead/internal/api"
)

// PublishConnector publishes a version of a connector of the organization. A version never changes.
func (c *Client) PublishConnector(ctx context.Context, r api.ConnectorRequest) (*api.Connector, error) {
	return ask[api.Connector](ctx, c, request{method: http.MethodPost, path: "/connectors", body: r})
}
