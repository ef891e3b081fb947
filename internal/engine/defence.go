package engine

import "github.com/bulkheadhq/bulkhead/internal/redtwin"

// defence is one that can be switched off in a build with the tag redtwin, where the
// test of it must fail.
type defence string

// off tells whether a defence is switched off.
func off(d defence) bool { return redtwin.Off(string(d)) }

const (
	ownEnds       defence = "ends"   // only an execution's own interruptions count
	fencesChecked defence = "fences" // who does not hold an execution writes nothing
	refreshTurns  defence = "turns"  // refreshes of one customer or provider keep nobody else's waiting
)
