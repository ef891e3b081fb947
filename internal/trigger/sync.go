package trigger

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// SyncWait is how long the sender of a synchronous webhook waits for its answer; then it
// gets 202, and the flow goes on.
const SyncWait = 30 * time.Second

// Limits of synchronous webhooks.
const (
	// maxSync bounds the requests that wait; more are answered as if they were asynchronous.
	maxSync = 4096
	// rereadWait bounds how long the answer to an earlier delivery is looked for.
	rereadWait = 5 * time.Second
	// writeTime bounds how long an answer is written.
	writeTime = 30 * time.Second
)

// sender is a request that waits for the answer of its flow, under a key of its own.
type sender struct {
	owner id.Customer
	node  id.Node // the server, to which the answer is brought
	view  id.View
	key   *seal.PrivateKey
	watch *engine.Watch
}

// newSender registers a request that waits; nil when too many do, of this customer or in all.
func (d *Door) newSender(c id.Customer) (*sender, error) {
	if !d.waiting.take(c, maxSync) {
		return nil, nil //nolint:nilnil // none is no error: the request is answered at once
	}
	key, err := seal.GenerateKey()
	if err != nil {
		d.waiting.give(c)
		return nil, err
	}
	s := &sender{owner: c, node: d.engine.Node(), view: id.NewView(d.now()), key: key}
	if s.watch, err = d.engine.Watch(lease.Viewer{View: s.view}); err != nil {
		d.waiting.give(c)
		return nil, err
	}
	return s, nil
}

func (d *Door) endSender(s *sender) {
	s.watch.Close()
	d.waiting.give(s.owner)
}

// field is what the event says of the sender, for the worker.
func (s *sender) field(b []byte) []byte {
	b = append(b, `,"reply":{"view":"`...)
	b = append(b, s.view.String()...)
	b = append(b, `","key":"`...)
	key := s.key.Public()
	b = base64.StdEncoding.AppendEncode(b, key[:])
	b = append(b, `","server":"`...)
	b = append(b, s.node.String()...)
	return append(b, `"}`...)
}

// answerSync waits for the answer of a flow and gives it to the sender.
func (d *Door) answerSync(w http.ResponseWriter, r *http.Request, t *engine.Target, s *sender, got engine.Accepted) {
	if got.Duplicate {
		d.answerAgain(w, r, t, got)
		return
	}
	c := http.NewResponseController(w)
	// The connection's limits are for those who send and read slowly, not for those who wait.
	_ = errors.Join(c.SetReadDeadline(time.Time{}), c.SetWriteDeadline(time.Now().Add(d.syncWait+writeTime)))
	ctx, cancel := context.WithTimeout(r.Context(), d.syncWait)
	defer cancel()
	for {
		u, err := s.watch.Next(ctx)
		switch {
		case err != nil && r.Context().Err() != nil:
			return // the sender is gone
		case err != nil:
			started(w, got)
			return
		case u.Reply != nil:
			m := &wire.ReplyBody{}
			plain, err := s.key.Open(lease.PurposeView, u.Reply.Place(), u.Reply.Sealed)
			if err == nil {
				err = wire.ParseBody(plain, m)
			}
			if err != nil { // another's: the flow's own may still come
				d.log.ErrorContext(ctx, "reply does not open", "execution", got.Execution, "err", err)
				continue
			}
			reply(w, m)
			return
		case u.Finished != nil:
			ended(w, u.Finished.Status)
			return
		}
	}
}

// ended answers for a flow that ended without an answer.
func ended(w http.ResponseWriter, s store.Status) {
	if s == store.Completed {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	refuse(w, faulted)
}

// answerAgain answers a repeated delivery as the first was, or with its execution when that
// has not been answered or cannot be read.
//
// Who has not proved who it is gets the execution only: the answer is for the sender of the
// first delivery, and an id can be guessed.
func (d *Door) answerAgain(w http.ResponseWriter, r *http.Request, t *engine.Target, got engine.Accepted) {
	if t.Flow.Trigger.Webhook.Verify.None {
		started(w, got)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), rereadWait)
	defer cancel()
	m, err := d.engine.Reply(ctx, t.Instance.Customer, got.Execution)
	if err == nil {
		reply(w, m)
		return
	}
	if x, err2 := d.engine.Execution(ctx, t.Instance.Customer, got.Execution); err2 == nil && errors.Is(err, engine.ErrNotFound) && x.Status.Ended() {
		ended(w, x.Status)
		return
	}
	started(w, got)
}

// replyHeader reports whether a flow may set a header of the answer: not those that are the
// connection's (RFC 9110, 7.6.1), the body's length, or that would set cookies on the
// platform's own address.
func replyHeader(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length", "Set-Cookie",
		"Set-Cookie2", "Strict-Transport-Security", "Clear-Site-Data", "Alt-Svc", "Service-Worker-Allowed":
		return false
	}
	return true
}

// reply writes the answer of a flow.
func reply(w http.ResponseWriter, m *wire.ReplyBody) {
	if m.Status < 200 || m.Status > 599 {
		refuse(w, faulted)
		return
	}
	h := w.Header()
	// What a flow answers is data, whatever a browser would make of it on this address.
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("Cache-Control", "no-store")
	own := map[string]bool{}
	for _, p := range m.Headers {
		name := http.CanonicalHeaderKey(p.Name)
		if !replyHeader(name) || name == "Content-Security-Policy" || name == "X-Content-Type-Options" {
			continue
		}
		if !own[name] {
			h.Del(name)
			own[name] = true
		}
		h.Add(name, p.Value)
	}
	if m.ContentType != "" {
		h.Set("Content-Type", m.ContentType)
	}
	w.WriteHeader(int(m.Status))
	if m.Status != http.StatusNoContent && m.Status != http.StatusNotModified {
		_, _ = w.Write(m.Body)
	}
}

// isSync reports whether a webhook answers with what its flow says.
func isSync(h *flow.Webhook) bool { return h.Respond == flow.RespondSync }
