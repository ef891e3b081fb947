package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

func (s *Server) readRoutes() []route {
	return []route{
		{
			id: "list-steps", method: http.MethodGet, path: "/executions/{execution}/steps", permission: PermissionExecutionsRead,
			summary: "List the steps of an execution with what the journal says of them: metadata.", register: handle(s, s.listSteps),
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

// listSteps shows what the definition and the journal's metadata say, without opening it.
func (s *Server) listSteps(ctx context.Context, in *ExecutionPath) (*answer[Page[Step]], error) {
	c, err := s.org(ctx).CustomerOfExecution(in.Execution)
	if err != nil {
		return nil, err
	}
	list, err := s.engine.Steps(ctx, c, in.Execution)
	if err != nil {
		return nil, err
	}
	p := Page[Step]{Items: []Step{}}
	for _, x := range list {
		p.Items = append(p.Items, stepOf(x))
	}
	return &answer[Page[Step]]{p}, nil
}

func stepOf(x *engine.Step) Step {
	out := Step{
		ID: x.ID, Parent: x.Parent, Kind: string(x.Kind), Title: x.Title, State: string(x.Status), Path: x.ID, Rounds: x.Rounds, Done: x.Done,
		Failed: x.Failed, Attempts: x.Tries, Pages: x.Pages,
	}
	for _, r := range []*engine.StepRun{x.First, x.Last} {
		if r != nil {
			out.Path, out.Error = r.Path, r.ErrorType
			out.Runs = append(out.Runs, runOf(r))
		}
	}
	for n := range x.Failures {
		if r := &x.Failures[n]; !slices.ContainsFunc(out.Runs, func(o StepRun) bool { return o.Path == r.Path }) {
			out.Runs = append(out.Runs, runOf(r))
		}
	}
	return out
}

func runOf(r *engine.StepRun) StepRun {
	return StepRun{
		Path: r.Path, State: string(r.Status), Seq: r.Seq, Attempts: r.Tries, Started: r.Started, Committed: r.Committed,
		Seconds: r.Took.Seconds(), Until: r.Until, Error: r.ErrorType,
	}
}
