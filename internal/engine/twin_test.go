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
	for _, x := range []struct {
		off  defence
		test string
	}{
		{ownEnds, "TestEndsOfOthersDoNotCount"},
		{fencesChecked, "TestTwoHoldersOfAnExecution"},
		{refreshTurns, "TestSlowRefreshesOfOneCustomerHoldUpNobody"},
		{refreshTurns, "TestSlowRefreshesOfOneProviderHoldUpNobody"},
		{refreshTurns, "TestRefreshesTakeTurns"},
		{refreshTurns, "TestRefreshesOfConnectorsTakeTurns"},
		{refreshTurns, "TestTurnsOutlastALook"},
	} {
		if !twin.Check(x.test, string(x.off)) {
			t.Errorf("%s is not red without %q and green with it", x.test, x.off)
		}
	}
}
