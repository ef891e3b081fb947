// Package source reads documents that people write, in YAML or JSON, and says what is wrong with them and where.
//
// Purpose: [Load] turns a text into a tree of [Node]s, each with its place. A [Decoder] reads such a tree into a model of
// the caller's: known keys, names, scalars with their limits. All problems are collected, each with line, column, path,
// what was expected and the nearest right spelling; [Problems] print them with the line and a caret.
//
// Of YAML 1.2 it takes what JSON has, plus comments and the scalar styles. Anchors, aliases, merge keys, tags, directives,
// several documents, repeated keys and words or numbers that other versions of YAML read differently are problems, because
// each of them lets a reviewer read something else than the machine.
//
// Authority: none. It owns no state, reads no files and knows no clock.
//
// Concurrency: functions are pure and safe for concurrent use; nodes and texts are read-only once made. A [Decoder] is for
// one goroutine.
//
// Failure: outside input never makes this package panic; the caller's [Limits] are enforced before a value is interpreted.
package source
