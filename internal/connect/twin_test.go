//go:build !redtwin

package connect

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRedTwins switches each defence off, in a build that allows it, and runs the tests of
// it: all must fail.
func TestRedTwins(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds a second test program")
	}
	program := filepath.Join(t.TempDir(), "redtwin.test")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "redtwin", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	run := func(test, off string) ([]byte, error) {
		c := exec.CommandContext(t.Context(), program, "-test.run=^"+test+"$", "off="+off)
		c.Env = append(c.Environ(), "TMPDIR="+t.TempDir())
		return c.CombinedOutput()
	}
	for off, test := range map[defence]string{
		returnsChecked: "TestPagesLeadBackWhereAllowed",
		linksOnce:      "TestLinksWorkOnce",
		linksExpire:    "TestLinksExpire",
		browsersBound:  "TestCallbacksAreBoundToTheBrowser",
		formsBound:     "TestFormsAreBoundToTheBrowser",
		pagesFramed:    "TestPagesAreNotFramed",
		textEscaped:    "TestCallbacksAreNotReflected",
		ownersChecked:  "TestLinksOfAnotherCustomer",
	} {
		if out, err := run(test, string(off)); err == nil || !strings.Contains(string(out), "--- FAIL: "+test) {
			t.Errorf("%s passes with %s switched off: %v\n%s", test, off, err, out)
		}
		if out, err := run(test, ""); err != nil {
			t.Errorf("%s fails with nothing switched off: %v\n%s", test, err, out)
		}
	}
}
