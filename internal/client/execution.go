package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/api"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// Executions finds executions, the newest first.
func (c *Client) Executions(ctx context.Context, q api.ExecutionQuery, l List) (*api.Page[api.Execution], error) {
	v := l.query()
	for name, text := range map[string]string{
		"customer": q.Customer, "instance": q.Instance.String(), "flow": q.Flow, "status": q.Status, "label": q.Label, "test": q.Test,
		"from": moment(q.From), "until": moment(q.Until),
	} {
		if text != "" {
			v.Set(name, text)
		}
	}
	return ask[api.Page[api.Execution]](ctx, c, request{method: http.MethodGet, path: "/executions", query: v})
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// Execution gets the metadata of an execution.
func (c *Client) Execution(ctx context.Context, x id.Execution) (*api.Execution, error) {
	return ask[api.Execution](ctx, c, request{method: http.MethodGet, path: path("executions", x.String())})
}

// Steps lists what the journal says of the steps of an execution: metadata.
func (c *Client) Steps(ctx context.Context, x id.Execution) (*api.Page[api.Step], error) {
	return ask[api.Page[api.Step]](ctx, c, request{method: http.MethodGet, path: path("executions", x.String(), "steps")})
}

// Cancel ends an execution.
func (c *Client) Cancel(ctx context.Context, x id.Execution) error {
	return c.ask(ctx, request{method: http.MethodPost, path: path("executions", x.String(), "cancel")}, nil)
}

// Skip lets the time of a wait of a test execution come at once; without a path, every
// timer of the flows that it has called.
func (c *Client) Skip(ctx context.Context, x id.Execution, at string) error {
	return c.ask(ctx, request{method: http.MethodPost, path: path("executions", x.String(), "skip"), body: api.SkipRequest{Path: at}}, nil)
}

// Deliver gives an event to a wait of a test execution. It is not found when the step does not wait, or not for that event.
func (c *Client) Deliver(ctx context.Context, x id.Execution, at string, e *api.RehearsedEvent) error {
	return c.ask(ctx, request{method: http.MethodPost, path: path("executions", x.String(), "skip"), body: api.SkipRequest{Path: at, Event: e}}, nil)
}

// Retry continues a faulted execution, which keeps its finished steps.
func (c *Client) Retry(ctx context.Context, x id.Execution) (*api.Execution, error) {
	return ask[api.Execution](ctx, c, request{method: http.MethodPost, path: path("executions", x.String(), "retry")})
}

// Replay starts a new execution with the same input.
func (c *Client) Replay(ctx context.Context, x id.Execution, r api.ReplayRequest) (*api.Started, error) {
	return ask[api.Started](ctx, c, request{method: http.MethodPost, path: path("executions", x.String(), "replay"), body: r})
}

// BulkRetry retries the executions that a query finds.
func (c *Client) BulkRetry(ctx context.Context, r api.BulkRequest) (*api.BulkAnswer, error) {
	return ask[api.BulkAnswer](ctx, c, request{method: http.MethodPost, path: "/executions/retry", body: r})
}

// BulkReplay replays the executions that a query finds.
func (c *Client) BulkReplay(ctx context.Context, r api.BulkRequest) (*api.BulkAnswer, error) {
	return ask[api.BulkAnswer](ctx, c, request{method: http.MethodPost, path: "/executions/replay", body: r})
}

// Answer posts to the address of a callback, as the service that was given it does.
func (c *Client) Answer(ctx context.Context, address string, headers http.Header, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("answer callback: %w", err)
	}
	r.Header = headers
	a, err := c.public.Do(r)
	if err != nil {
		return fmt.Errorf("answer callback: %w", err)
	}
	defer a.Body.Close()
	if a.StatusCode >= 300 {
		return fmt.Errorf("answer callback: it answers %s", a.Status)
	}
	return nil
}

// Stream is what a viewer sees of an execution, until it ends.
type Stream struct {
	body io.ReadCloser
	in   *json.Decoder
	view id.View
	key  *seal.PrivateKey
}

// viewer makes the key of a viewer.
func viewer() (id.View, *seal.PrivateKey, []byte, error) {
	key, err := seal.GenerateKey()
	if err != nil {
		return id.View{}, nil, nil, fmt.Errorf("make viewer key: %w", err)
	}
	public := key.Public()
	return id.NewView(time.Now()), key, public[:], nil
}

func (c *Client) stream(ctx context.Context, path string, body any, view id.View, key *seal.PrivateKey) (*Stream, error) {
	a, err := c.send(ctx, request{method: http.MethodPost, path: path, query: url.Values{}, body: body})
	if err != nil {
		return nil, err
	}
	return &Stream{body: a.Body, in: json.NewDecoder(a.Body), view: view, key: key}, nil
}

// Start starts one flow and watches it. The caller closes the stream; that ends the
// watching, not the execution.
func (c *Client) Start(ctx context.Context, instance id.Instance, r api.ExecutionRequest) (*Stream, error) {
	view, key, public, err := viewer()
	if err != nil {
		return nil, err
	}
	r.View, r.Key = view, public
	return c.stream(ctx, path("instances", instance.String(), "executions"), r, view, key)
}

// Trigger starts one flow that nobody watches.
func (c *Client) Trigger(ctx context.Context, instance id.Instance, r api.ExecutionRequest) (*api.Started, error) {
	r.View, r.Key = id.View{}, nil
	return ask[api.Started](ctx, c, request{method: http.MethodPost, path: path("instances", instance.String(), "executions"), body: r})
}

// TestRun runs a flow of a draft, or of a source, as a test execution of a customer, and
// watches it.
func (c *Client) TestRun(ctx context.Context, ref string, r api.TestRequest) (*Stream, error) {
	view, key, public, err := viewer()
	if err != nil {
		return nil, err
	}
	r.View, r.Key = view, public
	return c.stream(ctx, path("integrations", ref, "test"), r, view, key)
}

// Next is the next event, io.EOF after the last.
func (s *Stream) Next() (*api.Event, error) {
	e := &api.Event{}
	if err := s.in.Decode(e); err != nil {
		return nil, err
	}
	return e, nil
}

// Close ends the watching.
func (s *Stream) Close() { _ = s.body.Close() }

// Open opens the sealed page of an event.
func (s *Stream) Open(e *api.Event) ([]byte, error) {
	place := lease.ViewPlace(s.view, e.Execution, wire.ViewKind(e.ViewKind), e.Path)
	if e.Kind == api.EventReply {
		place = (&wire.Reply{View: s.view, Execution: e.Execution}).Place()
	}
	b, err := s.key.Open(lease.PurposeView, place, e.Sealed)
	if err != nil {
		return nil, fmt.Errorf("open page of %s: %w", e.Path, err)
	}
	return b, nil
}
