package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
)

// InstanceQuery says which instances are listed. Zero fields mean any.
type InstanceQuery struct {
	Customer    string // id or external id
	Integration string // id or name
	State       string
}

// Instances lists instances.
func (c *Client) Instances(ctx context.Context, q InstanceQuery, l List) (*api.Page[api.Instance], error) {
	v := l.query()
	for name, text := range map[string]string{"customer": q.Customer, "integration": q.Integration, "state": q.State} {
		if text != "" {
			v.Set(name, text)
		}
	}
	return ask[api.Page[api.Instance]](ctx, c, request{method: http.MethodGet, path: "/instances", query: v})
}

// Instance gets an instance with the addresses of its webhooks and its schedules.
func (c *Client) Instance(ctx context.Context, i id.Instance) (*api.Instance, error) {
	return ask[api.Instance](ctx, c, request{method: http.MethodGet, path: path("instances", i.String())})
}

// InstanceNamed is [Client.Instance] of an id, or of the name of a customer's one instance of
// an integration: acme/hello, by external id and name.
func (c *Client) InstanceNamed(ctx context.Context, ref string) (*api.Instance, error) {
	return ask[api.Instance](ctx, c, request{method: http.MethodGet, path: path("instances", ref)})
}

// sealConfig seals config values to the vault.
func (c *Client) sealConfig(ctx context.Context, customer id.Customer, i id.Instance, config []byte) ([]byte, error) {
	key, err := c.vaultKey(ctx)
	if err != nil {
		return nil, err
	}
	sealed, err := seal.Seal(key, lease.PurposeVault, lease.ConfigPlace(customer, i, 0), config)
	if err != nil {
		return nil, fmt.Errorf("seal config: %w", err)
	}
	return sealed, nil
}

// Deploy deploys a version to a customer. The config of the request is checked by the
// server. Use [Client.DeploySealed] when the config has been checked here.
func (c *Client) Deploy(ctx context.Context, r api.DeployRequest) (*api.Instance, error) {
	return ask[api.Instance](ctx, c, request{method: http.MethodPost, path: "/instances", body: r})
}

// DeploySealed makes or changes the instance of an id that is made here, see
// id.NewInstance. The config of the request, which the caller has checked, is sealed to the
// vault before it is sent: the server never sees it.
func (c *Client) DeploySealed(ctx context.Context, customer id.Customer, i id.Instance, r api.DeployRequest) (*api.Instance, error) {
	config := r.Config
	if config == nil {
		config = json.RawMessage("{}")
	}
	var err error
	if r.SealedConfig, err = c.sealConfig(ctx, customer, i, config); err != nil {
		return nil, err
	}
	r.Customer, r.Config = customer.String(), nil
	return ask[api.Instance](ctx, c, request{method: http.MethodPut, path: path("instances", i.String()), body: r})
}

// ChangeInstance changes what is named of an instance that has the revision.
func (c *Client) ChangeInstance(ctx context.Context, i id.Instance, revision uint64, r api.InstanceChange) (*api.Instance, error) {
	return ask[api.Instance](ctx, c, request{method: http.MethodPatch, path: path("instances", i.String()), body: r, match: revision})
}

// Pause lets an instance take events and begin nothing.
func (c *Client) Pause(ctx context.Context, i id.Instance) (*api.Instance, error) {
	return c.instanceVerb(ctx, i, "pause", nil, 0)
}

// Resume ends a pause.
func (c *Client) Resume(ctx context.Context, i id.Instance) (*api.Instance, error) {
	return c.instanceVerb(ctx, i, "resume", nil, 0)
}

// Upgrade moves an instance to another version. A revision other than 0 must be the
// instance's.
func (c *Client) Upgrade(ctx context.Context, i id.Instance, revision uint64, r api.UpgradeRequest) (*api.Instance, error) {
	return c.instanceVerb(ctx, i, "upgrade", r, revision)
}

// RollBack moves an instance back to the version that it had before.
func (c *Client) RollBack(ctx context.Context, i id.Instance, revision uint64) (*api.Instance, error) {
	return c.instanceVerb(ctx, i, "rollback", nil, revision)
}

func (c *Client) instanceVerb(ctx context.Context, i id.Instance, verb string, body any, revision uint64) (*api.Instance, error) {
	return ask[api.Instance](ctx, c, request{method: http.MethodPost, path: path("instances", i.String(), verb), body: body, match: revision})
}

// Remove ends an instance, with its config and state.
func (c *Client) Remove(ctx context.Context, i id.Instance) error {
	return c.ask(ctx, request{method: http.MethodDelete, path: path("instances", i.String())}, nil)
}

// Rejections lists what the webhooks of an instance refused lately, the newest first.
func (c *Client) Rejections(ctx context.Context, i id.Instance) (*api.Page[api.Rejection], error) {
	return ask[api.Page[api.Rejection]](ctx, c, request{method: http.MethodGet, path: path("instances", i.String(), "rejections")})
}

// HookURL is the address of a flow's webhook.
func (c *Client) HookURL(ctx context.Context, i id.Instance, flow string) (string, error) {
	h, err := ask[api.Hook](ctx, c, request{method: http.MethodGet, path: path("instances", i.String(), "hooks", flow)})
	if err != nil {
		return "", err
	}
	return h.URL, nil
}

// RotateHook gives the webhook of a flow a new address. The old one works on for overlap.
func (c *Client) RotateHook(ctx context.Context, i id.Instance, flow string, overlap time.Duration) (*api.Hook, error) {
	return ask[api.Hook](ctx, c, request{
		method: http.MethodPost, path: path("instances", i.String(), "hooks", flow, "rotate"),
		body: api.RotateRequest{OverlapSeconds: uint32(overlap / time.Second)},
	})
}
