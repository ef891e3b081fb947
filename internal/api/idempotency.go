package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// headerKey carries the key of draft-ietf-httpapi-idempotency-key-header.
const headerKey = "Idempotency-Key"

// Limits and times of idempotency keys.
const (
	maxKey    = 255 // bytes
	maxAnswer = 1 << 20
	keptFor   = 24 * time.Hour
	// claimedFor is how long a request may go unanswered before its key is free again: its
	// server may have died. Starting an execution is kept to once beyond that, see starting.
	claimedFor = 5 * time.Minute
	// sweepEach is how many keys are removed with each that is kept.
	sweepEach = 4
)

// kept is an answer as it is stored.
type kept struct {
	Type string `json:"type"`
	ETag string `json:"etag,omitempty"`
	Body string `json:"body"`
}

// once serves a request with a key: the first one does what it asks and its answer is kept,
// every other one gets that answer. Only success is kept: what failed may be tried again
// with the same key.
func (s *Server) once(row *route, key string, w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	if len(key) > maxKey {
		writeProblem(w, problemOf(CodeInvalid, "", Place{"header." + headerKey, "it is too long"}))
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			writeProblem(w, problemOf(CodeTooLarge, ""))
		} else {
			writeProblem(w, problemOf(CodeMalformed, ""))
		}
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	p, now := principalOf(r.Context()), time.Now()
	c := claim{
		rows: func(tx *store.Tx) store.OrgTx { return tx.Org(p.Org) },
		key:  sha256.Sum256(seal.Tuple(nil, []byte("key/1"), p.Token[:], []byte(key))),
		request: sha256.Sum256(seal.Tuple(nil, []byte("request/1"), []byte(key), []byte(r.Method), []byte(r.URL.Path), []byte(r.URL.RawQuery),
			[]byte(r.Header.Get("If-Match")), body)),
	}
	var before *store.Kept
	err = s.db.Write(r.Context(), func(tx *store.Tx) error {
		var err error
		before, err = c.rows(tx).BeginRequest(c.key, c.request, now, now.Add(claimedFor))
		return errors.Join(err, tx.System().SweepRequests(now, sweepEach))
	})
	switch {
	case err != nil:
		s.fail(w, r, err)
	case before != nil:
		again(w, before, c.request)
	default:
		a := &keeper{ResponseWriter: w, keep: func(status int, h http.Header, body string) { s.keep(row, &c, status, h, body) }, first: row.streams}
		defer a.end(func() { s.forget(&c) })
		next(a, r)
	}
}

// claim is a key that belongs to the request that is being served.
type claim struct {
	rows         func(*store.Tx) store.OrgTx
	key, request [32]byte
}

// again gives the answer of the first request.
func again(w http.ResponseWriter, k *store.Kept, request [32]byte) {
	var a kept
	switch {
	case k.Request != request && !off(requestsCompared):
		writeProblem(w, problemOf(CodeKeyReused, ""))
	case k.Status == 0:
		w.Header().Set("Retry-After", "1")
		writeProblem(w, problemOf(CodeInProgress, ""))
	case k.Answer == "":
		writeProblem(w, problemOf(CodeAnswerNotKept, ""))
	case json.Unmarshal([]byte(k.Answer), &a) != nil:
		writeProblem(w, problemOf(CodeInternal, ""))
	default:
		if a.Type != "" {
			w.Header().Set("Content-Type", a.Type)
		}
		if a.ETag != "" {
			w.Header().Set("ETag", a.ETag)
		}
		w.Header().Set("Idempotency-Replayed", "true")
		w.WriteHeader(k.Status)
		_, _ = io.WriteString(w, a.Body) // who asked may be gone
	}
}

// keep stores the answer to a request, or that it was given.
func (s *Server) keep(row *route, c *claim, status int, h http.Header, body string) {
	text := ""
	if row.keep == keepAnswer && len(body) <= maxAnswer {
		b, _ := json.Marshal(kept{h.Get("Content-Type"), h.Get("ETag"), body}) // texts always encode
		text = string(b)
	}
	until := time.Now().Add(keptFor)
	// The request was served whether or not its client is still there.
	err := s.db.Write(context.Background(), func(tx *store.Tx) error { return c.rows(tx).EndRequest(c.key, c.request, status, text, until) })
	if err != nil {
		s.log.Error("answer cannot be kept", "route", row.id, "err", err)
	}
}

func (s *Server) forget(c *claim) {
	err := s.db.Write(context.Background(), func(tx *store.Tx) error { return c.rows(tx).ForgetRequest(c.key, c.request) })
	if err != nil {
		s.log.Error("idempotency key cannot be freed", "err", err)
	}
}

// keeper copies an answer while it is written. Of a stream it keeps the first line, as
// soon as it is there.
type keeper struct {
	http.ResponseWriter
	keep   func(status int, h http.Header, body string)
	first  bool // the answer may be a stream
	status int
	body   strings.Builder
	done   bool
}

// WriteHeader implements http.ResponseWriter.
func (k *keeper) WriteHeader(status int) {
	if k.status == 0 {
		k.status = status
	}
	k.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (k *keeper) Write(b []byte) (int, error) {
	if k.status == 0 {
		k.status = http.StatusOK
	}
	if !k.done && k.body.Len() <= maxAnswer {
		k.body.Write(b)
		if k.first && k.status < 300 && bytes.IndexByte(b, '\n') >= 0 {
			k.finish()
		}
	}
	return k.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (k *keeper) Unwrap() http.ResponseWriter { return k.ResponseWriter }

func (k *keeper) finish() {
	k.done = true
	line := k.body.String()
	if k.first {
		line, _, _ = strings.Cut(line, "\n")
		line += "\n"
	}
	k.keep(k.status, k.Header(), line)
}

// end keeps the answer when it was a success, and frees the key when not.
func (k *keeper) end(forget func()) {
	switch {
	case k.done:
	case k.status >= 200 && k.status < 300:
		k.finish()
	default:
		forget()
	}
}
