//go:build !redtwin

package engine

import (
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/testkit"
)

// TestRedTwins switches each defence off, in a build that allows it, and runs the tests of it:
// all must fail.
func TestRedTwins(t *testing.T) {
	t.Parallel()
	twin := testkit.BuildTwin(t)
	for off, test := range map[defence]string{ownEnds: "TestEndsOfOthersDoNotCount", fencesChecked: "TestTwoHoldersOfAnExecution"} {
		if !twin.Check(test, string(off)) {
			t.Errorf("%s is not red without %q and green with it", test, off)
		}
	}
}
