package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

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
	ID            id.Connection `json:"id"`
	Customer      id.Customer   `json:"customer"`
	Name          string        `json:"name"`
	Connector     string        `json:"connector"`
	Kind          string        `json:"kind" doc:"How the credential is presented."`
	Host          string        `json:"host" doc:"For display; the binding is part of the credential."`
	Version       uint64        `json:"version" doc:"Counts replacements of the credential."`
	Health        store.Health  `json:"health" enum:"unknown,ok,expiring,failing,needs_reconnect,revoked"`
	HealthChecked time.Time     `json:"health_checked,omitzero"`
	Created       time.Time     `json:"created"`
	Changed       time.Time     `json:"changed"`
}

// ConnectionRequest saves a credential: in clear, with URL and Fields, sealed to the vault
// as soon as it is read; or as Record, a lease.Record sealed to the vault by the client,
// with Host for display.
type ConnectionRequest struct {
	Customer  string            `json:"customer" doc:"Id or external id of the owner."`
	Name      string            `json:"name,omitempty" maxLength:"200"`
	Connector string            `json:"connector,omitempty" maxLength:"200" doc:"Default http."`
	Kind      string            `json:"kind" enum:"none,bearer,basic,header,query"`
	URL       string            `json:"url,omitempty" maxLength:"2048" doc:"Where the credential may be used: scheme, host, port and path prefix."`
	Methods   []string          `json:"methods,omitempty" maxItems:"20" doc:"Methods that are allowed; default all."`
	Fields    map[string]string `json:"fields,omitempty" writeOnly:"true" doc:"bearer: token; basic: username, password; header, query: name, value."`
	Host      string            `json:"host,omitempty" maxLength:"253"`
	Record    []byte            `json:"record,omitempty" writeOnly:"true"`
}

// ConnectionRemoved says what a removed connection leaves behind.
type ConnectionRemoved struct {
	Instances []id.Instance `json:"instances" doc:"They need another connection now."`
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
			id: "delete-connection", method: http.MethodDelete, path: "/connections/{connection}", permission: PermissionConnectionsWrite,
			summary: "Destroy a credential. The instances that use it need another connection.", register: handle(s, s.deleteConnection),
		},
	}
}

func connectionOf(n *store.ConnectionInfo) Connection {
	return Connection{
		ID: n.ID, Customer: n.Customer, Name: n.Name, Connector: n.Connector, Kind: n.Kind, Host: n.Host, Version: n.RecordVersion,
		Health: n.Health, HealthChecked: n.HealthChecked, Created: n.Created, Changed: n.Changed,
	}
}

func (s *Server) listConnections(ctx context.Context, in *struct {
	ListInput
	Customer string `query:"customer" maxLength:"200" doc:"Id or external id."`
},
) (*answer[Page[Connection]], error) {
	of, err := s.maybeCustomer(ctx, in.Customer)
	if err != nil {
		return nil, err
	}
	return filteredPage(ctx, s, "connections", of, &in.ListInput, func(after id.Connection, limit int) ([]store.ConnectionInfo, error) {
		return s.org(ctx).Connections(&store.ConnectionQuery{Customer: of, After: after}, limit)
	}, connectionOf, func(n *store.ConnectionInfo) id.Connection { return n.ID })
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
	return &answer[Connection]{connectionOf(x)}, nil
}

func (s *Server) getConnection(ctx context.Context, in *ConnectionPath) (*answer[Connection], error) {
	return s.readConnection(ctx, in.Connection)
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
	return s.saveConnection(ctx, in.Connection, &in.Body)
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
	save := &engine.Credential{Connection: store.Connection{
		ID: n, Customer: c, Name: r.Name, Connector: cmp.Or(r.Connector, flow.ConnectorHTTP), Kind: r.Kind, Host: r.Host, EgressPool: DefaultPool,
	}}
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
	}
	if err := s.engine.PutConnection(ctx, save); err != nil {
		return nil, err
	}
	return s.readConnection(ctx, n)
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
	c, err := s.org(ctx).CustomerOfConnection(in.Connection)
	if err != nil {
		return nil, err
	}
	used, err := s.org(ctx).Using(in.Connection)
	if err != nil {
		return nil, err
	}
	if err := s.engine.DeleteConnection(ctx, c, in.Connection, "deleted"); err != nil {
		return nil, err
	}
	out := ConnectionRemoved{Instances: []id.Instance{}}
	for _, k := range used {
		if err := s.engine.SetInstanceState(ctx, k.Customer, k.Instance, store.InstanceNeedsConnection); err != nil {
			return nil, err
		}
		out.Instances = append(out.Instances, k.Instance)
	}
	return &answer[ConnectionRemoved]{out}, nil
}
