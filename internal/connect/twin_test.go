//go:build !redtwin

package connect

import (
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/testkit"
)

// TestRedTwins switches each defence off, in a build that allows it, and runs the tests of
// it: all must fail.
func TestRedTwins(t *testing.T) {
	t.Parallel()
	twin := testkit.BuildTwin(t)
	for off, test := range map[defence]string{
		answersConfirmed: "TestAnswersWithoutStateAreConfirmed",
		returnsChecked:   "TestPagesLeadBackWhereAllowed",
		linksOnce:        "TestLinksWorkOnce",
		linksExpire:      "TestLinksExpire",
		browsersBound:    "TestCallbacksAreBoundToTheBrowser",
		formsBound:       "TestFormsAreBoundToTheBrowser",
		formsOwn:         "TestAFormThatIsSentAgain",
		sharingProven:    "TestLinksShareAsTheyWereMadeTo",
		pagesFramed:      "TestPagesAreNotFramed",
		textEscaped:      "TestCallbacksAreNotReflected",
		templatesShared:  "TestTemplatesAreForTheirCustomers",
		askersOwn:        "TestQuestionsOfAnotherOrganization",
		ownersChecked:    "TestLinksOfAnotherCustomer",
	} {
		twin.Check(test, string(off))
	}
}
