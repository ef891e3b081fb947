package cli

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
)

type connectionsCommand struct {
	List    connectionsList    `cmd:"" default:"withargs" help:"List connections of a customer."`
	Show    connectionsShow    `cmd:"" help:"Show what is known of a connection; nobody reads its secret."`
	Account connectionsAccount `cmd:"" help:"Show what the account of a connection is called at its provider; the vault's log has each reading."`
	Put     connectionsPut     `cmd:"" help:"Connect a customer; with --replace, enter the credential of a connection again."`
	Test    connectionsTest    `cmd:"" help:"Test a connection with the request that its connector names."`
	Choices connectionsChoices `cmd:"" help:"List what an input of an action may be, as the connected service knows."`
	Rename  connectionsRename  `cmd:"" help:"Rename a connection."`
	Delete  connectionsDelete  `cmd:"" help:"Destroy a credential. Instances that use it need another."`
}

type connectionsList struct {
	remote
	Customer  string `placeholder:"CUSTOMER" help:"Id or external id; default: all."`
	Connector string `placeholder:"NAME" help:"Only those of a connector."`
	Health    string `placeholder:"HEALTH" help:"Only those that are unknown, ok, expiring, failing or needs_reconnect."`
	Limit     int    `default:"100" help:"Show at most so many; 0: all."`
}

// Run implements the command.
func (m *connectionsList) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		customers := m.Customer
		names := customerNames(ctx, x)
		t := &table{head: []string{"CUSTOMER", "NAME", "CONNECTOR", "KIND", "HOST", "HEALTH", "USED", "BY", "ID"}}
		return listing(&m.remote, c, m.Limit, "connections", func(cursor string) (*api.Page[api.Connection], error) {
			return x.FindConnections(ctx, customers, m.Connector, m.Health, client.List{Cursor: cursor})
		}, t, func(k *api.Connection) []string {
			return []string{names(k.Customer), k.Name, k.Connector, k.Kind, k.Host, healthText(k), ago(k.Used), strconv.Itoa(len(k.UsedBy)), k.ID.String()}
		})
	})
}

// customerNames finds external ids of customers, each asked for once. Where one cannot be
// had, the id has to do.
func customerNames(ctx context.Context, x *client.Client) func(id.Customer) string {
	known := map[id.Customer]string{}
	return func(k id.Customer) string {
		if name, ok := known[k]; ok {
			return name
		}
		known[k] = k.String()
		if row, err := x.Customer(ctx, k.String()); err == nil {
			known[k] = row.ExternalID
		}
		return known[k]
	}
}

// connectionRef names a connection.
type connectionRef struct {
	remote
	Ref        string        `arg:"" name:"connection" help:"Id, or CUSTOMER/NAME."`
	Connection id.Connection `kong:"-"`
}

// with is that of remote, with the id of the connection.
func (m *connectionRef) with(c *console, f func(context.Context, *client.Client) error) error {
	return m.remote.with(c, func(ctx context.Context, x *client.Client) error {
		customer, name, named := strings.Cut(m.Ref, "/")
		if !named {
			if err := m.Connection.UnmarshalText([]byte(m.Ref)); err != nil {
				return usage("%s: want the id of a connection, or CUSTOMER/NAME: %w", m.Ref, err)
			}
			return f(ctx, x)
		}
		k, err := connectionNamed(ctx, x, customer, name)
		if err != nil {
			return err
		}
		if k == nil {
			return fmt.Errorf("%s: %w", m.Ref, &client.Error{Problem: api.Problem{Title: "the customer has no connection of that name", Code: api.CodeNotFound}})
		}
		m.Connection = k.ID
		return f(ctx, x)
	})
}

type connectionsShow struct{ connectionRef }

// Run implements the command.
func (m *connectionsShow) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		k, err := x.Connection(ctx, m.Connection)
		if err != nil {
			return err
		}
		return m.details(c, k)
	})
}

type connectionsAccount struct {
	remote
	Connection id.Connection `arg:"" help:"Id."`
}

// Run implements the command.
func (m *connectionsAccount) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		k, err := x.ConnectionAccount(ctx, m.Connection)
		if err != nil {
			return err
		}
		return m.show(c, k, func() {
			if k.Label == "" {
				fmt.Fprintln(c.Err, "The provider does not tell whose account it is.")
				return
			}
			fmt.Fprintln(c.Out, oneLine(k.Label))
		})
	})
}

type connectionsPut struct {
	remote
	Customer string `arg:"" help:"Id or external id."`
	Name     string `arg:"" help:"What the connection is called."`
	URL      string `placeholder:"URL" help:"Of http: base URL that the credential is bound to."`
	Secret   string `placeholder:"TYPE:env:NAME" help:"Of http: credential, from the environment: bearer:env:NAME, basic:env:NAME, header:X-Api-Key:env:NAME or query:key:env:NAME."`
	Replace  bool   `help:"Enter the credential of a connection that there is again; what uses it goes on with the new one."`
	connectorCredential
	sharedFlags
}

// Run implements the command.
func (m *connectionsPut) Run(c *console) error {
	want, err := m.builtin()
	if err != nil {
		return err
	}
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		k, err := x.Customer(ctx, m.Customer)
		if err != nil {
			return err
		}
		old, err := connectionNamed(ctx, x, k.ExternalID, m.Name)
		if err != nil {
			return err
		}
		if old != nil && !m.Replace {
			return usage("%s has the connection %s already, to %s (%s): say --replace to enter its credential again, or give another name",
				oneLine(k.ExternalID), oneLine(old.Name), oneLine(old.Host), old.ID)
		}
		if err := m.resolve(ctx, x, old); err != nil {
			return err
		}
		var got *api.Connection
		if want == nil {
			got, err = m.putConnector(ctx, x, k, old)
		} else {
			got, err = m.putBuiltin(ctx, x, k, old, want)
		}
		if err != nil {
			return err
		}
		return m.show(c, got, func() {
			how := "is connected to"
			if old != nil {
				how = "has a new credential for"
			}
			fmt.Fprintf(c.Out, "%s %s %s as %s (%s)\n", oneLine(k.ExternalID), how, oneLine(got.Host), oneLine(got.Name), got.ID)
		})
	})
}

// builtin is the credential of the built-in connector; nil for one with a manifest.
func (m *connectionsPut) builtin() (*connection, error) {
	if !flow.BuiltInConnector(m.Connector) {
		if m.URL != "" || m.Secret != "" {
			return nil, usage("--url and --secret are of http: %s has --auth, --var and --field", m.Connector)
		}
		return nil, nil //nolint:nilnil // it has a manifest
	}
	if m.URL == "" {
		return nil, usage("say where the credential is used, with --url, or which --connector it is for")
	}
	b, err := egress.ParseBinding(m.URL)
	if err != nil {
		return nil, usage("--url: %w", err)
	}
	want := &connection{binding: b, kind: lease.KindNone}
	if m.Secret != "" {
		if err := want.readSecret(m.Secret); err != nil {
			return nil, usage("--secret: %w", err)
		}
	}
	return want, nil
}

// putBuiltin saves a credential of the built-in connector, sealed to the vault here.
func (m *connectionsPut) putBuiltin(ctx context.Context, x *client.Client, k *api.Customer, old *api.Connection, want *connection) (*api.Connection, error) {
	r := want.record(k.ID)
	if old != nil {
		r.Connection = old.ID
	}
	r.SharedWith, r.SharedFor = m.ShareWith, lease.AnyRequest(m.ShareFor)
	return x.PutConnection(ctx, r, m.Name)
}

// connectionNamed finds a customer's connection by its name, or nil.
func connectionNamed(ctx context.Context, x *client.Client, customer, name string) (*api.Connection, error) {
	for k, err := range client.All(func(cursor string) (*api.Page[api.Connection], error) {
		return x.Connections(ctx, customer, client.List{Cursor: cursor})
	}) {
		if err != nil {
			return nil, err
		}
		if k.Name == name {
			return &k, nil
		}
	}
	return nil, nil //nolint:nilnil // it does not exist
}

type connectionsDelete struct {
	connectionRef
	Yes bool `short:"y" help:"Do not ask."`
}

// Run implements the command.
func (m *connectionsDelete) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		k, err := x.Connection(ctx, m.Connection)
		if err != nil {
			return err
		}
		if err := c.confirm(m.Yes, fmt.Sprintf("Destroy the credential of %s at %s?", k.Name, k.Host)); err != nil {
			return err
		}
		gone, err := x.DeleteConnection(ctx, m.Connection)
		if err != nil {
			return err
		}
		return m.show(c, gone, func() {
			fmt.Fprintf(c.Out, "destroyed the credential of %s%s\n", m.Connection, revokedText(gone.Revoked))
			for _, i := range gone.Instances {
				fmt.Fprintf(c.Out, "instance %s needs another connection\n", i)
			}
		})
	})
}

// platformConnection is a connection of a platform file, with its secret read from where
// the file says that it is.
func platformConnection(k *flowfile.PlatformConnection, read func(flowfile.SecretSource) (string, error)) (connection, error) {
	b, err := egress.ParseBinding(k.URL)
	if err != nil {
		return connection{}, err
	}
	out := connection{binding: b, kind: lease.KindNone}
	field := func(name, text string) {
		out.fields = append(out.fields, lease.Field{Name: name, Secret: []byte(text)})
	}
	named := func(kind lease.Kind, n *flowfile.PlatformNamed) error {
		text, err := read(n.Value)
		out.kind = kind
		field("name", n.Name)
		field("value", text)
		return err
	}
	switch p := &k.Credential; {
	case p.Bearer != nil:
		var text string
		text, err = read(*p.Bearer)
		out.kind = lease.KindBearer
		field("token", text)
	case p.Basic != nil:
		var text string
		text, err = read(p.Basic.Password)
		out.kind = lease.KindBasic
		field("username", p.Basic.Username)
		field("password", text)
	case p.Header != nil:
		err = named(lease.KindHeader, p.Header)
	case p.Query != nil:
		err = named(lease.KindQuery, p.Query)
	}
	return out, err
}

// maxSecretFile is the largest file of a secret, in bytes.
const maxSecretFile = 64 << 10

// readSource reads a secret from where a platform file says that it is. Relative files
// are found from dir.
func readSource(s flowfile.SecretSource, within func(string) string) (string, error) {
	if s.Env != "" {
		text, ok := os.LookupEnv(s.Env)
		if !ok || text == "" {
			return "", usage("the environment variable %s is not set", s.Env)
		}
		return text, nil
	}
	b, err := readFile(within(s.File), maxSecretFile)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}
