// Package api is the HTTP edge of a server: the API under /api/v1, what tells others how
// the server does, and what the outside may post to.
//
// # Routes
//
// One table (see routes) holds every route of the API with the permission that it needs;
// what has no row is not found, and a row without a permission is refused. The OpenAPI
// document at /api/openapi.json is made of the same table. A request is, in this order,
// given an id, authenticated, checked for its permission, counted against the rate of its
// token, bounded, looked up by its Idempotency-Key, and only then read.
//
// # Listeners
//
// [Server.Public] is for the listener to the outside: every request to the API needs a
// token. [Server.Handler] is for the Unix socket of a temporary session, which only the
// user of the session may open: who can is its administrator.
//
// # What is secret
//
// Credentials, config and events arrive over TLS, loopback or the socket; credentials and
// config may arrive sealed to the vault by the client. What arrives in clear is sealed as
// soon as it is read and is never logged, and no route returns it. Payloads and logs leave
// only as pages that a worker sealed to the viewer's key: this process cannot read them.
//
// Errors are problem+json (RFC 9457) with a stable code, see [Kinds]. Every body is bounded
// and read strictly. What belongs to another organization is not found. The handlers are
// safe for concurrent use.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bulkheadhq/bulkhead/internal/connect"
	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/registry"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// DefaultPool is the egress pool and the runner pool of one machine.
const DefaultPool = "default"

// Options are what a Server needs. Those of the last group may be absent.
type Options struct {
	Engine *engine.Engine
	Store  *store.Store
	Org    id.Org // the organization of this installation

	Version  string             // of the program
	Hooks    http.Handler       // serves /hooks/; nil: not found
	Registry *registry.Registry // nil: one of the catalogue and Store
	Connect  *connect.Service   // nil: only what needs no connector with a manifest
	Log      *slog.Logger       // nil: none
	Rate     Rate               // zero: DefaultRate
	Health   Health
	// Trust is the authority of the vault and its certificate of the vault; nil: none is shown.
	Trust func() (authority seal.VerifyKey, certificate []byte)

	Collectors []prometheus.Collector // more for /metrics; their labels hold nothing of customers
}

// Server serves the API of an engine.
type Server struct {
	o        Options
	engine   *engine.Engine
	db       *store.Store
	log      *slog.Logger
	connect  *connect.Service
	registry *registry.Registry
	rates    *rates
	zones    expr.Zones
	checks   chan struct{}                   // holds a token for each input that is checked
	api      func() (http.Handler, huma.API) // made when it is first needed, as is what follows
	document func() ([]byte, error)          // the OpenAPI document, made once: anybody may ask for it

	metrics func() *metrics
}

// New makes a Server for the one organization of this installation.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Registry == nil {
		o.Registry = registry.New(o.Store)
	}
	if o.Connect == nil {
		o.Connect = connect.New(connect.Options{Engine: o.Engine, Store: o.Store, Manifests: o.Registry, Pool: DefaultPool, Log: o.Log})
	}
	s := &Server{
		o: o, engine: o.Engine, db: o.Store, log: o.Log, connect: o.Connect, registry: o.Registry, rates: newRates(o.Rate), checks: make(chan struct{}, maxInputChecks),
	}
	s.api, s.document = sync.OnceValues(s.build), sync.OnceValues(s.describe)
	s.metrics = sync.OnceValue(func() *metrics { return newMetrics(s) })
	return s
}

// build makes the handler of the table of routes.
func (s *Server) build() (http.Handler, huma.API) {
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: "Bulkhead", Version: "1", Description: "See doc/api.md."},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "A token of the API."},
				},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": jsonFormat(), "json": jsonFormat()},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{ownProblem},
	}
	g := &guards{s: s, mux: http.NewServeMux(), rows: map[string]*route{}}
	a := humago.New(g, config)
	list := s.routes()
	for n := range list {
		r := &list[n]
		g.rows[r.method+" "+Prefix+r.path] = r
		r.register(a, r.operation(a.OpenAPI().Components.Schemas))
	}
	for _, foreign := range []string{"ErrorModel", "ErrorDetail"} { // never answered, see ownProblem
		delete(a.OpenAPI().Components.Schemas.Map(), foreign)
	}
	g.mux.HandleFunc("GET /api/openapi.json", s.openAPI)
	g.mux.HandleFunc("/", s.unknown(g.mux))
	return g.mux, a
}

// guards puts the guard of its row before every handler that is registered.
type guards struct {
	s    *Server
	mux  *http.ServeMux
	rows map[string]*route
}

// HandleFunc implements humago.Mux.
func (g *guards) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	if r := g.rows[pattern]; r != nil {
		g.mux.HandleFunc(pattern, g.s.guard(r, h))
	}
}

// ServeHTTP implements humago.Mux.
func (g *guards) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.mux.ServeHTTP(w, r) }

// unknown answers what no route matches, and says which methods a known path has.
func (s *Server) unknown(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		found := false
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			if _, pattern := mux.Handler(&http.Request{Method: method, URL: r.URL, Host: r.Host}); pattern != "/" && pattern != "" {
				w.Header().Add("Allow", method)
				found = true
			}
		}
		if found {
			writeProblem(w, problemOf(CodeMethod, ""))
			return
		}
		writeProblem(w, problemOf(CodeNotFound, ""))
	}
}

// Handler serves the API to the owner of a Unix socket, without a token.
func (s *Server) Handler() http.Handler {
	owner := &principal{Org: s.o.Org, Role: RoleAdmin}
	return s.outermost(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, _ := s.api()
		h.ServeHTTP(w, r.WithContext(withPrincipal(r.Context(), owner)))
	}))
}

// Public serves what the outside may reach.
func (s *Server) Public() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /callbacks/{token}", s.plain(s.callback))
	mux.HandleFunc("GET /callbacks/{token}", s.plain(s.askCallback))
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /metrics", s.serveMetrics)
	if s.o.Hooks != nil {
		mux.Handle("/hooks/", s.o.Hooks)
	}
	pages := s.connect.Pages()
	mux.Handle(connect.Path, pages)
	mux.Handle(connect.CallbackPath, pages)
	mux.Handle(connect.CallbackPath+"/", pages)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		h, _ := s.api()
		h.ServeHTTP(w, r)
	})
	mux.HandleFunc("/", s.unknown(mux))
	return s.outermost(mux)
}

// plain serves a handler outside of the table of routes.
func (s *Server) plain(serve func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		if err := serve(w, r); err != nil {
			s.fail(w, r, err)
		}
	}
}

// fail answers with the problem of an error.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	writeProblem(w, s.problem(r.Context(), err))
}

// errRequest is a request that cannot be read; the wrapped text may be shown.
var errRequest = errors.New("the request cannot be read")

// after is what an error says behind the text of what it wraps, which the title of a problem
// says already; else all of it.
func after(err, wrapped error) string {
	text := err.Error()
	if _, rest, ok := strings.Cut(text, wrapped.Error()+": "); ok {
		return rest
	}
	return text
}

// missing is a store.ErrNotFound that says of what kind the thing is that was not found: a sentence, which is the same whether it
// does not exist or belongs to another organization.
type missing string

// Error implements error.
func (m missing) Error() string { return string(m) }

// Is makes it a store.ErrNotFound.
func (m missing) Is(target error) bool { return target == store.ErrNotFound }

// sayMissing makes a store.ErrNotFound one that says what was not found.
func sayMissing(err error, what string) error {
	if errors.Is(err, store.ErrNotFound) {
		return missing(what)
	}
	return err
}

// problem is what is told about an error; what is not the caller's to know is logged.
func (s *Server) problem(ctx context.Context, err error) *Problem {
	p, ok := errors.AsType[*Problem](err)
	input, invalid := errors.AsType[inputError](err)
	gone, isGone := errors.AsType[missing](err)
	ofConnect := connectProblem(err)
	switch {
	case ok:
		p = &Problem{Title: p.Title, Status: p.Status, Code: p.Code, Detail: p.Detail, Errors: p.Errors, RetryAfter: p.RetryAfter}
	case invalid:
		p = problemOf(CodeInvalidInput, string(input))
	case ofConnect != nil:
		p = ofConnect
	case isGone:
		p = problemOf(CodeNotFound, string(gone))
	case errors.Is(err, engine.ErrNotFound), errors.Is(err, store.ErrNotFound):
		p = problemOf(CodeNotFound, "")
	case errors.Is(err, errRequest):
		p = problemOf(CodeMalformed, err.Error())
	case errors.Is(err, engine.ErrInvalid), errors.Is(err, id.ErrInvalid):
		p = problemOf(CodeInvalid, after(err, engine.ErrInvalid))
	case errors.Is(err, engine.ErrTooLarge):
		p = problemOf(CodeTooLarge, "")
	case errors.Is(err, engine.ErrNotEnabled):
		p = problemOf(CodeNotEnabled, "")
	case errors.Is(err, engine.ErrBusy):
		p = problemOf(CodeBusy, "")
		if busy, ok := errors.AsType[*engine.BusyError](err); ok {
			p.Detail, p.RetryAfter = busy.Error(), busy.RetryAfter
		}
	case errors.Is(err, engine.ErrConflict):
		p = problemOf(CodeConflict, after(err, engine.ErrConflict))
	case errors.Is(err, engine.ErrExpired):
		p = problemOf(CodeGone, "")
	case errors.Is(err, engine.ErrUnavailable):
		p = problemOf(CodeUnavailable, "No runner has room now.")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, store.ErrClosed):
		p = problemOf(CodeUnavailable, "")
		s.log.ErrorContext(ctx, "request failed", "request_id", requestID(ctx), "err", err)
	default:
		p = problemOf(CodeInternal, "")
		s.log.ErrorContext(ctx, "request failed", "request_id", requestID(ctx), "err", err)
	}
	p.RequestID = requestID(ctx)
	return p
}
