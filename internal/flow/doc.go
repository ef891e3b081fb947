// Package flow is the typed model of a published integration.
//
// Purpose: an [Integration] is what a builder wrote, after it was checked: configuration, connection slots and
// flows with their triggers and steps. It is what a version stores, what a lease seals to a worker and what the
// worker interprets. Its canonical JSON ([Integration.Encode], [Decode]) is itself a valid integration document
// with a fixed key order, and [Integration.Digest] is the SHA-256 of it.
//
// Authority: this package owns the shape of the model, its limits and the meaning of durations and cron lines. It does
// not read YAML, does not know positions in a file and does not check that names refer to something: that is package
// flowfile, which is the only writer of models from text that a person wrote.
//
// Concurrency: an Integration is built once and only read afterwards; reading from many goroutines is safe.
//
// Failure: Decode accepts canonical bytes only. Unknown or repeated keys, another key order, white space and anything
// over a limit are errors, so that two documents with one meaning cannot have two digests by accident.
package flow
