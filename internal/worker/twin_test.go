//go:build !redtwin

package worker

import (
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/testkit"
)

// TestRedTwins switches each defence off, in a build that allows it, and runs the tests of it:
// all must fail.
func TestRedTwins(t *testing.T) {
	t.Parallel()
	twin := testkit.BuildTwin(t)
	for _, test := range []string{"TestIdempotencyKey", "TestResume"} {
		twin.Check(test, string(keysRepeat))
	}
}
