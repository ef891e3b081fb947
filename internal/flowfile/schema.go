package flowfile

import (
	"bytes"
	_ "embed"
)

//go:embed schema.json
var schemaJSON []byte

// Schema returns the published JSON Schema (2020-12) of an integration file. Editors use it while a file is written; it
// refuses what a schema can express, and [Decode] refuses that and the rest. The caller owns the bytes.
func Schema() []byte { return bytes.Clone(schemaJSON) }
