package client

import (
	"context"
	"net/http"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// TestConnection tests a connection. When the answer has not ended, nothing is known yet.
func (c *Client) TestConnection(ctx context.Context, n id.Connection) (*api.ConnectionTest, error) {
	return ask[api.ConnectionTest](ctx, c, request{method: http.MethodPost, path: path("connections", n.String(), "test")})
}

// Choices lists what an input of an action may be.
func (c *Client) Choices(ctx context.Context, n id.Connection, r api.ChoicesRequest) (*api.ChoiceList, error) {
	return ask[api.ChoiceList](ctx, c, request{method: http.MethodPost, path: path("connections", n.String(), "choices"), body: r})
}

// InputSchema gets the schema of an input of an action.
func (c *Client) InputSchema(ctx context.Context, n id.Connection, r api.SchemaRequest) (*api.InputSchema, error) {
	return ask[api.InputSchema](ctx, c, request{method: http.MethodPost, path: path("connections", n.String(), "schema"), body: r})
}

// Options lists what a config variable of an instance may be set to.
func (c *Client) Options(ctx context.Context, i id.Instance, r api.OptionsRequest) (*api.ChoiceList, error) {
	return ask[api.ChoiceList](ctx, c, request{method: http.MethodPost, path: path("instances", i.String(), "choices"), body: r})
}
