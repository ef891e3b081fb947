package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Token is a permission to use the API. Its secret is shown once, by the request that
// makes it.
type Token struct {
	ID      id.Token  `json:"id"`
	Name    string    `json:"name"`
	Role    Role      `json:"role" enum:"admin,operator,builder,viewer"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Used    time.Time `json:"used,omitzero" doc:"To the minute."`
}

// TokenRequest makes a token.
type TokenRequest struct {
	Name string `json:"name" minLength:"1" maxLength:"200"`
	Role Role   `json:"role" enum:"admin,operator,builder,viewer"`
	Days uint32 `json:"days,omitempty" minimum:"1" maximum:"366" doc:"How long it is valid; default 90."`
}

// NewToken is a token with its secret.
type NewToken struct {
	Token
	Secret string `json:"secret" doc:"Send it as Authorization: Bearer. It is not shown again."`
}

// tokenPrefix begins every token, so that scanners of leaked secrets know it.
const tokenPrefix = "bhk"

// Lives of tokens.
const (
	defaultTokenDays = 90
	firstTokenLife   = 24 * time.Hour
	// usedEvery is how exactly it is known when a token was used last.
	usedEvery = time.Minute
)

// makeToken makes a token and its row. The secret has 256 random bits, so that a plain
// SHA-256 of it tells nobody anything: slow hashes are for what people make up.
func makeToken(name string, role Role, life time.Duration, now time.Time) (*store.Token, string) {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails since Go 1.24
	t := &store.Token{ID: id.NewToken(now), Name: name, Role: string(role), Hash: sha256.Sum256(secret[:]), Created: now, Expires: now.Add(life)}
	return t, tokenPrefix + "_" + strings.TrimPrefix(t.ID.String(), "tok_") + "_" + base64.RawURLEncoding.EncodeToString(secret[:])
}

// parseToken reads the text of a token.
func parseToken(text string) (t id.Token, hash [32]byte, ok bool) {
	prefix, rest, _ := strings.Cut(text, "_")
	number, encoded, _ := strings.Cut(rest, "_")
	secret, err := base64.RawURLEncoding.DecodeString(encoded)
	if prefix != tokenPrefix || err != nil || len(secret) != sha256.Size || number == "" || t.UnmarshalText([]byte("tok_"+number)) != nil {
		return t, hash, false
	}
	return t, sha256.Sum256(secret), true
}

// authenticate finds out who makes a request. What is wrong with a token is not told.
func (s *Server) authenticate(r *http.Request) (*principal, *Problem) {
	refused := problemOf(CodeUnauthenticated, "")
	t, hash, ok := parseToken(bearer(r))
	if !ok {
		return nil, refused
	}
	row, err := s.db.System(r.Context()).Token(t)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, refused
	case err != nil:
		s.log.ErrorContext(r.Context(), "token cannot be read", "request_id", requestID(r.Context()), "err", err)
		return nil, problemOf(CodeUnavailable, "")
	}
	now := time.Now()
	same := subtle.ConstantTimeCompare(hash[:], row.Hash[:]) == 1
	if !same && !off(secretsCompared) || !now.Before(row.Expires) && !off(expiryChecked) {
		return nil, refused
	}
	if now.Sub(row.Used) >= usedEvery {
		s.db.Submit(func(tx *store.Tx) error { return tx.System().TokenUsed(t, now) }, func(error) {}) // a help for people: nobody waits for it
	}
	return &principal{Org: row.Organization, Token: t, Role: Role(row.Role)}, nil
}

// TokenPath names a token in a path.
type TokenPath struct {
	Token id.Token `path:"token"`
}

func (s *Server) tokenRoutes() []route {
	return []route{
		{
			id: "list-tokens", method: http.MethodGet, path: "/tokens", permission: PermissionTokensManage,
			summary: "List tokens, without their secrets.", register: handle(s, s.listTokens),
		},
		{
			id: "make-token", method: http.MethodPost, path: "/tokens", permission: PermissionTokensManage, keep: keepSecret,
			summary: "Make a token. Its secret is in this answer only.", register: handle(s, s.newToken),
		},
		{
			id: "revoke-token", method: http.MethodDelete, path: "/tokens/{token}", permission: PermissionTokensManage,
			summary: "Revoke a token.", register: handle(s, s.revokeToken),
		},
	}
}

func tokenOf(t *store.Token) Token {
	return Token{ID: t.ID, Name: t.Name, Role: Role(t.Role), Created: t.Created, Expires: t.Expires, Used: t.Used}
}

func (s *Server) listTokens(ctx context.Context, in *ListInput) (*answer[Page[Token]], error) {
	return pageOf(ctx, s, "tokens", in, func(after id.Token, limit int) ([]store.Token, error) {
		return s.org(ctx).Tokens(after, limit)
	}, tokenOf, func(t *store.Token) id.Token { return t.ID })
}

func (s *Server) newToken(ctx context.Context, in *struct{ Body TokenRequest }) (*answer[NewToken], error) {
	days := cmp.Or(in.Body.Days, defaultTokenDays)
	t, secret := makeToken(in.Body.Name, in.Body.Role, time.Duration(days)*24*time.Hour, time.Now())
	org := principalOf(ctx).Org
	if err := s.db.Write(ctx, func(tx *store.Tx) error { return tx.Org(org).PutToken(t) }); err != nil {
		return nil, fmt.Errorf("make token: %w", err)
	}
	return &answer[NewToken]{NewToken{tokenOf(t), secret}}, nil
}

func (s *Server) revokeToken(ctx context.Context, in *TokenPath) (*none, error) {
	org, now := principalOf(ctx).Org, time.Now()
	return &none{}, s.db.Write(ctx, func(tx *store.Tx) error { return tx.Org(org).RevokeToken(in.Token, now) })
}
