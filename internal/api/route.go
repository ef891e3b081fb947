package api

import (
	"context"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/bulkheadhq/bulkhead/internal/engine"
)

// Prefix begins the paths of every route of the table.
const Prefix = "/api/v1"

// Limits of request bodies, in bytes.
const (
	maxRequest  = engine.MaxEvent + 1<<20
	maxSmall    = 64 << 10
	maxCallback = 1 << 20
)

// keep says what becomes of the answer to a request with an Idempotency-Key.
type keep int

const (
	keepAnswer keep = iota // it is stored and given again
	keepSecret             // it holds a secret: that it was given is stored
	keepNone               // the request changes nothing: the key is ignored
)

// route is one row of the table of routes. A request to a path that has no row is not
// found; a row without a permission is refused.
type route struct {
	id         string
	method     string
	path       string // below Prefix
	permission Permission
	summary    string
	body       int64 // most bytes of the body
	keep       keep
	streams    bool // the answer may be a stream of JSON lines
	register   func(huma.API, huma.Operation)
}

// handle makes a handler of a typed function.
func handle[I, O any](s *Server, f func(context.Context, *I) (*O, error)) func(huma.API, huma.Operation) {
	return func(a huma.API, op huma.Operation) {
		huma.Register(a, op, func(ctx context.Context, in *I) (*O, error) {
			out, err := f(ctx, in)
			if err != nil {
				return nil, s.problem(ctx, err)
			}
			return out, nil
		})
	}
}

// answer is a body with status 200.
type answer[T any] struct{ Body T }

// tagged is a body with its revision.
type tagged[T any] struct {
	ETag string `header:"ETag" doc:"The revision, for If-Match."`
	Body T
}

// none is an answer without a body.
type none struct{}

func got[T any](v T, err error) (*answer[T], error) {
	if err != nil {
		return nil, err
	}
	return &answer[T]{v}, nil
}

// routes is the table of all routes under Prefix.
func (s *Server) routes() []route {
	var all []route
	for _, part := range [][]route{
		s.serverRoutes(), s.customerRoutes(), s.integrationRoutes(), s.instanceRoutes(), s.lifecycleRoutes(), s.connectionRoutes(), s.connectRoutes(), s.probeRoutes(), s.glassRoutes(), s.connectorRoutes(), s.executionRoutes(), s.readRoutes(),
		s.statusRoutes(), s.againRoutes(), s.testRoutes(), s.tokenRoutes(),
	} {
		all = append(all, part...)
	}
	for n := range all {
		if all[n].body == 0 {
			all[n].body = maxSmall
		}
	}
	return all
}

// operation describes a route in the OpenAPI document.
func (r *route) operation(reg huma.Registry) huma.Operation {
	problem := &huma.Response{
		Description: "A problem (RFC 9457).",
		Content: map[string]*huma.MediaType{
			"application/problem+json": {Schema: reg.Schema(reflect.TypeFor[Problem](), true, "Problem")},
		},
	}
	op := huma.Operation{
		OperationID: r.id, Method: r.method, Path: Prefix + r.path, Summary: r.summary, MaxBodyBytes: r.body,
		Description: "Needs the permission `" + string(r.permission) + "`.",
		Responses:   map[string]*huma.Response{"default": problem},
		Security:    []map[string][]string{{"token": {string(r.permission)}}},
		Extensions:  map[string]any{"x-permission": string(r.permission)},
	}
	if r.method == http.MethodPost && r.keep != keepNone {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: headerKey, In: "header", Schema: &huma.Schema{Type: huma.TypeString},
			Description: "Makes it safe to repeat the request: the same key with the same request gives the first answer again, for 24 hours.",
		})
	}
	if r.streams {
		op.Responses["200"] = &huma.Response{
			Description: "Events, one JSON object a line.",
			Content: map[string]*huma.MediaType{
				"application/x-ndjson": {Schema: reg.Schema(reflect.TypeFor[Event](), true, "Event")},
			},
		}
	}
	return op
}
