package sandbox

import (
	"fmt"
	"strings"
)

// Kind says what sort of failure ended a run. Its values are stored in journals: they never change.
type Kind string

// The kinds of failure.
const (
	// KindSyntax is source that cannot be used: it does not parse, imports something, has no default export.
	KindSyntax Kind = "syntax"
	// KindThrow is an exception, or a rejected promise, that the code did not catch. Too deep a recursion is one.
	KindThrow Kind = "throw"
	// KindTimeout is a run that did not end within its time.
	KindTimeout Kind = "timeout"
	// KindMemory is a run that needed more memory than its budget.
	KindMemory Kind = "memory"
	// KindResult is a result that JSON cannot carry, or one that is too large, or a promise that never settles.
	KindResult Kind = "result"
	// KindInput is input that is not JSON, is nested too deeply or is too large.
	KindInput Kind = "input"
	// KindInternal is a fault of the engine itself.
	KindInternal Kind = "internal"
)

// A Frame is one call on the stack of the author's code, innermost first. Engine frames are left out.
type Frame struct {
	// Func is the name of the function, empty for an anonymous one.
	Func string
	// Line and Column count from 1, columns in characters. They point into the author's source.
	Line, Column int
}

// Error is why a piece of code failed. The zero value is not used.
type Error struct {
	// Kind is the sort of failure.
	Kind Kind
	// Message is for the author of the code; it may contain values of the execution, so it is sealed like a payload.
	Message string
	// Line and Column count from 1, columns in characters; both are 0 where no position is known.
	Line, Column int
	// Stack has at most MaxFrames frames, innermost first.
	Stack []Frame
	// Abandoned says that the engine did not stop and still occupies a goroutine: end the process.
	Abandoned bool
}

// Error implements error: kind, message and position in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Kind))
	b.WriteString(": ")
	b.WriteString(e.Message)
	if e.Line > 0 {
		fmt.Fprintf(&b, " (line %d, column %d)", e.Line, e.Column)
	}
	return b.String()
}

func errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: clip(fmt.Sprintf(format, args...), MaxMessage)}
}

// clip shortens s to about limit bytes without splitting a character.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && s[cut]&0xC0 == 0x80 {
		cut--
	}
	return s[:cut] + "…"
}
