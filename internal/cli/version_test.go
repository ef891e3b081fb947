package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A program that make has built says which source it was built from, also where the build
// information does not.
func TestMakeGivesTheProgramItsVersion(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the program")
	}
	b, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	const flag = "-X $(MODULE)/internal/cli.described=$(VERSION)"
	if !bytes.Contains(b, []byte(flag)) {
		t.Fatalf("the Makefile lacks %s", flag)
	}
	program := filepath.Join(t.TempDir(), "bulkhead")
	given := strings.NewReplacer("$(MODULE)", "github.com/bulkheadhq/bulkhead", "$(VERSION)", "v9.8.7-6-gabc").Replace(flag)
	out, err := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", given, "-o", program, "../../cmd/bulkhead").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	out, err = exec.CommandContext(t.Context(), program, "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "bulkhead v9.8.7-6-gabc") {
		t.Errorf("version: %v: %s", err, out)
	}
}
