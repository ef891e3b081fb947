package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connect"
	"github.com/bulkheadhq/bulkhead/internal/egress"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Connection is the metadata of a connection. Its credential is in the vault, and no
// route returns it.
type Connection struct {
	ID               id.Connection     `json:"id"`
	Customer         id.Customer       `json:"customer"`
	Name             string            `json:"name"`
	Connector        string            `json:"connector"`
	ConnectorVersion string            `json:"connector_version,omitempty" doc:"Of connectors with a manifest."`
	Auth             string            `json:"auth,omitempty" doc:"The auth method of the connector."`
	Template         string            `json:"template,omitempty" doc:"The connection template with the OAuth client."`
	Kind             string            `json:"kind" doc:"How the credential is presented."`
	Host             string            `json:"host" doc:"For display; the binding is part of the credential."`
	Vars             map[string]string `json:"vars,omitempty" doc:"Variables of the connector's hosts."`
	Scopes           []string          `json:"scopes,omitempty" doc:"What the provider granted."`
	Shared           *Shared           `json:"shared,omitempty"`
	Version          uint64            `json:"version" doc:"Counts replacements and refreshes of the credential."`
	Health           store.Health      `json:"health" enum:"unknown,ok,expiring,failing,needs_reconnect,revoked"`
	HealthChecked    time.Time         `json:"health_checked,omitzero"`
	Problem          string            `json:"problem,omitempty" doc:"Why it is not ok: one of a fixed list of reasons, or an error code of OAuth."`
	Expires          time.Time         `json:"expires,omitzero" doc:"When its access token ends, which is refreshed before where it can be, or its client certificate."`
	Refreshed        time.Time         `json:"refreshed,omitzero"`
	Used             time.Time         `json:"used,omitzero" doc:"To some minutes."`
	Unused           bool              `json:"unused" doc:"Nothing has used it for 90 days."`
	UsedBy           []id.Instance     `json:"used_by" doc:"Instances with it in a slot."`
	CreatedBy        string            `json:"created_by,omitempty" doc:"A token of the API, or a connect link."`
	Created          time.Time         `json:"created"`
	Changed          time.Time         `json:"changed"`
}

// Shared says who beside its owner may use a connection, and for what. It is part of the
// sealed credential: changing it needs the secret again.
type Shared struct {
	Customers []string `json:"customers,omitempty" maxItems:"200" doc:"Ids of customers, or * for all."`
	Actions   []string `json:"actions,omitempty" maxItems:"200" doc:"The only actions of the connector that may use it; default all."`
}

// ConnectionRequest saves a credential. Of a connector with a manifest: Auth, Vars and
// Fields as the manifest says. Of the built-in connector: in clear, with Kind, URL and
// Fields; or as Record, a lease.Record sealed to the vault by the client, with Host for
// display. What is sent in clear is sealed to the vault as soon as it is read.
type ConnectionRequest struct {
	Customer  string            `json:"customer" doc:"Id or external id of the owner."`
	Name      string            `json:"name,omitempty" maxLength:"200"`
	Connector string            `json:"connector,omitempty" maxLength:"200" doc:"Default http."`
	Version   string            `json:"version,omitempty" maxLength:"100" doc:"Of the connector, or a range such as ^1; default the newest."`
	Auth      string            `json:"auth,omitempty" maxLength:"100" doc:"Auth method of the connector; default its first."`
	Template  id.Template       `json:"template,omitzero" doc:"Connection template whose OAuth client is used."`
	Vars      map[string]string `json:"vars,omitempty" doc:"Variables of the connector's hosts."`
	Kind      string            `json:"kind,omitempty" enum:"none,bearer,basic,header,query" doc:"Of the built-in connector."`
	URL       string            `json:"url,omitempty" maxLength:"2048" doc:"Of the built-in connector: where the credential may be used: scheme, host, port and path prefix."`
	Methods   []string          `json:"methods,omitempty" maxItems:"20" doc:"Of the built-in connector: methods that are allowed; default all."`
	Fields    map[string]string `json:"fields,omitempty" writeOnly:"true" doc:"bearer: token; basic: username, password; header, query: name, value; else as the auth method says."`
	Shared    *Shared           `json:"shared,omitempty" doc:"Of connections of the organization itself."`
	Host      string            `json:"host,omitempty" maxLength:"253"`
	Record    []byte            `json:"record,omitempty" writeOnly:"true"`
}

// ConnectionChange renames a connection. Nothing else of one changes without its secret.
type ConnectionChange struct {
	Name string `json:"name" minLength:"1" maxLength:"200"`
}

// ConnectionRemoved says what a removed connection leaves behind.
type ConnectionRemoved struct {
	Instances []id.Instance   `json:"instances" doc:"They need another connection now."`
	Revoked   connect.Revoked `json:"revoked" enum:"yes,failed,not_offered,nothing" doc:"Whether the provider ended the grant. The credential is destroyed in any case."`
}

// ConnectionPath names a connection in a path.
type ConnectionPath struct {
	Connection id.Connection `path:"connection"`
}

func (s *Server) connectionRoutes() []route {
	return []route{
		{
			id: "list-connections", method: http.MethodGet, path: "/connections", permission: PermissionConnectionsRead,
			summary: "List connections, without their credentials.", register: handle(s, s.listConnections),
		},
		{
			id: "make-connection", method: http.MethodPost, path: "/connections", permission: PermissionConnectionsWrite,
			summary: "Save a credential as a new connection.", register: handle(s, s.makeConnection),
		},
		{
			id: "get-connection", method: http.MethodGet, path: "/connections/{connection}", permission: PermissionConnectionsRead,
			summary: "Get the metadata of a connection.", register: handle(s, s.getConnection),
		},
		{
			id: "put-connection", method: http.MethodPut, path: "/connections/{connection}", permission: PermissionConnectionsWrite,
			summary: "Replace the credential of a connection, or save one under an id that the client made.", register: handle(s, s.putConnection),
		},
		{
			id: "get-connection-account", method: http.MethodGet, path: "/connections/{connection}/account", permission: PermissionExecutionsView,
			summary: "Get what the account of a connection is called at its provider. The vault's log has each reading.", register: handle(s, s.getAccount),
		},
		{
			id: "rename-connection", method: http.MethodPatch, path: "/connections/{connection}", permission: PermissionConnectionsWrite,
			summary: "Rename a connection. Whatever else changes needs the secret again.", register: handle(s, s.renameConnection),
		},
		{
			id: "delete-connection", method: http.MethodDelete, path: "/connections/{connection}", permission: PermissionConnectionsWrite,
			summary: "Revoke a connection at its provider, and destroy its credential. The instances that use it need another connection.", register: handle(s, s.deleteConnection),
		},
	}
}

func connectionOf(n *store.ConnectionInfo) Connection {
	out := Connection{
		ID: n.ID, Customer: n.Customer, Name: n.Name, Connector: n.Connector, ConnectorVersion: n.ConnectorVersion, Auth: n.Method,
		Template: n.Template.String(), Kind: n.Kind, Host: n.Host, Vars: n.Vars, Scopes: n.Scopes, Version: n.RecordVersion,
		Health: n.Health, HealthChecked: n.HealthChecked, Problem: n.Problem, Expires: n.TokenExpires, Refreshed: n.LastRefresh,
		Used: n.LastUsed, UsedBy: []id.Instance{}, CreatedBy: n.CreatedBy, Created: n.Created, Changed: n.Changed,
	}
	last := n.LastUsed
	if last.Before(n.Changed) {
		last = n.Changed
	}
	out.Unused = time.Since(last) > connect.UnusedAfter
	out.Shared = sharedBy(&n.Shared)
	return out
}

func (s *Server) listConnections(ctx context.Context, in *struct {
	ListInput
	Customer  string       `query:"customer" maxLength:"200" doc:"Id or external id."`
	Connector string       `query:"connector" maxLength:"200"`
	Health    store.Health `query:"health" enum:"unknown,ok,expiring,failing,needs_reconnect,revoked"`
},
) (*answer[Page[Connection]], error) {
	of, err := s.maybeCustomer(ctx, in.Customer)
	if err != nil {
		return nil, err
	}
	q := store.ConnectionQuery{Customer: of, Connector: in.Connector, Health: in.Health}
	page, err := filteredPage(ctx, s, "connections", q, &in.ListInput, func(after id.Connection, limit int) ([]store.ConnectionInfo, error) {
		q := q
		q.After = after
		return s.org(ctx).Connections(&q, limit)
	}, connectionOf, func(n *store.ConnectionInfo) id.Connection { return n.ID })
	if err != nil {
		return nil, err
	}
	return page, s.usedBy(ctx, page.Body.Items)
}

// usedBy adds the instances that use connections, which are in the order of their ids.
func (s *Server) usedBy(ctx context.Context, list []Connection) error {
	if len(list) == 0 {
		return nil
	}
	users, err := s.org(ctx).UsersOf(list[0].ID, list[len(list)-1].ID)
	for n := range list {
		if u := users[list[n].ID]; len(u) > 0 {
			list[n].UsedBy = u
		}
	}
	return err
}

// maybeCustomer finds a customer that a filter names; zero when it names none.
func (s *Server) maybeCustomer(ctx context.Context, ref string) (id.Customer, error) {
	if ref == "" {
		return id.Customer{}, nil
	}
	return s.findCustomer(ctx, ref)
}

func (s *Server) readConnection(ctx context.Context, n id.Connection) (*answer[Connection], error) {
	x, err := s.org(ctx).Connection(n)
	if err != nil {
		return nil, err
	}
	list := []Connection{connectionOf(x)}
	if err := s.usedBy(ctx, list); err != nil {
		return nil, err
	}
	return &answer[Connection]{list[0]}, nil
}

func (s *Server) renameConnection(ctx context.Context, in *struct {
	ConnectionPath
	Body ConnectionChange
},
) (*answer[Connection], error) {
	c, err := s.org(ctx).CustomerOfConnection(in.Connection)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if err := s.db.Write(ctx, func(tx *store.Tx) error { return tx.Customer(c).RenameConnection(in.Connection, in.Body.Name, now) }); err != nil {
		return nil, err
	}
	return s.readConnection(ctx, in.Connection)
}

func (s *Server) getConnection(ctx context.Context, in *ConnectionPath) (*answer[Connection], error) {
	return s.readConnection(ctx, in.Connection)
}

// Account is who a connection is connected as.
type Account struct {
	Label string `json:"label" doc:"Such as an e-mail address or a workspace; empty when the provider does not tell."`
}

func (s *Server) getAccount(ctx context.Context, in *ConnectionPath) (*answer[Account], error) {
	label, err := s.connect.Account(ctx, principalOf(ctx).Org, in.Connection)
	if err != nil {
		return nil, err
	}
	return &answer[Account]{Account{label}}, nil
}

func (s *Server) makeConnection(ctx context.Context, in *struct{ Body ConnectionRequest }) (*answer[Connection], error) {
	if len(in.Body.Record) > 0 {
		return nil, problemOf(CodeInvalid, "", Place{"body.record", "a sealed record belongs to an id: use PUT"})
	}
	return s.saveConnection(ctx, id.NewConnection(time.Now()), &in.Body)
}

func (s *Server) putConnection(ctx context.Context, in *struct {
	ConnectionPath
	Body ConnectionRequest
},
) (*answer[Connection], error) {
	owner, err := s.org(ctx).CustomerOfConnection(in.Connection)
	switch {
	case errors.Is(err, store.ErrNotFound):
		if err := s.free(ctx, in.Connection); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		if c, err := s.findCustomer(ctx, in.Body.Customer); err != nil || c != owner {
			return nil, errors.Join(err, store.ErrNotFound) // it is not that customer's
		}
	}
	saved, err := s.saveConnection(ctx, in.Connection, &in.Body)
	if err != nil {
		return nil, err
	}
	return saved, s.connect.Resume(ctx, principalOf(ctx).Org, in.Connection)
}

// free refuses an id that somebody else has used.
func (s *Server) free(ctx context.Context, raw [16]byte) error {
	taken, err := s.org(ctx).Taken(raw)
	if err == nil && taken {
		err = store.ErrNotFound
	}
	return err
}

func (s *Server) saveConnection(ctx context.Context, n id.Connection, r *ConnectionRequest) (*answer[Connection], error) {
	c, err := s.findCustomer(ctx, r.Customer)
	if err != nil {
		return nil, err
	}
	if !flow.BuiltInConnector(r.Connector) {
		return s.connectEntry(ctx, c, n, r)
	}
	if r.Auth != "" || r.Version != "" || len(r.Vars) > 0 || !r.Template.IsZero() || r.Kind == "" {
		return nil, problemOf(CodeInvalid, "", Place{"body.kind", "the built-in connector has kind, url and fields, and nothing of a manifest"})
	}
	by, err := s.whoAsks(ctx)
	if err != nil {
		return nil, err
	}
	save := &engine.Credential{Connection: store.Connection{
		ID: n, Customer: c, Name: r.Name, Connector: flow.ConnectorHTTP, Kind: r.Kind, Host: r.Host, EgressPool: DefaultPool, CreatedBy: by,
		Shared: sharedOf(r.Shared),
	}}
	if err := s.connect.CheckSaved(ctx, principalOf(ctx).Org, &save.Connection); err != nil {
		return nil, err
	}
	if len(r.Record) > 0 {
		if r.URL != "" || len(r.Fields) > 0 {
			return nil, problemOf(CodeInvalid, "", Place{"body.record", "it stands instead of url and fields"})
		}
		save.Sealed = r.Record
	} else {
		if save.Record, err = recordOf(r); err != nil {
			return nil, err
		}
		save.Connection.Host = save.Record.Binding.Authority()
		save.Record.SharedWith, save.Record.SharedFor = save.Connection.Shared.Customers, lease.AnyRequest(save.Connection.Shared.Actions)
	}
	if err := s.engine.PutConnection(ctx, save); err != nil {
		return nil, err
	}
	return s.readConnection(ctx, n)
}

// connectEntry saves a credential by an auth method of a connector.
func (s *Server) connectEntry(ctx context.Context, c id.Customer, n id.Connection, r *ConnectionRequest) (*answer[Connection], error) {
	if r.Kind != "" || r.URL != "" || r.Host != "" || len(r.Methods) > 0 || len(r.Record) > 0 {
		return nil, problemOf(CodeInvalid, "", Place{"body.auth", "a connector with a manifest has auth, vars and fields; kind, url, methods, host and record are of the built-in one"})
	}
	by, err := s.whoAsks(ctx)
	if err != nil {
		return nil, err
	}
	made, err := s.connect.Save(ctx, &connect.Entry{
		Org: principalOf(ctx).Org, Customer: c, Connection: n, Name: r.Name, Connector: r.Connector, Version: r.Version, Method: r.Auth,
		Template: r.Template, Vars: r.Vars, Fields: r.Fields, Shared: sharedOf(r.Shared), By: by,
	})
	if err != nil {
		return nil, err
	}
	return s.readConnection(ctx, made)
}

func sharedOf(s *Shared) store.Shared {
	if s == nil {
		return store.Shared{}
	}
	return store.Shared{Customers: s.Customers, Actions: s.Actions}
}

// sharedBy is what is shown of a sharing; nil: with nobody.
func sharedBy(s *store.Shared) *Shared {
	if len(s.Customers) == 0 {
		return nil
	}
	return &Shared{s.Customers, s.Actions}
}

// whoAsks names who makes a request: a token, or who owns this machine's socket.
func (s *Server) whoAsks(ctx context.Context) (string, error) {
	t := principalOf(ctx).Token
	if t.IsZero() {
		return "this machine", nil
	}
	row, err := s.db.System(ctx).Token(t)
	if err != nil {
		return "", err
	}
	return row.Name, nil
}

// recordOf is the credential of a request in clear.
func recordOf(r *ConnectionRequest) (*lease.Record, error) {
	b, err := egress.ParseBinding(r.URL)
	if err != nil {
		return nil, problemOf(CodeInvalid, "", Place{"body.url", err.Error()})
	}
	want := map[lease.Kind][]string{
		lease.KindNone: {}, lease.KindBearer: {"token"}, lease.KindBasic: {"username", "password"},
		lease.KindHeader: {"name", "value"}, lease.KindQuery: {"name", "value"},
	}[lease.Kind(r.Kind)]
	record := &lease.Record{
		Connector: cmp.Or(r.Connector, flow.ConnectorHTTP), Kind: lease.Kind(r.Kind),
		Binding: lease.Binding{Scheme: b.Scheme, Host: b.Host, Port: uint32(b.Port), BasePath: b.BasePath, Methods: r.Methods},
	}
	var places []Place
	for _, name := range want {
		if r.Fields[name] == "" {
			places = append(places, Place{"body.fields." + name, "missing"})
		}
		record.Fields = append(record.Fields, lease.Field{Name: name, Secret: []byte(r.Fields[name])})
	}
	if len(r.Fields) > len(want) {
		places = append(places, Place{"body.fields", "it has fields that this kind of credential does not"})
	}
	if len(places) > 0 {
		return nil, problemOf(CodeInvalid, "", places...)
	}
	return record, nil
}

func (s *Server) deleteConnection(ctx context.Context, in *ConnectionPath) (*answer[ConnectionRemoved], error) {
	ended, err := s.connect.End(ctx, principalOf(ctx).Org, in.Connection, connect.ReasonDeleted)
	if err != nil {
		return nil, err
	}
	return &answer[ConnectionRemoved]{ConnectionRemoved{Instances: instancesOf(ended.Instances), Revoked: ended.Revoked}}, nil
}

func instancesOf(keys []store.InstanceKey) []id.Instance {
	list := []id.Instance{}
	for _, k := range keys {
		list = append(list, k.Instance)
	}
	return list
}
