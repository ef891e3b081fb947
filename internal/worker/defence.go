package worker

import "github.com/bulkheadhq/bulkhead/internal/redtwin"

// defence is one that can be switched off in a build with the tag redtwin, where the test of it must fail.
type defence string

// off tells whether a defence is switched off.
func off(d defence) bool { return redtwin.Off(string(d)) }

const (
	keysRepeat defence = "keys" // a request that may have had its effect is repeated under the same idempotency key
)
