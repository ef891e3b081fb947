// Package api is the HTTP edge of a server: the API under /api/v1, and what the
// outside may post to, which is callbacks.
//
// The two are separate handlers, served on separate listeners: the API on a Unix
// socket that only the server's user and root may open, callbacks on a TCP address.
// What is secret in a request (credentials, config) arrives sealed to the vault; events
// arrive in clear and are sealed before they are stored.
//
// Errors are problem+json (RFC 9457) with a stable code. Every body is bounded. The
// handlers are safe for concurrent use.
package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Limits of request bodies, in bytes.
const (
	maxRequest  = engine.MaxEvent + 1<<20
	maxCallback = 1 << 20
)

// Server serves the API of an engine.
type Server struct {
	engine *engine.Engine
	org    id.Org
	log    *slog.Logger
}

// New makes a Server for the one organization of this installation.
func New(e *engine.Engine, org id.Org, log *slog.Logger) *Server { return &Server{e, org, log} }

// route is one row of the table of routes.
type route struct {
	pattern string
	serve   func(http.ResponseWriter, *http.Request) error
}

// Handler serves the API.
func (s *Server) Handler() http.Handler {
	return s.mount([]route{
		{"POST /api/v1/customers", s.putCustomer},
		{"POST /api/v1/integrations", s.publish},
		{"PUT /api/v1/connections/{id}", s.putConnection},
		{"PUT /api/v1/instances/{id}", s.deploy},
		{"GET /api/v1/instances/{id}/hooks/{flow}", s.hook},
		{"POST /api/v1/instances/{id}/executions", s.start},
		{"DELETE /api/v1/executions/{id}", s.cancel},
		{"POST /api/v1/executions/{id}/skip", s.skip},
	})
}

// Public serves what the outside may reach: callbacks, and the webhooks below /hooks/ by hooks.
func (s *Server) Public(hooks http.Handler) http.Handler {
	mux := s.mount([]route{
		{"POST /callbacks/{token}", s.callback},
		{"GET /callbacks/{token}", s.askCallback},
	})
	mux.Handle("/hooks/", hooks)
	return mux
}

func (s *Server) mount(routes []route) *http.ServeMux {
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.HandleFunc(r.pattern, func(w http.ResponseWriter, q *http.Request) {
			q.Body = http.MaxBytesReader(w, q.Body, maxRequest)
			if err := r.serve(w, q); err != nil {
				s.fail(w, q, err)
			}
		})
	}
	return mux
}

// errRequest is a request that cannot be read; the wrapped text may be shown.
var errRequest = errors.New("the request cannot be read")

func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := Problem{Title: "the server failed", Status: http.StatusInternalServerError, Code: "internal"}
	input, invalid := errors.AsType[inputError](err)
	switch {
	case invalid:
		p = input.problem()
	case errors.Is(err, engine.ErrNotFound):
		p = Problem{Title: "not found", Status: http.StatusNotFound, Code: "not-found"}
	case errors.Is(err, engine.ErrInvalid), errors.Is(err, errRequest), errors.Is(err, id.ErrInvalid):
		p = Problem{Title: "invalid request", Status: http.StatusBadRequest, Code: "invalid", Detail: err.Error()}
	case errors.Is(err, engine.ErrTooLarge):
		p = Problem{Title: "too large", Status: http.StatusRequestEntityTooLarge, Code: "too-large"}
	case errors.Is(err, engine.ErrNotEnabled):
		p = Problem{Title: "the instance takes no events", Status: http.StatusConflict, Code: "not-enabled"}
	default:
		s.log.ErrorContext(r.Context(), "request failed", "route", r.Pattern, "err", err)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

func read(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return errors.Join(errRequest, err)
	}
	return nil
}

func answer(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

func (s *Server) putCustomer(w http.ResponseWriter, r *http.Request) error {
	var m CustomerRequest
	if err := read(r, &m); err != nil {
		return err
	}
	c, err := s.engine.PutCustomer(r.Context(), &store.CustomerRow{Organization: s.org, ExternalID: m.ExternalID, Weight: 1})
	if err != nil {
		return err
	}
	return answer(w, CustomerAnswer{ID: c})
}

func (s *Server) publish(w http.ResponseWriter, r *http.Request) error {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return errors.Join(errRequest, err)
	}
	v, err := s.engine.Publish(r.Context(), s.org, b)
	if err != nil {
		return err
	}
	return answer(w, IntegrationAnswer{Digest: hex.EncodeToString(v.Digest[:])})
}

func (s *Server) putConnection(w http.ResponseWriter, r *http.Request) error {
	var m ConnectionRequest
	var n id.Connection
	if err := errors.Join(n.UnmarshalText([]byte(r.PathValue("id"))), read(r, &m)); err != nil {
		return err
	}
	err := s.engine.PutConnection(r.Context(), &engine.Credential{
		Connection: store.Connection{ID: n, Customer: m.Customer, Connector: m.Connector, Kind: m.Kind, Host: m.Host},
		Sealed:     m.Record,
	})
	if err != nil {
		return err
	}
	return answer(w, struct{}{})
}

func (s *Server) deploy(w http.ResponseWriter, r *http.Request) error {
	var m InstanceRequest
	d := &engine.Deployment{EgressPool: DefaultPool, RunnerPool: DefaultPool}
	if err := errors.Join(d.Instance.UnmarshalText([]byte(r.PathValue("id"))), read(r, &m)); err != nil {
		return err
	}
	digest, err := hex.DecodeString(m.Digest)
	if err != nil || len(digest) != len(d.Digest) {
		return errors.Join(errRequest, errors.New("digest is not 64 hexadecimal characters"))
	}
	d.Digest = [32]byte(digest)
	d.Customer, d.Sealed = m.Customer, m.Config
	for name, c := range m.Slots {
		d.Slots = append(d.Slots, store.Slot{Name: name, Connection: c})
	}
	if _, err := s.engine.Deploy(r.Context(), d); err != nil {
		return err
	}
	return answer(w, struct{}{})
}

// DefaultPool is the egress pool and the runner pool of one machine.
const DefaultPool = "default"

func (s *Server) cancel(w http.ResponseWriter, r *http.Request) error {
	var m CancelRequest
	var x id.Execution
	if err := errors.Join(x.UnmarshalText([]byte(r.PathValue("id"))), read(r, &m)); err != nil {
		return err
	}
	if err := s.engine.Cancel(r.Context(), m.Customer, x); err != nil {
		return err
	}
	return answer(w, struct{}{})
}

// skip lets the time of a wait of a test execution come at once.
func (s *Server) skip(w http.ResponseWriter, r *http.Request) error {
	var m SkipRequest
	var x id.Execution
	if err := errors.Join(x.UnmarshalText([]byte(r.PathValue("id"))), read(r, &m)); err != nil {
		return err
	}
	if err := s.engine.Skip(r.Context(), m.Customer, x, m.Path); err != nil {
		return err
	}
	return answer(w, struct{}{})
}

// start accepts an event and streams what its viewer sees until the execution ends.
func (s *Server) start(w http.ResponseWriter, r *http.Request) error {
	var m ExecutionRequest
	var i id.Instance
	if err := errors.Join(i.UnmarshalText([]byte(r.PathValue("id"))), read(r, &m)); err != nil {
		return err
	}
	if len(m.Key) != seal.KeySize || m.View.IsZero() {
		return errors.Join(errRequest, errors.New("a viewer needs an id and a key of 32 bytes"))
	}
	if err := s.checkInput(r.Context(), m.Customer, i, m.Flow, m.Event); err != nil {
		return err
	}
	viewer := lease.Viewer{View: m.View, Key: seal.PublicKey(m.Key)}
	watch, err := s.engine.Watch(viewer)
	if err != nil {
		return err
	}
	defer watch.Close()
	got, err := s.engine.Accept(r.Context(), &engine.Event{
		Customer: m.Customer, Instance: i, Flow: m.Flow, Body: m.Event, Source: "api", Type: "start", Test: true, Viewer: viewer,
	})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := http.NewResponseController(w)
	_ = out.SetWriteDeadline(noDeadline)
	e := json.NewEncoder(w)
	if err := e.Encode(Event{Kind: EventAccepted, Execution: got.Execution}); err != nil {
		return nil // the viewer is gone
	}
	_ = out.Flush()
	s.stream(r.Context(), e, out, watch, got.Execution)
	return nil
}

func (s *Server) stream(ctx context.Context, e *json.Encoder, out *http.ResponseController, w *engine.Watch, x id.Execution) {
	for {
		u, err := w.Next(ctx)
		if err != nil {
			return // the viewer is gone, or the end was sent
		}
		if err := e.Encode(eventOf(&u, x)); err != nil {
			return
		}
		_ = out.Flush()
		if u.Finished != nil {
			return
		}
	}
}

func eventOf(u *engine.Update, x id.Execution) Event {
	switch {
	case u.Progress != nil:
		p := u.Progress
		return Event{Kind: EventProgress, Execution: x, Path: p.Path, State: byte(p.State), Attempt: p.Attempt, Duration: p.Duration, ErrorType: p.ErrorType}
	case u.View != nil:
		return Event{Kind: EventView, Execution: x, Path: u.View.Path, ViewKind: byte(u.View.Kind), Sealed: u.View.Sealed}
	case u.Reply != nil:
		return Event{Kind: EventReply, Execution: x, Sealed: u.Reply.Sealed}
	default:
		f := u.Finished
		return Event{Kind: EventStatus, Execution: x, Status: string(f.Status), ErrorType: f.ErrorType, ErrorStep: f.ErrorStep}
	}
}
