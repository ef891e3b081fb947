package egress

import "github.com/bulkheadhq/bulkhead/internal/redtwin"

// defence is one that can be switched off in a build with the tag redtwin, where the test of it must fail.
type defence string

// off tells whether a defence is switched off.
func off(d defence) bool { return redtwin.Off(string(d)) }

const (
	basesNamed      defence = "bases"            // a call goes to the places that the record names, and to no other
	hostsFollowed   defence = "follow"           // redirects lead to hosts that the record names
	originLeft      defence = "leave"            // and take neither credential nor headers along
	replacedLeft    defence = "replaced"         // a credential that was replaced is not used any more
	connectionShare defence = "connection-share" // a connection leaves some of what its customer has to the others
)
