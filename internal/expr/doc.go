// Package expr is the expression language of integration files and the JSON values it works on.
//
// The language is CEL (https://cel.dev) with a profile in which JSON numbers behave as people
// expect: integers keep every digit, int and fraction mix in arithmetic and comparison, 7/2 is
// 3.5, and decimal("19.90") computes exactly. doc/expressions.md lists every function.
//
// # Values
//
// A [Value] is a CEL value in the shape of JSON. [ParseJSON] validates a document once and
// returns a view over its bytes: an object or list is indexed when it is first looked into, and
// [AppendJSON] writes an untouched value back byte for byte. A number that an int64 cannot hold
// or that is written with a fraction or exponent is kept as it came until something computes
// with it.
//
// # Authority
//
// The package does no I/O, reads no clock and draws no randomness. now() and uuid() come from
// the caller's [Host], so that they repeat when an execution resumes. Nothing that arrives as
// data is ever compiled; only text of the integration file reaches [Compile] and
// [ParseTemplate].
//
// # Limits and failure
//
// Every input has a limit, named in this file. An evaluation is bounded by [MaxCost], by the
// size of every single string, list and number it makes, and by its context. What goes wrong in
// an evaluation is an [*Error]; what is wrong with a source is a list of [Issue], all at once.
//
// # Concurrency
//
// Values, Types, Scopes and Programs are immutable and safe for use by several goroutines. The
// one shared CEL environment belongs to a [Scope] made by [NewScope], is built on first use and
// serves every scope derived from it: make one per process.
package expr

// ProfileVersion names the semantics of this package: a published integration pins the version
// that it was checked with.
const ProfileVersion = 1

// Limits of inputs and of what an evaluation may make.
const (
	// MaxSourceBytes is the longest expression, and the longest template, in bytes.
	MaxSourceBytes = 64 << 10
	// MaxSourceNodes is the largest syntax tree of one expression.
	MaxSourceNodes = 10_000
	// MaxSourceDepth is the deepest nesting of one expression.
	MaxSourceDepth = 100
	// MaxJSONBytes is the longest JSON document that ParseJSON takes.
	MaxJSONBytes = 64 << 20
	// MaxJSONDepth is the deepest nesting of a JSON document, and of a value that is written.
	MaxJSONDepth = 200
	// MaxNumberDigits is the most digits that exact arithmetic (big integers, decimals) keeps.
	MaxNumberDigits = 1_000
	// MaxDivisionDigits is how many significant digits a decimal division that does not come
	// out even is rounded to (half to even).
	MaxDivisionDigits = 34
	// MaxStringBytes is the longest string that one function or operator may make.
	MaxStringBytes = 8 << 20
	// MaxListItems is the longest list that one function or operator may make.
	MaxListItems = 1_000_000
	// MaxValueItems is the largest value, in items and fields at all depths, that an evaluation
	// may return or look through. A value that holds one part many times counts it many times.
	MaxValueItems = 3_000_000
	// MaxRegexProgram bounds the compiled size of a regular expression.
	MaxRegexProgram = 2_000
	// MaxCost is the cost one evaluation may spend: about one unit per operation, per list item
	// or object field made, and per bytesPerCost bytes of text made or read.
	MaxCost = 10_000_000
)

const (
	bytesPerCost = 4 // bytes of a made string that cost one unit
	readPerCost  = 64
	// interruptEvery is how many loop iterations pass between two looks at the context.
	interruptEvery = 64
)
