package connect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// fieldSigning is the secret with which a provider signs the events of an app.
const fieldSigning = lease.FieldSigningSecret

// maxScopes is the most scopes that a template asks for, maxScope the longest in bytes.
const (
	maxScopes = 100
	maxScope  = 500
)

// TemplateEntry is a connection template as somebody enters it.
type TemplateEntry struct {
	Org       id.Org
	ID        id.Template // zero: a new one
	Name      string
	Connector string
	Version   string
	Method    string            // empty: the first one with a client
	Vars      map[string]string // values that connections need not enter
	Scopes    []string          // beside those that the manifest always asks for
	Customers []string          // ids of the customers for whom it is, or [lease.SharedWithAll]; there is no default
	Fields    map[string]string // of the client: client_id, client_secret, perhaps signing_secret
	By        string
}

// PutTemplate saves the organization's OAuth client for a connector. The client's fields are
// entered again whenever anything of a template changes: its sealed record says with which
// customers it is shared, and is a new one then.
//
// Errors: as of [Service.Save].
func (s *Service) PutTemplate(ctx context.Context, e *TemplateEntry) (*store.Template, error) {
	x, err := s.offer(ctx, e.Org, e.Connector, e.Version)
	if err != nil {
		return nil, err
	}
	m, err := x.clientMethod(e.Method)
	if err != nil {
		return nil, err
	}
	if served(m) != nil {
		return nil, invalid("auth", "%s: %v", m.ID, errNotServed)
	}
	if err := checkScopes(e.Scopes); err != nil {
		return nil, err
	}
	vars, err := x.clientValues(e.Vars)
	if err != nil {
		return nil, err
	}
	x = x.pinned(vars)
	if err := s.checkCustomers(ctx, e.Org, e.Customers); err != nil {
		return nil, err
	}
	entered, err := fields(clientFields(m), e.Fields)
	if err != nil {
		return nil, err
	}
	if wrong := checkCertificate(m, entered, nil, time.Now()); len(wrong) > 0 {
		return nil, wrong
	}
	r, err := x.clientRecord(m, entered)
	if err != nil {
		return nil, err
	}
	r.SharedWith = e.Customers
	now := time.Now()
	t := &store.Template{
		ID: e.ID, Name: e.Name, Connector: x.manifest.Name, ConnectorVersion: x.manifest.Version, ConnectorDigest: r.Digest, Method: m.ID,
		Vars: vars, ClientName: e.Fields[lease.FieldClientID], Scopes: e.Scopes, Customers: e.Customers, CreatedBy: e.By, Created: now, Changed: now,
	}
	if err := s.clientOf(ctx, e, t); err != nil {
		return nil, err
	}
	if t.Name == "" {
		t.Name = x.manifest.Title
	}
	c := &engine.Credential{Record: r, Connection: store.Connection{
		Customer: t.Owner, ID: t.Client, Name: t.Name, Connector: t.Connector, Kind: store.KindClient, Host: r.Binding.Authority(),
		EgressPool: s.o.Pool, Method: m.ID, ConnectorVersion: t.ConnectorVersion, ConnectorDigest: t.ConnectorDigest, CreatedBy: e.By,
		Shared: store.Shared{Customers: e.Customers},
	}}
	if err := s.engine.PutConnection(ctx, c); err != nil {
		return nil, err
	}
	r.Wipe()
	if err := s.db.Write(ctx, func(tx *store.Tx) error { return tx.Org(e.Org).PutTemplate(t, now) }); err != nil {
		return nil, fmt.Errorf("put connection template: %w", err)
	}
	return s.db.Org(ctx, e.Org).Template(t.ID)
}

// clientOf finds or makes the ids of a template and its client.
func (s *Service) clientOf(ctx context.Context, e *TemplateEntry, t *store.Template) error {
	now := time.Now()
	if !e.ID.IsZero() {
		old, err := s.db.Org(ctx, e.Org).Template(e.ID)
		if err != nil {
			return err
		}
		if old.Connector != t.Connector {
			return fmt.Errorf("%w: the template is one of %s; make a new one for %s", ErrConflict, old.Connector, t.Connector)
		}
		t.Owner, t.Client = old.Owner, old.Client
		return nil
	}
	owner, err := s.db.Org(ctx, e.Org).CustomerByExternalID(InternalCustomer)
	if err != nil {
		return fmt.Errorf("find the organization's own customer: %w", err)
	}
	t.ID, t.Owner, t.Client = id.NewTemplate(now), owner, id.NewConnection(now)
	return nil
}

// InternalCustomer is the external id of the customer that stands for the organization.
const InternalCustomer = "internal"

// clientMethod finds an auth method with an OAuth client.
func (x *offer) clientMethod(id string) (*credential.Method, error) {
	for n := range x.methods {
		m := &x.methods[n]
		if m.HasClient() && (id == "" || m.ID == id) {
			return m, nil
		}
	}
	return nil, fmt.Errorf("%w: %s has no auth method %q with an OAuth client; it has %s", ErrUnknown, x.manifest.Name, id, strings.Join(x.methodIDs(), ", "))
}

// clientFields are what is entered for the client of a method.
func clientFields(m *credential.Method) []credential.Field {
	return append(m.Client(), credential.Field{
		Name: fieldSigning, Title: "Signing secret", Help: "With which the provider signs the events that it sends.", Secret: true, Optional: true,
	})
}

// someValues checks the values of those variables that are given.
func (x *offer) someValues(given map[string]string) (map[string]string, error) {
	var wrong InvalidError
	out := map[string]string{}
	for name, value := range given {
		v, ok := x.vars[name]
		if !ok {
			wrong = append(wrong, Wrong{"vars", "there is no variable " + name})
			continue
		}
		accepted, err := v.Accept(strings.TrimSpace(value))
		if err != nil {
			wrong = append(wrong, Wrong{"vars." + name, after(err, credential.ErrValue)})
		}
		out[name] = accepted
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return out, nil
}

// clientValues checks the values that are given of a client. One that decides on any host is needed: it is where the client's
// secret goes.
func (x *offer) clientValues(given map[string]string) (map[string]string, error) {
	out, err := x.someValues(given)
	if err != nil {
		return nil, err
	}
	for _, name := range x.free() {
		if out[name] == "" {
			out[name] = x.vars[name].Default
		}
		if out[name] == "" {
			return nil, invalid("vars."+name, "say for which host the client is: its secret goes there and nowhere else")
		}
	}
	return out, nil
}

func checkScopes(scopes []string) error {
	if len(scopes) > maxScopes {
		return invalid("scopes", "more than %d", maxScopes)
	}
	if n := slices.IndexFunc(scopes, func(s string) bool {
		return s == "" || len(s) > maxScope || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
	}); n >= 0 {
		return invalid(fmt.Sprintf("scopes[%d]", n), "it is no scope (RFC 6749 section 3.3)")
	}
	return nil
}

// DeleteTemplate destroys the client of a template. Connections that were made with it can
// be used until their tokens end, and then must be connected again.
func (s *Service) DeleteTemplate(ctx context.Context, o id.Org, t id.Template) error {
	x, err := s.db.Org(ctx, o).Template(t)
	if err != nil {
		return err
	}
	// The secret goes first: what is left of a template is deleted by asking again, a secret without one would stay.
	if err := s.engine.DeleteConnection(ctx, x.Owner, x.Client, ReasonDeleted); err != nil && !errors.Is(err, engine.ErrNotFound) {
		return fmt.Errorf("destroy client: %w", err)
	}
	now := time.Now()
	if err := s.db.Write(ctx, func(tx *store.Tx) error { return tx.Org(o).DeleteTemplate(t, now) }); err != nil {
		return fmt.Errorf("delete connection template: %w", err)
	}
	return nil
}

// Reasons for which a connection is gone, and of notices.
const (
	ReasonDeleted = "deleted" // by somebody who may
	ReasonRevoked = "break_glass"
)
