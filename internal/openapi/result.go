package openapi

import (
	"encoding/json"

	"github.com/bulkheadhq/bulkhead/internal/connector"
)

// Options say what the document itself cannot.
type Options struct {
	// Name of the connector; empty: that of the side file, or made of the title.
	Name string `json:"name,omitempty"`
	// Source is the URL that the document was read from: relative servers are relative to it, and its domain is the vendor's.
	Source string `json:"source,omitempty"`
	// Vendor are domains of the vendor: hosts outside of them are flagged.
	Vendor []string `json:"vendor,omitempty"`
	// Retrieved is the full-date (RFC 3339) on which the document was read.
	Retrieved string `json:"retrieved,omitempty"`
	// Side is the text of a side file; empty: none.
	Side []byte `json:"side,omitempty"`
	// SideName is its name, for messages.
	SideName string `json:"side_name,omitempty"`
}

// Result is what an import made.
type Result struct {
	Manifest json.RawMessage `json:"manifest"` // canonical JSON; see [Result.Connector]
	Version  string          `json:"version"`  // of the specification
	Title    string          `json:"title"`
	SHA256   string          `json:"sha256"` // of the document, in hex

	Operations int         `json:"operations"` // in the document
	Actions    []Origin    `json:"actions"`    // that were made, in the order of the document
	Skipped    []Left      `json:"skipped,omitempty"`
	Auth       []string    `json:"auth_left_out,omitempty"` // ways to authenticate that cannot be offered, and why
	Violations []Violation `json:"violations,omitempty"`    // at most MaxViolations
	Broken     int         `json:"violation_count"`         // all of them
	Hosts      []Host      `json:"hosts"`
	Webhooks   []string    `json:"webhooks,omitempty"` // described by the document; a trigger of the side file may use their payload
	Notes      []string    `json:"notes,omitempty"`
}

// Origin says which operation an action was made of.
type Origin struct {
	Action    string `json:"action"`
	Operation string `json:"operation"` // operationId, or METHOD path
	Method    string `json:"method"`
	Path      string `json:"path"`
}

// Left is an operation that was left out.
type Left struct {
	Operation string `json:"operation"`
	Reason    string `json:"reason"`
}

// Host is a host that the document names.
type Host struct {
	Host   string `json:"host"` // a name, or a template with the variables of the connector
	For    string `json:"for"`  // requests, authorization or tokens
	Vendor Vendor `json:"vendor"`
}

// Vendor says whether a host is the vendor's.
type Vendor string

// What is known of a host.
const (
	VendorYes     Vendor = "yes"
	VendorNo      Vendor = "no"      // flagged
	VendorUnknown Vendor = "unknown" // nobody said who the vendor is
)

// Connector is the manifest that was made.
func (r *Result) Connector() (*connector.Manifest, error) { return connector.Decode(r.Manifest) }
