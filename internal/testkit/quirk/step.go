package quirk

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// step answers everything else: introspection, revocation, sessions and their parts.
func (s *Server) step(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	form, _ := url.ParseQuery(string(body))
	bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case path == "/introspect" && s.on[Introspection]:
		t := s.tokens[form.Get("token")]
		if t == nil {
			reply(w, 200, map[string]any{"active": false})
			return
		}
		reply(w, 200, map[string]any{"active": true, "exp": t.expires.Unix()})
	case path == "/revoke" && s.on[Revocation]:
		s.revoke(w, r, form.Get("token"), form.Get("client_secret") == ClientSecret)
	case strings.HasPrefix(path, "/grants/") && s.on[RevokeGet]:
		s.revoke(w, r, strings.TrimPrefix(path, "/grants/"), r.Method == http.MethodDelete && r.Header.Get("X-Client") == ClientID)
	case path == "/rest-login" && s.on[SessionExchange]:
		s.session(w, r.URL.Query().Get("access_token"))
	case path == "/discover-tenant" && s.on[StepURL]:
		var m map[string]string
		if json.Unmarshal(body, &m) != nil || m["user"] != "ann" || m["password"] != "pass-word-1" {
			s.refuse(w, 401, "invalid_login", "user")
			return
		}
		reply(w, 200, map[string]any{"login": map[string]any{"url": EU + "/session", "ticket": s.issue(&grant{}, "ticket", false, Life)}})
	case path == "/session" && s.on[StepURL] && r.Host == "eu.example.com":
		if t := s.tokens[form.Get("ticket")]; t == nil || t.set != "ticket" {
			s.refuse(w, 401, "invalid_grant", "ticket")
			return
		}
		reply(w, 200, map[string]any{"session": s.issue(&grant{}, "session", false, Life), "valid_for": "01:00:00"})
	case path == "/assertion" && s.on[TextAssertion]:
		if form.Get("user_id") != "ann" {
			s.refuse(w, 400, "invalid_request", "user_id")
			return
		}
		_, _ = w.Write([]byte("PHNhbWw+\n"))
	case path == "/resources" && s.on[LookUp]:
		if why := s.wrongToken(r, bearer); why != "" {
			s.refuse(w, 401, "invalid_token", why)
			return
		}
		reply(w, 200, []any{map[string]any{"id": "cloud-1", "name": "Acme"}})
	default:
		s.note("no such path: %s", path)
		http.NotFound(w, r)
	}
}

// revoke ends the grant of a token.
func (s *Server) revoke(w http.ResponseWriter, _ *http.Request, token string, client bool) {
	t := s.tokens[token]
	if !client || t == nil {
		s.refuse(w, 400, "invalid_request", "revocation")
		return
	}
	t.grant.revoked = true
	s.Counts.Revoked++
	w.WriteHeader(http.StatusOK)
}

// session gives a session for an access token.
func (s *Server) session(w http.ResponseWriter, access string) {
	t := s.tokens[access]
	if t == nil || t.grant.revoked {
		s.refuse(w, 401, "invalid_token", "access token")
		return
	}
	reply(w, 200, map[string]any{"BhRestToken": s.issue(t.grant, "session", false, 10*time.Minute), "restUrl": EU + "/api/"})
}

// discover answers metadata (RFC 8414, RFC 9728) and registrations (RFC 7591).
func (s *Server) discover(w http.ResponseWriter, r *http.Request, body []byte) {
	switch {
	case r.URL.Path == "/.well-known/oauth-protected-resource/mcp" && s.on[ResourceMetadata] && r.Host == "api.example.com":
		reply(w, 200, map[string]any{"resource": API + "/mcp", "authorization_servers": []string{IDP}})
	case r.URL.Path == "/.well-known/oauth-authorization-server":
		reply(w, 200, map[string]any{
			"issuer": IDP, "authorization_endpoint": IDP + "/authorize", "token_endpoint": IDP + "/token", "revocation_endpoint": IDP + "/revoke",
			"registration_endpoint": IDP + "/register", "code_challenge_methods_supported": []string{"S256"},
			"client_id_metadata_document_supported": s.on[ClientDocument],
		})
	case r.URL.Path == "/register" && s.on[Registration]:
		var m struct {
			RedirectURIs []string `json:"redirect_uris"`
			Name         string   `json:"client_name"`
		}
		if json.Unmarshal(body, &m) != nil || len(m.RedirectURIs) != 1 || m.RedirectURIs[0] != RedirectURI || m.Name == "" {
			s.refuse(w, 400, "invalid_client_metadata", "registration")
			return
		}
		reply(w, 201, map[string]any{"client_id": "registered-1", "client_secret": "registered-secret"})
	default:
		http.NotFound(w, r)
	}
}
