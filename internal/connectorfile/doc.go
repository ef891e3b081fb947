// Package connectorfile reads connector manifests as people write them, and the cases by which they are tested.
//
// Purpose: [Decode] turns one YAML or JSON document into a checked [connector.Manifest], or into all of its problems with
// their places. [Schema] is the published JSON Schema of the format: the decoder reads by it, and it and the reference in
// doc/connectors.md are generated from the types and their comments. [DecodeTests] reads the cases of a manifest, and
// [Tests.Run] compares the requests that its actions make, and the events that its triggers take, with the vendor's own.
// A [Catalogue] is a set of manifests by name and version.
//
// Authority: this package decides whether a file is a valid manifest. It grants nothing: see package connector.
//
// Concurrency: functions are pure and safe for concurrent use. A [Catalogue] is read-only once made.
//
// Failure: outside input never makes this package panic; the limits of packages source and connector are enforced before
// anything is interpreted, and a schema that takes too long to compile is refused.
package connectorfile
