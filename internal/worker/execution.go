package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
	"github.com/bulkheadhq/bulkhead/internal/id"
	"github.com/bulkheadhq/bulkhead/internal/lease"
	"github.com/bulkheadhq/bulkhead/internal/wire"
)

// execution is one run of one flow while it is in this worker.
type execution struct {
	s      *server
	in     *instance
	unit   wire.UnitExecution
	flow   *flow.Flow
	day    *dayKey
	ctx    context.Context
	cancel context.CancelCauseFunc

	trigger  expr.Value
	customer expr.Value // as the event has it, or nil
	cause    expr.Value // the fault that started a flow by on_fault, or nil
	depth    int64      // calls that led here
	test     rehearsal

	journal  journal
	waits    waits
	box      sandbox
	polls    bool // it looks for items instead of running the steps
	logs     logs
	view     *viewer // nil when nobody watches
	sender   *sender // nil when nobody waits for an answer
	branches atomic.Int64
	begun    sync.Map    // waits that this stay registered: path → *intent
	files    atomic.Bool // a value of this execution may hold a file
	repeated atomic.Bool // see noteRepeated
	give     func()      // gives back the room that the event takes, or nil
	reading  bool        // nobody runs it: it is read for a viewer
}

func newExecution(s *server, u *wire.UnitExecution) *execution {
	x := &execution{s: s, in: s.in, unit: *u}
	x.ctx, x.cancel = context.WithCancelCause(s.ctx)
	x.journal.send = func(a *wire.Append) error { return s.out.Write(a) }
	x.journal.empty = wire.Append{Execution: u.Execution, Fence: u.Fence}
	x.journal.takeLogs, x.journal.repeatAfter = x.logs.take, appendRepeat
	x.logs.lines, x.logs.bytes = u.LogLines, u.LogBytes
	x.journal.load(u.Journal)
	x.waits.init(x, u.Wakes)
	x.box.x = x
	return x
}

// live is the goroutine of an execution: it interprets the flow, appends how it ended, and leaves.
func (x *execution) live() {
	defer x.cancel(errClosed)
	defer func() {
		if x.give != nil {
			x.give()
		}
	}()
	out, err := x.interpret()
	x.box.close()
	x.s.leave(x, x.end(out, err))
}

// interpret runs the flow from its first step; what the journal holds is not done again.
func (x *execution) interpret() (out expr.Value, err error) {
	defer func() { x.recovered(recover(), "", &err) }()
	if err := x.open(); err != nil {
		return nil, err
	}
	if err := x.recall(); err != nil {
		return nil, err
	}
	ctx, stop := x.bounded()
	defer stop()
	f := &frame{x: x}
	if x.polls && x.flow.Trigger.Poll != nil {
		out, err = x.poll(ctx, f)
	} else if taken, no := x.taken(ctx, f); no != nil || !taken {
		out, err = expr.Null(), no
	} else if err = x.makeLabels(ctx, f); err == nil {
		out, err = x.steps(ctx, f, x.flow.Steps)
	}
	switch e := err.(type) { //nolint:errorlint // never wrapped
	case *returned:
		return e.value, nil
	case *expired:
		return nil, e.fault()
	}
	return out, err
}

// bounded is the time that the execution has: the running time of this stay, and its life.
func (x *execution) bounded() (context.Context, context.CancelFunc) {
	limit := x.flow.Timeout.Or(flow.DefaultFlowTimeout)
	at, why := time.Now().Add(limit), &expired{limit: limit}
	if end := x.unit.Expires; !end.IsZero() && end.Before(at) {
		at, why = end, &expired{}
	}
	return context.WithDeadlineCause(x.ctx, at, why)
}

// recovered turns a panic into a fault of the execution. The operator's log gets where it happened, never a value.
func (x *execution) recovered(p any, path string, err *error) {
	if p == nil {
		return
	}
	*err = &fault{Type: typeCode, Message: "internal error of the worker", Step: path, final: true, fatal: true}
	pcs := make([]uintptr, 24)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	var where strings.Builder
	for more := true; more; {
		var f runtime.Frame
		if f, more = frames.Next(); f.Function != "" {
			fmt.Fprintf(&where, "%s:%d ", f.Function, f.Line)
		}
	}
	kind := fmt.Sprintf("%T", p)
	x.s.log.Error("panic in execution", "execution", x.unit.Execution.String(), "step", path, "kind", kind, "stack", where.String())
}

// open opens the event and finds the flow.
func (x *execution) open() error {
	u := &x.unit
	if x.day = x.in.day(lease.Day(u.Day)); x.day == nil {
		return errLease
	}
	x.view = newViewer(x)
	if x.flow = x.in.definition.Flow(u.Flow); x.flow == nil {
		return &fault{Type: typeInvalidInput, Message: "the integration has no flow of this name"}
	}
	plain, err := x.day.opener.Open(nil, lease.EventPlace(x.in.customer, u.EventID, lease.Day(u.Day)), u.Event)
	if err != nil {
		return &fault{Type: typeInvalidInput, Message: "the event does not open"}
	}
	u.Event = nil // it is not needed again, and may be large
	ref, err := wire.ParseEventRef(plain)
	if err != nil {
		return &fault{Type: typeInvalidInput, Message: "the reference to the event cannot be read"}
	}
	if ref != nil {
		if x.give, err = x.s.room.take(x.ctx, int64(min(ref.Size, MaxLoad))); err != nil {
			return err
		}
		plain, err = x.loadBlob(x.ctx, ref)
		if f, ok := caught(err); ok && f.Type == typeTimeout {
			return errLost // nothing was done yet: another stay may begin
		}
		if err != nil {
			return err
		}
	}
	return x.openEvent(plain)
}

// triggerNames are the fields of an event that expressions see as trigger.
func triggerName(name string) bool {
	switch name {
	case "body", "headers", "headers_all", "query", "method", "time", "id", "source", "type":
		return true
	}
	return false
}

func (x *execution) openEvent(plain []byte) error {
	event, err := expr.ParseJSON(plain)
	if err != nil || expr.Kind(event) != expr.KindObject {
		return &fault{Type: typeInvalidInput, Message: "the event is not a JSON object"}
	}
	all := expr.Keys(event)
	keys, vals := make([]string, 0, len(all)+2), make([]expr.Value, 0, len(all)+2)
	var hasID, hasTime bool
	var test expr.Value
	for _, k := range all {
		v, _ := expr.Lookup(event, k)
		switch {
		case triggerName(k):
			keys, vals = append(keys, k), append(vals, v)
			hasID, hasTime = hasID || k == "id", hasTime || k == "time"
		case k == "customer":
			x.customer = v
		case k == "error":
			x.cause = v
		case k == "depth":
			x.depth, _ = expr.IsInt(v)
		case k == "poll":
			x.polls, _ = expr.Truth(v)
		case k == "reply":
			x.sender = readSender(v)
		case k == "test":
			test = v
		}
	}
	x.rehearse(test)
	if !hasID {
		keys, vals = append(keys, "id"), append(vals, expr.String(x.unit.EventID.String()))
	}
	if !hasTime {
		keys, vals = append(keys, "time"), append(vals, expr.String(x.unit.Started.UTC().Format(time.RFC3339Nano)))
	}
	x.trigger = expr.NewObject(keys, vals)
	return nil
}

// customerValue is the name customer, with what the event does not say filled in.
func (x *execution) customerValue() expr.Value {
	given := x.customer
	keys := []string{"id", "external_id", "name", "timezone", "locale", "attributes"}
	vals := []expr.Value{
		expr.String(x.in.customer.String()), expr.Null(), expr.String(""), expr.String("UTC"), expr.String("en"), expr.NewObject(nil, nil),
	}
	if given != nil {
		for i, k := range keys[1:] {
			if v, ok := expr.Lookup(given, k); ok {
				vals[i+1] = v
			}
		}
	}
	return expr.NewObject(keys, vals)
}

// executionValue is the name execution.
func (x *execution) executionValue() expr.Value {
	return native([]string{"id", "started", "test"},
		expr.String(x.unit.Execution.String()), expr.String(x.unit.Started.UTC().Format(time.RFC3339Nano)), expr.Bool(x.unit.Test))
}

// makeLabels evaluates the flow's labels once, before its first append.
func (x *execution) makeLabels(ctx context.Context, f *frame) error {
	if len(x.flow.Labels) == 0 || x.journal.records != nil || len(x.unit.Wakes) > 0 {
		return nil
	}
	e := &env{f: f}
	labels := make([]wire.Label, 0, len(x.flow.Labels))
	for i := range x.flow.Labels {
		l := &x.flow.Labels[i]
		text, err := e.text(ctx, &l.Value)
		if err != nil || len(text) > MaxLabel {
			continue // a label is a help for search: an event without its field still runs
		}
		place := lease.LabelPlace(x.in.customer, x.unit.Execution, l.Name)
		now := time.Now()
		shown, err := x.day.sealer.Seal(nil, now, place, []byte(text))
		if err != nil {
			return fmt.Errorf("seal label: %w", err)
		}
		value, err := x.in.sealLabel(now, place, []byte(text))
		if err != nil {
			return fmt.Errorf("seal label: %w", err)
		}
		labels = append(labels, wire.Label{Name: l.Name, Sealed: shown, Value: value})
	}
	x.journal.label(labels)
	return nil
}

// end appends how the execution ended, and returns why it was given up if it was.
func (x *execution) end(out expr.Value, err error) string {
	var body []byte
	if err == nil {
		if body, err = appendJSON(nil, out); err == nil && len(body) > MaxOutput {
			err = faultf(typeLimit, "the output of the flow has %d bytes, more than %d", len(body), MaxOutput)
		}
	}
	var fin *wire.Finish
	var last group
	switch f, isFault := err.(*fault); { //nolint:errorlint // never wrapped
	case err == nil:
		fin = &wire.Finish{Status: wire.StatusCompleted}
	case isFault:
		fin = &wire.Finish{Status: wire.StatusFaulted, ErrorType: f.Type, ErrorStep: f.Step}
		body = f.appendJSON()
		last = x.tellFault(f)
	case errors.Is(err, errSuspended):
		fin = &wire.Finish{Status: wire.StatusWaiting}
	case errors.Is(err, errCancelled):
		fin = &wire.Finish{Status: wire.StatusCancelled}
	case errors.Is(err, errStale), errors.Is(err, errClosed), errors.Is(err, context.Canceled):
		return ""
	case errors.Is(err, errLease), errors.Is(err, errLost):
		return "lease"
	default:
		x.s.log.Error("execution given up", "execution", x.unit.Execution.String(), "err", err)
		return "crash"
	}
	if body != nil {
		sealed, sealErr := x.seal(lease.OutputPlace(x.in.customer, x.unit.Execution, fin.Status), body)
		if sealErr != nil {
			return "crash"
		}
		fin.Output = sealed
		x.view.result(fin.Status, body)
	}
	x.endLog()
	fin.Wakes = x.waits.count()
	if err := x.journal.finish(x.s.ctx, fin, last); err != nil && !errors.Is(err, errStale) && !errors.Is(err, errClosed) {
		return "crash"
	}
	return ""
}

// tellFault is the child that the flow's on_fault names. A flow that was itself started so does not start another.
func (x *execution) tellFault(f *fault) group {
	if x.flow == nil || x.flow.OnFault == "" || x.cause != nil || x.trigger == nil {
		return group{}
	}
	about := native([]string{"flow", "execution", "error"}, expr.String(x.flow.Name), expr.String(x.unit.Execution.String()), f.value())
	child, err := x.child(x.flow.OnFault, "on_fault", about, f.value())
	if err != nil {
		x.s.log.Error("start on_fault", "execution", x.unit.Execution.String(), "err", err)
		return group{}
	}
	return group{children: []wire.Child{child}}
}

// child makes the start of another flow's execution. Its event id is its execution id and its day is ours.
func (x *execution) child(name, path string, body, cause expr.Value) (wire.Child, error) {
	keys := []string{"body", "type", "source", "customer", "depth"}
	kind := "call"
	if x.polls {
		kind = string(flow.TriggerPoll)
	}
	vals := []expr.Value{body, expr.String(kind), expr.String(x.unit.Execution.String()), x.customerValue(), expr.Int(x.depth + 1)}
	if cause != nil {
		keys, vals = append(keys, "error"), append(vals, cause)
	}
	if x.test.given != nil {
		keys, vals = append(keys, "test"), append(vals, x.test.given)
	}
	plain, err := appendJSON(nil, expr.NewObject(keys, vals))
	if err != nil {
		return wire.Child{}, err
	}
	if len(plain) > MaxOutput {
		return wire.Child{}, faultf(typeLimit, "the input of flow %s has %d bytes, more than %d", name, len(plain), MaxOutput)
	}
	e := id.NewExecution(time.Now())
	sealed, err := x.seal(lease.EventPlace(x.in.customer, id.Event(e), lease.Day(x.unit.Day)), plain)
	if err != nil {
		return wire.Child{}, err
	}
	return wire.Child{Execution: e, Flow: name, Event: sealed, Path: path}, nil
}

// seal seals to the payload key of the execution's day.
func (x *execution) seal(place, plain []byte) ([]byte, error) {
	b, err := x.day.sealer.Seal(make([]byte, 0, len(plain)+64), time.Now(), place, plain)
	if err != nil {
		return nil, fmt.Errorf("seal payload: %w", err)
	}
	return b, nil
}

// entry seals the body of a journal entry.
func (x *execution) entry(e wire.Entry, plain []byte) (wire.Entry, error) {
	if plain == nil {
		return e, nil
	}
	var err error
	e.Body, err = x.seal(lease.EntryPlace(x.in.customer, x.unit.Execution, &e), plain)
	return e, err
}

// openEntry opens the body of a journal entry.
func (x *execution) openEntry(e *wire.Entry) ([]byte, error) {
	sealed := e.Body
	if r := x.journal.recalled; r != nil && len(sealed) == 0 {
		var err error
		if sealed, err = r.body(e.Seq); err != nil {
			return nil, err
		}
	}
	b, err := x.day.opener.Open(nil, lease.EntryPlace(x.in.customer, x.unit.Execution, e), sealed)
	if err != nil {
		return nil, faultf(typeMismatch, "a journal entry does not open").atStep(e.Path)
	}
	return b, nil
}

// atStep makes a fault of the journal one that nothing can hold.
func (f *fault) atStep(path string) *fault {
	f.Step, f.fatal = path, true
	return f
}

// record queues one entry of a frame.
func (x *execution) record(f *frame, e wire.Entry, plain []byte) {
	sealed, err := x.entry(e, plain)
	if err != nil {
		x.cancel(err)
		return
	}
	f.write()
	x.journal.add(group{entries: []wire.Entry{sealed}})
}
