package harbour

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// apiOf is the handler of a call of the API, for the account whose token it carries. The caller
// holds mu.
type apiOf func(w http.ResponseWriter, r *http.Request, a *Account)

func (p *Provider) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.front)
	mux.HandleFunc("GET /openapi.json", p.document("openapi.json", "application/json"))
	mux.HandleFunc("GET /sidecar.yaml", p.document("sidecar.yaml", "application/yaml"))
	mux.HandleFunc("GET /client-secret", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = fmt.Fprintln(w, p.state.Secret)
	})
	mux.HandleFunc("GET /grants", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, p.Grants()) })
	mux.HandleFunc("GET /authorize", p.ask)
	mux.HandleFunc("POST /authorize", p.decide)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("POST /revoke", p.revoke)
	mux.HandleFunc("GET /v1/account", p.api(func(w http.ResponseWriter, _ *http.Request, a *Account) { answer(w, http.StatusOK, a) }))
	mux.HandleFunc("GET /v1/parcels", p.api(func(w http.ResponseWriter, _ *http.Request, a *Account) {
		answer(w, http.StatusOK, map[string]any{"items": append([]Parcel{}, p.parcels[a.ID]...)})
	}))
	mux.HandleFunc("POST /v1/parcels", p.api(p.book))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != p.state.Address { // a page elsewhere whose name leads here
			answer(w, http.StatusMisdirectedRequest, map[string]string{"error": "this is " + p.URL})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		mux.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func hashOf(text string) hash { return sha256.Sum256([]byte(text)) }

// refuse answers as RFC 6749 section 5.2 wants it.
func refuse(w http.ResponseWriter, status int, why string) {
	answer(w, status, map[string]string{"error": why})
}

// client reports whether a request is the client's; else it is refused.
func (p *Provider) client(w http.ResponseWriter, r *http.Request) bool {
	if err := r.ParseForm(); err != nil {
		refuse(w, http.StatusBadRequest, "invalid_request")
		return false
	}
	if r.PostForm.Get("client_id") != ClientID || subtle.ConstantTimeCompare([]byte(r.PostForm.Get("client_secret")), []byte(p.state.Secret)) != 1 {
		refuse(w, http.StatusUnauthorized, "invalid_client")
		return false
	}
	return true
}

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	if !p.client(w, r) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		p.exchange(w, r)
	case "refresh_token":
		p.refresh(w, r)
	default:
		refuse(w, http.StatusBadRequest, "unsupported_grant_type")
	}
}

// exchange makes tokens of a code. One that comes twice ends what was made of it (RFC 6749
// section 4.1.2).
func (p *Provider) exchange(w http.ResponseWriter, r *http.Request) {
	c := p.codes[hashOf(r.PostForm.Get("code"))]
	sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	switch {
	case c == nil || time.Now().After(c.until) || c.redirect != r.PostForm.Get("redirect_uri"),
		base64.RawURLEncoding.EncodeToString(sum[:]) != c.challenge:
		refuse(w, http.StatusBadRequest, "invalid_grant")
		return
	case c.grant != nil:
		p.end(c.grant)
		refuse(w, http.StatusBadRequest, "invalid_grant")
		return
	}
	c.grant = &kept{Grant: Grant{Account: c.account.ID, Scope: c.scope, Granted: time.Now().UTC().Truncate(time.Second)}}
	p.state.Grants = append(p.state.Grants, c.grant)
	if n := len(p.state.Grants); n > maxKept {
		p.state.Grants = slices.Clone(p.state.Grants[n-maxKept:])
	}
	p.tell("Harbour lets Bulkhead use the account of %s", c.account.Name)
	p.give(w, c.grant)
}

// refresh makes new tokens of a refresh token. One that comes twice ends the grant.
func (p *Provider) refresh(w http.ResponseWriter, r *http.Request) {
	h := hashOf(r.PostForm.Get("refresh_token"))
	for _, g := range p.state.Grants {
		switch {
		case !g.Revoked.IsZero():
		case slices.Contains(g.Old, h):
			g.Reused++
			p.tell("Harbour got a refresh token of %s twice, and ends the grant", p.nameOf(g))
			p.end(g)
		case g.Refresh == h:
			g.Old = append(g.Old, h)
			g.Old = g.Old[max(0, len(g.Old)-maxOld):]
			g.Renewals++
			g.Renewed = time.Now().UTC().Truncate(time.Second)
			p.tell("Harbour renewed the tokens of %s (%d)", p.nameOf(g), g.Renewals)
			p.give(w, g)
			return
		}
	}
	refuse(w, http.StatusBadRequest, "invalid_grant")
}

func (p *Provider) nameOf(g *kept) string {
	if a := p.account(g.Account); a != nil {
		return a.Name
	}
	return g.Account
}

// give answers with new tokens of a grant.
func (p *Provider) give(w http.ResponseWriter, g *kept) {
	access, refresh := rand.Text(), rand.Text()
	g.Access, g.Refresh, g.Expires = hashOf(access), hashOf(refresh), time.Now().Add(p.o.Life).UTC()
	p.changed()
	answer(w, http.StatusOK, map[string]any{
		"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": int(p.o.Life.Seconds()), "scope": g.Scope,
		"account": map[string]string{"id": g.Account, "name": p.nameOf(g)},
	})
}

// end takes a grant back. The caller holds mu.
func (p *Provider) end(g *kept) {
	if g.Revoked.IsZero() {
		g.Revoked = time.Now().UTC().Truncate(time.Second)
		p.changed()
	}
}

// revoke ends the grant of a token, as RFC 7009 says: of one that nobody knows too.
func (p *Provider) revoke(w http.ResponseWriter, r *http.Request) {
	if !p.client(w, r) {
		return
	}
	h := hashOf(r.PostForm.Get("token"))
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.state.Grants {
		if (g.Access == h || g.Refresh == h) && g.Revoked.IsZero() {
			p.tell("Harbour took back what %s had allowed", p.nameOf(g))
			p.end(g)
		}
	}
	w.WriteHeader(http.StatusOK)
}

// api serves a call that carries a token which is good now.
func (p *Provider) api(serve apiOf) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		h := hashOf(token)
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, g := range p.state.Grants {
			a := p.account(g.Account)
			if g.Access != h || a == nil || !g.Revoked.IsZero() {
				continue
			}
			if time.Now().After(g.Expires) {
				g.Late++
				break
			}
			g.Calls++
			serve(w, r, a)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		refuse(w, http.StatusUnauthorized, "invalid_token")
	}
}

// book books a parcel, once per idempotency key.
func (p *Provider) book(w http.ResponseWriter, r *http.Request, a *Account) {
	var in Parcel
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Order == "" {
		refuse(w, http.StatusBadRequest, "the body is not a parcel: an order is wanted")
		return
	}
	key := r.Header.Get("Idempotency-Key")
	if p.keys[a.ID] == nil {
		p.keys[a.ID] = map[string]string{}
	}
	in.ID = p.keys[a.ID][key]
	if in.ID == "" || key == "" {
		in.ID = fmt.Sprintf("HB-%04d", len(p.parcels[a.ID])+1)
		p.keys[a.ID][key] = in.ID
		p.parcels[a.ID] = append(p.parcels[a.ID], in)
		p.tell("Harbour booked %s for %s: order %s", in.ID, a.Name, clean(in.Order))
	}
	answer(w, http.StatusCreated, in)
}

// clean is a text for a terminal.
func clean(text string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return '.'
		}
		return c
	}, text[:min(len(text), 100)])
}
