package flow

import "time"

// FormatVersion is the version of the integration format that this package models: the value of the key `bulkhead`.
const FormatVersion = 1

// Limits on documents. Every input is bounded before it is interpreted.
const (
	MaxFileBytes       = 1 << 20  // bytes of one integration file or canonical document
	MaxDocumentDepth   = 64       // nesting of maps and lists in a document
	MaxDocumentNodes   = 50_000   // maps, lists and scalars of a document
	MaxExpressionBytes = 16 << 10 // bytes of one expression
	MaxTemplateBytes   = 64 << 10 // bytes of one string that contains expressions
	MaxCodeBytes       = 256 << 10
	MaxTextBytes       = 4 << 10 // bytes of a title, description or note in one locale
	MaxNameBytes       = 63      // bytes of a name: integration, flow, slot, config, step, label
	MaxLocales         = 64
	MaxConfig          = 200
	MaxConnections     = 50
	MaxWizardPages     = 50
	MaxFlows           = 100
	MaxSteps           = 500 // steps of one flow, nested ones included
	MaxStepDepth       = 16  // nesting of step lists
	MaxCases           = 50  // cases of one switch
	MaxBranches        = 32  // branches of one fork
	MaxLabels          = 8
	MaxMethods         = 8
	MaxSecrets         = 8 // secrets that one webhook verification accepts
	MaxEnum            = 1000
	MaxChosen          = 1000 // values of a list that were chosen, or fields of a mapping
	MaxSchemaNodes     = 2000 // maps, lists and scalars of the JSON Schema of an input
)

// Limits on values of keys.
const (
	MaxParallel    = 64
	MaxBatch       = 10_000
	MaxAttempts    = 20
	MaxConcurrency = 1000
	MaxRetryDelay  = 24 * time.Hour
	MaxFlowTimeout = 24 * time.Hour       // running time of an execution
	MaxStepTimeout = 12 * time.Hour       // running time of a step
	MaxExpires     = 365 * 24 * time.Hour // wall time of an execution
	MaxRetention   = 400 * 24 * time.Hour
	MaxWait        = 365 * 24 * time.Hour
	MinPoll        = time.Minute // shortest `every` of a schedule or poll
	MaxJitter      = 24 * time.Hour
	MaxTolerance   = time.Hour // of a webhook's timestamp
)

// Limits on results, kept by the worker.
const (
	MaxResults = 10_000 // results that a `for` with `result` collects
	MaxErrors  = 100    // errors that a `for` with `on_error: continue` reports
)

// Defaults of keys that were not written.
const (
	DefaultFlowTimeout  = 15 * time.Minute
	DefaultStepTimeout  = time.Minute
	DefaultExpires      = 24 * time.Hour // plus the declared waits, see [Flow.Life]
	DefaultRetention    = 30 * 24 * time.Hour
	DefaultComputedWait = 7 * 24 * time.Hour // what a wait whose length is computed adds to [Flow.Life]
	DefaultAttempts     = 3                  // of `retry`, the first try included
	DefaultRetryDelay   = time.Second
	DefaultMaxDelay     = time.Minute
	DefaultTolerance    = 5 * time.Minute
	DefaultStatus       = 200             // of `respond`
	DefaultEventPoll    = 5 * time.Minute // of a trigger of a connector that asks now and then
)
