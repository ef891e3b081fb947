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
	for off, test := range map[defence]string{
		basesNamed:    "TestOnlyTheRecordsBasesAreCalled",
		hostsFollowed: "TestDownloadsAreFollowedToNamedHosts",
		originLeft:    "TestDownloadsTakeNothingAlong",
	} {
		twin.Check(test, string(off))
	}
}
