package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// HookURL is the address of a flow's webhook.
func (c *Client) HookURL(ctx context.Context, customer id.Customer, instance id.Instance, flow string) (string, error) {
	var a api.HookAnswer
	path := "/api/v1/instances/" + instance.String() + "/hooks/" + url.PathEscape(flow) + "?" + url.Values{"customer": {customer.String()}}.Encode()
	err := c.ask(ctx, http.MethodGet, path, struct{}{}, &a)
	return a.URL, err
}
