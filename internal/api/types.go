package api

import (
	"encoding/json"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/id"
)

// CustomerRequest makes or updates a customer, by its id in the organization's own
// system.
type CustomerRequest struct {
	ExternalID string `json:"external_id"`
	Name       string `json:"name"`
}

// CustomerAnswer is a customer.
type CustomerAnswer struct {
	ID id.Customer `json:"id"`
}

// IntegrationAnswer is a published version.
type IntegrationAnswer struct {
	Digest string `json:"digest"` // SHA-256 of the definition, hex
}

// ConnectionRequest saves a credential. Record is a lease.Record sealed to the vault
// where it was entered, so that the server never sees it.
type ConnectionRequest struct {
	Customer  id.Customer `json:"customer"`
	Connector string      `json:"connector"`
	Kind      string      `json:"kind"` // of the credential
	Host      string      `json:"host"` // for display
	Record    []byte      `json:"record"`
}

// ConnectionAnswer is the version of the record.
type ConnectionAnswer struct {
	Version uint64 `json:"version"`
}

// InstanceRequest deploys a published version to a customer. Config is JSON sealed to
// the vault where it was entered.
type InstanceRequest struct {
	Customer id.Customer              `json:"customer"`
	Digest   string                   `json:"digest"`
	Config   []byte                   `json:"config"`
	Slots    map[string]id.Connection `json:"slots"`
}

// ExecutionRequest starts one flow. Event is what expressions see as trigger. With a
// viewer, the answer is a stream of [Event] until the execution ends.
type ExecutionRequest struct {
	Customer id.Customer     `json:"customer"`
	Flow     string          `json:"flow"`
	Event    json.RawMessage `json:"event"`
	View     id.View         `json:"view"`
	Key      []byte          `json:"key"` // X25519, 32 bytes: pages are sealed to it
}

// CancelRequest names whose execution is to be cancelled.
type CancelRequest struct {
	Customer id.Customer `json:"customer"`
}

// SkipRequest names a wait of a test execution whose time is to come at once.
type SkipRequest struct {
	Customer id.Customer `json:"customer"`
	Path     string      `json:"path"` // of the step that waits; empty: every timer of the flows that it has called
}

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

// Problem is an error answer (RFC 9457).
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   string `json:"code"` // stable
	Detail string `json:"detail,omitempty"`
}
