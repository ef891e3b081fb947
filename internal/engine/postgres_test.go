package engine

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/store"
	"github.com/bulkheadhq/bulkhead/internal/testkit"
)

// engineVariable has the tests of this package run on PostgreSQL when it is "postgres".
const engineVariable = "BULKHEAD_TEST_ENGINE"

// postgres is the server of this package's tests; durable that of its benchmarks.
var (
	postgres = testkit.Postgres{}
	durable  = testkit.Postgres{Commits: testkit.Synced}
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := errors.Join(postgres.Stop(), durable.Stop()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func onPostgres() bool { return os.Getenv(engineVariable) == "postgres" }

// database is an empty database of the engine that is tested. No URL means SQLite.
func database(t testing.TB) store.Options {
	t.Helper()
	if !onPostgres() {
		return store.Options{}
	}
	if _, ok := t.(*testing.B); ok {
		return store.Options{URL: durable.Database(t)}
	}
	return store.Options{URL: postgres.Database(t)}
}

func sqliteOnly(t *testing.T, why string) {
	t.Helper()
	if onPostgres() {
		t.Skip(why)
	}
}

// Every test of this package passes on PostgreSQL too.
func TestOnPostgreSQL(t *testing.T) {
	sqliteOnly(t, "this is it")
	t.Parallel()
	all := exec.CommandContext(t.Context(), os.Args[0], "-test.parallel=4", fmt.Sprintf("-test.short=%v", testing.Short()))
	all.Env = append(os.Environ(), engineVariable+"=postgres", testkit.PostgresVariable+"="+postgres.URL(t))
	out, err := all.CombinedOutput()
	if err != nil {
		t.Errorf("on PostgreSQL: %v\n%s", err, out)
	}
}

// cutOff ends the server as kill -9 does: none of its connections writes any more.
func (b *bench) cutOff() {
	b.t.Helper()
	u, err := url.Parse(b.db.URL)
	if err != nil {
		b.t.Fatal(err)
	}
	name := u.User.Username()
	end := "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '" + name + "'"
	if err := postgres.SQL("ALTER ROLE "+name+" NOLOGIN", end); err != nil {
		b.t.Fatal(err)
	}
	b.stop()
	if err := postgres.SQL("ALTER ROLE " + name + " LOGIN"); err != nil {
		b.t.Fatal(err)
	}
	b.start()
}
