package suite

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/backup"
	"github.com/bulkheadhq/bulkhead/internal/children"
	"github.com/bulkheadhq/bulkhead/internal/cli"
	"github.com/bulkheadhq/bulkhead/internal/openapi"
	"github.com/bulkheadhq/bulkhead/internal/role"
)

// TestMain lets this one executable be every program of the system: roles are started
// from the executable that starts them.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == backup.ReaderCommand {
		os.Exit(cli.Main(context.Background(), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:]))
	}
	if len(os.Args) < 3 {
		os.Exit(m.Run())
	}
	switch os.Args[1] {
	case openapi.ChildCommand:
		os.Exit(cli.Main(context.Background(), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:]))
	case "role":
		if dir := recordingDir(); os.Args[2] == "bus" && dir != "" {
			os.Exit(recordBus(dir))
		}
		os.Exit(role.Main(context.Background(), os.Args[2], os.Stderr, slog.LevelDebug))
	case "bulkhead":
		os.Exit(cli.Main(context.Background(), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[2:]))
	case "probe":
		os.Exit(probe(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// needSystem skips a test that needs every role on a host that cannot show them.
func needSystem(t *testing.T) {
	t.Helper()
	if _, err := children.Worker(); err != nil {
		t.Skip("SKIPPED, NOTHING PROVEN: the worker and the sandbox are not built: run make children first")
	}
	if linkedWithCgo {
		t.Skip("SKIPPED, NOTHING PROVEN: this test is linked with cgo, which roles refuse: run with CGO_ENABLED=0 and without -race, as make test does")
	}
	if newer := staleBy(); newer != "" {
		t.Fatalf("the worker and the sandbox were built before %s changed: run make children", newer)
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOTHING PROVEN: looking into other processes needs root")
	}
}

// staleBy names a source file that is newer than the executables of workers and
// sandboxes. Roles and children of different builds do not understand each other, which
// would only show as tests that wait for long.
func staleBy() (newer string) {
	built, err := os.Stat("../children/bin/bulkhead-worker")
	if err != nil {
		return "" // not run beside its source
	}
	for _, dir := range []string{"worker", "sandbox", "lease", "wire", "seal", "flow", "expr", "id", "jail"} {
		files, _ := filepath.Glob("../" + dir + "/*.go")
		for _, f := range files {
			info, err := os.Stat(f)
			if err == nil && !strings.HasSuffix(f, "_test.go") && info.ModTime().After(built.ModTime()) {
				newer = f
			}
		}
	}
	return newer
}

// table prints rows below each other in the test's log.
func table(t *testing.T, title string, rows [][]string) {
	t.Helper()
	width := map[int]int{}
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	text := title
	for _, r := range rows {
		text += "\n  "
		for i, c := range r {
			text += fmt.Sprintf("%-*s  ", width[i], c)
		}
	}
	t.Log(text)
}
