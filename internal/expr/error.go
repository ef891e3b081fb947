package expr

import (
	"fmt"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Error is what went wrong in an evaluation, in words for the person who wrote the expression.
// It names fields and functions but never repeats a value of the data.
type Error struct {
	Message string
	// Limit is set when a limit stopped the evaluation: its cost, the size of a value.
	Limit bool
	// Offset is the byte offset in the source of the part that failed, -1 when it is not known.
	Offset int
	cause  error
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the context's error when that ended the evaluation, else nil.
func (e *Error) Unwrap() error { return e.cause }

func evalErrorf(format string, args ...any) *Error {
	return &Error{Message: fmt.Sprintf(format, args...), Offset: -1}
}

func limitErrorf(format string, args ...any) *Error {
	return &Error{Message: fmt.Sprintf(format, args...), Limit: true, Offset: -1}
}

// errorVal makes an error value for a function to return.
func errorVal(format string, args ...any) ref.Val {
	return types.WrapErr(evalErrorf(format, args...))
}

func limitVal(format string, args ...any) ref.Val {
	return types.WrapErr(limitErrorf(format, args...))
}
