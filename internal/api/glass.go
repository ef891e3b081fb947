package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connect"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// RevocationRequest says which connections are meant.
type RevocationRequest struct {
	Connector string    `json:"connector,omitempty" maxLength:"200"`
	Customer  string    `json:"customer,omitempty" maxLength:"200" doc:"Id or external id."`
	All       bool      `json:"all,omitempty" doc:"Every connection of the organization."`
	Since     time.Time `json:"since,omitzero" doc:"Of a plan: uses before it are not told."`
}

// RevocationPlan says what would be revoked, and what was done with it.
type RevocationPlan struct {
	Connections []Connection `json:"connections"`
	Uses        []Use        `json:"uses" doc:"From the flow records, by connection, execution and host."`
	More        int64        `json:"more" doc:"Uses that were left out because there are too many."`
}

// Use is what one execution did through one connection at one host.
type Use struct {
	Connection id.Connection `json:"connection"`
	Customer   id.Customer   `json:"customer"`
	Instance   id.Instance   `json:"instance"`
	Execution  id.Execution  `json:"execution"`
	Host       string        `json:"host"`
	Requests   int64         `json:"requests"`
	Sent       int64         `json:"sent" doc:"Bytes."`
	Received   int64         `json:"received" doc:"Bytes."`
	First      time.Time     `json:"first"`
	Last       time.Time     `json:"last"`
}

// Revocation is what one request has revoked.
type Revocation struct {
	Connections []RevokedConnection `json:"connections"`
	Paused      []id.Instance       `json:"paused" doc:"Instances that were paused now."`
	Links       int                 `json:"links" doc:"Connect links that were taken back."`
	Remaining   int                 `json:"remaining" doc:"Connections that are left: send the request again."`
}

// RevokedConnection is what became of one connection.
type RevokedConnection struct {
	Connection id.Connection   `json:"connection"`
	Customer   id.Customer     `json:"customer"`
	Name       string          `json:"name"`
	Connector  string          `json:"connector"`
	Done       bool            `json:"done" doc:"The credential is destroyed. If not, see the server's log and send the request again."`
	Revoked    connect.Revoked `json:"revoked,omitempty" enum:"yes,failed,not_offered,nothing" doc:"Whether the provider ended the grant."`
	Instances  []id.Instance   `json:"instances"`
	Link       string          `json:"link,omitempty" doc:"Address by which it is connected again. What used it uses the new connection then."`
}

func (s *Server) glassRoutes() []route {
	return []route{
		{
			id: "plan-revocation", method: http.MethodPost, path: "/revocations/plan", permission: PermissionConnectionsWrite, keep: keepNone,
			summary: "Say which connections would be revoked, and what was done with them. Nothing changes.", register: handle(s, s.planRevocation),
		},
		{
			id: "revoke-connections", method: http.MethodPost, path: "/revocations", permission: PermissionConnectionsWrite, keep: keepNone,
			summary:  "Break the glass: revoke connections at their providers, destroy their credentials, pause what uses them. Up to 50 at a time; send it until nothing remains.",
			register: handle(s, s.revokeConnections),
		},
	}
}

func (s *Server) scope(ctx context.Context, r *RevocationRequest) (*connect.Scope, error) {
	c, err := s.maybeCustomer(ctx, r.Customer)
	return &connect.Scope{Org: principalOf(ctx).Org, Connector: r.Connector, Customer: c, All: r.All}, err
}

func (s *Server) planRevocation(ctx context.Context, in *struct{ Body RevocationRequest }) (*answer[RevocationPlan], error) {
	c, err := s.scope(ctx, &in.Body)
	if err != nil {
		return nil, err
	}
	p, err := s.connect.Plan(ctx, c, in.Body.Since)
	if err != nil {
		return nil, err
	}
	out := RevocationPlan{Connections: []Connection{}, Uses: []Use{}, More: p.More}
	for n := range p.Connections {
		out.Connections = append(out.Connections, connectionOf(&p.Connections[n]))
	}
	for part := range slices.Chunk(out.Connections, 500) {
		if err := s.usedBy(ctx, part); err != nil {
			return nil, err
		}
	}
	for _, u := range p.Uses {
		out.Uses = append(out.Uses, Use(u))
	}
	return &answer[RevocationPlan]{out}, nil
}

func (s *Server) revokeConnections(ctx context.Context, in *struct{ Body RevocationRequest }) (*answer[Revocation], error) {
	c, err := s.scope(ctx, &in.Body)
	if err != nil {
		return nil, err
	}
	by, err := s.whoAsks(ctx)
	if err != nil {
		return nil, err
	}
	b, err := s.connect.Break(ctx, c, by)
	if err != nil {
		return nil, err
	}
	out := Revocation{Connections: []RevokedConnection{}, Paused: instancesOf(b.Paused), Links: b.Links, Remaining: b.Remaining}
	for n := range b.Broken {
		out.Connections = append(out.Connections, revokedOf(&b.Broken[n]))
	}
	return &answer[Revocation]{out}, nil
}

func revokedOf(b *connect.Broken) RevokedConnection {
	out := RevokedConnection{
		Connection: b.Connection.ID, Customer: b.Connection.Customer, Name: b.Connection.Name, Connector: b.Connection.Connector,
		Instances: []id.Instance{}, Link: b.Link,
	}
	if b.Ended != nil {
		out.Done, out.Revoked, out.Instances = true, b.Ended.Revoked, instancesOf(b.Ended.Instances)
	}
	return out
}
