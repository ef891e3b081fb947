package blob

import "github.com/bulkheadhq/bulkhead/internal/id"

// Path is the name of a complete blob's file below the store's directory, with slashes:
// for a backup, which copies files while the store may be open.
func Path(day uint32, b id.Blob) string { return name{day, b}.path() }
