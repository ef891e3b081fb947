package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/testkit"
)

// settle is how long a platform rests before its memory is read.
const settle = 3 * time.Second

// released measures the program as it is shipped: how long its platform takes to serve, the
// memory of all its processes at rest, and one run of a flow from the start to the end.
func (b *bench) released(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "bulkhead-bench-")
	if err != nil {
		return fmt.Errorf("make state: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil { // #nosec G302 -- roles enter their own parts as their own users
		return fmt.Errorf("make state: %w", err)
	}
	if b.wants("start") || b.wants("rest") {
		for _, name := range []string{"start, first time", "start, again"} {
			if err := b.up(ctx, name, filepath.Join(dir, "state")); err != nil {
				return err
			}
		}
	}
	if !b.wants("run") {
		return nil
	}
	file := filepath.Join(dir, "accept.yaml")
	if err := os.WriteFile(file, []byte(acceptFile), 0o600); err != nil {
		return fmt.Errorf("write flow: %w", err)
	}
	began := time.Now()
	cmd := exec.CommandContext(ctx, b.set.binary, "run", file, "--input", "-") // #nosec G204 -- the program to be measured
	cmd.Stdin = strings.NewReader(`{"n": 1}`)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run a flow: %w: %s", err, out)
	}
	b.add(Figure{Name: "one run of a flow", Seconds: time.Since(began).Seconds()})
	return nil
}

// up starts the platform, lets it rest and stops it.
func (b *bench) up(ctx context.Context, name, state string) error {
	began := time.Now()
	cmd := exec.CommandContext(ctx, b.set.binary, "up", "--state", state, "--listen", "127.0.0.1:0") // #nosec G204 -- the program to be measured
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start platform: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start platform: %w", err)
	}
	lines := bufio.NewScanner(out)
	serves := false
	for !serves && lines.Scan() {
		serves = strings.HasPrefix(lines.Text(), "bulkhead serves")
	}
	f := Figure{Name: name, Seconds: time.Since(began).Seconds()}
	if serves {
		rest := time.NewTimer(settle)
		select {
		case <-rest.C:
		case <-ctx.Done():
		}
		f.Memory = memory{}
		tree(cmd.Process.Pid, f.Memory)
		b.add(f)
	}
	go func() {
		for lines.Scan() { // so that it is never held up
		}
	}()
	err = errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
	if !serves {
		return fmt.Errorf("the platform did not start: %w", err)
	}
	return err
}

// tree adds the memory of a process and everything below it.
func tree(pid int, to memory) {
	argv, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return
	}
	name, _, _ := strings.Cut(string(argv), "\x00")
	to[filepath.Base(name)] += proportional(pid)
	for _, list := range childrenOf(pid) {
		for _, child := range list {
			tree(child, to)
		}
	}
}

// startPostgres starts a server with synced commits and returns a database on it.
func startPostgres() (database string, stop func() error, err error) {
	server := &testkit.Postgres{Commits: testkit.Synced}
	if database, err = server.NewDatabase("bulkhead_bench_" + strconv.Itoa(os.Getpid())); err != nil {
		return "", nil, errors.Join(err, server.Stop())
	}
	u, err := url.Parse(database)
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("read address of database: %w", err), server.Stop())
	}
	// The server role connects as its own user to the socket in this directory.
	if dir := u.Query().Get("host"); filepath.IsAbs(dir) {
		if err := os.Chmod(dir, 0o711); err != nil { // #nosec G302 -- it can be passed through, not listed
			return "", nil, errors.Join(fmt.Errorf("open directory of database: %w", err), server.Stop())
		}
	}
	return database, server.Stop, nil
}
