//go:build !redtwin

package tokens

import (
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/testkit"
)

// TestTokenRaceRedTwin runs the race with the lock over all processes switched off, in a build
// that allows it: tokens must be seen twice.
func TestTokenRaceRedTwin(t *testing.T) {
	t.Parallel()
	out, err := testkit.BuildTwin(t).Run("TestTokenRace", "intent,fences", "-test.v", "-connections=40", "-for=3s", "-life=1s")
	if err == nil || !strings.Contains(out, "--- FAIL: TestTokenRace") || strings.Contains(out, "outside the window: 0 reuse detections") {
		t.Fatalf("without the lock no token was sent twice: %v\n%s", err, out)
	}
	for line := range strings.Lines(out) {
		if strings.Contains(line, "race: outside the window") {
			t.Logf("red twin: %s", strings.TrimSpace(line))
		}
	}
}
