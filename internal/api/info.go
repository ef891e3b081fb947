package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// ServerInfo says what a server is, to who may use it.
type ServerInfo struct {
	Version      string       `json:"version"`
	Organization id.Org       `json:"organization"`
	VaultKey     []byte       `json:"vault_key" doc:"X25519, 32 bytes: clients seal credentials and config to it."`
	Authority    []byte       `json:"authority,omitempty" doc:"Ed25519, 32 bytes: the authority of the vault. It stays the same: compare it with what you know."`
	Certificate  []byte       `json:"vault_certificate,omitempty" doc:"The authority's word that vault_key is the vault's."`
	Role         Role         `json:"role" doc:"Of the token."`
	Permissions  []Permission `json:"permissions"`
	Limits       Limits       `json:"limits"`
}

// Limits are what requests may not exceed, in bytes.
type Limits struct {
	Event  int `json:"event"`
	Body   int `json:"body"`
	Source int `json:"source"`
}

func (s *Server) serverRoutes() []route {
	return []route{{
		id: "get-server", method: http.MethodGet, path: "/server", permission: PermissionServerRead,
		summary: "Say what the server is, and what the token may do.", register: handle(s, s.getServer),
	}}
}

func (s *Server) getServer(ctx context.Context, _ *struct{}) (*answer[ServerInfo], error) {
	p, key := principalOf(ctx), s.engine.VaultKey()
	var authority, certificate []byte
	if s.o.Trust != nil {
		known, c := s.o.Trust()
		authority, certificate = known[:], c
	}
	return &answer[ServerInfo]{ServerInfo{
		Authority: authority, Certificate: certificate,
		Version: s.o.Version, Organization: p.Org, VaultKey: key[:], Role: p.Role, Permissions: Grants(p.Role),
		Limits: Limits{Event: engine.MaxEvent, Body: maxRequest, Source: maxSource},
	}}, nil
}

// maxSource is the longest integration file, in bytes.
const maxSource = 1 << 20

//go:generate go test -run TestDocuments -update .

// OpenAPI is the OpenAPI 3.1 document of the API.
func (s *Server) OpenAPI() ([]byte, error) { return s.document() }

// describe makes the document, which never changes.
func (s *Server) describe() ([]byte, error) {
	_, a := s.api()
	return json.MarshalIndent(a.OpenAPI(), "", "  ")
}

// openAPI serves the document to everybody: it holds nothing of this installation.
func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	b, err := s.OpenAPI()
	if err != nil {
		writeProblem(w, problemOf(CodeInternal, ""))
		return
	}
	w.Header().Set("Content-Type", "application/openapi+json")
	_, _ = w.Write(b) // who asked may be gone
}
