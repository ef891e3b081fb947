//go:build !redtwin

package vault

// The defences that a red twin switches off, one build for all. In a build without
// the tag redtwin nothing can be.
const (
	placeBound      = true // associated data says where a ciphertext belongs
	versionsChecked = true // rows agree with the ledger
	ownersChecked   = true // a connection or an instance belongs to the customer
	daysChecked     = true // a payload key whose day has ended is not opened
	rootChecked     = true // the check value and the head stop a wrong root key
	sendersChecked  = true // calls come from live servers only
	leafFirst       = true // no answer without a committed leaf
	sealedRows      = true // what is stored is ciphertext
)
