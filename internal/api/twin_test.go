//go:build !redtwin

package api

import (
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/testkit"
)

// TestRedTwins switches each defence off, in a build that allows it, and runs the tests of
// it: all must fail.
func TestRedTwins(t *testing.T) {
	sqliteOnly(t, "the database is no part of them")
	t.Parallel()
	twin := testkit.BuildTwin(t)
	for off, test := range map[defence]string{
		secretsCompared:    "TestTokensEnd",
		expiryChecked:      "TestTokensEnd",
		permissionsChecked: "TestEveryRouteAndRole",
		ratesKept:          "TestTooManyRequests",
		cursorsBound:       "TestCursorsBelongToTheirList",
		requestsCompared:   "TestAPostWithAKeyIsDoneOnce",
		inputsBounded:      "TestTheCheckOfAnInputEnds",
		namesOnce:          "TestRequestsAreReadStrictly",
	} {
		twin.Check(test, string(off))
	}
}
