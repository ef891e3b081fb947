package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connector"
	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// RehearsedEvent is an event of a connected service as a test says it: one event, in the form that the connector describes.
type RehearsedEvent struct {
	Headers map[string]string `json:"headers,omitempty"`
	Query   map[string]string `json:"query,omitempty"`
	Body    json.RawMessage   `json:"body,omitempty"`
}

// deliver gives an event to a wait of a test execution.
func (s *Server) deliver(ctx context.Context, c id.Customer, x id.Execution, path string, r *RehearsedEvent) error {
	headers := http.Header{}
	for name, value := range r.Headers {
		headers.Set(name, value)
	}
	body := r.Body
	if len(body) == 0 {
		body = json.RawMessage("null")
	}
	value, err := expr.ParseJSON(body)
	if err != nil {
		return problemOf(CodeInvalid, "", Place{"body.event.body", "want JSON"})
	}
	event := struct {
		Body       json.RawMessage     `json:"body"`
		Headers    map[string]string   `json:"headers"`
		HeadersAll map[string][]string `json:"headers_all"`
		Query      map[string]string   `json:"query"`
		Time       string              `json:"time"`
	}{body, map[string]string{}, map[string][]string{}, map[string]string{}, time.Now().UTC().Format(time.RFC3339Nano)}
	for name, values := range headers {
		event.Headers[strings.ToLower(name)], event.HeadersAll[strings.ToLower(name)] = values[0], values
	}
	for name, v := range r.Query {
		event.Query[name] = v
	}
	payload, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("make event: %w", err)
	}
	d := &connector.Delivery{
		Method: http.MethodPost, Header: headers.Get, Query: func(name string) string { return r.Query[name] }, Raw: body, Body: value,
	}
	return s.engine.Deliver(ctx, c, x, path, d, payload)
}
