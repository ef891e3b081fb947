//go:build !redtwin

package egress

import (
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/testkit"
)

// TestRedTwins switches each defence off, in a build that allows it, and runs the tests of it: all must fail.
func TestRedTwins(t *testing.T) {
	t.Parallel()
	twin := testkit.BuildTwin(t)
	for _, row := range []struct {
		off  defence
		test string
	}{
		{basesNamed, "TestOnlyTheRecordsBasesAreCalled"},
		{hostsFollowed, "TestDownloadsAreFollowedToNamedHosts"},
		{originLeft, "TestDownloadsTakeNothingAlong"},
		{connectionShare, "TestNoConnectionKeepsItsCustomerFromOthers"},
		{replacedLeft, "TestAReplacedCredentialIsLeft"},
		{replacedLeft, "TestACallThatWaitsIsMadeWithTheNewCredential"},
		{connectionShare, "TestWaitingForATokenKeepsNoOtherConnection"},
	} {
		twin.Check(row.test, string(row.off))
	}
}
