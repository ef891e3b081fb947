//go:build !redtwin

package tokens

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTokenRaceRedTwin runs the race with the lock over all processes switched off, in a build
// that allows it: tokens must be seen twice.
func TestTokenRaceRedTwin(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds a second test program")
	}
	program := filepath.Join(t.TempDir(), "redtwin.test")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "redtwin", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	c := exec.CommandContext(t.Context(), program, "-test.run=^TestTokenRace$", "-test.v", "-connections=40", "-for=3s", "-life=1s", "off=intent,fences")
	c.Env = append(c.Environ(), "TMPDIR="+t.TempDir())
	out, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--- FAIL: TestTokenRace") || strings.Contains(string(out), "outside the window: 0 reuse detections") {
		t.Fatalf("without the lock no token was sent twice: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "race: outside the window") {
			t.Logf("red twin: %s", strings.TrimSpace(line))
		}
	}
}
