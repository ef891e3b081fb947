package quirk

import (
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The modes of a provider that is up to no good. No recipe handles them: the tests of attacks do.
const (
	// Echo answers calls, and EchoToken refuses token requests, with all that they carried.
	Echo      Switch = "echo"
	EchoToken Switch = "echo of token requests"
	// WrongIssuer names another provider in iss.
	WrongIssuer Switch = "iss of another provider"
	// Injected brings a code back that was given to another browser.
	Injected Switch = "code of another browser"
	// Redirect307 answers token requests with a redirect that repeats them elsewhere.
	Redirect307 Switch = "307 from the token endpoint"
	// RedirectInside answers them with a redirect into a private network.
	RedirectInside Switch = "redirect to a private address"
	// Huge answers without an end, Late after a long time.
	Huge Switch = "huge answer"
	Late Switch = "late answer"
	// MoreScope grants what was not asked for, OtherType a token of a type that nobody knows.
	MoreScope Switch = "more scope"
	OtherType Switch = "other token type"
	// HostileHost names a host that is not the provider's as the instance of the connection.
	HostileHost Switch = "hostile instance"
	// HiddenToken puts a token into the callback too.
	HiddenToken Switch = "token in the callback"
	// TwiceCode brings two codes back.
	TwiceCode Switch = "two codes"
)

// hostile answers a token request by a mode; false if no mode does.
func (s *Server) hostile(w http.ResponseWriter, r *http.Request, body []byte) bool {
	switch {
	case s.on[EchoToken]:
		s.echo(w, r, body, http.StatusBadRequest)
	case s.on[Redirect307] && !strings.HasPrefix(r.Host, "evil."):
		w.Header().Set("Location", Evil+"/token")
		w.WriteHeader(http.StatusTemporaryRedirect)
	case s.on[RedirectInside]:
		w.Header().Set("Location", "http://169.254.169.254/latest/meta-data/")
		w.WriteHeader(http.StatusFound)
	case s.on[Huge]:
		_, _ = w.Write([]byte(`{"access_token":"` + strings.Repeat("x", 2<<20) + `"}`))
	default:
		return false
	}
	return true
}

// worse changes an answer by a mode.
func (s *Server) worse(m map[string]any) {
	switch {
	case s.on[MoreScope]:
		m["scope"] = "read admin"
	case s.on[OtherType]:
		m["token_type"] = "mac"
	case s.on[HostileHost]:
		m["instance_url"] = "https://evil.example.org/#.example.com"
	}
}

// echo answers with what came, in several spellings.
func (s *Server) echo(w http.ResponseWriter, r *http.Request, body []byte, status int) {
	sent := r.Header.Get("Authorization")
	w.Header().Set("X-Echo", sent)
	reply(w, status, map[string]any{
		"error": sent + r.Form.Get("x") + string(body), "headers": r.Header, "query": r.URL.RawQuery, "body": string(body),
		"base64": base64.StdEncoding.EncodeToString([]byte(sent)), "hex": hex.EncodeToString([]byte(sent)), "escaped": url.QueryEscape(sent),
	})
}

// lateBy is how long an answer takes that is late.
const lateBy = time.Hour
