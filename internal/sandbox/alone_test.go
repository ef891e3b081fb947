package sandbox

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// aloneVariable tells a test that its process is its own.
const aloneVariable = "BULKHEAD_TEST_ALONE"

// alone runs the calling test in a process of its own, as code runs in production, and reports whether this is that
// process. Memory is counted over the process, and code that cannot be stopped keeps what it holds until the process
// ends: neither may come from another test.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneVariable) != "" {
		return true
	}
	var pattern []string
	for part := range strings.SplitSeq(t.Name(), "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(part)+"$")
	}
	c := exec.Command(os.Args[0], "-test.run="+strings.Join(pattern, "/"))
	c.Env = append(os.Environ(), aloneVariable+"=1")
	if out, err := c.CombinedOutput(); err != nil || bytes.Contains(out, []byte("no tests to run")) {
		t.Errorf("%v:\n%s", err, out)
	}
	return false
}
