package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/connectorfile"
	"github.com/bulkheadhq/bulkhead/internal/flowfile"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/registry"
)

// Connector is a version of a connector, and how far it is proved.
type Connector struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Title     string `json:"title"`
	Tier      string `json:"tier" enum:"verified,imported,code" doc:"verified: written and reviewed by hand. imported: made of a document, untrusted. code: with hooks in Go."`
	Digest    string `json:"digest" doc:"SHA-256 of the manifest's canonical form, hex."`
	Own       bool   `json:"own" doc:"Published by the organization; else of the catalogue."`
	Cases     int    `json:"cases" doc:"Requests, answers and events of the vendor's documentation with which it was compared; 0: it was not contract-tested."`
	Retrieved string `json:"retrieved,omitempty" format:"date" doc:"The date of the vendor's copy with which it was compared, or of which it was made; none: it was not compared with one of a known date."`
	TriedLive bool   `json:"tried_live" doc:"It was tried against the vendor's live service."`
}

// ConnectorDetail is a connector with what it can do.
type ConnectorDetail struct {
	Connector

	Description string          `json:"description,omitempty"`
	Docs        string          `json:"docs,omitempty"`
	Hosts       []string        `json:"hosts" doc:"The only hosts that it may call."`
	Manifest    json.RawMessage `json:"manifest" doc:"The whole manifest in canonical JSON."`
}

// ConnectorRequest carries a manifest and its cases, in YAML or JSON.
type ConnectorRequest struct {
	Source string `json:"source" maxLength:"4194304" doc:"The manifest."`
	Tests  string `json:"tests,omitempty" maxLength:"4194304" doc:"Its cases: the vendor's requests, answers and events. All must hold."`
}

// ConnectorValidation says what is wrong with a manifest or its cases.
type ConnectorValidation struct {
	Valid    bool            `json:"valid"`
	Name     string          `json:"name,omitempty"`
	Version  string          `json:"version,omitempty"`
	Digest   string          `json:"digest,omitempty"`
	Cases    int             `json:"cases"`
	Problems []SourceProblem `json:"problems" doc:"Paths of problems with the cases begin with cases."`
}

// ConnectorPath names a connector in a path.
type ConnectorPath struct {
	Connector string `path:"connector" maxLength:"63"`
	Version   string `query:"version" maxLength:"63" doc:"A version or a range such as ^1; default: the newest release."`
}

func (s *Server) connectorRoutes() []route {
	return []route{
		{
			id: "list-connectors", method: http.MethodGet, path: "/connectors", permission: PermissionIntegrationsRead,
			summary: "List the connectors of the catalogue and of the organization, the newest version of each first.", register: handle(s, s.listConnectors),
		},
		{
			id: "publish-connector", method: http.MethodPost, path: "/connectors", permission: PermissionIntegrationsWrite,
			summary: "Publish a version of a connector of the organization. A version never changes.", body: 4 * maxRequest, register: handle(s, s.publishConnector),
		},
		{
			id: "validate-connector", method: http.MethodPost, path: "/connectors/validate", permission: PermissionIntegrationsRead,
			summary: "Say what is wrong with a manifest and its cases.", body: 4 * maxRequest, keep: keepNone, register: handle(s, s.validateConnector),
		},
		{
			id: "get-connector", method: http.MethodGet, path: "/connectors/{connector}", permission: PermissionIntegrationsRead,
			summary: "Get a connector with its manifest.", register: handle(s, s.getConnector),
		},
	}
}

func connectorOf(x *registry.Connector) Connector {
	return Connector{Name: x.Name, Version: x.Version, Title: x.Title, Tier: string(x.Tier), Digest: hex.EncodeToString(x.Digest[:]), Own: x.Own, Cases: x.Cases, Retrieved: x.Retrieved}
}

// ConnectorList is all connectors.
type ConnectorList struct {
	Items []Connector `json:"items"`
}

func (s *Server) listConnectors(ctx context.Context, _ *struct{}) (*answer[ConnectorList], error) {
	list, err := s.registry.List(ctx, principalOf(ctx).Org)
	if err != nil {
		return nil, err
	}
	out := ConnectorList{Items: make([]Connector, len(list))}
	for n := range list {
		out.Items[n] = connectorOf(&list[n])
	}
	return &answer[ConnectorList]{out}, nil
}

func (s *Server) getConnector(ctx context.Context, in *ConnectorPath) (*answer[ConnectorDetail], error) {
	org := principalOf(ctx).Org
	m, err := s.registry.Manifest(ctx, org, in.Connector, in.Version)
	switch {
	case errors.Is(err, connectorfile.ErrNoConnector):
		return nil, problemOf(CodeNotFound, err.Error())
	case errors.Is(err, connector.ErrVersion):
		return nil, problemOf(CodeInvalid, "", Place{"query.version", err.Error()})
	case err != nil:
		return nil, err
	}
	text, err := m.Encode()
	if err != nil {
		return nil, err
	}
	out := ConnectorDetail{Description: m.Description, Docs: m.Docs, Hosts: m.Hosts, Manifest: text}
	list, err := s.registry.List(ctx, org)
	if err != nil {
		return nil, err
	}
	for n := range list {
		if list[n].Name == m.Name && list[n].Version == m.Version {
			out.Connector = connectorOf(&list[n])
		}
	}
	return &answer[ConnectorDetail]{out}, nil
}

// readConnector reads a manifest, and runs its cases.
func readConnector(r *ConnectorRequest) (*connector.Manifest, *ConnectorValidation) {
	v := &ConnectorValidation{Problems: []SourceProblem{}}
	doc, problems := connectorfile.Decode(sourceName, []byte(r.Source))
	v.Problems = append(v.Problems, problemsOf(problems)...)
	if doc == nil {
		return nil, v
	}
	m := doc.Manifest
	digest := m.Digest()
	v.Name, v.Version, v.Digest = m.Name, m.Version, hex.EncodeToString(digest[:])
	if r.Tests != "" {
		tests, problems := connectorfile.DecodeTests("tests", []byte(r.Tests), m)
		if tests != nil {
			v.Cases = len(tests.Cases)
			problems = tests.Run(m)
		}
		v.Problems = append(v.Problems, problemsOf(problems)...)
	}
	v.Valid = len(v.Problems) == 0
	return m, v
}

func (s *Server) validateConnector(_ context.Context, in *struct{ Body ConnectorRequest }) (*answer[ConnectorValidation], error) {
	_, v := readConnector(&in.Body)
	return &answer[ConnectorValidation]{*v}, nil
}

func (s *Server) publishConnector(ctx context.Context, in *struct{ Body ConnectorRequest }) (*answer[Connector], error) {
	m, v := readConnector(&in.Body)
	if !v.Valid {
		p := problemOf(CodeInvalidSource, "The connector is invalid.")
		for _, x := range v.Problems {
			p.Errors = append(p.Errors, Place{fmt.Sprintf("%d:%d %s", x.Line, x.Column, x.Path), x.Message})
		}
		return nil, p
	}
	by, err := s.whoAsks(ctx)
	if err != nil {
		return nil, err
	}
	err = s.registry.Publish(ctx, principalOf(ctx).Org, m, v.Cases, by, time.Now())
	if errors.Is(err, registry.ErrTaken) || errors.Is(err, registry.ErrPublished) {
		return nil, problemOf(CodeConflict, err.Error())
	}
	if err != nil {
		return nil, err
	}
	return &answer[Connector]{Connector{
		Name: m.Name, Version: m.Version, Title: m.Title, Tier: string(m.Tier), Digest: v.Digest, Own: true, Cases: v.Cases, Retrieved: m.Provenance.Retrieved,
	}}, nil
}

// connectorsOf finds the connectors of an organization for the files that it sends.
type connectorsOf struct {
	ctx context.Context //nolint:containedctx // one request's
	org id.Org
	r   *registry.Registry
}

var _ flowfile.Connectors = connectorsOf{}

// Manifest implements [flowfile.Connectors].
func (c connectorsOf) Manifest(name, versions string) (*connector.Manifest, error) {
	return c.r.Manifest(c.ctx, c.org, name, versions)
}

// Names implements [flowfile.Connectors]. Suggestions are not worth an error.
func (c connectorsOf) Names() []string {
	names, err := c.r.Names(c.ctx, c.org)
	if err != nil {
		return nil
	}
	return names
}
