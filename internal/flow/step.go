package flow

import "time"

// StepKind names what a step does, as the document does.
type StepKind string

// Kinds of steps.
const (
	StepNone    StepKind = ""
	StepAction  StepKind = "uses"
	StepSet     StepKind = "set"
	StepCode    StepKind = "code"
	StepSwitch  StepKind = "switch"
	StepFor     StepKind = "for"
	StepFork    StepKind = "fork"
	StepTry     StepKind = "try"
	StepWait    StepKind = "wait"
	StepCall    StepKind = "call"
	StepRespond StepKind = "respond"
	StepReturn  StepKind = "return"
	StepRaise   StepKind = "raise"
	StepState   StepKind = "state"
)

// StepKinds returns every kind in the order of the specification.
func StepKinds() []StepKind {
	return []StepKind{
		StepAction, StepSet, StepCode, StepSwitch, StepFor, StepFork, StepTry, StepWait, StepCall, StepRespond, StepReturn,
		StepRaise, StepState,
	}
}

// Step is one node of a flow. Exactly one of the fields from Action on is set.
type Step struct {
	ID      string // [a-z][a-z0-9_]*, unique in the flow
	Title   Text
	Note    Text
	If      Value    // absent: always; the step is skipped when false, and its output is null
	Timeout Duration // running time of one try; zero: DefaultStepTimeout for uses and code, none for others
	Once    bool     // interrupted, it faults instead of being repeated
	Retry   *Retry

	Action  *Action
	Set     *Value
	Code    *Code
	Switch  []Case
	For     *For
	Fork    *Fork
	Try     *Try
	Wait    *Wait
	Call    *Call
	Respond *Respond
	Return  *Value
	Raise   *Raise
	State   *State
}

// Kind returns which field is set.
func (s *Step) Kind() StepKind {
	switch {
	case s.Action != nil:
		return StepAction
	case s.Set != nil:
		return StepSet
	case s.Code != nil:
		return StepCode
	case s.Switch != nil:
		return StepSwitch
	case s.For != nil:
		return StepFor
	case s.Fork != nil:
		return StepFork
	case s.Try != nil:
		return StepTry
	case s.Wait != nil:
		return StepWait
	case s.Call != nil:
		return StepCall
	case s.Respond != nil:
		return StepRespond
	case s.Return != nil:
		return StepReturn
	case s.Raise != nil:
		return StepRaise
	case s.State != nil:
		return StepState
	}
	return StepNone
}

// Ways in which the delay between tries grows.
const (
	BackoffConstant    = "constant"    // the default
	BackoffExponential = "exponential" // doubles
)

// Retry says how often and when a step that failed is tried again.
type Retry struct {
	Attempts int      `json:"attempts,omitempty"` // tries in all; zero: DefaultAttempts
	Delay    Duration `json:"delay,omitempty"`    // before the second try; zero: DefaultRetryDelay
	Backoff  string   `json:"backoff,omitempty"`
	MaxDelay Duration `json:"max_delay,omitempty"` // zero: DefaultMaxDelay, or Delay where that is longer
	Jitter   bool     `json:"jitter,omitempty"`    // each delay is a random part, at least half, of the computed one
	When     Value    `json:"when,omitzero"`       // sees error; absent: every error that may be retried
}

// Tries returns how many tries there are in all, at least one.
func (r *Retry) Tries() int {
	if r == nil {
		return 1
	}
	if r.Attempts == 0 {
		return DefaultAttempts
	}
	return r.Attempts
}

// Pause returns the delay after the failed try number attempt, which counts from 1. random is in [0, 1) and matters
// only with Jitter.
func (r *Retry) Pause(attempt int, random float64) time.Duration {
	d := r.Delay.Or(DefaultRetryDelay)
	limit := max(r.MaxDelay.Or(DefaultMaxDelay), 0)
	if r.MaxDelay == 0 {
		limit = max(limit, d)
	}
	if r.Backoff == BackoffExponential {
		for i := 1; i < attempt && d < limit; i++ {
			d *= 2
		}
	}
	d = min(d, limit)
	if r.Jitter {
		d = d/2 + time.Duration(random*float64(d/2))
	}
	return d
}

// Action calls an action of a connector through a connection slot.
type Action struct {
	Slot   string
	Action string
	With   Value // an object, or absent
}

// Uses returns slot.action as the document has it.
func (a *Action) Uses() string { return a.Slot + "." + a.Action }

// Code is JavaScript whose default export is called with With.
type Code struct {
	Source string
	With   Value
}

// Case is one arm of a switch; the first that matches runs.
type Case struct {
	When  Value // absent in the else case
	Else  bool  // only the last case
	Steps []Step
}

// What a for does when an item fails.
const (
	OnErrorStop     = "stop" // the default
	OnErrorContinue = "continue"
)

// For repeats steps for each item.
type For struct {
	Each     Each   `json:"each"`
	As       string `json:"as,omitempty"`       // name of the item; empty: item
	Batch    int    `json:"batch,omitempty"`    // items per round, as a list; zero: single items
	Parallel int    `json:"parallel,omitempty"` // rounds at once; zero: one
	Max      int    `json:"max,omitempty"`      // rounds that are made of more items; zero: all. No document can say it
	OnError  string `json:"on_error,omitempty"`
	Steps    []Step `json:"-"`
	Result   Value  `json:"-"` // absent: the output is {count, failed, errors}
}

// Variable returns the name under which the steps see the item.
func (f *For) Variable() string {
	if f.As == "" {
		return "item"
	}
	return f.As
}

// Each is what a for goes through: exactly one of the three.
type Each struct {
	List  Value // a list or one expression
	Pages *Pages
	Rows  *Rows
}

// Pages are all pages of an action.
type Pages struct {
	Action Action
	Items  Value // the list in result; absent: the body, or the connector's own recipe
	Cursor Value // what the next page's inputs see as cursor, null ends; absent: the Link header (RFC 8288), or the connector's own recipe
}

// Formats of rows.
const (
	FormatCSV       = "csv"
	FormatJSONLines = "json-lines"
)

// Rows are the rows of a file or text.
type Rows struct {
	Rows      Value  `json:"rows"`
	Format    string `json:"format"`
	Delimiter string `json:"delimiter,omitempty"` // of csv, one character; empty: comma
	Encoding  string `json:"encoding,omitempty"`  // WHATWG name; empty: utf-8
	Header    *bool  `json:"header,omitempty"`    // of csv: the first row names the fields; nil: true. Without, a row is a list
}

// Named says whether the first row of a CSV names the fields.
func (r *Rows) Named() bool { return r.Header == nil || *r.Header }

// Fork runs branches side by side.
type Fork struct {
	Settle   bool // the output has each branch's value or error; else a fault of one is the fault `partial`
	Branches []Branch
}

// Branch is one list of steps of a fork.
type Branch struct {
	Name  string
	Steps []Step
}

// Try runs steps and, where they fault, others.
type Try struct {
	Steps []Step
	Catch Catch
}

// Catch is what runs on a fault.
type Catch struct {
	When  Value  `json:"when,omitzero"` // sees error; absent: every fault
	Steps []Step `json:"steps"`
}

// Wait pauses an execution and frees its worker. Exactly one field is set.
type Wait struct {
	For      Value     `json:"for,omitzero"`   // ISO 8601 duration
	Until    Value     `json:"until,omitzero"` // RFC 3339 time
	Callback *Callback `json:"callback,omitempty"`
	Event    *Await    `json:"event,omitempty"`
}

// Callback waits for a POST to an address made for this wait.
type Callback struct {
	Timeout Duration `json:"timeout"`
	Notify  []Step   `json:"notify,omitempty"` // run first, see callback.url
}

// Await waits for an event of a connector.
type Await struct {
	Uses    string   `json:"uses"` // slot.trigger
	With    Value    `json:"with,omitzero"`
	Match   Value    `json:"match,omitzero"` // field → value
	Timeout Duration `json:"timeout"`
}

// Call starts another flow of the integration.
type Call struct {
	Flow string `json:"flow"`
	With Value  `json:"with,omitzero"` // the called flow's trigger.body
	Wait bool   `json:"wait"`          // for its output; false: the flow goes on, and the output is null
}

// Respond answers the request of a sync webhook.
type Respond struct {
	Status  Value `json:"status,omitzero"` // absent: DefaultStatus
	Headers Value `json:"headers,omitzero"`
	Body    Value `json:"body,omitzero"`
}

// Raise ends the execution with a fault.
type Raise struct {
	Type    string `json:"type"`
	Message Value  `json:"message,omitzero"`
	Retry   bool   `json:"retry,omitempty"` // a retry around the step may try again
}

// State reads or changes a value that belongs to the instance. Exactly one of the four keys is set.
type State struct {
	Get       Value `json:"get,omitzero"`
	Default   Value `json:"default,omitzero"` // of get, where the key has no value
	Put       Value `json:"put,omitzero"`
	Value     Value `json:"value,omitzero"` // of put
	Increment Value `json:"increment,omitzero"`
	By        Value `json:"by,omitzero"` // of increment; absent: 1
	Delete    Value `json:"delete,omitzero"`
}
