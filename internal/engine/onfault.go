package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/seal"
	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// onFaultPath is the path of the child that on_fault starts, as workers write it.
const onFaultPath = "on_fault"

// maxLineage bounds how far an execution's calls and replays are followed. Flows call each
// other less deep than that.
const maxLineage = 64

// told is the event of a flow that on_fault names, in the shape that a worker gives it: see
// the comment of package worker.
type told struct {
	Body     toldBody        `json:"body"`
	Type     string          `json:"type"`
	Source   string          `json:"source"`
	Customer json.RawMessage `json:"customer,omitempty"`
	Depth    int             `json:"depth"`
	Error    toldError       `json:"error"`
}

type toldBody struct {
	Flow      string    `json:"flow"`
	Execution string    `json:"execution"`
	Error     toldError `json:"error"`
}

type toldError struct {
	Type     string `json:"type"`
	Message  string `json:"message"`
	Status   int    `json:"status"`
	Step     string `json:"step"`
	Attempts uint32 `json:"attempts"`
}

// onFault makes the child that is told of a fault which the engine makes: one of the flow
// that on_fault names. nil means that the flow names none, or was itself started so.
//
// The execution's own event is sealed: the customer is as it is now, and what a test fixes
// for its executions is not passed on.
func (e *Engine) onFault(ctx context.Context, row *store.Execution, f *fault, sealer *seal.Sealer, now time.Time) (*child, error) {
	faulted, err := e.catalog.flow(ctx, row.Digest, row.Flow)
	if err != nil {
		return nil, err
	}
	if faulted.OnFault == "" {
		return nil, nil //nolint:nilnil // nobody is told
	}
	depth, telling, err := e.lineage(ctx, row)
	if err != nil || telling {
		return nil, err
	}
	to, err := e.catalog.flow(ctx, row.Digest, faulted.OnFault)
	if err != nil || to.Trigger.Call == nil {
		return nil, err
	}
	plain, err := e.toldEvent(ctx, row, f, depth+1)
	if err != nil {
		return nil, err
	}
	x := &store.Execution{
		Customer: row.Customer, ID: id.NewExecution(now), Flow: to.Name, Trigger: string(to.Trigger.Kind()), Status: store.Pending,
		Instance: row.Instance, Digest: row.Digest, Accepted: now, Parent: row.ID, ParentPath: onFaultPath,
		Cause: store.CauseOnFault, CauseID: row.ID,
	}
	x.Event = id.Event(x.ID)
	newSeed(x)
	setLife(x, to)
	if to.Concurrency != nil {
		x.OrderKey = flowKey(x)
	}
	inherit(x, row)
	event, err := sealer.Seal(nil, now, lease.EventPlace(x.Customer, x.Event, lease.Day(x.Day)), plain)
	if err != nil {
		return nil, fmt.Errorf("seal event of on_fault: %w", err)
	}
	x.Size = int64(len(event))
	return &child{row: x, event: event, limit: to.Concurrency}, nil
}

func (e *Engine) toldEvent(ctx context.Context, row *store.Execution, f *fault, depth int) ([]byte, error) {
	customer, err := e.Describe(ctx, row.Customer)
	if err != nil {
		return nil, err
	}
	about := toldError{Type: f.Type, Message: f.Message, Attempts: f.Attempts}
	b, err := json.Marshal(told{
		Body: toldBody{row.Flow, row.ID.String(), about}, Type: "call", Source: row.ID.String(), Depth: depth, Error: about,
		Customer: customer,
	})
	if err != nil {
		return nil, fmt.Errorf("encode event of on_fault: %w", err)
	}
	return b, nil
}

// lineage says how many calls led to an execution, and whether its event tells of a fault.
// A replay has the event of what it replays. What retention has removed is not followed.
func (e *Engine) lineage(ctx context.Context, row *store.Execution) (depth int, telling bool, err error) {
	for range maxLineage {
		up := row.Parent
		switch {
		case row.Cause == store.CauseReplay:
			up = row.CauseID
		case up.IsZero():
			return depth, telling, nil
		default:
			telling = telling || depth == 0 && row.Cause == store.CauseOnFault
			depth++
		}
		if row, err = e.Execution(ctx, row.Customer, up); errors.Is(err, ErrNotFound) {
			return depth, telling, nil
		} else if err != nil {
			return 0, false, err
		}
	}
	return depth, telling, nil
}

// insertTold stores the child that is told of a fault, in the transaction of the fault.
func (e *Engine) insertTold(rows store.CustomerTx, c *child) error {
	if c == nil {
		return nil
	}
	if err := rows.InsertEvent(c.row.Event, c.row.Day, c.event); err != nil {
		return err
	}
	if err := rows.InsertExecution(c.row); err != nil {
		return err
	}
	_, err := e.note(rows, c.row.ID)
	return err
}

// begin puts a committed child into the queue. Callers hold the mutex.
func (e *Engine) begin(c *child) {
	j := newChildJob(*c)
	e.keep(j)
	e.enqueue(j, back)
	e.addTimer(timer{at: c.row.Expires, kind: expiry, customer: c.row.Customer, execution: c.row.ID})
}

// faultFinish is the end of an execution that the engine faults, and the child that is told
// of it, or nil.
func (e *Engine) faultFinish(ctx context.Context, row *store.Execution, x *ending, now time.Time) (*wire.Finish, *child, error) {
	why := fault{x.errorType, x.message, x.attempts}
	body, err := json.Marshal(why)
	if err != nil {
		return nil, nil, fmt.Errorf("encode fault: %w", err)
	}
	sealer, err := e.keys.sealer(ctx, x.customer, lease.Day(row.Day))
	if err != nil {
		return nil, nil, err
	}
	sealed, err := sealer.Seal(nil, now, lease.OutputPlace(x.customer, x.execution, wire.StatusFaulted), body)
	if err != nil {
		return nil, nil, fmt.Errorf("seal fault: %w", err)
	}
	c, err := e.onFault(ctx, row, &why, sealer, now)
	if errors.Is(err, ErrNotFound) {
		// Its definition or its customer is gone: it ends, and nobody is left to be told.
		e.log.WarnContext(ctx, "nobody can be told of a fault", "execution", x.execution, "error", err)
		err = nil
	}
	return &wire.Finish{Status: wire.StatusFaulted, ErrorType: x.errorType, Output: sealed}, c, err
}
