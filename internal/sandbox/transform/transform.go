// Package transform turns the TypeScript of a code step into JavaScript, once, when an integration is published. Types
// are stripped, not checked: that is the editor's work.
//
// It is apart from package sandbox because linking the compiler (esbuild) costs every start of a process about a
// millisecond, and executions start sandboxes all the time (doc/decisions/code-steps.md). Its source comes from a user, so
// it runs in a jailed process like code steps do.
//
// Authority: none, it does no input or output. Concurrency: safe for concurrent use. Failure: a problem of the source is
// an [*Error] with its place. The compiler cannot be interrupted; source is bounded in size and nesting, and beyond that
// the jail's limits of memory and processor time are the wall.
package transform

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/evanw/esbuild/pkg/api"
)

// Limits of the source.
const (
	// MaxSource is its size in bytes. The JavaScript with its source map stays within what a sandbox takes.
	MaxSource = 128 << 10
	// MaxNesting is how deeply its brackets may be nested.
	MaxNesting = 500
	// MaxProblems is how many problems an error names.
	MaxProblems = 20
	// maxMessage is the size of one problem's text in bytes.
	maxMessage = 1 << 10
)

// A Problem is one thing wrong with the source.
type Problem struct {
	// Message says what, for the author.
	Message string
	// Line and Column count from 1, columns in characters; both are 0 where no place is known.
	Line, Column int
}

// Error is source that cannot be compiled. It has at least one problem.
type Error struct {
	Problems []Problem
}

// Error implements error: the first problem and the number of others.
func (e *Error) Error() string {
	p := e.Problems[0]
	text := p.Message
	if p.Line > 0 {
		text = fmt.Sprintf("%s (line %d, column %d)", text, p.Line, p.Column)
	}
	if n := len(e.Problems) - 1; n > 0 {
		text = fmt.Sprintf("%s and %d more", text, n)
	}
	return text
}

// settings keep every import that is written, so that the sandbox can refuse it by name instead of its disappearing.
const settings = `{"compilerOptions": {"verbatimModuleSyntax": true, "useDefineForClassFields": true}}`

// TypeScript gives the JavaScript of source, an ES module like the source. It ends with an inline source map, by which
// the sandbox names places in the TypeScript. The same source gives the same JavaScript in the same release.
func TypeScript(source string) (string, error) {
	switch {
	case len(source) > MaxSource:
		return "", problem("the code is larger than %d bytes", MaxSource)
	case !utf8.ValidString(source):
		return "", problem("the code is not valid UTF-8")
	case nesting(source) > MaxNesting:
		return "", problem("brackets are nested more than %d levels deep", MaxNesting)
	}
	result := api.Transform(source, api.TransformOptions{
		Loader:         api.LoaderTS,
		Target:         api.ES2022,
		Charset:        api.CharsetUTF8,
		Sourcefile:     "code.ts",
		Sourcemap:      api.SourceMapInline,
		SourcesContent: api.SourcesContentExclude,
		TsconfigRaw:    settings,
		LogLevel:       api.LogLevelSilent,
		LogLimit:       MaxProblems,
		// What the engine of the sandbox does not have.
		Supported: map[string]bool{"async-generator": false, "for-await": false},
	})
	if len(result.Errors) > 0 {
		return "", newError(result.Errors)
	}
	return string(result.Code), nil
}

func problem(format string, args ...any) *Error {
	return &Error{Problems: []Problem{{Message: fmt.Sprintf(format, args...)}}}
}

func newError(messages []api.Message) *Error {
	e := &Error{}
	for _, m := range messages[:min(len(messages), MaxProblems)] {
		p := Problem{Message: strings.ToValidUTF8(m.Text[:min(len(m.Text), maxMessage)], "")}
		if l := m.Location; l != nil {
			before := l.LineText[:min(l.Column, len(l.LineText))] // the compiler counts bytes, from 0
			p.Line, p.Column = l.Line, 1+utf8.RuneCountInString(before)
		}
		e.Problems = append(e.Problems, p)
	}
	return e
}

// nesting is how deeply brackets nest, those in texts and comments included.
func nesting(source string) (deepest int) {
	level := 0
	for i := range len(source) {
		switch source[i] {
		case '(', '[', '{', '<':
			level++
			deepest = max(deepest, level)
		case ')', ']', '}':
			level = max(level-1, 0)
		case '>':
			if i == 0 || source[i-1] != '=' && source[i-1] != '-' {
				level = max(level-1, 0)
			}
		}
	}
	return deepest
}
