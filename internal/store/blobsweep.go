package store

import "github.com/bulkheadhq/bulkhead/internal/id"

// HasBlob reports whether any customer has a row for a blob of an expiry day.
func (s System) HasBlob(day uint32, b id.Blob) (bool, error) {
	var n int64
	err := s.q.row(`SELECT COUNT(*) FROM blob WHERE day = $1 AND blob_id = $2`, []any{int64(day), b[:]}, &n)
	return n > 0, err
}
