package cli

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/client"
	"github.com/bulkheadhq/bulkhead/internal/connect"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// secretFields reads NAME=env:VARIABLE and NAME=file:NAME: secrets come from the environment
// or from files, never from the command line, which every process of the machine can read.
// NAME=text:VALUE is for what is no secret.
func secretFields(given map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		kind, rest, ok := strings.Cut(given[name], ":")
		if !ok || rest == "" {
			return nil, usage("--field %s: want %s=env:NAME, %s=file:NAME or, for what is no secret, %s=text:VALUE", name, name, name, name)
		}
		switch kind {
		case "env":
			if out[name] = os.Getenv(rest); out[name] == "" {
				return nil, usage("--field %s: the environment variable %s is not set, or empty", name, rest)
			}
		case "file":
			b, err := readFile(rest, maxSecretFile)
			if err != nil {
				return nil, usage("--field %s: %w", name, err)
			}
			out[name] = strings.TrimRight(string(b), "\r\n")
		case "text":
			out[name] = rest
		default:
			return nil, usage("--field %s: want env:, file: or text: before where the value is", name)
		}
	}
	return out, nil
}

type connectionsRename struct {
	connectionRef
	Name string `arg:"" help:"What it is called from now on."`
}

// Run implements the command.
func (m *connectionsRename) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		k, err := x.RenameConnection(ctx, m.Connection, m.Name)
		if err != nil {
			return err
		}
		return m.show(c, k, func() { fmt.Fprintf(c.Out, "%s is called %s\n", k.ID, oneLine(k.Name)) })
	})
}

// connectorCredential is what connections put says of a connector with a manifest.
type connectorCredential struct {
	Connector string            `placeholder:"NAME" help:"Connector; default http, which has --url and --secret instead of what follows."`
	Version   string            `placeholder:"RANGE" help:"Version of the connector, or a range such as ^1; default the newest."`
	Auth      string            `placeholder:"ID" help:"Auth method of the connector; default its first."`
	Var       map[string]string `placeholder:"NAME=VALUE" help:"Variable of the connector's hosts."`
	Field     map[string]string `placeholder:"NAME=env:NAME" help:"Field of the credential: NAME=env:VARIABLE, NAME=file:NAME, or NAME=text:VALUE for what is no secret."`
	Template  string            `placeholder:"ID" help:"Connection template whose OAuth client is used."`
}

// sharedFlags say who beside its owner uses a connection of the organization.
type sharedFlags struct {
	ShareWith []string `placeholder:"CUSTOMER" help:"Of a connection of the customer internal: customers who may use it, by id or external id, * for all of them, or nobody."`
	ShareFor  []string `placeholder:"ACTION" help:"The only actions that may use a shared connection; default all."`
}

// resolve makes ids of the names of customers. A connection that was shared is not silently shared no more: nobody has to be said.
func (f *sharedFlags) resolve(ctx context.Context, x *client.Client, old *api.Connection) error {
	if old != nil && old.Shared != nil && len(f.ShareWith) == 0 {
		return usage("%s is shared with %s: say --share-with again, or --share-with nobody", oneLine(old.Name), strings.Join(old.Shared.Customers, ", "))
	}
	if slices.Equal(f.ShareWith, []string{"nobody"}) {
		if len(f.ShareFor) > 0 {
			return usage("--share-for says for which actions customers may use it, and --share-with nobody that none may")
		}
		f.ShareWith = nil
	}
	for n, name := range f.ShareWith {
		if name == lease.SharedWithAll {
			continue
		}
		k, err := x.Customer(ctx, name)
		if err != nil {
			return fmt.Errorf("--share-with %s: %w", oneLine(name), err)
		}
		f.ShareWith[n] = k.ID.String()
	}
	return nil
}

func (f *sharedFlags) shared() *api.Shared {
	if len(f.ShareWith) == 0 && len(f.ShareFor) == 0 {
		return nil
	}
	return &api.Shared{Customers: f.ShareWith, Actions: f.ShareFor}
}

// putConnector saves a credential by an auth method of a connector.
func (m *connectionsPut) putConnector(ctx context.Context, x *client.Client, k *api.Customer, old *api.Connection) (*api.Connection, error) {
	r := api.ConnectionRequest{
		Customer: k.ID.String(), Name: m.Name, Connector: m.Connector, Version: m.Version, Auth: m.Auth, Vars: m.Var, Shared: m.shared(),
	}
	var err error
	if r.Fields, err = secretFields(m.Field); err != nil {
		return nil, err
	}
	if r.Template, err = optionalTemplate(m.Template); err != nil {
		return nil, err
	}
	if old != nil {
		return x.ReplaceConnection(ctx, old.ID, r)
	}
	return x.MakeConnection(ctx, r)
}

func optionalTemplate(text string) (t id.Template, err error) {
	if text == "" {
		return t, nil
	}
	if err := t.UnmarshalText([]byte(text)); err != nil {
		return t, usage("--template: %w", err)
	}
	return t, nil
}

type templatesCommand struct {
	List   templatesList   `cmd:"" default:"withargs" help:"List connection templates."`
	Show   templatesShow   `cmd:"" help:"Show a connection template; nobody reads the secret of its client."`
	Put    templatesPut    `cmd:"" help:"Save the organization's OAuth client for a connector."`
	Delete templatesDelete `cmd:"" help:"Destroy the client of a connection template."`
}

type templatesList struct {
	remote
	Connector string `placeholder:"NAME" help:"Only those of a connector."`
}

// Run implements the command.
func (m *templatesList) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		t := &table{head: []string{"NAME", "CONNECTOR", "AUTH", "CLIENT", "UNKNOWN", "CHANGED", "ID"}}
		return listing(&m.remote, c, 0, "connection templates", func(cursor string) (*api.Page[api.Template], error) {
			return x.Templates(ctx, m.Connector, client.List{Cursor: cursor})
		}, t, func(k *api.Template) []string {
			unknown := "" // events of accounts that nobody has connected
			if u := k.UnknownAccounts; u != nil {
				unknown = fmt.Sprintf("%d since %s", u.Events, u.Since.UTC().Format(time.DateOnly))
			}
			return []string{k.Name, k.Connector + " " + k.ConnectorVersion, k.Auth, k.ClientID, unknown, ago(k.Changed), k.ID.String()}
		})
	})
}

type templatesShow struct {
	remote
	Template id.Template `arg:"" help:"Id."`
}

// Run implements the command.
func (m *templatesShow) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		k, err := x.Template(ctx, m.Template)
		if err != nil {
			return err
		}
		return m.details(c, k)
	})
}

type templatesPut struct {
	remote
	Connector string            `arg:"" help:"Connector."`
	Template  string            `placeholder:"ID" help:"Template to replace; default a new one."`
	Name      string            `help:"What it is called; default the connector's title."`
	Version   string            `placeholder:"RANGE" help:"Version of the connector, or a range such as ^1; default the newest."`
	Auth      string            `placeholder:"ID" help:"Auth method; default the first with an OAuth client."`
	Var       map[string]string `placeholder:"NAME=VALUE" help:"Variable that connections need not enter."`
	Scope     []string          `placeholder:"SCOPE" help:"Scope that is asked for beside those of the connector."`
	Customer  []string          `required:"" placeholder:"CUSTOMER" help:"Customers who may be connected with the client, by id or external id, or * for all of them."`
	Field     map[string]string `required:"" placeholder:"NAME=env:NAME" help:"Field of the client: client_id=text:ID, client_secret=env:VARIABLE or =file:NAME, perhaps signing_secret."`
}

// Run implements the command.
func (m *templatesPut) Run(c *console) error {
	t, err := optionalTemplate(m.Template)
	if err != nil {
		return err
	}
	fields, err := secretFields(m.Field)
	if err != nil {
		return err
	}
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		k, err := x.PutTemplate(ctx, t, api.TemplateRequest{
			Name: m.Name, Connector: m.Connector, Version: m.Version, Auth: m.Auth, Vars: m.Var, Scopes: m.Scope, Customers: m.Customer, Fields: fields,
		})
		if err != nil {
			return err
		}
		return m.show(c, k, func() {
			fmt.Fprintf(c.Out, "%s can be connected with %s (%s)\nRegister this redirect URI at the provider: %s\n", k.Connector, oneLine(k.Name), k.ID, k.RedirectURI)
		})
	})
}

type templatesDelete struct {
	remote
	Template id.Template `arg:"" help:"Id."`
	Yes      bool        `short:"y" help:"Do not ask."`
}

// Run implements the command.
func (m *templatesDelete) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		k, err := x.Template(ctx, m.Template)
		if err != nil {
			return err
		}
		if err := c.confirm(m.Yes, fmt.Sprintf("Destroy the OAuth client %s of %s? What was connected with it cannot be refreshed any more.", k.Name, k.Connector)); err != nil {
			return err
		}
		if err := x.DeleteTemplate(ctx, m.Template); err != nil {
			return err
		}
		return m.show(c, map[string]any{"deleted": m.Template}, func() { fmt.Fprintf(c.Out, "destroyed the client of %s\n", m.Template) })
	})
}

type connectLinkCommand struct {
	remote
	Customer   string            `arg:"" help:"Id or external id."`
	Connector  string            `arg:"" optional:"" help:"Connector; not with --connection."`
	Connection string            `placeholder:"NAME" help:"Connection of the customer to be connected again, by name or id."`
	Version    string            `placeholder:"RANGE" help:"Version of the connector, or a range such as ^1; default the newest."`
	Template   string            `placeholder:"ID" help:"Connection template; default the only one of the connector."`
	Name       string            `help:"What the connection is called."`
	Auth       []string          `placeholder:"ID" help:"Auth methods to choose from; default all."`
	Var        map[string]string `placeholder:"NAME=VALUE" help:"Variable that the person need not enter."`
	sharedFlags
	ReturnURL string `name:"return-url" placeholder:"URL" help:"Where the page leads back to; it begins as one of the brand's return URLs."`
	Days      uint32 `default:"7" help:"How long the link can be used."`
}

// Run implements the command. The address alone goes to standard output.
func (m *connectLinkCommand) Run(c *console) error {
	switch {
	case m.Connector == "" && m.Connection == "":
		return usage("name a connector for a new connection, or with --connection the one of %s that is connected again", oneLine(m.Customer))
	case m.Connector != "" && m.Connection != "":
		return usage("%s is for a new connection, and --connection %s is connected again by its own connector: give one of them",
			oneLine(m.Connector), oneLine(m.Connection))
	}
	t, err := optionalTemplate(m.Template)
	if err != nil {
		return err
	}
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		if err := m.resolve(ctx, x, nil); err != nil {
			return err
		}
		again, err := m.again(ctx, x)
		if err != nil {
			return err
		}
		k, err := x.MakeConnectLink(ctx, api.ConnectLinkRequest{
			Customer: m.Customer, Connector: m.Connector, Connection: again, Version: m.Version, Template: t, Name: m.Name, Auth: m.Auth,
			Vars: m.Var, Shared: m.shared(), ReturnURL: m.ReturnURL, Days: m.Days,
		})
		if err != nil {
			return err
		}
		return m.show(c, k, func() {
			fmt.Fprintf(c.Err, "Who opens this address connects %s to %s, once, until %s. It is shown once:\n",
				oneLine(m.Customer), k.Connector, k.Expires.Local().Format("2 January 2006"))
			fmt.Fprintln(c.Out, k.URL)
		})
	})
}

// again is the connection that is connected again; zero: a new one is made.
func (m *connectLinkCommand) again(ctx context.Context, x *client.Client) (n id.Connection, err error) {
	if m.Connection == "" || n.UnmarshalText([]byte(m.Connection)) == nil {
		return n, nil
	}
	name := strings.TrimPrefix(m.Connection, m.Customer+"/")
	k, err := connectionNamed(ctx, x, m.Customer, name)
	switch {
	case err != nil:
		return n, err
	case k == nil:
		return n, usage("--connection %s: %s has no connection of that name: bulkhead connections --customer %s lists them",
			oneLine(m.Connection), oneLine(m.Customer), oneLine(m.Customer))
	}
	return k.ID, nil
}

type linksCommand struct {
	List   linksList   `cmd:"" default:"withargs" help:"List connect links, without their addresses."`
	Revoke linksRevoke `cmd:"" help:"End a connect link."`
}

type linksList struct {
	remote
	Customer string `placeholder:"CUSTOMER" help:"Id or external id; default: all."`
	Limit    int    `default:"100" help:"Show at most so many; 0: all."`
}

// Run implements the command.
func (m *linksList) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		names := customerNames(ctx, x)
		t := &table{head: []string{"CUSTOMER", "CONNECTOR", "STATE", "EXPIRES", "MADE BY", "ID"}}
		return listing(&m.remote, c, m.Limit, "connect links", func(cursor string) (*api.Page[api.ConnectLink], error) {
			return x.ConnectLinks(ctx, m.Customer, client.List{Cursor: cursor})
		}, t, func(k *api.ConnectLink) []string {
			return []string{names(k.Customer), k.Connector, k.State, ago(k.Expires), k.CreatedBy, k.ID.String()}
		})
	})
}

type linksRevoke struct {
	remote
	Link id.Link `arg:"" help:"Id."`
}

// Run implements the command.
func (m *linksRevoke) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		if err := x.RevokeConnectLink(ctx, m.Link); err != nil {
			return err
		}
		return m.show(c, map[string]any{"revoked": m.Link}, func() { fmt.Fprintf(c.Out, "revoked %s\n", m.Link) })
	})
}

type noticesCommand struct {
	List noticesList `cmd:"" default:"withargs" help:"List notices: connections that must be connected again, that expire or that nobody uses."`
	Seen noticesSeen `cmd:"" help:"Note that somebody has seen a notice."`
}

type noticesList struct {
	remote
	Customer string `placeholder:"CUSTOMER" help:"Id or external id; default: all."`
	All      bool   `help:"Also those that were seen."`
	Limit    int    `default:"100" help:"Show at most so many; 0: all."`
}

// Run implements the command.
func (m *noticesList) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		names := customerNames(ctx, x)
		t := &table{head: []string{"WHEN", "WHAT", "WHY", "CUSTOMER", "CONNECTION", "ID"}}
		return listing(&m.remote, c, m.Limit, "notices", func(cursor string) (*api.Page[api.Notice], error) {
			return x.Notices(ctx, m.Customer, !m.All, client.List{Cursor: cursor})
		}, t, func(k *api.Notice) []string {
			return []string{ago(k.At), string(k.Kind), k.Reason, names(k.Customer), k.Connection.String(), k.ID.String()}
		})
	})
}

type noticesSeen struct {
	remote
	Notice []id.Notice `arg:"" help:"Ids."`
}

// Run implements the command.
func (m *noticesSeen) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		for _, n := range m.Notice {
			if err := x.SeeNotice(ctx, n); err != nil {
				return err
			}
		}
		return m.show(c, map[string]any{"seen": m.Notice}, func() { fmt.Fprintf(c.Out, "seen: %d\n", len(m.Notice)) })
	})
}

type brandCommand struct {
	Show brandShow `cmd:"" default:"withargs" help:"Show how the organization looks on hosted pages."`
	Put  brandPut  `cmd:"" help:"Set how the organization looks on hosted pages. What is not named stays as it is."`
}

type brandShow struct{ remote }

// Run implements the command.
func (m *brandShow) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		b, err := x.Brand(ctx)
		if err != nil {
			return err
		}
		return m.details(c, b)
	})
}

type brandPut struct {
	remote
	Title      *string           `help:"Name of the organization, as customers know it."`
	Colour     map[string]string `placeholder:"NAME=#rrggbb" help:"accent, background or text."`
	Logo       string            `placeholder:"FILE" help:"PNG, JPEG, GIF or WebP of at most 64 KiB."`
	ReturnURLs []string          `name:"return-url" placeholder:"URL" help:"Beginning of addresses that connect links may lead back to; all of them, each ends with a slash."`
}

// Run implements the command.
func (m *brandPut) Run(c *console) error {
	return m.with(c, func(ctx context.Context, x *client.Client) error {
		b, err := x.Brand(ctx)
		if err != nil {
			return err
		}
		if m.Title != nil {
			b.Title = *m.Title
		}
		if b.Colours == nil {
			b.Colours = map[string]string{}
		}
		maps.Copy(b.Colours, m.Colour)
		if len(m.ReturnURLs) > 0 {
			b.ReturnURLs = m.ReturnURLs
		}
		if m.Logo != "" {
			if b.Logo, err = readFile(m.Logo, connect.MaxLogo); err != nil {
				return err
			}
		}
		got, err := x.PutBrand(ctx, *b)
		if err != nil {
			return err
		}
		return m.show(c, got, func() { fmt.Fprintf(c.Out, "hosted pages are of %s\n", oneLine(got.Title)) })
	})
}

// healthText shows how a connection does, and why not well.
func healthText(k *api.Connection) string {
	text := string(k.Health)
	if k.Problem != "" {
		text += " (" + k.Problem + ")"
	}
	if k.Unused && k.Health != store.HealthNeedsReconnect {
		text += ", unused"
	}
	return text
}

// revokedText says what the provider made of the end of a connection.
func revokedText(r connect.Revoked) string {
	switch r {
	case connect.RevokedYes:
		return ", and the provider revoked the grant"
	case connect.RevokedFailed:
		return "; the provider did not revoke the grant: end it there"
	case connect.RevokedNotOffered:
		return "; the provider has no way to revoke a grant: end it there"
	}
	return ""
}
