package client

import (
	"context"
	"net/http"

	"github.com/bulkheadhq/bulkhead/internal/api"
)

// Status asks how the platform does.
func (c *Client) Status(ctx context.Context) (*api.Status, error) {
	return ask[api.Status](ctx, c, request{method: http.MethodGet, path: "/status"})
}
