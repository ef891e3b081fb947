package testkit

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A Twin is the test program of a package, built so that its defences can be switched off: see package redtwin.
type Twin struct {
	t       testing.TB
	program string
}

// BuildTwin builds the twin of the package in the current directory, in a directory that goes with the test. It skips
// a test in short mode.
func BuildTwin(t testing.TB) *Twin {
	t.Helper()
	if testing.Short() {
		t.Skip("builds a second test program")
	}
	program := filepath.Join(t.TempDir(), "redtwin.test")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "redtwin", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return &Twin{t: t, program: program}
}

// Run runs a test in the twin with defences switched off, several between commas, and returns what it printed.
func (w *Twin) Run(test, off string, flags ...string) (string, error) {
	c := exec.CommandContext(w.t.Context(), w.program, append(append([]string{"-test.run=^" + test + "$"}, flags...), "off="+off)...)
	c.Env = append(c.Environ(), "TMPDIR="+w.t.TempDir())
	out, err := c.CombinedOutput()
	return string(out), err
}

// Check has a test fail with a defence switched off and pass with all of them on, and reports whether it did both.
func (w *Twin) Check(test, off string) bool {
	w.t.Helper()
	out, err := w.Run(test, off)
	red := err != nil && strings.Contains(out, "--- FAIL: "+test)
	if !red {
		w.t.Errorf("%s passes with %s switched off: %v\n%s", test, off, err, out)
	}
	out, err = w.Run(test, "")
	if err != nil || strings.Contains(out, "no tests to run") {
		w.t.Errorf("%s fails with nothing switched off: %v\n%s", test, err, out)
		return false
	}
	return red
}
