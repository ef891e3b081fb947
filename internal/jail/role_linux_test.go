package jail

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startRole starts the hostile program as a role and waits until it is locked down.
func startRole(t *testing.T, c RoleStart) (child, Report) {
	t.Helper()
	return startRoleOf(t, hostile(t, ""), c)
}

func startRoleOf(t *testing.T, image []byte, c RoleStart) (child, Report) {
	t.Helper()
	c.program = filepath.Join(t.TempDir(), "role")
	if err := writeExecutable(c.program, image); err != nil {
		t.Fatal(err)
	}
	openToAll(t, c.program)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Name, c.Stderr = "test", write
	p, report, err := StartRole(c)
	_ = write.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Kill()
		_ = p.Conn.Close()
		p.Wait()
		_ = read.Close()
	})
	r := child{p, bufio.NewReader(p.Conn)}
	if err := p.Conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	if line, err := r.lines.ReadString('\n'); err != nil || line != "hello\n" {
		said := make([]byte, 4096)
		n, _ := read.Read(said)
		t.Fatalf("no hello but %q, %v, %s", line, err, said[:n])
	}
	return r, report
}

const roleUID = DefaultFirstUID - 1

// status reads fields of a process's status file.
func status(t *testing.T, pid int, name string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if value, found := strings.CutPrefix(line, name+":"); found {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	return ""
}

// TestRole asserts that a role keeps what its profile names and nothing else.
func TestRole(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	open, closed := listen(t), listen(t)
	for _, path := range []string{filepath.Join(dir, "data"), filepath.Join(outside, "data")} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o666); err != nil {
			t.Fatal(err)
		}
		openToAll(t, path)
	}
	args := []string{"role", "rw=" + dir, "connect=" + open}
	r, _ := startRole(t, RoleStart{Args: args, UID: roleUID, GID: roleUID})
	for field, want := range map[string]string{"Seccomp": "2", "NoNewPrivs": "1", "CapEff": "0000000000000000", "CapPrm": "0000000000000000"} {
		if got := status(t, r.PID, field); got != want {
			t.Errorf("%s is %s, want %s", field, got, want)
		}
	}
	if want := fmt.Sprint(roleUID); os.Geteuid() == 0 && !strings.HasPrefix(status(t, r.PID, "Uid"), want) {
		t.Errorf("uid is %s, want %s", status(t, r.PID, "Uid"), want)
	}
	for _, row := range []struct {
		try, argument, want string
	}{
		{"open", filepath.Join(dir, "data"), "breach"},
		{"write-file", filepath.Join(dir, "data"), "breach"},
		{"connect", open, "breach"},
		{"bomb-threads", "", "breach"},
		{"open", filepath.Join(outside, "data"), "denied permission denied"},
		{"open", filepath.Join(dir, "..", filepath.Base(outside), "data"), "denied permission denied"},
		{"open", "/etc/passwd", "denied permission denied"},
		{"open", "/proc/self/environ", "denied permission denied"},
		{"open", "/proc/1/environ", "denied permission denied"},
		{"connect", closed, "denied permission denied"},
		{"bind", "", "denied permission denied"},
		{"socket:1", "", "denied operation not permitted"},
		{"socket:16", "", "denied operation not permitted"},
		{"socket:17", "", "denied operation not permitted"},
		{"socket:40", "", "denied operation not permitted"},
		{"fork", "", "denied operation not permitted"},
		{"clone-user", "", "denied operation not permitted"},
		{"clone3", "", "denied function not implemented"},
		{"kill", fmt.Sprint(os.Getpid()), "denied operation not permitted"},
		{"kill-all", "", "denied operation not permitted"},
		{"map-exec", "", "denied operation not permitted"},
		{"protect-exec", "", "denied operation not permitted"},
		{"dumpable", "", "denied operation not permitted"},
		{"setuid", "", "denied operation not permitted"},
		{"terminal-input", "", "denied operation not permitted"},
		{"shm-get", "", "denied operation not permitted"},
	} {
		got, err := r.ask("try " + row.try + " " + row.argument)
		if err != nil {
			t.Fatalf("%s %s: %v", row.try, row.argument, err)
		}
		if !strings.HasPrefix(got, row.want) {
			t.Errorf("%s %s: got %q, want %q", row.try, row.argument, got, row.want)
		}
	}
}

// TestRoleTwins shows that what TestRole finds denied is allowed without the layer that denies it.
func TestRoleTwins(t *testing.T) {
	t.Parallel()
	port := listen(t)
	for _, row := range []struct{ layer, try, argument string }{
		{layerSeccomp, "fork", ""},
		{layerSeccomp, "socket:1", ""},
		{layerSeccomp, "socket:16", ""},
		{layerSeccomp, "map-exec", ""},
		{layerSeccomp, "dumpable", ""},
		{layerSeccomp, "memfd", ""},
		{layerLandlock, "open", "/etc/passwd"},
		{layerLandlock, "connect", port},
		{layerLandlock, "bind", ""},
	} {
		t.Run(row.layer+"/"+row.try, func(t *testing.T) {
			t.Parallel()
			r, _ := startRoleOf(t, hostile(t, "redtwin"), RoleStart{Args: []string{"role", "off=" + row.layer}, UID: roleUID})
			got, err := r.ask("try " + row.try + " " + row.argument)
			if err != nil || !breached(got) {
				t.Errorf("without %s: got %q, %v: something else stops this", row.layer, got, err)
			}
		})
	}
}

// TestRoleEnds asserts that what no role does ends it.
func TestRoleEnds(t *testing.T) {
	t.Parallel()
	for _, try := range []string{"exec-shell", "memfd", "ptrace-parent", "mount", "unshare-user", "io-uring-setup", "bpf-load", "keyctl", "process-read"} {
		t.Run(try, func(t *testing.T) {
			t.Parallel()
			r, _ := startRole(t, RoleStart{Args: []string{"role", "any"}, UID: roleUID})
			if answer, err := r.ask("try " + try); err == nil {
				t.Fatalf("got %q, want an end", answer)
			}
			if got := r.end().Reason; got != ReasonViolation {
				t.Errorf("ended by %s, want a violation", got)
			}
		})
	}
}

// TestRunner asserts that a locked-down runner in a user namespace of its own starts children with every layer, from a
// supervisor that is root and from one that is not.
func TestRunner(t *testing.T) {
	t.Parallel()
	for name, uid := range map[string]uint32{"own-uid": roleUID, "same-uid": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, report := startRole(t, RoleStart{Args: []string{"role", "children"}, UID: uid, GID: uid, Children: true, MaxChildren: 16})
			user, _ := report.Layer(layerUser)
			if user.State != StateOn && os.Getenv(insideContainer) == "" {
				t.Errorf("no user namespaces here: %s", user.Detail)
			}
			for try, want := range map[string]string{
				"open:/etc/passwd": "breach denied operation not permitted; clean; unseen",
				"fork":             "breach denied operation not permitted; clean; unseen",
				"mount":            "breach ended; violation; unseen",
				"exec":             "breach ended; violation; unseen",
			} {
				got, err := r.ask("try child " + try)
				if err != nil {
					t.Fatalf("%s: %v: %+v", try, err, r.end())
				}
				if got != want {
					t.Errorf("child tries %s: got %q, want %q", try, got, want)
				}
			}
			if missing, err := r.ask("try layers"); uid != 0 && os.Getenv(insideContainer) == "" && missing != "breach " {
				t.Errorf("layers missing for the runner's children: %s, %v", missing, err)
			}
			if ended, err := r.ask("try end-child"); err != nil || ended != "breach killed" {
				t.Errorf("a locked-down runner ends a child: %q, %v", ended, err)
			}
			got, err := r.ask("try open /etc/passwd")
			if err != nil || got != "denied permission denied" {
				t.Errorf("runner opens a file: got %q, %v", got, err)
			}
			// Capabilities inside a user namespace of its own, or none.
			want := uint64(spawnCapabilities)
			if user.State != StateOn {
				want = 0
			}
			if got := status(t, r.PID, "CapEff"); uid != 0 && got != fmt.Sprintf("%016x", want) {
				t.Errorf("runner's capabilities are %s, want %016x", got, want)
			}
		})
	}
}

// TestRunnerDies asserts that children do not outlive their runner.
func TestRunnerDies(t *testing.T) {
	t.Parallel()
	r, _ := startRole(t, RoleStart{Args: []string{"role", "children"}, UID: roleUID, Children: true, MaxChildren: 4})
	answer, err := r.ask("try stay")
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscanf(answer, "breach process %d", &pid); err != nil {
		t.Fatalf("%v in %q", err, answer)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(ended, 0); n != 0 || err != nil {
		t.Fatalf("the child has ended already: %d, %v", n, err)
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	r.Wait()
	if n, err := unix.Poll(ended, int(deadline.Milliseconds())); n != 1 || err != nil {
		t.Errorf("the child outlives its runner: %d, %v", n, err)
	}
}

func listen(t *testing.T) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}
