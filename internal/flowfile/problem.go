package flowfile

import "github.com/bulkheadhq/bulkhead/internal/source"

// Problem and its parts are those of package source.
type (
	Problem  = source.Problem
	Problems = source.Problems
	Severity = source.Severity
	Style    = source.Style
)

// What problems and their printing may be.
const (
	SeverityError   = source.SeverityError
	SeverityWarning = source.SeverityWarning
	Plain           = source.Plain
	Colour          = source.Colour
)
