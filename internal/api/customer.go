package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/text/language"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Page is one page of a list.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"Cursor of the next page; absent on the last. Opaque."`
}

// Customer is a customer of the organization.
type Customer struct {
	ID         id.Customer     `json:"id"`
	ExternalID string          `json:"external_id" doc:"The organization's own id of the customer."`
	Name       string          `json:"name" doc:"What people call it."`
	Timezone   string          `json:"timezone" doc:"IANA name."`
	Locale     string          `json:"locale" doc:"BCP 47 tag."`
	Attributes json.RawMessage `json:"attributes" doc:"JSON object that flows see as customer.attributes."`
	Weight     uint32          `json:"weight" doc:"Share of the scheduler's turns."`
	Internal   bool            `json:"internal" doc:"The organization itself."`
	Created    time.Time       `json:"created"`
	Changed    time.Time       `json:"changed"`
}

// CustomerFields are what can be said about a customer. Absent ones are defaults.
type CustomerFields struct {
	Name       string          `json:"name,omitempty" maxLength:"200"`
	Timezone   string          `json:"timezone,omitempty" maxLength:"64" doc:"IANA name; default UTC."`
	Locale     string          `json:"locale,omitempty" maxLength:"35" doc:"BCP 47 tag; default en."`
	Attributes json.RawMessage `json:"attributes,omitempty" doc:"JSON object of at most 16 KiB; default {}."`
	Weight     uint32          `json:"weight,omitempty" minimum:"1" maximum:"1000" doc:"Default 1."`
}

// CustomerRequest makes a customer, or replaces what is said about the one with that
// external id.
type CustomerRequest struct {
	ExternalID string `json:"external_id" minLength:"1" maxLength:"200"`
	CustomerFields
}

// CustomerChange changes what it names.
type CustomerChange struct {
	Name       *string         `json:"name,omitempty" maxLength:"200"`
	Timezone   *string         `json:"timezone,omitempty" maxLength:"64"`
	Locale     *string         `json:"locale,omitempty" maxLength:"35"`
	Attributes json.RawMessage `json:"attributes,omitempty"`
	Weight     *uint32         `json:"weight,omitempty" minimum:"1" maximum:"1000"`
}

// ListInput says which page of a list is meant.
type ListInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Cursor string `query:"cursor" maxLength:"400" doc:"The next of the page before."`
}

// CustomerPath names a customer in a path. Types that requests embed are exported, else their
// fields are not read.
type CustomerPath struct {
	Customer string `path:"customer" maxLength:"200" doc:"Id or external id."`
}

func (s *Server) customerRoutes() []route {
	return []route{
		{
			id: "list-customers", method: http.MethodGet, path: "/customers", permission: PermissionCustomersRead,
			summary: "List customers in the order in which they were made.", register: handle(s, s.listCustomers),
		},
		{
			id: "upsert-customer", method: http.MethodPost, path: "/customers", permission: PermissionCustomersWrite,
			summary: "Make a customer, or replace what is said about the one with that external id.", register: handle(s, s.upsertCustomer),
		},
		{
			id: "get-customer", method: http.MethodGet, path: "/customers/{customer}", permission: PermissionCustomersRead,
			summary: "Get a customer.", register: handle(s, s.getCustomer),
		},
		{
			id: "put-customer", method: http.MethodPut, path: "/customers/{customer}", permission: PermissionCustomersWrite,
			summary: "Make the customer with an external id, or replace what is said about it.", register: handle(s, s.putCustomer),
		},
		{
			id: "change-customer", method: http.MethodPatch, path: "/customers/{customer}", permission: PermissionCustomersWrite,
			summary: "Change what is named of a customer.", register: handle(s, s.changeCustomer),
		},
		{
			id: "delete-customer", method: http.MethodDelete, path: "/customers/{customer}", permission: PermissionCustomersWrite,
			summary: "Destroy the keys of a customer that has no instances and no connections, and delete it.", register: handle(s, s.deleteCustomer),
		},
	}
}

// org is the handle on the rows of who makes the request.
func (s *Server) org(ctx context.Context) store.Org { return s.db.Org(ctx, principalOf(ctx).Org) }

// noCustomer is what is told of a customer that is not found.
const noCustomer = "There is no such customer."

// findCustomer finds a customer by its id or its external id.
func (s *Server) findCustomer(ctx context.Context, ref string) (id.Customer, error) {
	rows := s.org(ctx)
	var c id.Customer
	if err := c.UnmarshalText([]byte(ref)); err == nil && !c.IsZero() {
		return c, sayMissing(rows.Owns(c), noCustomer)
	}
	c, err := rows.CustomerByExternalID(ref)
	return c, sayMissing(err, noCustomer)
}

func customerOf(c *store.CustomerInfo) Customer {
	return Customer{
		ID: c.ID, ExternalID: c.ExternalID, Name: c.Title, Timezone: c.Timezone, Locale: c.Locale, Attributes: c.Attributes,
		Weight: c.Weight, Internal: c.Internal, Created: c.Created, Changed: c.Changed,
	}
}

func (s *Server) listCustomers(ctx context.Context, in *ListInput) (*answer[Page[Customer]], error) {
	return pageOf(ctx, s, "customers", in, func(after id.Customer, limit int) ([]store.CustomerInfo, error) {
		return s.org(ctx).Customers(after, limit)
	}, customerOf, func(c *store.CustomerInfo) id.Customer { return c.ID })
}

func (s *Server) readCustomer(ctx context.Context, c id.Customer) (*answer[Customer], error) {
	x, err := s.org(ctx).Customer(c)
	if err != nil {
		return nil, err
	}
	return &answer[Customer]{customerOf(x)}, nil
}

func (s *Server) getCustomer(ctx context.Context, in *CustomerPath) (*answer[Customer], error) {
	c, err := s.findCustomer(ctx, in.Customer)
	if err != nil {
		return nil, err
	}
	return s.readCustomer(ctx, c)
}

func (s *Server) upsertCustomer(ctx context.Context, in *struct{ Body CustomerRequest }) (*answer[Customer], error) {
	return s.saveCustomer(ctx, in.Body.ExternalID, &in.Body.CustomerFields)
}

func (s *Server) putCustomer(ctx context.Context, in *struct {
	CustomerPath
	Body CustomerFields
},
) (*answer[Customer], error) {
	external := in.Customer
	if isID[id.Customer](external) {
		c, err := s.findCustomer(ctx, external)
		if err != nil {
			return nil, err
		}
		x, err := s.org(ctx).Customer(c)
		if err != nil {
			return nil, err
		}
		external = x.ExternalID
	}
	return s.saveCustomer(ctx, external, &in.Body)
}

// isID reports whether a text is an id of a kind, which no name may look like.
func isID[T any, P interface {
	*T
	UnmarshalText([]byte) error
}](text string) bool {
	return text != "" && P(new(T)).UnmarshalText([]byte(text)) == nil
}

// maxAttributes bounds what flows see of a customer, in bytes: every event carries it.
const maxAttributes = 16 << 10

func (s *Server) saveCustomer(ctx context.Context, external string, f *CustomerFields) (*answer[Customer], error) {
	if isID[id.Customer](external) {
		return nil, problemOf(CodeInvalid, "", Place{"body.external_id", "it looks like an id of this platform"})
	}
	row := &store.CustomerRow{
		Organization: principalOf(ctx).Org, ExternalID: external, Title: f.Name, Timezone: cmp.Or(f.Timezone, "UTC"),
		Locale: cmp.Or(f.Locale, "en"), Attributes: f.Attributes, Weight: max(f.Weight, 1), Internal: external == InternalCustomer,
	}
	if err := s.checkCustomer(row); err != nil {
		return nil, err
	}
	c, err := s.engine.PutCustomer(ctx, row)
	if err != nil {
		return nil, err
	}
	return s.readCustomer(ctx, c)
}

// InternalCustomer is the external id of the customer that is the organization itself.
const InternalCustomer = "internal"

func (s *Server) checkCustomer(c *store.CustomerRow) error {
	var places []Place
	if _, err := s.zones.Load(c.Timezone); err != nil {
		places = append(places, Place{"body.timezone", "it is not the IANA name of a time zone, such as Europe/Vienna"})
	}
	if _, err := language.Parse(c.Locale); err != nil {
		places = append(places, Place{"body.locale", "it is not a BCP 47 language tag, such as de-AT"})
	}
	var fields map[string]json.RawMessage
	switch {
	case len(c.Attributes) == 0:
		c.Attributes = []byte("{}")
	case len(c.Attributes) > maxAttributes:
		places = append(places, Place{"body.attributes", fmt.Sprintf("more than %d bytes", maxAttributes)})
	case json.Unmarshal(c.Attributes, &fields) != nil || fields == nil:
		places = append(places, Place{"body.attributes", "want an object"})
	}
	if len(places) > 0 {
		return problemOf(CodeInvalid, "", places...)
	}
	return nil
}

func (s *Server) changeCustomer(ctx context.Context, in *struct {
	CustomerPath
	Body CustomerChange
},
) (*answer[Customer], error) {
	c, err := s.findCustomer(ctx, in.Customer)
	if err != nil {
		return nil, err
	}
	x, err := s.org(ctx).Customer(c)
	if err != nil {
		return nil, err
	}
	f := &CustomerFields{Name: x.Title, Timezone: x.Timezone, Locale: x.Locale, Attributes: x.Attributes, Weight: x.Weight}
	set(&f.Name, in.Body.Name)
	set(&f.Timezone, in.Body.Timezone)
	set(&f.Locale, in.Body.Locale)
	set(&f.Weight, in.Body.Weight)
	if in.Body.Attributes != nil {
		f.Attributes = in.Body.Attributes
	}
	return s.saveCustomer(ctx, x.ExternalID, f)
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func (s *Server) deleteCustomer(ctx context.Context, in *CustomerPath) (*none, error) {
	c, err := s.findCustomer(ctx, in.Customer)
	if err != nil {
		return nil, err
	}
	err = s.engine.DeleteCustomer(ctx, principalOf(ctx).Org, c)
	if errors.Is(err, engine.ErrInUse) {
		err = problemOf(CodeInUse, "It has instances or connections, or is the organization itself.")
	}
	return &none{}, err
}
