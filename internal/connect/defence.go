package connect

import "github.com/bulkheadhq/bulkhead/internal/redtwin"

// defence is one that can be switched off in a build with the tag redtwin, where the test
// of it must fail.
type defence string

// off tells whether a defence is switched off.
func off(d defence) bool { return redtwin.Off(string(d)) }

const (
	returnsChecked   defence = "returns"   // pages lead back only to where the organization allows
	linksOnce        defence = "once"      // a link connects once
	linksExpire      defence = "expiry"    // a link ends
	browsersBound    defence = "browser"   // an answer of a provider is taken from the browser that was sent there
	formsBound       defence = "forms"     // a form is taken from the browser that was shown it
	formsOwn         defence = "entered"   // that a form has connected is told to the browser that sent it
	sharingProven    defence = "sharing"   // a link shares what it makes as it was made to
	pagesFramed      defence = "frames"    // no page is shown inside another
	textEscaped      defence = "escape"    // what a request says is never a part of a page
	templatesShared  defence = "templates" // an OAuth client connects the customers it is for
	answersConfirmed defence = "answers"   // an answer without a state is taken when somebody confirms it
	askersOwn        defence = "askers"    // a connection is tested and asked for the organization that has it
	ownersChecked    defence = "owners"    // a connection that is connected again is the customer's of the link
)
