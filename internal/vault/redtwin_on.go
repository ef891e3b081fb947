//go:build redtwin

package vault

// Every defence is off: tests of the defences must fail in this build.
const (
	placeBound      = false // associated data says where a ciphertext belongs
	versionsChecked = false // rows agree with the ledger
	ownersChecked   = false // a connection or an instance belongs to the customer
	daysChecked     = false // a payload key whose day has ended is not opened
	rootChecked     = false // the check value and the head stop a wrong root key
	sendersChecked  = false // calls come from live servers only
	leafFirst       = false // no answer without a committed leaf
	sealedRows      = false // what is stored is ciphertext
)
