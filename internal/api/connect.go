package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connect"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Template is a connection template: the organization's OAuth client for a connector. Its
// secret is in the vault.
type Template struct {
	ID               id.Template       `json:"id"`
	Name             string            `json:"name"`
	Connector        string            `json:"connector"`
	ConnectorVersion string            `json:"connector_version"`
	Auth             string            `json:"auth"`
	Vars             map[string]string `json:"vars,omitempty"`
	ClientID         string            `json:"client_id,omitempty" doc:"The client's public id at the provider."`
	Scopes           []string          `json:"scopes,omitempty"`
	Customers        []string          `json:"customers" doc:"Ids of the customers who may be connected with it, or * for all."`
	RedirectURI      string            `json:"redirect_uri" doc:"Register it with the client at the provider."`
	EventsURL        string            `json:"events_url" doc:"Register it with the app at the provider, if its events come to one address for all customers."`
	UnknownAccounts  *UnknownAccounts  `json:"unknown_accounts,omitempty" doc:"Events of the app whose account nobody has connected; absent while there were none."`
	CreatedBy        string            `json:"created_by"`
	Created          time.Time         `json:"created"`
	Changed          time.Time         `json:"changed"`
}

// UnknownAccounts counts events that were dropped. Whose they were is not kept.
type UnknownAccounts struct {
	Events uint64    `json:"events"`
	Since  time.Time `json:"since"`
	Last   time.Time `json:"last"`
}

// TemplateRequest saves the OAuth client of the organization for a connector.
type TemplateRequest struct {
	Name      string            `json:"name,omitempty" maxLength:"200"`
	Connector string            `json:"connector" minLength:"1" maxLength:"200"`
	Version   string            `json:"version,omitempty" maxLength:"100"`
	Auth      string            `json:"auth,omitempty" maxLength:"100" doc:"Default: the first auth method with a client."`
	Vars      map[string]string `json:"vars,omitempty" doc:"Values of variables that connections need not enter."`
	Scopes    []string          `json:"scopes,omitempty" maxItems:"100" doc:"Asked for beside those that the connector always asks for."`
	Customers []string          `json:"customers" minItems:"1" maxItems:"200" doc:"Ids or external ids of the customers who may be connected with it, or * for all. It is part of the sealed credential of the client."`
	Fields    map[string]string `json:"fields" writeOnly:"true" doc:"client_id, client_secret and what else the auth method says of its client; perhaps signing_secret."`
}

// TemplatePath names a template in a path.
type TemplatePath struct {
	Template id.Template `path:"template"`
}

// ConnectLink is a connect link without its address.
type ConnectLink struct {
	ID               id.Link     `json:"id"`
	Customer         id.Customer `json:"customer"`
	Connector        string      `json:"connector"`
	ConnectorVersion string      `json:"connector_version"`
	Template         string      `json:"template,omitempty"`
	Connection       string      `json:"connection,omitempty" doc:"To be connected again."`
	Name             string      `json:"name"`
	Auth             []string    `json:"auth,omitempty"`
	Shared           *Shared     `json:"shared,omitempty" doc:"With whom what it makes is shared."`
	ReturnURL        string      `json:"return_url,omitempty"`
	State            string      `json:"state" enum:"open,used,expired"`
	Made             string      `json:"made,omitempty" doc:"The connection that was made."`
	CreatedBy        string      `json:"created_by"`
	Created          time.Time   `json:"created"`
	Expires          time.Time   `json:"expires"`
	Used             time.Time   `json:"used,omitzero"`
}

// NewConnectLink is a link with its address, which is a secret.
type NewConnectLink struct {
	ConnectLink
	URL string `json:"url" doc:"Give it to the person who connects. It is not shown again."`
}

// ConnectLinkRequest makes a connect link.
type ConnectLinkRequest struct {
	Customer   string            `json:"customer,omitempty" doc:"Id or external id; default the owner of connection."`
	Connector  string            `json:"connector,omitempty" maxLength:"200" doc:"Default that of connection."`
	Version    string            `json:"version,omitempty" maxLength:"100"`
	Template   id.Template       `json:"template,omitzero" doc:"Default the only one of the connector."`
	Connection id.Connection     `json:"connection,omitzero" doc:"To be connected again."`
	Name       string            `json:"name,omitempty" maxLength:"200" doc:"What the connection is called."`
	Auth       []string          `json:"auth,omitempty" maxItems:"20" doc:"Auth methods to choose from; default all."`
	Vars       map[string]string `json:"vars,omitempty" doc:"Values that the person need not enter."`
	Shared     *Shared           `json:"shared,omitempty" doc:"With whom a new connection of the organization itself is shared."`
	ReturnURL  string            `json:"return_url,omitempty" maxLength:"2048" doc:"Where the page leads back to. It begins as one of the organization's return_urls."`
	Days       uint32            `json:"days,omitempty" minimum:"1" maximum:"30" doc:"How long it can be used; default 7."`
}

// LinkPath names a link in a path.
type LinkPath struct {
	Link id.Link `path:"link"`
}

// Notice is something about a connection that the organization should know.
type Notice struct {
	ID         id.Notice        `json:"id"`
	Kind       store.NoticeKind `json:"kind" enum:"needs_reconnect,expiring,failing,unused,revoked,connected"`
	Customer   id.Customer      `json:"customer"`
	Connection id.Connection    `json:"connection"`
	Reason     string           `json:"reason,omitempty"`
	At         time.Time        `json:"at"`
	Seen       time.Time        `json:"seen,omitzero"`
}

// NoticePath names a notice in a path.
type NoticePath struct {
	Notice id.Notice `path:"notice"`
}

// Brand is how the organization looks on hosted pages, and where they may lead back to.
type Brand struct {
	Title      string            `json:"title,omitempty" maxLength:"100" doc:"Default the organization's name."`
	Colours    map[string]string `json:"colours,omitempty" doc:"accent, background and text, as #rrggbb."`
	Logo       []byte            `json:"logo,omitempty" doc:"PNG, JPEG, GIF or WebP of at most 64 KiB."`
	ReturnURLs []string          `json:"return_urls,omitempty" maxItems:"20" doc:"Beginnings of the addresses to which connect links may lead back; each ends with a slash."`
}

func (s *Server) connectRoutes() []route {
	return []route{
		{
			id: "list-connection-templates", method: http.MethodGet, path: "/connection-templates", permission: PermissionConnectionsRead,
			summary: "List connection templates, without the secrets of their clients.", register: handle(s, s.listTemplates),
		},
		{
			id: "make-connection-template", method: http.MethodPost, path: "/connection-templates", permission: PermissionOrganizationWrite,
			summary: "Save the organization's OAuth client for a connector.", register: handle(s, s.makeTemplate),
		},
		{
			id: "get-connection-template", method: http.MethodGet, path: "/connection-templates/{template}", permission: PermissionConnectionsRead,
			summary: "Get a connection template.", register: handle(s, s.getTemplate),
		},
		{
			id: "put-connection-template", method: http.MethodPut, path: "/connection-templates/{template}", permission: PermissionOrganizationWrite,
			summary: "Replace a connection template. The client is entered again.", register: handle(s, s.putTemplate),
		},
		{
			id: "delete-connection-template", method: http.MethodDelete, path: "/connection-templates/{template}", permission: PermissionOrganizationWrite,
			summary: "Destroy the client of a connection template. What was connected with it cannot be refreshed any more.", register: handle(s, s.deleteTemplate),
		},
		{
			id: "list-connect-links", method: http.MethodGet, path: "/connect-links", permission: PermissionConnectionsRead,
			summary: "List connect links, without their addresses.", register: handle(s, s.listLinks),
		},
		{
			id: "make-connect-link", method: http.MethodPost, path: "/connect-links", permission: PermissionConnectionsWrite, keep: keepSecret,
			summary: "Make a link by which somebody without an account here connects a customer, once.", register: handle(s, s.makeLink),
		},
		{
			id: "revoke-connect-link", method: http.MethodDelete, path: "/connect-links/{link}", permission: PermissionConnectionsWrite,
			summary: "Revoke a connect link.", register: handle(s, s.revokeLink),
		},
		{
			id: "list-notices", method: http.MethodGet, path: "/notices", permission: PermissionConnectionsRead,
			summary: "List notices: connections that must be connected again, that expire or that nobody uses.", register: handle(s, s.listNotices),
		},
		{
			id: "see-notice", method: http.MethodPost, path: "/notices/{notice}/seen", permission: PermissionConnectionsWrite,
			summary: "Note that somebody has seen a notice.", register: handle(s, s.seeNotice),
		},
		{
			id: "get-brand", method: http.MethodGet, path: "/brand", permission: PermissionServerRead,
			summary: "Get how the organization looks on hosted pages.", register: handle(s, s.getBrand),
		},
		{
			id: "put-brand", method: http.MethodPut, path: "/brand", permission: PermissionOrganizationWrite, body: 2 * connect.MaxLogo,
			summary: "Set how the organization looks on hosted pages, and where those may lead back to.", register: handle(s, s.putBrand),
		},
	}
}

// connectProblem is what is told about an error of package connect; nil for errors of others.
func connectProblem(err error) *Problem {
	if wrong, ok := errors.AsType[connect.InvalidError](err); ok {
		var places []Place
		for _, w := range wrong {
			places = append(places, Place{"body." + w.Place, w.Message})
		}
		return problemOf(CodeInvalid, "", places...)
	}
	if unanswered, ok := errors.AsType[*connect.AskedError](err); ok {
		return unansweredProblem(unanswered)
	}
	switch {
	case errors.Is(err, connect.ErrConflict):
		return problemOf(CodeConflict, after(err, connect.ErrConflict))
	case errors.Is(err, connect.ErrUnknown):
		return problemOf(CodeInvalid, after(err, connect.ErrUnknown))
	case errors.Is(err, connect.ErrNoTest):
		return problemOf(CodeNoTest, after(err, connect.ErrNoTest))
	case errors.Is(err, connect.ErrNoChoices):
		return problemOf(CodeNoChoices, after(err, connect.ErrNoChoices))
	case errors.Is(err, connect.ErrAsking):
		p := problemOf(CodeRateLimited, "As much is being asked through connections of the customer as may be at a time.")
		p.RetryAfter = askAgain
		return p
	case errors.Is(err, connect.ErrPerson):
		return problemOf(CodeInvalid, err.Error())
	}
	return nil
}

func (s *Server) templateOf(t *store.Template) Template {
	return Template{
		ID: t.ID, Name: t.Name, Connector: t.Connector, ConnectorVersion: t.ConnectorVersion, Auth: t.Method, Vars: t.Vars, ClientID: t.ClientName,
		Scopes: t.Scopes, Customers: t.Customers, RedirectURI: s.connect.RedirectURI(), EventsURL: s.connect.EventsURL(t.ID), CreatedBy: t.CreatedBy, Created: t.Created, Changed: t.Changed,
	}
}

func (s *Server) listTemplates(ctx context.Context, in *struct {
	ListInput
	Connector string `query:"connector" maxLength:"200"`
},
) (*answer[Page[Template]], error) {
	unknown, err := s.unknownAccounts(ctx)
	if err != nil {
		return nil, err
	}
	show := func(t *store.Template) Template {
		x := s.templateOf(t)
		x.UnknownAccounts = unknown[t.ID]
		return x
	}
	return filteredPage(ctx, s, "connection-templates", in.Connector, &in.ListInput, func(after id.Template, limit int) ([]store.Template, error) {
		return s.org(ctx).Templates(in.Connector, after, limit)
	}, show, func(t *store.Template) id.Template { return t.ID })
}

func (s *Server) getTemplate(ctx context.Context, in *TemplatePath) (*answer[Template], error) {
	t, err := s.org(ctx).Template(in.Template)
	if err != nil {
		return nil, err
	}
	unknown, err := s.unknownAccounts(ctx)
	if err != nil {
		return nil, err
	}
	x := s.templateOf(t)
	x.UnknownAccounts = unknown[t.ID]
	return &answer[Template]{x}, nil
}

// unknownAccounts are the counts of the templates that have one.
func (s *Server) unknownAccounts(ctx context.Context) (map[id.Template]*UnknownAccounts, error) {
	list, err := s.org(ctx).Unknowns()
	counts := make(map[id.Template]*UnknownAccounts, len(list))
	for _, u := range list {
		counts[u.Template] = &UnknownAccounts{u.Events, u.Since, u.Last}
	}
	return counts, err
}

func (s *Server) makeTemplate(ctx context.Context, in *struct{ Body TemplateRequest }) (*answer[Template], error) {
	return s.saveTemplate(ctx, id.Template{}, &in.Body)
}

func (s *Server) putTemplate(ctx context.Context, in *struct {
	TemplatePath
	Body TemplateRequest
},
) (*answer[Template], error) {
	if _, err := s.org(ctx).Template(in.Template); err != nil {
		return nil, err
	}
	return s.saveTemplate(ctx, in.Template, &in.Body)
}

func (s *Server) saveTemplate(ctx context.Context, t id.Template, r *TemplateRequest) (*answer[Template], error) {
	by, err := s.whoAsks(ctx)
	if err != nil {
		return nil, err
	}
	customers, err := s.templateCustomers(ctx, r.Customers)
	if err != nil {
		return nil, err
	}
	row, err := s.connect.PutTemplate(ctx, &connect.TemplateEntry{
		Org: principalOf(ctx).Org, ID: t, Name: r.Name, Connector: r.Connector, Version: r.Version, Method: r.Auth, Vars: r.Vars,
		Scopes: r.Scopes, Customers: customers, Fields: r.Fields, By: by,
	})
	if err != nil {
		return nil, err
	}
	return &answer[Template]{s.templateOf(row)}, nil
}

// templateCustomers finds the customers that a template names, by id or external id.
func (s *Server) templateCustomers(ctx context.Context, names []string) ([]string, error) {
	var out []string
	for n, name := range names {
		if name == lease.SharedWithAll {
			out = append(out, name)
			continue
		}
		c, err := s.findCustomer(ctx, name)
		if errors.Is(err, store.ErrNotFound) {
			return nil, problemOf(CodeInvalid, "", Place{fmt.Sprintf("body.customers[%d]", n), "there is no such customer"})
		}
		if err != nil {
			return nil, err
		}
		out = append(out, c.String())
	}
	return out, nil
}

func (s *Server) deleteTemplate(ctx context.Context, in *TemplatePath) (*none, error) {
	return &none{}, s.connect.DeleteTemplate(ctx, principalOf(ctx).Org, in.Template)
}

func linkOf(l *store.Link) ConnectLink {
	out := ConnectLink{
		ID: l.ID, Customer: l.Customer, Connector: l.Connector, ConnectorVersion: l.ConnectorVersion, Template: l.Template.String(),
		Connection: l.Connection.String(), Name: l.Name, Auth: l.Methods, ReturnURL: l.ReturnURL, State: "open", Made: l.Made.String(),
		CreatedBy: l.CreatedBy, Created: l.Created, Expires: l.Expires, Used: l.Used,
		Shared: sharedBy(&l.Shared),
	}
	switch {
	case !l.Used.IsZero():
		out.State = "used"
	case !time.Now().Before(l.Expires):
		out.State = "expired"
	}
	return out
}

func (s *Server) listLinks(ctx context.Context, in *struct {
	ListInput
	Customer string `query:"customer" maxLength:"200" doc:"Id or external id."`
},
) (*answer[Page[ConnectLink]], error) {
	of, err := s.maybeCustomer(ctx, in.Customer)
	if err != nil {
		return nil, err
	}
	return filteredPage(ctx, s, "connect-links", of, &in.ListInput, func(after id.Link, limit int) ([]store.Link, error) {
		return s.org(ctx).Links(of, after, limit)
	}, linkOf, func(l *store.Link) id.Link { return l.ID })
}

func (s *Server) makeLink(ctx context.Context, in *struct{ Body ConnectLinkRequest }) (*answer[NewConnectLink], error) {
	r := &in.Body
	c, err := s.linkCustomer(ctx, r)
	if err != nil {
		return nil, err
	}
	by, err := s.whoAsks(ctx)
	if err != nil {
		return nil, err
	}
	l, url, err := s.connect.MakeLink(ctx, &connect.LinkEntry{
		Org: principalOf(ctx).Org, Customer: c, Connector: r.Connector, Version: r.Version, Template: r.Template, Connection: r.Connection,
		Name: r.Name, Methods: r.Auth, Vars: r.Vars, Shared: sharedOf(r.Shared), ReturnURL: r.ReturnURL, Life: time.Duration(r.Days) * 24 * time.Hour, By: by,
	})
	if err != nil {
		return nil, err
	}
	return &answer[NewConnectLink]{NewConnectLink{linkOf(l), url}}, nil
}

// linkCustomer is whose connection a link makes.
func (s *Server) linkCustomer(ctx context.Context, r *ConnectLinkRequest) (id.Customer, error) {
	if r.Connection.IsZero() {
		if r.Customer == "" || r.Connector == "" {
			return id.Customer{}, problemOf(CodeInvalid, "", Place{"body", "name customer and connector, or a connection to be connected again"})
		}
		return s.findCustomer(ctx, r.Customer)
	}
	owner, err := s.org(ctx).CustomerOfConnection(r.Connection)
	if err != nil || r.Customer == "" {
		return owner, err
	}
	if c, err := s.findCustomer(ctx, r.Customer); err != nil || c != owner {
		return owner, errors.Join(err, store.ErrNotFound) // it is not that customer's
	}
	return owner, nil
}

func (s *Server) revokeLink(ctx context.Context, in *LinkPath) (*none, error) {
	org, now := principalOf(ctx).Org, time.Now()
	return &none{}, s.db.Write(ctx, func(tx *store.Tx) error { return tx.Org(org).RevokeLink(in.Link, now) })
}

func noticeOf(n *store.ConnectionNotice) Notice {
	return Notice{ID: n.ID, Kind: n.Kind, Customer: n.Customer, Connection: n.Connection, Reason: n.Reason, At: n.At, Seen: n.Seen}
}

func (s *Server) listNotices(ctx context.Context, in *struct {
	ListInput
	Customer string `query:"customer" maxLength:"200" doc:"Id or external id."`
	Unseen   bool   `query:"unseen" doc:"Only those that nobody has seen."`
},
) (*answer[Page[Notice]], error) {
	of, err := s.maybeCustomer(ctx, in.Customer)
	if err != nil {
		return nil, err
	}
	q := store.NoticeQuery{Customer: of, Unseen: in.Unseen}
	return filteredPage(ctx, s, "notices", q, &in.ListInput, func(after id.Notice, limit int) ([]store.ConnectionNotice, error) {
		q := q
		q.After = after
		return s.org(ctx).Notices(&q, limit)
	}, noticeOf, func(n *store.ConnectionNotice) id.Notice { return n.ID })
}

func (s *Server) seeNotice(ctx context.Context, in *NoticePath) (*none, error) {
	org, now := principalOf(ctx).Org, time.Now()
	return &none{}, s.db.Write(ctx, func(tx *store.Tx) error { return tx.Org(org).SeeNotice(in.Notice, now) })
}

func (s *Server) getBrand(ctx context.Context, _ *struct{}) (*answer[Brand], error) {
	b, err := s.org(ctx).Brand()
	if err != nil {
		return nil, err
	}
	return &answer[Brand]{Brand{b.Title, b.Colours, b.Logo, b.ReturnURLs}}, nil
}

func (s *Server) putBrand(ctx context.Context, in *struct{ Body Brand }) (*answer[Brand], error) {
	b := &in.Body
	err := s.connect.PutBrand(ctx, principalOf(ctx).Org, &store.Brand{Title: b.Title, Colours: b.Colours, Logo: b.Logo, ReturnURLs: b.ReturnURLs})
	if err != nil {
		return nil, err
	}
	return s.getBrand(ctx, nil)
}
