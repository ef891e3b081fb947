package testkit

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// PostgresVariable names the environment variable with the URL of a server that tests use
// instead of one of their own. Its user must be allowed to create roles and schemas.
const PostgresVariable = "BULKHEAD_TEST_POSTGRES"

// Commits says what the commits of a server survive.
type Commits bool

// The values of [Commits].
const (
	// Fast commits are not synced to disk: for tests.
	Fast Commits = false
	// Synced commits survive a loss of power: for benchmarks.
	Synced Commits = true
)

// startLimit is the longest that a server may take to start or to stop.
const startLimit = 60 * time.Second

// Postgres is one PostgreSQL server for the tests of a package, started from the installed
// programs when the first test asks for a database. The zero value is a server with fast
// commits. Stop must be called before the test binary ends.
type Postgres struct {
	Commits Commits

	mu       sync.Mutex
	started  bool
	err      error // why it could not be started
	dir      string
	programs string
	owner    *syscall.Credential
	server   *exec.Cmd
	life     io.Closer // the server ends with it, also when this process is killed
	url      url.URL
	number   int
}

// errNoPostgres means that PostgreSQL is not installed.
var errNoPostgres = errors.New("PostgreSQL is not installed, and " + PostgresVariable + " names no server")

// Database makes an empty schema with a user of its own for a test and returns the URL
// that leads there: making a database takes ten times as long. Without PostgreSQL the test
// is skipped.
func (p *Postgres) Database(t testing.TB) string {
	t.Helper()
	p.need(t)
	p.mu.Lock()
	p.number++
	name := fmt.Sprintf("bulkhead_test_%d_%d", os.Getpid(), p.number)
	p.mu.Unlock()
	database, err := p.NewDatabase(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.server != nil {
			return // it goes with the server
		}
		if err := p.SQL("DROP OWNED BY "+name+" CASCADE", "DROP ROLE "+name); err != nil {
			t.Error(err)
		}
	})
	return database
}

// NewDatabase is Database for who is no test: an empty schema with a user of that name,
// which stays. It fails without PostgreSQL.
func (p *Postgres) NewDatabase(name string) (string, error) {
	if err := p.ensure(); err != nil {
		return "", err
	}
	if err := p.SQL("CREATE ROLE "+name+" LOGIN PASSWORD 'test'", "CREATE SCHEMA AUTHORIZATION "+name); err != nil {
		return "", err
	}
	u := p.url
	u.User = url.UserPassword(name, "test")
	return u.String(), nil
}

// ensure starts the server unless it was started.
func (p *Postgres) ensure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.started {
		p.started, p.err = true, p.start()
	}
	return p.err
}

// need starts the server unless it runs.
func (p *Postgres) need(t testing.TB) {
	t.Helper()
	err := p.ensure()
	if errors.Is(err, errNoPostgres) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// URL is the server's own database, for a process that is to use the same server by
// [PostgresVariable]. Without PostgreSQL the test is skipped.
func (p *Postgres) URL(t testing.TB) string {
	t.Helper()
	p.need(t)
	return p.url.String()
}

// SQL runs statements as the server's first user, each in a transaction of its own.
func (p *Postgres) SQL(statements ...string) error {
	args := []string{"--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"}
	for _, s := range statements {
		args = append(args, "--command="+s)
	}
	out, err := p.command("psql", append(args, p.url.String())...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("psql: %w: %s", err, out)
	}
	return nil
}

// Stop ends the server, if it was started, and removes its files.
func (p *Postgres) Stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server == nil {
		return nil
	}
	err := p.life.Close()
	_ = p.server.Wait() // the shell's status is that of the signal
	p.server = nil
	return errors.Join(err, os.RemoveAll(p.dir))
}

func (p *Postgres) start() error {
	if given := os.Getenv(PostgresVariable); given != "" {
		u, err := url.Parse(given)
		if err != nil {
			return fmt.Errorf("read %s: %w", PostgresVariable, err)
		}
		p.url = *u
		return nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return fmt.Errorf("find PostgreSQL: %w", err)
	}
	if path, err := exec.LookPath("initdb"); err == nil && len(found) == 0 {
		found = append(found, path)
	}
	if len(found) == 0 {
		return errNoPostgres
	}
	slices.Sort(found)
	p.programs = filepath.Dir(found[len(found)-1])
	if p.dir, err = os.MkdirTemp("", "bulkhead-postgres-"); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := p.own(); err != nil {
		return errors.Join(err, os.RemoveAll(p.dir))
	}
	p.url = url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/postgres", RawQuery: url.Values{"host": {p.dir}}.Encode()}
	data := filepath.Join(p.dir, "data")
	out, err := p.command("initdb", "--pgdata="+data, "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync").CombinedOutput()
	if err != nil {
		return errors.Join(fmt.Errorf("initdb: %w: %s", err, out), os.RemoveAll(p.dir))
	}
	if err := p.run(data); err != nil {
		return errors.Join(err, os.RemoveAll(p.dir))
	}
	return nil
}

// own makes the directory that of the user who runs the server, which must not be root.
func (p *Postgres) own() error {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("start PostgreSQL as another user than root: %w", err)
	}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(errUID, errGID, os.Chown(p.dir, int(uid), int(gid))); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	p.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return nil
}

// run starts the server below a shell that stops it when this process ends in any way.
func (p *Postgres) run(data string) error {
	settings := []string{
		"-D", data, "-c", "listen_addresses=", "-c", "unix_socket_directories=" + p.dir, "-c", "max_connections=400",
		"-c", "shared_buffers=64MB", "-c", "max_wal_size=4GB",
	}
	if p.Commits == Fast {
		settings = append(settings, "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off", "-c", "autovacuum=off")
	}
	script := `"$@" & read -r _; kill -QUIT $!; wait`
	p.server = p.command("/bin/sh", append([]string{"-c", script, "sh", filepath.Join(p.programs, "postgres")}, settings...)...)
	life, err := p.server.StdinPipe()
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	p.life = life
	file, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	defer file.Close()
	p.server.Stdout, p.server.Stderr = file, file
	if err := p.server.Start(); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	for until := time.Now().Add(startLimit); ; {
		err := p.command("pg_isready", "--quiet", "--timeout=1", "--host="+p.dir).Run()
		if err == nil {
			return nil
		}
		if time.Now().After(until) {
			text, _ := os.ReadFile(file.Name()) // the reason, if it gave one
			err = errors.Join(fmt.Errorf("start PostgreSQL: %w: %s", err, text), life.Close(), p.server.Wait())
			p.server = nil
			return err
		}
		pause := time.NewTimer(20 * time.Millisecond)
		<-pause.C
	}
}

func (p *Postgres) command(name string, args ...string) *exec.Cmd {
	if p.programs != "" && name[0] != '/' {
		name = filepath.Join(p.programs, name)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	if p.dir != "" {
		cmd.Dir = p.dir
	}
	if p.owner != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.owner}
	}
	return cmd
}
