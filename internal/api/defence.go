package api

import "github.com/bulkheadhq/bulkhead/internal/redtwin"

// defence is one that can be switched off in a build with the tag redtwin, where the
// test of it must fail.
type defence string

// off tells whether a defence is switched off.
func off(d defence) bool { return redtwin.Off(string(d)) }

const (
	secretsCompared    defence = "secrets"     // a token's secret is the one that its id was given
	expiryChecked      defence = "expiry"      // a token ends
	permissionsChecked defence = "permissions" // a route needs its permission
	ratesKept          defence = "rates"       // requests of a token are counted
	cursorsBound       defence = "cursors"     // a cursor belongs to its list, filter and organization
	requestsCompared   defence = "requests"    // a key gives the answer to the same request only
	inputsBounded      defence = "inputs"      // the check of an input may cost so much and no more
	namesOnce          defence = "names"       // JSON with a name twice is refused
)
