package jail

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestSweep asserts that a group is removed only when its maker is known to be gone: a process id of another process
// namespace says nothing here.
func TestSweep(t *testing.T) {
	t.Parallel()
	space, err := processSpace()
	if err != nil {
		t.Fatal(err)
	}
	const nobody = 1 << 23 // more than any process id can be
	parent := t.TempDir()
	rows := []struct {
		name string
		stay bool
	}{
		{fmt.Sprintf("bulkhead-%d-%d-sandbox-A", space, nobody), false},
		{fmt.Sprintf("bulkhead-%d-%d-sandbox-B", space, os.Getpid()), true},
		{fmt.Sprintf("bulkhead-%d-%d-sandbox-C", space+1, nobody), true},
		{fmt.Sprintf("bulkhead-%d-sandbox-D", nobody), true},
		{"other", true},
	}
	for _, row := range rows {
		if err := os.Mkdir(filepath.Join(parent, row.name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	sweep(parent)
	for _, row := range rows {
		if _, err := os.Stat(filepath.Join(parent, row.name)); errors.Is(err, fs.ErrNotExist) == row.stay {
			t.Errorf("%s: want it to stay: %v, got %v", row.name, row.stay, err)
		}
	}
}

// TestGroupsShareNothing asserts that no two groups have a name in common, those of one process and purpose included.
func TestGroupsShareNothing(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for range 100 {
		name, err := groupName("sandbox")
		if err != nil {
			t.Fatal(err)
		}
		if known[name] {
			t.Fatalf("%s is given twice", name)
		}
		known[name] = true
	}
}
