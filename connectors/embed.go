// Package connectors holds the catalogue: one directory for each connector, with its manifest, and the vendor's own
// example requests, answers and events as tests. doc/connectors.md says how to write one.
//
// The files are data, read by package connectorfile. The package has no authority, no state and no concurrency; a manifest
// that is not valid fails its tests here, and a build with one is not made.
package connectors

import "embed"

// Files are the directories of the connectors.
//
//go:embed */*.yaml
var Files embed.FS
