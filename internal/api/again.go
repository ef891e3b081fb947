package api

import (
	"context"
	"net/http"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

func (s *Server) againRoutes() []route {
	return []route{
		{
			id: "retry-execution", method: http.MethodPost, path: "/executions/{execution}/retry", permission: PermissionExecutionsRun,
			summary: "Continue a faulted execution, which keeps its finished steps.", register: handle(s, s.retry),
		},
		{
			id: "replay-execution", method: http.MethodPost, path: "/executions/{execution}/replay", permission: PermissionExecutionsRun,
			summary: "Start a new execution with the same event.", register: handle(s, s.replay),
		},
		{
			id: "retry-executions", method: http.MethodPost, path: "/executions/retry", permission: PermissionExecutionsRun,
			summary: "Retry the faulted executions that a query finds, the oldest first.", register: handle(s, s.bulkRetry),
		},
		{
			id: "replay-executions", method: http.MethodPost, path: "/executions/replay", permission: PermissionExecutionsRun,
			summary: "Replay the executions that a query finds, the oldest first.", register: handle(s, s.bulkReplay),
		},
	}
}

func (s *Server) retry(ctx context.Context, in *ExecutionPath) (*answer[Execution], error) {
	c, err := s.org(ctx).CustomerOfExecution(in.Execution)
	if err != nil {
		return nil, err
	}
	if err := s.engine.Retry(ctx, c, in.Execution); err != nil {
		return nil, err
	}
	return s.getExecution(ctx, in)
}

func (s *Server) replay(ctx context.Context, in *struct {
	ExecutionPath
	Body ReplayRequest
},
) (*answer[Started], error) {
	c, err := s.org(ctx).CustomerOfExecution(in.Execution)
	if err != nil {
		return nil, err
	}
	x, err := s.engine.Replay(ctx, c, in.Execution, engine.ReplayOptions{Newest: in.Body.Newest})
	return got(Started{x}, err)
}

// defaultBulk is how many executions one bulk request is about unless it says so.
const defaultBulk = 100

func (s *Server) bulkRetry(ctx context.Context, in *struct{ Body BulkRequest }) (*answer[BulkAnswer], error) {
	if status := in.Body.Query.Status; status != "" && status != string(store.Faulted) {
		return nil, problemOf(CodeInvalid, "", Place{"body.query.status", "only faulted executions can be retried"})
	}
	in.Body.Query.Status = string(store.Faulted)
	return s.bulk(ctx, &in.Body, func(x *store.ExecutionInfo) (id.Execution, error) {
		return x.ID, s.engine.Retry(ctx, x.Customer, x.ID)
	})
}

func (s *Server) bulkReplay(ctx context.Context, in *struct{ Body BulkRequest }) (*answer[BulkAnswer], error) {
	return s.bulk(ctx, &in.Body, func(x *store.ExecutionInfo) (id.Execution, error) {
		return s.engine.Replay(ctx, x.Customer, x.ID, engine.ReplayOptions{Newest: in.Body.Newest})
	})
}

// bulk does something to each execution that a query finds. What fails is reported and does
// not stop the others; a server that is too busy does.
func (s *Server) bulk(ctx context.Context, r *BulkRequest, do func(*store.ExecutionInfo) (id.Execution, error)) (*answer[BulkAnswer], error) {
	q, err := s.storeQuery(ctx, &r.Query)
	if err != nil {
		return nil, err
	}
	q.Oldest = true
	limit := r.Limit
	if limit == 0 {
		limit = defaultBulk
	}
	list, err := s.org(ctx).Executions(q, limit+1)
	if err != nil {
		return nil, err
	}
	out := BulkAnswer{Executions: []id.Execution{}}
	if out.More = len(list) > limit; out.More {
		list = list[:limit]
	}
	out.Matched = len(list)
	if r.DryRun {
		return &answer[BulkAnswer]{out}, nil
	}
	for n := range list {
		x, err := do(&list[n])
		if err == nil {
			out.Executions = append(out.Executions, x)
			continue
		}
		p := s.problem(ctx, err)
		out.Failed = append(out.Failed, BulkFailure{list[n].ID, p.Code, p.Detail})
		if p.Code == CodeBusy || ctx.Err() != nil {
			out.More = true
			break
		}
	}
	return &answer[BulkAnswer]{out}, nil
}
