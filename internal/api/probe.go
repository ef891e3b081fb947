package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/connect"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Limits of what is asked through connections.
const (
	// maxListed is the most choices of one page, defaultListed how many it has unless it is said.
	maxListed     = 1000
	defaultListed = 100
	// askAgain is when a question may be repeated that there was no room for.
	askAgain = 2 * time.Second
)

// ConnectionTest is what the test of a connection found.
type ConnectionTest struct {
	OK        bool         `json:"ok" doc:"The service accepts the credential."`
	Ended     bool         `json:"ended" doc:"False with status 202: the execution goes on, and nothing is known yet."`
	Status    int          `json:"status,omitempty" doc:"HTTP status of the service's answer."`
	Type      string       `json:"type,omitempty" doc:"Type of the fault: auth, timeout, upstream, rate-limited, …"`
	Message   string       `json:"message" doc:"For people, in fixed words. What the service said is in the execution."`
	Health    store.Health `json:"health" enum:"unknown,ok,expiring,failing,needs_reconnect,revoked" doc:"Of the connection, now."`
	Execution id.Execution `json:"execution"`
}

// ChoicesRequest asks what an input of an action or a trigger may be.
type ChoicesRequest struct {
	Action string                     `json:"action" minLength:"1" maxLength:"100" doc:"An action or a trigger of the connector."`
	Input  string                     `json:"input" minLength:"1" maxLength:"100"`
	With   map[string]json.RawMessage `json:"with,omitempty" doc:"The other inputs, as far as they are known: some decide on what can be chosen."`
	ListedPart
}

// ListedPart is the part of a list that is wanted.
type ListedPart struct {
	Search string `json:"search,omitempty" maxLength:"200" doc:"Only choices with this text in their label or value."`
	Offset int    `json:"offset,omitempty" minimum:"0" maximum:"1000"`
	Limit  int    `json:"limit,omitempty" minimum:"1" maximum:"1000" doc:"Default 100."`
}

// ChoiceList is a part of what can be chosen.
type ChoiceList struct {
	Choices   []Choice     `json:"choices"`
	Total     int          `json:"total" doc:"That were found, before offset and limit."`
	More      bool         `json:"more" doc:"The service has more than were read: enter a value that is not listed by hand."`
	Execution id.Execution `json:"execution" doc:"That asked; some seconds ago, perhaps."`
}

// Choice is one value that can be chosen.
type Choice struct {
	Value json.RawMessage `json:"value" doc:"A text, a number, true or false."`
	Label string          `json:"label"`
}

// SchemaRequest asks for the schema of an input of an action or a trigger.
type SchemaRequest struct {
	Action string                     `json:"action" minLength:"1" maxLength:"100" doc:"An action or a trigger of the connector."`
	Input  string                     `json:"input" minLength:"1" maxLength:"100"`
	With   map[string]json.RawMessage `json:"with,omitempty" doc:"The other inputs, as far as they are known."`
}

// InputSchema is the schema of an input.
type InputSchema struct {
	Schema    json.RawMessage `json:"schema" doc:"JSON Schema, as the service describes it."`
	Execution id.Execution    `json:"execution"`
}

// OptionsRequest asks what a config variable of an instance may be set to.
type OptionsRequest struct {
	Variable string          `json:"variable" minLength:"1" maxLength:"100"`
	Side     string          `json:"side,omitempty" enum:"choices,from,to" doc:"Of a mapping: from or to."`
	Config   json.RawMessage `json:"config,omitempty" doc:"Config values that decide on what can be chosen, without secrets: those that are stored cannot be read."`
	ListedPart
}

func (s *Server) probeRoutes() []route {
	return []route{
		{
			id: "test-connection", method: http.MethodPost, path: "/connections/{connection}/test", permission: PermissionConnectionsWrite,
			summary: "Test a connection with the request that its connector names. What it finds becomes its health. With status 202 it has not ended yet.", register: handle(s, s.testConnection),
		},
		{
			id: "list-choices", method: http.MethodPost, path: "/connections/{connection}/choices", permission: PermissionExecutionsTest,
			summary: "List what an input of an action may be, as the connected service knows.", keep: keepNone, register: handle(s, s.listChoices),
		},
		{
			id: "get-input-schema", method: http.MethodPost, path: "/connections/{connection}/schema", permission: PermissionExecutionsTest,
			summary: "Get the schema of an input of an action, as the connected service describes it.", keep: keepNone, register: handle(s, s.getInputSchema),
		},
		{
			id: "list-options", method: http.MethodPost, path: "/instances/{instance}/choices", permission: PermissionInstancesWrite,
			summary: "List what a config variable of an instance may be set to, as the connected service knows.", body: maxConfig, keep: keepNone, register: handle(s, s.listOptions),
		},
	}
}

// tested is an answer with status 200, or 202 for a test that has not ended.
type tested struct {
	Status int
	Body   ConnectionTest
}

func (s *Server) testConnection(ctx context.Context, in *ConnectionPath) (*tested, error) {
	t, err := s.connect.Test(ctx, principalOf(ctx).Org, in.Connection)
	if err != nil {
		return nil, err
	}
	out := &tested{http.StatusOK, ConnectionTest{t.OK, t.Ended, t.Status, t.Type, t.Message, t.Health, t.Execution}}
	if !t.Ended {
		out.Status = http.StatusAccepted
	}
	return out, nil
}

func (s *Server) listChoices(ctx context.Context, in *struct {
	ConnectionPath
	Body ChoicesRequest
},
) (*answer[ChoiceList], error) {
	r := &in.Body
	c, err := s.connect.Choices(ctx, &connect.InputQuery{Org: principalOf(ctx).Org, Connection: in.Connection, Action: r.Action, Input: r.Input, With: r.With})
	return got(r.part(c), err)
}

func (s *Server) getInputSchema(ctx context.Context, in *struct {
	ConnectionPath
	Body SchemaRequest
},
) (*answer[InputSchema], error) {
	r := &in.Body
	schema, execution, err := s.connect.Schema(ctx, &connect.InputQuery{Org: principalOf(ctx).Org, Connection: in.Connection, Action: r.Action, Input: r.Input, With: r.With})
	return got(InputSchema{schema, execution}, err)
}

func (s *Server) listOptions(ctx context.Context, in *struct {
	InstancePath
	Body OptionsRequest
},
) (*answer[ChoiceList], error) {
	r := &in.Body
	c, err := s.connect.Options(ctx, &connect.OptionsQuery{Org: principalOf(ctx).Org, Instance: in.Instance, Variable: r.Variable, Side: r.Side, Config: r.Config})
	return got(r.part(c), err)
}

// part is the part of a list that is wanted.
func (p *ListedPart) part(c *connect.Choices) ChoiceList {
	out := ChoiceList{Choices: []Choice{}}
	if c == nil {
		return out
	}
	out.More, out.Execution = c.More, c.Execution
	limit, search := p.Limit, strings.ToLower(p.Search)
	if limit == 0 {
		limit = defaultListed
	}
	for _, one := range c.List {
		if search != "" && !strings.Contains(strings.ToLower(one.Label), search) && !strings.Contains(strings.ToLower(string(one.Value)), search) {
			continue
		}
		if out.Total++; out.Total > p.Offset && len(out.Choices) < min(limit, maxListed) {
			out.Choices = append(out.Choices, Choice{one.Value, one.Label})
		}
	}
	return out
}

// unansweredProblem is the problem of a question that was not answered.
func unansweredProblem(e *connect.AskedError) *Problem {
	detail := "The execution is " + e.Execution.String() + "."
	if e.Type == "" {
		p := problemOf(CodeUnavailable, "It has not ended yet. "+detail)
		p.RetryAfter = askAgain
		return p
	}
	return problemOf(CodeNotAnswered, e.Error()+" "+detail)
}
