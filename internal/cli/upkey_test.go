package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNoNewRootKeyForAnOldKeystore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "vault"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vault", keystoreFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	load, err := (&upCommand{State: dir}).root(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := load(); err == nil || !strings.Contains(err.Error(), "not its root key") {
		t.Errorf("without its root key: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, rootFileName)); err == nil {
		t.Error("a new root key was made")
	}
}
