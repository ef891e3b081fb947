package vault

import "github.com/bulkheadhq/bulkhead/internal/redtwin"

// defence is one that can be switched off in a build with the tag redtwin, where the
// test of it must fail.
type defence string

// off tells whether a defence is switched off.
func off(d defence) bool { return redtwin.Off(string(d)) }

const (
	sealedRows      defence = "sealed"     // what is stored is ciphertext
	placeBound      defence = "place"      // associated data says where a ciphertext belongs
	versionsChecked defence = "versions"   // rows agree with the ledger
	ownersChecked   defence = "owners"     // a connection or an instance belongs to the customer
	daysChecked     defence = "days"       // a payload pair whose day has ended is not opened
	rootChecked     defence = "root"       // the check value stops a wrong root key
	headChecked     defence = "head"       // the head's MAC needs the root key
	sendersChecked  defence = "senders"    // calls come from live servers only
	callsSigned     defence = "calls"      // and are signed by them, once
	leafFirst       defence = "leaf"       // no answer without a committed leaf
	signaturesAsked defence = "signatures" // a lease needs both signatures
	leasesCounted   defence = "leases"     // one dispatch gives a few leases
	limitsKept      defence = "limits"     // requests are counted
	keysWiped       defence = "wipe"       // keys are overwritten on Close
	macsCompared    defence = "mac"        // a signature is compared
	emptyDenied     defence = "deny"       // a role that publishes nothing may publish nothing
	ticketsChecked  defence = "tickets"    // a ticket is this vault's, for this node and connection
	ordersOnce      defence = "orders"     // an order is served once
	oneIntent       defence = "intent"     // one node at a time renews a credential
	fencesChecked   defence = "fences"     // what ends a work is its node's, and the newest
	stateOnce       defence = "state"      // a state is used once
	browserBound    defence = "browser"    // by the browser that it was made for
	sharingKept     defence = "sharing"    // who connects again does not decide with whom it is shared
	fieldsKept      defence = "fields"     // a lease of tokens holds no more than access tokens
	clientsChecked  defence = "clients"    // a client's secret and tokens go where its record allows
	portsChecked    defence = "ports"      // and to no other port there
)
