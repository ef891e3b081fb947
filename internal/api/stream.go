package api

import (
	"time"

	"github.com/bulkheadhq/bulkhead/internal/engine"
	"github.com/bulkheadhq/bulkhead/internal/id"
)

// Kinds of events in the stream of a viewer.
const (
	EventAccepted = "accepted"
	EventProgress = "progress"
	EventView     = "view"
	EventReply    = "reply"
	EventStatus   = "status" // waiting, or an end
)

// Event is one line of the stream of a viewer.
type Event struct {
	Kind      string        `json:"kind"`
	Execution id.Execution  `json:"execution"`
	Path      string        `json:"path,omitempty"`
	State     byte          `json:"state,omitempty"` // wire.StepState
	Attempt   uint32        `json:"attempt,omitempty"`
	Duration  time.Duration `json:"duration,omitempty"`
	ErrorType string        `json:"error_type,omitempty"`
	ErrorStep string        `json:"error_step,omitempty"`
	ViewKind  byte          `json:"view_kind,omitempty"` // wire.ViewKind
	Sealed    []byte        `json:"sealed,omitempty"`
	Status    string        `json:"status,omitempty"`
}

func eventOf(u *engine.Update, x id.Execution) Event {
	switch {
	case u.Progress != nil:
		p := u.Progress
		return Event{Kind: EventProgress, Execution: x, Path: p.Path, State: byte(p.State), Attempt: p.Attempt, Duration: p.Duration, ErrorType: p.ErrorType}
	case u.View != nil:
		return Event{Kind: EventView, Execution: x, Path: u.View.Path, ViewKind: byte(u.View.Kind), Sealed: u.View.Sealed}
	case u.Reply != nil:
		return Event{Kind: EventReply, Execution: x, Sealed: u.Reply.Sealed}
	default:
		f := u.Finished
		return Event{Kind: EventStatus, Execution: x, Status: string(f.Status), ErrorType: f.ErrorType, ErrorStep: f.ErrorStep}
	}
}
