package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/bulkheadhq/bulkhead/internal/expr"
	"github.com/bulkheadhq/bulkhead/internal/flow"
)

// Types of faults, as the format lists them.
const (
	typeAuth         = "auth"
	typeTimeout      = "timeout"
	typeInvalidInput = "invalid-input"
	typeUpstream     = "upstream"
	typeEgressDenied = "egress-denied"
	typeLimit        = "limit"
	typeCode         = "code"
	typeExpression   = "expression"
	typePartial      = "partial"
	typeInterrupted  = "interrupted"
	typeMismatch     = "journal-mismatch"
)

// A fault is what an author's catch sees. Every other error of this package is control: it unwinds the execution and no
// catch holds it.
type fault struct {
	Type     string
	Message  string
	Step     string // path
	Attempts int
	Status   int // of an HTTP answer, 0 without one

	retryAfter time.Duration // what the answer asked for
	definite   bool          // a definite answer came: the idempotency key advances
	final      bool          // no retry may repeat it
	fatal      bool          // no catch may hold it
	replayed   bool          // the journal says so
	journaled  bool          // made by the clock, not by what the journal holds: must be recorded
}

// Error is type and message.
func (f *fault) Error() string { return f.Type + ": " + f.Message }

func faultf(kind, format string, args ...any) *fault {
	return &fault{Type: kind, Message: clip(fmt.Sprintf(format, args...))}
}

func clip(s string) string { return clipTo(s, MaxMessage) }

// clipTo cuts a text between two characters.
func clipTo(s string, most int) string {
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// Reasons for which an execution leaves the worker other than by its own end.
var (
	errSuspended = errors.New("every branch waits")
	errCancelled = errors.New("cancelled")
	errStale     = errors.New("another worker holds a higher fence")
	errLease     = errors.New("the lease has ended")
	errLost      = errors.New("an append was not answered")
	errClosed    = errors.New("the worker ends")
)

// returned carries the output of a return step up to the flow.
type returned struct{ value expr.Value }

// Error is never shown.
func (*returned) Error() string { return "return" }

// expired is the cause of a context that a timeout ended. It becomes a fault at the step whose timeout it is, or at the end.
type expired struct {
	path  string        // of the step; empty for the flow's own limits
	limit time.Duration // zero: the life of the execution
}

// Error is the message of the fault that it becomes.
func (e *expired) Error() string {
	switch {
	case e.path != "":
		return fmt.Sprintf("the step took longer than %v", e.limit)
	case e.limit != 0:
		return fmt.Sprintf("the flow ran longer than %v", e.limit)
	}
	return "the execution expired"
}

func (e *expired) fault() *fault {
	return &fault{Type: typeTimeout, Message: e.Error(), Step: e.path, journaled: true}
}

// cause is why ctx has ended.
func cause(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}

// caught returns the fault that a catch may look at.
func caught(err error) (*fault, bool) {
	f, ok := err.(*fault) //nolint:errorlint // faults are never wrapped here
	return f, ok && !f.fatal
}

// expressionFault turns an error of package expr into a fault, or into the reason why ctx ended.
func expressionFault(ctx context.Context, err error) error {
	if own := cause(ctx); own != nil {
		return own
	}
	if e, ok := errors.AsType[*expr.Error](err); ok && e.Limit {
		return faultf(typeLimit, "%s", e.Message)
	}
	return faultf(typeExpression, "%s", err.Error())
}

// value is the fault as expressions see it.
func (f *fault) value() expr.Value {
	return expr.NewObject(
		[]string{"type", "message", "status", "step", "attempts"},
		[]expr.Value{expr.String(f.Type), expr.String(f.Message), expr.Int(int64(f.Status)), expr.String(f.Step), expr.Int(int64(f.Attempts))},
	)
}

// faultJSON is how a fault is stored and shown.
type faultJSON struct {
	Type     string `json:"type"`
	Message  string `json:"message,omitempty"`
	Step     string `json:"step,omitempty"`
	Attempts int    `json:"attempts,omitempty"`
	Status   int    `json:"status,omitempty"`
	Definite bool   `json:"definite,omitempty"` // in the journal only
}

func (f *fault) appendJSON() []byte {
	return faultJSON{f.Type, f.Message, f.Step, f.Attempts, f.Status, false}.encode()
}

// appendEntry is the body of its journal entry: a retry by hand must know whether the answer was definite.
func (f *fault) appendEntry() []byte {
	return faultJSON{f.Type, f.Message, f.Step, f.Attempts, f.Status, f.definite}.encode()
}

func (j faultJSON) encode() []byte {
	b, err := json.Marshal(j)
	if err != nil { // texts and numbers always encode
		panic(err)
	}
	return b
}

func parseFault(b []byte) (*fault, error) {
	var j faultJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, fmt.Errorf("read fault: %w", err)
	}
	return &fault{Type: j.Type, Message: j.Message, Step: j.Step, Attempts: j.Attempts, Status: j.Status, definite: j.Definite}, nil
}

// repeatable says whether a retry may repeat a step that ended like this.
func (f *fault) repeatable() bool {
	if f.final || f.fatal {
		return false
	}
	switch f.Type {
	case typeAuth, typeInvalidInput, typeEgressDenied, typeExpression:
		return false
	}
	return true
}

// effectful says whether a step reaches outside of the worker by itself, so that its end must be recorded.
func effectful(k flow.StepKind) bool {
	switch k {
	case flow.StepAction, flow.StepCode, flow.StepCall, flow.StepState, flow.StepWait:
		return true
	}
	return false
}
