package connect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/credential"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Options are what a Service needs.
type Options struct {
	Engine    *engine.Engine
	Store     *store.Store
	Manifests Manifests // nil: only the built-in connector can be connected
	Providers Providers // nil: no provider can be asked
	// BaseURL is the address of this installation, such as https://bulkhead.example.com.
	BaseURL string
	Pool    string // egress pool of new connections
	Log     *slog.Logger
}

// Providers asks providers through an egress node.
type Providers interface {
	// Start prepares the vault for a person who is about to be sent to a provider.
	Start(ctx context.Context, m *lease.StartCall) (*lease.StartAnswer, error)
	// Order has an egress node do something for a connection, and waits for what became of it.
	// The account is that of an exchange, nil when the provider tells none.
	Order(ctx context.Context, op lease.OrderOp, c id.Customer, n id.Connection, x *lease.Exchange) (*lease.OrderResult, *lease.Account, error)
	// Account is what the account of a connection is called at the provider; empty: not known.
	Account(ctx context.Context, c id.Customer, n id.Connection) (string, error)
	// AccountIndex is the blind index of an account at a connector's provider.
	AccountIndex(ctx context.Context, connector, account string) ([32]byte, error)
}

// Service connects customers. See the package comment.
type Service struct {
	o      Options
	engine *engine.Engine
	db     *store.Store
	log    *slog.Logger
	pages  *template.Template
	css    string
	asking asking

	askWait     time.Duration // how long a question waits, AskWait but in tests
	alreadyWait time.Duration // the constant but in tests
}

// New makes a Service.
func New(o Options) *Service {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{o: o, engine: o.Engine, db: o.Store, log: o.Log, askWait: AskWait, alreadyWait: alreadyWait}
	s.pages, s.css = parsePages()
	return s
}

// Entry is a connection as somebody enters it.
type Entry struct {
	Org        id.Org
	Customer   id.Customer   // the owner
	Connection id.Connection // zero: a new one
	Name       string
	Connector  string
	Version    string // of the connector; empty: the newest
	Method     string // auth method; empty: the first
	Template   id.Template
	Vars       map[string]string
	Fields     map[string]string // secrets and not, see credential.Method.Entered
	Shared     store.Shared      // only for connections of the organization itself
	By         string

	again bool // a link connects again what there is: the vault keeps its sharing, and who opens the link cannot mend what is wrong with that
}

// Save saves the credential of an entry, as a new connection or in place of the one before.
// It returns the id of the connection.
//
// Errors: [InvalidError] for what was entered; [ErrUnknown]; [ErrPerson] for methods where a
// person must agree at the provider; [ErrConflict] for a connection of another connector;
// store.ErrNotFound for what is not the organization's; or one of the vault or the store.
func (s *Service) Save(ctx context.Context, e *Entry) (id.Connection, error) {
	x, err := s.offer(ctx, e.Org, e.Connector, e.Version)
	if err != nil {
		return id.Connection{}, err
	}
	m, err := x.method(e.Method)
	if err != nil {
		return id.Connection{}, err
	}
	if m.Type == credential.OAuth2Code {
		return id.Connection{}, fmt.Errorf("%w for the auth method %s of %s: make a connect link; its auth methods are %s", ErrPerson, m.ID, e.Connector, strings.Join(x.methodIDs(), ", "))
	}
	return s.save(ctx, x, m, e)
}

// save is Save for a method that is known.
func (s *Service) save(ctx context.Context, x *offer, m *credential.Method, e *Entry) (id.Connection, error) {
	n := e.Connection
	if n.IsZero() {
		n = id.NewConnection(time.Now())
	}
	if err := s.sameConnector(ctx, e); err != nil {
		return n, err
	}
	r, err := s.draft(ctx, x, m, e, true)
	if err != nil {
		return n, err
	}
	c := &engine.Credential{Connection: *s.row(x, m, e, n, r), Record: r}
	if err := s.engine.PutConnection(ctx, c); err != nil {
		return n, err
	}
	r.Wipe()
	return n, nil
}

// sameConnector refuses to make a connection into one of another connector: what uses it
// would find itself connected to something else.
func (s *Service) sameConnector(ctx context.Context, e *Entry) error {
	if e.Connection.IsZero() {
		return nil
	}
	old, err := s.db.Customer(ctx, e.Customer).Connection(e.Connection)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case old.Kind == store.KindClient:
		return store.ErrNotFound
	case old.Connector != e.Connector:
		return fmt.Errorf("%w: the connection is one of %s; make a new one for %s", ErrConflict, old.Connector, e.Connector)
	}
	return nil
}

// draft is the record of an entry. Without whole it has no fields yet.
func (s *Service) draft(ctx context.Context, x *offer, m *credential.Method, e *Entry, whole bool) (*lease.Record, error) {
	asked := m.Entered()
	client, err := s.client(ctx, x, m, e)
	if err != nil {
		return nil, err
	}
	if client == nil {
		asked = slices.Concat(m.Client(), asked)
	} else {
		x = x.pinned(client.Vars)
	}
	values, err := x.values(e.Vars)
	var wrong InvalidError
	if err != nil && !errors.As(err, &wrong) {
		return nil, err
	}
	var entered []lease.Field
	if whole || client == nil || len(e.Fields) > 0 {
		var bad InvalidError
		if entered, err = fields(asked, e.Fields); errors.As(err, &bad) {
			wrong = append(wrong, bad...)
		}
		wrong = append(wrong, checkCertificate(m, entered, x.hosts(values), time.Now())...)
	}
	if !e.again {
		wrong = append(wrong, s.checkSharing(ctx, x, e)...)
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	r, err := x.record(m, values, entered)
	if err != nil {
		return nil, err
	}
	if client != nil {
		r.Client = client.Client
	}
	r.SharedWith, r.SharedFor = e.Shared.Customers, x.shared(e.Shared.Actions)
	return r, nil
}

// client is the template of an entry whose OAuth client the connection uses; nil: it brings
// its own, or needs none.
func (s *Service) client(ctx context.Context, x *offer, m *credential.Method, e *Entry) (*store.Template, error) {
	if e.Template.IsZero() {
		return nil, nil //nolint:nilnil // it needs none
	}
	t, err := s.db.Org(ctx, e.Org).Template(e.Template)
	if err != nil {
		return nil, err
	}
	switch {
	case t.Connector != x.manifest.Name || t.Method != m.ID:
		return nil, invalid("template", "it is for %s of %s", t.Method, t.Connector)
	case !isFor(t, e.Customer):
		return nil, errNotFor()
	case t.ConnectorDigest != x.manifest.Digest():
		return nil, invalid("template", "it was made for version %s of %s; enter its client again for %s", t.ConnectorVersion, t.Connector, x.manifest.Version)
	}
	return t, nil
}

// CheckSaved checks what is said of a connection of the built-in connector that is about to
// be saved: that it stays one of it, and with whom it is shared.
func (s *Service) CheckSaved(ctx context.Context, o id.Org, n *store.Connection) error {
	e := &Entry{Org: o, Customer: n.Customer, Connection: n.ID, Connector: n.Connector, Shared: n.Shared}
	if err := s.sameConnector(ctx, e); err != nil {
		return err
	}
	wrong := s.checkShared(ctx, e)
	for i, name := range n.Shared.Actions {
		if name != flow.ActionRequest {
			wrong = append(wrong, Wrong{fmt.Sprintf("shared.actions[%d]", i), "the built-in connector has the one action " + flow.ActionRequest})
		}
	}
	if len(wrong) > 0 {
		return wrong
	}
	return nil
}

// checkSharing checks with whom a connection of a connector is shared, and for which of its actions.
func (s *Service) checkSharing(ctx context.Context, x *offer, e *Entry) InvalidError {
	return append(s.checkShared(ctx, e), x.checkActions(e.Shared.Actions)...)
}

// checkShared checks with whom a connection is shared. Only one of the organization itself
// may be.
func (s *Service) checkShared(ctx context.Context, e *Entry) (wrong InvalidError) {
	if len(e.Shared.Customers) == 0 && len(e.Shared.Actions) == 0 {
		return nil
	}
	owner, err := s.db.Org(ctx, e.Org).Customer(e.Customer)
	switch {
	case err != nil || !owner.Internal:
		return InvalidError{{"shared", "only a connection of the organization itself, the customer internal, can be shared"}}
	case len(e.Shared.Customers) > MaxShared || len(e.Shared.Actions) > MaxShared:
		return InvalidError{{"shared", fmt.Sprintf("more than %d customers or actions", MaxShared)}}
	case len(e.Shared.Customers) == 0:
		return InvalidError{{"shared.customers", "name the customers, or * for all of them"}}
	}
	for n, name := range e.Shared.Customers {
		if name == lease.SharedWithAll {
			continue
		}
		var c id.Customer
		if err := c.UnmarshalText([]byte(name)); err != nil || c.IsZero() || s.db.Org(ctx, e.Org).Owns(c) != nil {
			wrong = append(wrong, Wrong{fmt.Sprintf("shared.customers[%d]", n), "there is no such customer"})
		}
	}
	return wrong
}

// row is the metadata of an entry.
func (s *Service) row(x *offer, m *credential.Method, e *Entry, n id.Connection, r *lease.Record) *store.Connection {
	row := &store.Connection{
		Customer: e.Customer, ID: n, Name: cmp.Or(e.Name, x.manifest.Title, x.manifest.Name), Connector: x.manifest.Name, Kind: string(r.Kind),
		Host: strings.Join(r.Binding.Authorities(), ", "), EgressPool: s.o.Pool, Template: e.Template, Method: m.ID, ConnectorVersion: x.manifest.Version,
		ConnectorDigest: r.Digest, Shared: e.Shared, CreatedBy: e.By,
	}
	if len(r.Hosts) > 1 {
		row.Host = strings.Join(append(slices.Clone(r.Hosts), r.Binding.Authorities()[1:]...), ", ") // one of Hosts, as the provider says
	}
	if r.Kind == lease.KindMTLS {
		row.TokenExpires = certificateEnds(r.Fields)
	}
	if values, err := x.values(e.Vars); err == nil {
		row.Vars = values
	}
	return row
}

// CallbackPath is where providers send browsers back to.
const CallbackPath = "/oauth/callback"

// EventsURL is the address of a provider's app whose events come for all customers.
func (s *Service) EventsURL(t id.Template) string { return s.o.BaseURL + "/hooks/app/" + t.String() }

// RedirectURI is what is registered with an OAuth client at its provider.
func (s *Service) RedirectURI() string { return s.o.BaseURL + CallbackPath }
