package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/trigger"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// syncWait is how long the sender of a synchronous webhook waits for its answer.
const syncWait = 30 * time.Second

// serveOne serves the flow's webhook on loopback for one request, prints its address,
// runs the flow on that request, and answers it.
func (s *session) serveOne(c *console, instance id.Instance, f *flow.Flow, p *progress) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("serve webhook: %w", err)
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	hook := &webhook{session: s, ctx: ctx, instance: instance, flow: f, progress: p, path: "/hooks/" + rand.Text(), done: make(chan error, 1)}
	server := &http.Server{Handler: hook, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute}
	go func() { _ = server.Serve(l) }() // ends with Shutdown
	if !f.Trigger.Webhook.Verify.None && !p.json {
		fmt.Fprintln(c.Err, "note: the request is taken as verified: its signature is not checked here")
	}
	p.listening(methods(f)[0], "http://"+l.Addr().String()+hook.path)
	select {
	case err = <-hook.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	closing, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	_ = server.Shutdown(closing)
	return err
}

// listening says where one request is waited for.
func (p *progress) listening(method, url string) {
	switch {
	case p.json:
		b, _ := json.Marshal(map[string]string{"kind": "listening", "method": method, "url": url}) // texts always encode
		fmt.Fprintf(p.c.Err, "%s\n", b)
	case method == http.MethodGet:
		fmt.Fprintf(p.c.Err, "waiting for one request: curl %s\n", url)
	default:
		fmt.Fprintf(p.c.Err, "waiting for one request: curl -X %s %s -H 'Content-Type: application/json' -d '{}'\n", method, url)
	}
}

func methods(f *flow.Flow) []string {
	if len(f.Trigger.Webhook.Methods) == 0 {
		return []string{http.MethodPost}
	}
	return f.Trigger.Webhook.Methods
}

// webhook answers the one request.
type webhook struct {
	*session
	ctx      context.Context
	instance id.Instance
	flow     *flow.Flow
	progress *progress
	path     string
	done     chan error // one value: how the run ended
	taken    atomic.Bool
}

// ServeHTTP implements http.Handler.
func (h *webhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != h.path || h.taken.Load() {
		http.NotFound(w, r)
		return
	}
	if !slices.Contains(methods(h.flow), r.Method) {
		fmt.Fprintf(h.progress.c.Err, "refused a %s request: the flow takes %s\n", r.Method, strings.Join(methods(h.flow), ", "))
		w.Header().Set("Allow", strings.Join(methods(h.flow), ", "))
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	event, err := h.event(r)
	if err != nil {
		fmt.Fprintf(h.progress.c.Err, "refused a request: %v\n", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !h.taken.CompareAndSwap(false, true) {
		http.NotFound(w, r)
		return
	}
	x, err := h.begin(h.ctx, h.instance, h.flow, event)
	if err != nil {
		http.Error(w, "the flow does not start", http.StatusInternalServerError)
		h.done <- err
		return
	}
	reply := make(chan *wire.ReplyBody, 1)
	ended := make(chan error, 1)
	go func() {
		defer x.Close()
		err := h.progress.follow(h.ctx, h.session, x, func(m *wire.ReplyBody) {
			select {
			case reply <- m:
			default: // a second respond step changes nothing
			}
		})
		ended <- err
		h.done <- err
	}()
	if h.flow.Trigger.Webhook.Respond != flow.RespondSync {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	timer := time.NewTimer(syncWait)
	defer timer.Stop()
	select {
	case m := <-reply:
		write(w, m)
	case err := <-ended:
		select {
		case m := <-reply:
			write(w, m)
		default:
			if err != nil {
				http.Error(w, "the flow faulted before it answered", http.StatusInternalServerError)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		}
	case <-timer.C:
		w.WriteHeader(http.StatusAccepted)
	}
}

func write(w http.ResponseWriter, m *wire.ReplyBody) {
	for _, h := range m.Headers {
		w.Header().Add(h.Name, h.Value)
	}
	if m.ContentType != "" {
		w.Header().Set("Content-Type", m.ContentType)
	}
	w.WriteHeader(int(m.Status))
	_, _ = w.Write(m.Body)
}

// event is the request as the flow sees it: as the server's door reads it.
func (h *webhook) event(r *http.Request) (map[string]any, error) {
	q, err := trigger.ReadRequest(r)
	if err != nil {
		return nil, err
	}
	body, rest := q.Event(&trigger.Envelope{Time: now()})
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(append(body, slices.Concat(rest...)...), &fields); err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	e := newEvent(h.flow, nil)
	for _, name := range []string{"body", "method", "headers", "headers_all", "query"} {
		e[name] = fields[name]
	}
	return e, nil
}
