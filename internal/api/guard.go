package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

type contextKey int

const (
	keyPrincipal contextKey = iota
	keyRequestID
)

func withPrincipal(ctx context.Context, p *principal) context.Context {
	return context.WithValue(ctx, keyPrincipal, p)
}

// principalOf is who makes the request; nil before it is authenticated.
func principalOf(ctx context.Context) *principal {
	p, _ := ctx.Value(keyPrincipal).(*principal)
	return p
}

func requestID(ctx context.Context) string {
	text, _ := ctx.Value(keyRequestID).(string)
	return text
}

const headerRequestID = "X-Request-Id"

// outermost gives every request its id and every answer the headers that bind browsers:
// nothing is stored, framed, sniffed, or readable by another origin.
func (s *Server) outermost(next http.Handler) http.Handler {
	noStore, noSniff, policy := []string{"no-store"}, []string{"nosniff"}, []string{"default-src 'none'; frame-ancestors 'none'"}
	noReferrer, sameOrigin := []string{"no-referrer"}, []string{"same-origin"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ref := rand.Text()
		h := w.Header()
		h[headerRequestID] = []string{ref}
		// The lists are shared by all answers: who sets another value makes a list of its own.
		h["Cache-Control"] = noStore
		h["X-Content-Type-Options"] = noSniff
		h["Content-Security-Policy"] = policy
		h["Referrer-Policy"] = noReferrer
		h["Cross-Origin-Resource-Policy"] = sameOrigin
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), keyRequestID, ref)))
	})
}

// changeTime bounds what a request does that changes something, whoever waits for it.
const changeTime = 2 * time.Minute

// guard stands before the handler of a route. What a request begins to change is ended when its client goes away, so that
// nothing is left half done that only asking again would end.
func (s *Server) guard(row *route, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		seen := &recorder{ResponseWriter: w}
		ctx := r.Context()
		p := principalOf(ctx)
		if p == nil {
			var problem *Problem
			if p, problem = s.authenticate(r); problem != nil {
				w.Header().Set("WWW-Authenticate", `Bearer realm="bulkhead"`)
				writeProblem(w, problem)
				return
			}
			ctx = withPrincipal(ctx, p)
		}
		defer func() {
			level := slog.LevelDebug
			if seen.status >= http.StatusInternalServerError {
				level = slog.LevelWarn
			}
			s.log.Log(ctx, level, "request", "request_id", requestID(ctx), "route", row.id, "token", p.Token.String(),
				"status", seen.status, "duration", time.Since(begun))
			s.metrics().observe(row, seen.status, time.Since(begun))
		}()
		if (row.permission == "" || !p.may(row.permission)) && !off(permissionsChecked) {
			writeProblem(seen, problemOf(CodeForbidden, "It needs the permission "+string(row.permission)+"."))
			return
		}
		if !p.Token.IsZero() && !s.rates.take(p.Token, begun, w.Header()) && !off(ratesKept) {
			writeProblem(seen, problemOf(CodeRateLimited, ""))
			return
		}
		if r.Method != http.MethodGet && !row.streams {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), changeTime)
			defer cancel()
		}
		r = r.WithContext(ctx)
		if err := s.nameInstance(ctx, r); err != nil {
			s.fail(seen, r, err)
			return
		}
		r.Body = http.MaxBytesReader(seen, r.Body, row.body)
		if key := r.Header.Get(headerKey); key != "" && r.Method == http.MethodPost && row.keep != keepNone {
			s.once(row, key, seen, r, next)
			return
		}
		next(seen, r)
	}
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func writeProblem(w http.ResponseWriter, p *Problem) {
	if p.RequestID == "" {
		p.RequestID = w.Header().Get(headerRequestID)
	}
	for name, values := range p.GetHeaders() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // who asked may be gone
}

// bearer is the token of a request.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
