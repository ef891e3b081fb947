package api

import (
	"cmp"
	"context"
	"net/http"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func (s *Server) readRoutes() []route {
	return []route{
		{
			id: "list-steps", method: http.MethodGet, path: "/executions/{execution}/steps", permission: PermissionExecutionsRead,
			summary: "List the steps of an execution in the order in which they began: metadata.", register: handle(s, s.listSteps),
		},
		{
			id: "read-execution", method: http.MethodPost, path: "/executions/{execution}/read", permission: PermissionExecutionsView,
			summary: "Open a page of payloads or logs of an execution, sealed to the viewer's key.", keep: keepNone, register: handle(s, s.readExecution),
		},
		{
			id: "read-instance", method: http.MethodPost, path: "/instances/{instance}/read", permission: PermissionExecutionsView,
			summary: "Open a page of the config of an instance, without its secrets, sealed to the viewer's key.", keep: keepNone,
			register: handle(s, s.readConfig),
		},
	}
}

// readKinds are what can be read, by name.
func readKinds() map[string]wire.ReadKind {
	all := map[string]wire.ReadKind{}
	for _, k := range []wire.ReadKind{wire.ReadEvent, wire.ReadOutput, wire.ReadStep, wire.ReadLabels, wire.ReadLogs, wire.ReadConfig} {
		all[k.String()] = k
	}
	return all
}

func (s *Server) readExecution(ctx context.Context, in *struct {
	ExecutionPath
	Body ReadRequest
},
) (*answer[ReadPage], error) {
	c, err := s.org(ctx).CustomerOfExecution(in.Execution)
	if err != nil {
		return nil, err
	}
	if in.Body.What == wire.ReadConfig.String() {
		return nil, problemOf(CodeInvalid, "", Place{"body.what", "config is read of an instance"})
	}
	return s.read(ctx, &engine.ReadRequest{Customer: c, Execution: in.Execution}, &in.Body)
}

func (s *Server) readConfig(ctx context.Context, in *struct {
	InstancePath
	Body ReadRequest
},
) (*answer[ReadPage], error) {
	c, err := s.org(ctx).CustomerOfInstance(in.Instance)
	if err != nil {
		return nil, err
	}
	if in.Body.What != wire.ReadConfig.String() {
		return nil, problemOf(CodeInvalid, "", Place{"body.what", "of an instance, config is read"})
	}
	return s.read(ctx, &engine.ReadRequest{Customer: c, Instance: in.Instance}, &in.Body)
}

// read has a worker make the page. Who asks is in the vault's log before it is opened.
func (s *Server) read(ctx context.Context, q *engine.ReadRequest, r *ReadRequest) (*answer[ReadPage], error) {
	if len(r.Key) != seal.KeySize {
		return nil, problemOf(CodeInvalid, "", Place{"body.key", "want 32 bytes"})
	}
	q.Kind, q.Path, q.Seq, q.Cursor, q.Offset, q.Length = readKinds()[r.What], r.Path, r.Seq, r.Cursor, r.Offset, r.Length
	q.Viewer = lease.Viewer{View: r.View, Key: seal.PublicKey(r.Key)}
	q.Class = wire.ClassOperator
	q.Who = cmp.Or(principalOf(ctx).Token.String(), "socket")
	p, err := s.engine.Read(ctx, q)
	if err != nil {
		return nil, err
	}
	return &answer[ReadPage]{ReadPage{Instance: p.Instance, Cursor: p.Cursor, Sealed: p.Sealed, Next: p.Next, More: p.More}}, nil
}

// listSteps shows what the journal says of steps, without opening it. The position of this
// list is a number in the journal, written as an id is.
func (s *Server) listSteps(ctx context.Context, in *struct {
	ExecutionPath
	ListInput
},
) (*answer[Page[Step]], error) {
	c, err := s.org(ctx).CustomerOfExecution(in.Execution)
	if err != nil {
		return nil, err
	}
	return filteredPage(ctx, s, "steps", in.Execution, &in.ListInput, func(after id.Execution, limit int) ([]store.StepInfo, error) {
		return s.db.Customer(ctx, c).Steps(in.Execution, numberOf(after), limit)
	}, stepOf, func(x *store.StepInfo) id.Execution { return asID[id.Execution](x.First) })
}

func stepOf(x *store.StepInfo) Step {
	out := Step{Path: x.Path, First: x.First, State: "running", Attempts: x.Attempts, Began: x.Began, Last: x.Last, Logs: x.Logs}
	switch {
	case x.Faults > 0 && x.Results == 0:
		out.State = "faulted"
	case x.Results > 0:
		out.State = "completed"
	case x.Waits > 0:
		out.State = "waiting"
	}
	return out
}
