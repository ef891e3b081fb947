package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// Execution is the metadata of an execution.
type Execution struct {
	ID            id.Execution `json:"id"`
	Customer      id.Customer  `json:"customer"`
	Instance      id.Instance  `json:"instance"`
	Integration   string       `json:"integration" doc:"Name."`
	Version       uint32       `json:"version"`
	Digest        string       `json:"digest"`
	Flow          string       `json:"flow"`
	Trigger       string       `json:"trigger" doc:"Kind of trigger."`
	Status        string       `json:"status" enum:"pending,running,waiting,completed,faulted,cancelled"`
	Test          bool         `json:"test"`
	Accepted      time.Time    `json:"accepted"`
	Started       time.Time    `json:"started,omitzero"`
	Finished      time.Time    `json:"finished,omitzero"`
	Expires       time.Time    `json:"expires" doc:"When it is ended unless it ends by itself."`
	PayloadsUntil time.Time    `json:"payloads_until" doc:"When its payloads are destroyed."`
	ErrorType     string       `json:"error_type,omitempty"`
	ErrorStep     string       `json:"error_step,omitempty"`
	Cause         string       `json:"cause" enum:"trigger,call,replay,on_fault,test"`
	CauseID       id.Execution `json:"cause_id,omitzero" doc:"What it replays, or whose fault it handles."`
	Root          id.Execution `json:"root"`
	Parent        id.Execution `json:"parent,omitzero"`
	ParentPath    string       `json:"parent_path,omitempty" doc:"The step that called it."`
	Retries       uint32       `json:"retries"`
	Entries       uint32       `json:"entries" doc:"Length of its journal."`
	Interruptions uint32       `json:"interruptions"`
}

// ExecutionQuery says which executions are meant. Zero fields mean any.
type ExecutionQuery struct {
	Customer string      `json:"customer,omitempty" query:"customer" doc:"Id or external id."`
	Instance id.Instance `json:"instance,omitzero" query:"instance"`
	Flow     string      `json:"flow,omitempty" query:"flow" maxLength:"200"`
	Status   string      `json:"status,omitempty" query:"status" enum:"pending,running,waiting,completed,faulted,cancelled"`
	Label    string      `json:"label,omitempty" query:"label" maxLength:"1024" doc:"NAME=VALUE; needs a customer."`
	From     time.Time   `json:"from,omitzero" query:"from" doc:"Accepted at or after."`
	Until    time.Time   `json:"until,omitzero" query:"until" doc:"Accepted before."`
	Test     string      `json:"test,omitempty" query:"test" enum:"yes,no" doc:"Only tests, or none."`
}

// BulkRequest retries or replays the executions that a query finds, the oldest first.
type BulkRequest struct {
	Query  ExecutionQuery `json:"query"`
	Limit  int            `json:"limit,omitempty" minimum:"1" maximum:"1000" doc:"Most executions of one request; default 100."`
	DryRun bool           `json:"dry_run,omitempty" doc:"Count only."`
	Newest bool           `json:"newest,omitempty" doc:"Replay on the version that the instance has now."`
}

// BulkAnswer says what a bulk request did.
type BulkAnswer struct {
	Matched    int            `json:"matched" doc:"Found, up to the limit."`
	More       bool           `json:"more" doc:"There are more than the limit."`
	Executions []id.Execution `json:"executions" doc:"Retried, or made by replay."`
	Failed     []BulkFailure  `json:"failed,omitempty"`
}

// BulkFailure is an execution that could not be retried or replayed.
type BulkFailure struct {
	Execution id.Execution `json:"execution"`
	Code      Code         `json:"code"`
	Detail    string       `json:"detail,omitempty"`
}

// ReplayRequest says on which version a replay runs.
type ReplayRequest struct {
	Newest bool `json:"newest,omitempty" doc:"The version that the instance has now; default the one that the execution began on."`
}

// Started is an execution that was made.
type Started struct {
	Execution id.Execution `json:"execution"`
}

// Step is one step of an execution with what the journal says of it: metadata. One inside
// a loop comes once, with counts and its failed rounds.
type Step struct {
	ID       string    `json:"id" doc:"Unique in the flow."`
	Parent   string    `json:"parent,omitempty" doc:"The step around it."`
	Kind     string    `json:"kind"`
	Title    string    `json:"title,omitempty"`
	State    string    `json:"state" doc:"done, failed, retrying, waiting, begun, passed, or empty: the journal says nothing."`
	Path     string    `json:"path" doc:"Of its newest run, with the indices of loops; what a read of the step names."`
	Rounds   int       `json:"rounds" doc:"Runs in the journal."`
	Done     int       `json:"done"`
	Failed   int       `json:"failed"`
	Attempts int       `json:"attempts,omitempty" doc:"Tries that failed, of all rounds."`
	Pages    int       `json:"pages,omitempty" doc:"Of a loop over the pages of an action."`
	Runs     []StepRun `json:"runs,omitempty" doc:"The first and the newest, and those that failed."`
	Error    string    `json:"error,omitempty" doc:"Type of the fault of the newest run."`
}

// StepRun is one run of a step, such as in one round of a loop.
type StepRun struct {
	Path      string    `json:"path"`
	State     string    `json:"state"`
	Seq       uint32    `json:"seq" doc:"The entry of the journal that says so."`
	Attempts  int       `json:"attempts,omitempty"`
	Started   time.Time `json:"started,omitzero"`
	Committed time.Time `json:"committed"`
	Seconds   float64   `json:"seconds,omitempty" doc:"Of the last try, or of the wait."`
	Until     time.Time `json:"until,omitzero" doc:"When an open wait ends."`
	Error     string    `json:"error,omitempty"`
}

// ReadRequest asks for one page of what is stored of an execution or an instance. A worker
// opens it and seals the page to the viewer's key.
type ReadRequest struct {
	View   id.View `json:"view" doc:"Made by the viewer, the same for every page of one reading."`
	Key    []byte  `json:"key" doc:"X25519, 32 bytes: pages are sealed to it."`
	What   string  `json:"what" enum:"event,output,step,labels,logs,config" doc:"What is read; config is an instance's."`
	Path   string  `json:"path,omitempty" maxLength:"1024" doc:"Of a step."`
	Seq    uint32  `json:"seq,omitempty" doc:"One entry of a step; absent: all."`
	Cursor uint64  `json:"cursor,omitempty" doc:"The next of the page before; of logs, the last line that was seen."`
	Offset uint64  `json:"offset,omitempty" doc:"Of a range of one value that is larger than a page."`
	Length uint64  `json:"length,omitempty" doc:"Bytes of that range; absent: the value itself."`
}

// ReadPage is one page, sealed to the viewer with lease.PurposeView at lease.ReadPlace.
// Without Sealed there is nothing to show.
type ReadPage struct {
	Instance id.Instance `json:"instance"`
	Cursor   uint64      `json:"cursor"`
	Sealed   []byte      `json:"sealed,omitempty"`
	Next     uint64      `json:"next,omitempty" doc:"Cursor of the next page."`
	More     bool        `json:"more" doc:"There is a next page now."`
}

// ExecutionRequest starts one flow. Event is what expressions see as trigger. With a
// viewer, the answer is a stream of [Event] until the execution ends.
type ExecutionRequest struct {
	Flow  string          `json:"flow"`
	Event json.RawMessage `json:"event,omitempty"`
	Test  bool            `json:"test,omitempty" doc:"Mark the execution as a test."`
	View  id.View         `json:"view,omitzero" doc:"Made by the viewer; absent: nobody watches."`
	Key   []byte          `json:"key,omitempty" doc:"X25519, 32 bytes: pages are sealed to it."`
}

// SkipRequest names a wait of a test execution whose time, or event, is to come at once.
type SkipRequest struct {
	Path  string          `json:"path,omitempty" maxLength:"1024" doc:"Of the step that waits; absent: every timer of the flows that it has called."`
	Event *RehearsedEvent `json:"event,omitempty" doc:"Instead of the time, an event of the trigger for which the step waits. Not found when it does not match."`
}

// ExecutionPath names an execution in a path.
type ExecutionPath struct {
	Execution id.Execution `path:"execution"`
}

func (s *Server) executionRoutes() []route {
	return []route{
		{
			id: "list-executions", method: http.MethodGet, path: "/executions", permission: PermissionExecutionsRead,
			summary: "Find executions, the newest first.", register: handle(s, s.listExecutions),
		},
		{
			id: "get-execution", method: http.MethodGet, path: "/executions/{execution}", permission: PermissionExecutionsRead,
			summary: "Get the metadata of an execution.", register: handle(s, s.getExecution),
		},
		{
			id: "cancel-execution", method: http.MethodPost, path: "/executions/{execution}/cancel", permission: PermissionExecutionsRun,
			summary: "End an execution.", register: handle(s, s.cancel),
		},
		{
			id: "skip-wait", method: http.MethodPost, path: "/executions/{execution}/skip", permission: PermissionExecutionsTest,
			summary: "Let the time of a wait of a test execution, or the event that it waits for, come at once.", register: handle(s, s.skip),
		},
	}
}

func executionOf(x *store.ExecutionInfo) Execution {
	return Execution{
		ID: x.ID, Customer: x.Customer, Instance: x.Instance, Integration: x.Name, Version: x.Version, Digest: hex.EncodeToString(x.Digest[:]),
		Flow: x.Flow, Trigger: x.Trigger, Status: string(x.Status), Test: x.Test, Accepted: x.Accepted, Started: x.Started,
		Finished: x.Finished, Expires: x.Expires, PayloadsUntil: dayAfter(x.Day), ErrorType: x.ErrorType, ErrorStep: x.ErrorStep,
		Cause: string(x.Cause), CauseID: x.CauseID, Root: x.Root, Parent: x.Parent, ParentPath: x.ParentPath, Retries: x.Retries,
		Entries: x.LastSeq, Interruptions: x.Interruptions,
	}
}

// dayAfter is the end of an expiry day.
func dayAfter(day uint32) time.Time {
	return time.Unix((int64(day)+1)*int64(24*time.Hour/time.Second), 0).UTC()
}

// storeQuery is a query as the store takes it.
func (s *Server) storeQuery(ctx context.Context, q *ExecutionQuery) (*store.ExecutionQuery, error) {
	out := &store.ExecutionQuery{Instance: q.Instance, Flow: q.Flow, Status: store.Status(q.Status), From: q.From, Until: q.Until}
	if q.Test != "" {
		yes := q.Test == "yes"
		out.Test = &yes
	}
	var err error
	if out.Customer, err = s.maybeCustomer(ctx, q.Customer); err != nil {
		return nil, err
	}
	if q.Label == "" {
		return out, nil
	}
	name, value, ok := strings.Cut(q.Label, "=")
	switch {
	case !ok:
		return nil, problemOf(CodeInvalid, "", Place{"query.label", "want NAME=VALUE"})
	case out.Customer.IsZero():
		return nil, problemOf(CodeInvalid, "", Place{"query.customer", "a label is found among one customer's executions"})
	}
	out.Label, err = s.engine.LabelIndex(ctx, out.Customer, name, value)
	return out, err
}

func (s *Server) listExecutions(ctx context.Context, in *struct {
	ListInput
	ExecutionQuery
},
) (*answer[Page[Execution]], error) {
	q, err := s.storeQuery(ctx, &in.ExecutionQuery)
	if err != nil {
		return nil, err
	}
	return filteredPage(ctx, s, "executions", in.ExecutionQuery, &in.ListInput, func(before id.Execution, limit int) ([]store.ExecutionInfo, error) {
		q.Before = before
		return s.org(ctx).Executions(q, limit)
	}, executionOf, func(x *store.ExecutionInfo) id.Execution { return x.ID })
}

func (s *Server) getExecution(ctx context.Context, in *ExecutionPath) (*answer[Execution], error) {
	x, err := s.org(ctx).Execution(in.Execution)
	if err != nil {
		return nil, err
	}
	return &answer[Execution]{executionOf(x)}, nil
}

func (s *Server) cancel(ctx context.Context, in *ExecutionPath) (*none, error) {
	c, err := s.org(ctx).CustomerOfExecution(in.Execution)
	if err != nil {
		return nil, err
	}
	if err := s.engine.Cancel(ctx, c, in.Execution); !errors.Is(err, engine.ErrNotFound) {
		return &none{}, err
	}
	x, err := s.engine.Execution(ctx, c, in.Execution)
	if err == nil && x.Status != store.Cancelled { // what is cancelled stays so
		err = problemOf(CodeConflict, "The execution is "+string(x.Status)+".")
	}
	return &none{}, err
}

// skip lets the time of a wait of a test execution come at once, or its event.
func (s *Server) skip(ctx context.Context, in *struct {
	ExecutionPath
	Body SkipRequest
},
) (*none, error) {
	c, err := s.org(ctx).CustomerOfExecution(in.Execution)
	if err != nil {
		return nil, err
	}
	if in.Body.Event != nil {
		return &none{}, s.deliver(ctx, c, in.Execution, in.Body.Path, in.Body.Event)
	}
	return &none{}, s.engine.Skip(ctx, c, in.Execution, in.Body.Path)
}
