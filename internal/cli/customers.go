package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

type customersCommand struct {
	List   customersList   `cmd:"" default:"withargs" help:"List customers."`
	Show   customersShow   `cmd:"" help:"Show one customer."`
	Put    customersPut    `cmd:"" help:"Make a customer, or change what is named of it."`
	Delete customersDelete `cmd:"" help:"Delete a customer that has no instances."`
}

type customersList struct {
	remote
	Limit int `default:"100" help:"Show at most so many; 0: all."`
}

// Run implements the command.
func (m *customersList) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		t := &table{head: []string{"CUSTOMER", "NAME", "TIME ZONE", "CHANGED", "ID"}}
		return listing(&m.remote, c, m.Limit, "customers", func(cursor string) (*api.Page[api.Customer], error) {
			return x.Customers(ctx, client.List{Cursor: cursor})
		}, t, func(k *api.Customer) []string {
			return []string{k.ExternalID, k.Name, k.Timezone, ago(k.Changed), k.ID.String()}
		})
	})
}

type customersShow struct {
	remote
	Customer string `arg:"" help:"Id or external id."`
}

// Run implements the command.
func (m *customersShow) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		k, err := x.Customer(ctx, m.Customer)
		if err != nil {
			return err
		}
		return m.details(c, k)
	})
}

type customersPut struct {
	remote
	Customer   string  `arg:"" help:"Its id in your own system."`
	Name       *string `help:"What people call it."`
	Timezone   *string `help:"IANA name, such as Europe/Berlin."`
	Locale     *string `help:"Such as en or de-AT."`
	Attributes string  `placeholder:"JSON" help:"JSON object that flows see as customer.attributes."`
	Weight     *uint32 `help:"Share of the scheduler's turns."`
}

// Run implements the command.
func (m *customersPut) Run(c *console) error {
	if m.Attributes != "" && !json.Valid([]byte(m.Attributes)) {
		return usage("--attributes: want a JSON object")
	}
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		change := api.CustomerChange{Name: m.Name, Timezone: m.Timezone, Locale: m.Locale, Weight: m.Weight}
		if m.Attributes != "" {
			change.Attributes = json.RawMessage(m.Attributes)
		}
		done := "changed"
		k, err := x.ChangeCustomer(ctx, m.Customer, change)
		if client.IsCode(err, api.CodeNotFound) {
			done = "made"
			k, err = x.PutCustomer(ctx, api.CustomerRequest{ExternalID: m.Customer, CustomerFields: m.fields(change)})
		}
		if err != nil {
			return err
		}
		return m.show(c, k, func() { fmt.Fprintf(c.Out, "%s %s (%s)\n", done, oneLine(k.ExternalID), k.ID) })
	})
}

func (m *customersPut) fields(change api.CustomerChange) api.CustomerFields {
	f := api.CustomerFields{Attributes: change.Attributes}
	for to, from := range map[*string]*string{&f.Name: m.Name, &f.Timezone: m.Timezone, &f.Locale: m.Locale} {
		if from != nil {
			*to = *from
		}
	}
	if m.Weight != nil {
		f.Weight = *m.Weight
	}
	return f
}

type customersDelete struct {
	remote
	Customer string `arg:"" help:"Id or external id."`
	Yes      bool   `short:"y" help:"Do not ask."`
}

// Run implements the command.
func (m *customersDelete) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		if err := c.confirm(m.Yes, fmt.Sprintf("Delete customer %s, with its keys?", m.Customer)); err != nil {
			return err
		}
		if err := x.DeleteCustomer(ctx, m.Customer); err != nil {
			return err
		}
		return m.show(c, map[string]string{"deleted": m.Customer}, func() { fmt.Fprintf(c.Out, "deleted %s\n", m.Customer) })
	})
}

type tokensCommand struct {
	List   tokensList   `cmd:"" default:"withargs" help:"List tokens."`
	Create tokensCreate `cmd:"" help:"Make a token; its secret is shown once."`
	Revoke tokensRevoke `cmd:"" help:"Revoke a token."`
}

type tokensList struct{ remote }

// Run implements the command.
func (m *tokensList) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		t := &table{head: []string{"NAME", "ROLE", "USED", "EXPIRES", "ID"}}
		return listing(&m.remote, c, 0, "tokens", func(cursor string) (*api.Page[api.Token], error) {
			return x.Tokens(ctx, client.List{Cursor: cursor})
		}, t, func(k *api.Token) []string {
			return []string{k.Name, string(k.Role), ago(k.Used), ago(k.Expires), k.ID.String()}
		})
	})
}

type tokensCreate struct {
	remote
	Name string   `arg:"" help:"What it is for."`
	Role api.Role `default:"operator" enum:"admin,operator,builder,viewer" help:"What it may do: ${enum}."`
	Days uint32   `default:"90" help:"How many days it is valid."`
}

// Run implements the command. The secret alone goes to standard output, so that it can
// be put where it belongs without being shown.
func (m *tokensCreate) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		k, err := x.MakeToken(ctx, api.TokenRequest{Name: m.Name, Role: m.Role, Days: m.Days})
		if err != nil {
			return err
		}
		return m.show(c, k, func() {
			fmt.Fprintf(c.Err, "%s may use the API as %s, %s. This is shown once:\n", k.Name, k.Role, "until "+k.Expires.Local().Format("2 January 2006"))
			fmt.Fprintln(c.Out, k.Secret)
		})
	})
}

type tokensRevoke struct {
	remote
	Token id.Token `arg:"" help:"Id of the token."`
}

// Run implements the command.
func (m *tokensRevoke) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		if err := x.RevokeToken(ctx, m.Token); err != nil {
			return err
		}
		return m.show(c, map[string]any{"revoked": m.Token}, func() { fmt.Fprintf(c.Out, "revoked %s\n", m.Token) })
	})
}
