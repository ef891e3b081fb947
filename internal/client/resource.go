package client

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Customers lists customers.
func (c *Client) Customers(ctx context.Context, l List) (*api.Page[api.Customer], error) {
	return ask[api.Page[api.Customer]](ctx, c, request{method: http.MethodGet, path: "/customers", query: l.query()})
}

// Customer gets a customer by its id or external id.
func (c *Client) Customer(ctx context.Context, ref string) (*api.Customer, error) {
	return ask[api.Customer](ctx, c, request{method: http.MethodGet, path: path("customers", ref)})
}

// PutCustomer makes a customer, or replaces what is said about the one with that external
// id.
func (c *Client) PutCustomer(ctx context.Context, r api.CustomerRequest) (*api.Customer, error) {
	return ask[api.Customer](ctx, c, request{method: http.MethodPost, path: "/customers", body: r})
}

// ChangeCustomer changes what is named of a customer.
func (c *Client) ChangeCustomer(ctx context.Context, ref string, r api.CustomerChange) (*api.Customer, error) {
	return ask[api.Customer](ctx, c, request{method: http.MethodPatch, path: path("customers", ref), body: r})
}

// DeleteCustomer deletes a customer that has no instances.
func (c *Client) DeleteCustomer(ctx context.Context, ref string) error {
	return c.ask(ctx, request{method: http.MethodDelete, path: path("customers", ref)}, nil)
}

// Validate says what is wrong with an integration file.
func (c *Client) Validate(ctx context.Context, source string) (*api.Validation, error) {
	return ask[api.Validation](ctx, c, request{method: http.MethodPost, path: "/integrations/validate", body: api.SourceRequest{Source: source}})
}

// Integrations lists integrations.
func (c *Client) Integrations(ctx context.Context, l List) (*api.Page[api.Integration], error) {
	return ask[api.Page[api.Integration]](ctx, c, request{method: http.MethodGet, path: "/integrations", query: l.query()})
}

// Integration gets an integration by its id or name.
func (c *Client) Integration(ctx context.Context, ref string) (*api.Integration, error) {
	return ask[api.Integration](ctx, c, request{method: http.MethodGet, path: path("integrations", ref)})
}

// Publish publishes a version: a source, or a definition as canonical JSON. The same
// content as the newest version is that version.
func (c *Client) Publish(ctx context.Context, r api.PublishRequest) (*api.Version, error) {
	return ask[api.Version](ctx, c, request{method: http.MethodPost, path: "/integrations", body: r})
}

// Draft gets the draft of an integration.
func (c *Client) Draft(ctx context.Context, ref string) (*api.Draft, error) {
	return ask[api.Draft](ctx, c, request{method: http.MethodGet, path: path("integrations", ref, "draft")})
}

// PutDraft replaces the draft of an integration that has the revision, or makes the
// integration with a draft: revision 0.
func (c *Client) PutDraft(ctx context.Context, ref, source string, revision uint64) (*api.Draft, error) {
	q := request{method: http.MethodPut, path: path("integrations", ref, "draft"), body: api.SourceRequest{Source: source}, match: revision}
	return ask[api.Draft](ctx, c, q)
}

// PublishDraft publishes the draft of an integration that has the revision; 0: any.
func (c *Client) PublishDraft(ctx context.Context, ref string, revision uint64) (*api.Version, error) {
	return ask[api.Version](ctx, c, request{method: http.MethodPost, path: path("integrations", ref, "publish"), match: revision})
}

// Versions lists the versions of an integration, the newest first.
func (c *Client) Versions(ctx context.Context, ref string, l List) (*api.Page[api.Version], error) {
	return ask[api.Page[api.Version]](ctx, c, request{method: http.MethodGet, path: path("integrations", ref, "versions"), query: l.query()})
}

// Version gets a version with its definition and source.
func (c *Client) Version(ctx context.Context, ref string, number uint32) (*api.Version, error) {
	p := path("integrations", ref, "versions", strconv.FormatUint(uint64(number), 10))
	return ask[api.Version](ctx, c, request{method: http.MethodGet, path: p})
}

// Connections lists connections; of all customers when the reference is empty.
func (c *Client) Connections(ctx context.Context, customer string, l List) (*api.Page[api.Connection], error) {
	q := l.query()
	if customer != "" {
		q.Set("customer", customer)
	}
	return ask[api.Page[api.Connection]](ctx, c, request{method: http.MethodGet, path: "/connections", query: q})
}

// Connection gets the metadata of a connection.
func (c *Client) Connection(ctx context.Context, n id.Connection) (*api.Connection, error) {
	return ask[api.Connection](ctx, c, request{method: http.MethodGet, path: path("connections", n.String())})
}

// ConnectionAccount gets what the account of a connection is called at its provider.
func (c *Client) ConnectionAccount(ctx context.Context, n id.Connection) (*api.Account, error) {
	return ask[api.Account](ctx, c, request{method: http.MethodGet, path: path("connections", n.String(), "account")})
}

// PutConnection seals a credential record to the vault and saves it, with a name for
// display.
func (c *Client) PutConnection(ctx context.Context, r *lease.Record, name string) (*api.Connection, error) {
	key, err := c.vaultKey(ctx)
	if err != nil {
		return nil, err
	}
	sealed, err := seal.Seal(key, lease.PurposeVault, lease.ConnectionPlace(r.Customer, r.Connection), wire.AppendBody(nil, r))
	if err != nil {
		return nil, fmt.Errorf("seal credential: %w", err)
	}
	return ask[api.Connection](ctx, c, request{method: http.MethodPut, path: path("connections", r.Connection.String()), body: api.ConnectionRequest{
		Customer: r.Customer.String(), Name: name, Connector: r.Connector, Kind: string(r.Kind), Host: r.Binding.Authority(), Record: sealed,
		Shared: shared(r),
	}})
}

// shared says for display with whom a record is shared.
func shared(r *lease.Record) *api.Shared {
	if len(r.SharedWith) == 0 {
		return nil
	}
	return &api.Shared{Customers: r.SharedWith, Actions: r.Actions()}
}

// DeleteConnection destroys a credential. The instances that used it need another.
func (c *Client) DeleteConnection(ctx context.Context, n id.Connection) (*api.ConnectionRemoved, error) {
	return ask[api.ConnectionRemoved](ctx, c, request{method: http.MethodDelete, path: path("connections", n.String())})
}

// Tokens lists the tokens of the API.
func (c *Client) Tokens(ctx context.Context, l List) (*api.Page[api.Token], error) {
	return ask[api.Page[api.Token]](ctx, c, request{method: http.MethodGet, path: "/tokens", query: l.query()})
}

// MakeToken makes a token. Its secret is in this answer only.
func (c *Client) MakeToken(ctx context.Context, r api.TokenRequest) (*api.NewToken, error) {
	return ask[api.NewToken](ctx, c, request{method: http.MethodPost, path: "/tokens", body: r})
}

// RevokeToken ends a token.
func (c *Client) RevokeToken(ctx context.Context, t id.Token) error {
	return c.ask(ctx, request{method: http.MethodDelete, path: path("tokens", t.String())}, nil)
}
