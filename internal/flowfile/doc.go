// Package flowfile reads what people write: integration files and their test cases, in YAML or JSON, into package flow's
// model, and formats them.
//
// Purpose: [Decode] turns one document into a checked [flow.Integration] or into all of its problems at once, each with
// line, column, path, what was expected and the nearest right spelling. [Format] writes a file in its canonical layout
// without changing its meaning. [Schema] is the published JSON Schema of the format. [DecodeTests] reads the cases of
// `bulkhead test`.
//
// Authority: this package alone decides whether a file is a valid integration. It owns no state, reads no files and knows no
// clock; bytes come in, models and problems come out.
//
// Of YAML 1.2 it takes what JSON has, plus comments and the scalar styles. Anchors, aliases, merge keys, tags, directives,
// several documents, repeated keys and words or numbers that other versions of YAML read differently are problems, because
// each of them lets a reviewer read something else than the machine.
//
// Concurrency: all functions are pure and safe for concurrent use; a [Document] is read-only.
//
// Failure: outside input never makes this package panic; every limit of package flow is enforced here.
package flowfile
