package api

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/testkit"
)

// engineVariable has the tests of this package run on PostgreSQL when it is "postgres".
const engineVariable = "BULKHEAD_TEST_ENGINE"

// postgres is the server of this package's tests.
var postgres = testkit.Postgres{}

func TestMain(m *testing.M) {
	code := m.Run()
	if err := postgres.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func onPostgres() bool { return os.Getenv(engineVariable) == "postgres" }

// database is an empty database of the engine that is tested.
func database(t *testing.T, dir string) store.Options {
	t.Helper()
	if onPostgres() {
		return store.Options{URL: postgres.Database(t)}
	}
	return store.Options{Dir: dir, Durability: store.Temporary}
}

func sqliteOnly(t *testing.T, why string) {
	t.Helper()
	if onPostgres() {
		t.Skip(why)
	}
}

// What reads and writes most passes on PostgreSQL too.
func TestOnPostgreSQL(t *testing.T) {
	sqliteOnly(t, "this is it")
	t.Parallel()
	const some = "^(TestScene|TestForeignIDsAreNotFound|TestAPostWithAKeyIsDoneOnce|TestCursorsBelongToTheirList|TestDraftsAreNotOverwritten|" +
		"TestTokensEnd|TestLifecycleOfAnInstance|TestAPartialDeploymentSaysWhatItLacks|TestFirstStart)$"
	all := exec.CommandContext(t.Context(), os.Args[0], "-test.parallel=4", "-test.run="+some)
	all.Env = append(os.Environ(), engineVariable+"=postgres", testkit.PostgresVariable+"="+postgres.URL(t))
	if out, err := all.CombinedOutput(); err != nil {
		t.Errorf("on PostgreSQL: %v\n%s", err, out)
	}
}
