package suite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bulkheadhq/bulkhead/internal/role"
	"github.com/bulkheadhq/bulkhead/internal/store"
)

// TestIdentitiesAreRenewed lets identities last seconds: the same processes serve on.
func TestIdentitiesAreRenewed(t *testing.T) {
	t.Parallel()
	needSystem(t)
	m := newMarks()
	w := newWorld(t, m)
	const life = 4 * time.Second
	s := startService(t, func(c *role.Config) { c.IdentityLife = life })
	_, i := s.deploy(crashFlows, nil, m.accounts(w.URL, closedPort(t)))
	// A request that is under way when an identity ends is repeated under its key: each that comes is let go.
	go func() {
		for {
			select {
			case h := <-w.held:
				close(h.release)
			case <-t.Context().Done():
				return
			}
		}
	}()
	before := fmt.Sprint(s.roles.Processes())
	began := time.Now()
	for time.Since(began) < 3*life {
		x := s.start(i, "effects", nil)
		if e := x.wait(); e.status != "completed" {
			t.Fatalf("after %v an execution is %s %s", time.Since(began), e.status, e.errorType)
		}
	}
	if after := fmt.Sprint(s.roles.Processes()); after != before {
		t.Errorf("processes were %s, are %s", before, after)
	}
	// While the vault is away every identity ends, as when the machine sleeps. Renewed late they are the same.
	at := slices.IndexFunc(s.processes(), func(p process) bool { return p.name == "vault" })
	vault := s.processes()[at].pid
	if err := syscall.Kill(vault, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-time.NewTimer(life + time.Second).C
	if err := syscall.Kill(vault, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		x := s.start(i, "effects", nil)
		if e := x.wait(); e.status != "completed" {
			t.Fatalf("after all identities ended an execution is %s %s", e.status, e.errorType)
		}
	}
	if after := fmt.Sprint(s.roles.Processes()); after != before {
		t.Errorf("processes were %s before all identities ended, are %s", before, after)
	}
}

// TestDrain stops a system while an execution is in the middle: it gets the time to finish,
// and nothing new is taken. An event that is being sent is answered.
func TestDrain(t *testing.T) {
	t.Parallel()
	needSystem(t)
	m := newMarks()
	w := newWorld(t, m)
	s := startService(t, func(c *role.Config) { c.Drain = patience })
	_, i := s.deploy(crashFlows, nil, m.accounts(w.URL, closedPort(t)))
	hook, err := s.HookURL(t.Context(), i, "effects")
	if err != nil {
		t.Fatal(err)
	}
	x := s.start(i, "effects", nil)
	held := w.hold()
	late := halfSent(t, hook)
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.stop() }()
	s.eventually("a refusal", func() bool {
		err := post(t.Context(), hook, map[string]any{})
		return err != nil && strings.Contains(err.Error(), "503")
	})
	select {
	case <-stopped:
		t.Error("the system did not wait for the execution")
	default:
	}
	close(held.release)
	s.eventually("the end of the socket", func() bool { // the server ends, the last but those that it needs
		_, err := os.Stat(filepath.Join(s.state(), "server", "api.sock"))
		return errors.Is(err, os.ErrNotExist)
	})
	if answer, err := late("}"); err != nil || answer.StatusCode != http.StatusAccepted {
		t.Errorf("an event that was being sent is answered with %+v, %v", answer, err)
	}
	<-stopped
	db, err := store.Open(context.Background(), store.Options{Dir: filepath.Join(s.state(), "server")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if row, err := db.Customer(t.Context(), s.customer).Execution(x.execution); err != nil || row.Status != store.Completed {
		t.Errorf("the execution is %+v, %v", row, err)
	}
}

// halfSent sends the first byte of an event. Its end is sent by what it returns, which waits for the answer.
func halfSent(t *testing.T, hook string) (end func(rest string) (*http.Response, error)) {
	t.Helper()
	to, err := url.Parse(hook)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", to.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	in := bufio.NewReader(conn)
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n", to.Path, to.Host)
	for _, want := range []string{"HTTP/1.1 100 Continue\r\n", "\r\n"} { // the server reads the body: it has taken the request
		if line, err := in.ReadString('\n'); err != nil || line != want {
			t.Fatalf("%q, %v", line, err)
		}
	}
	fmt.Fprint(conn, "{")
	return func(rest string) (*http.Response, error) {
		fmt.Fprint(conn, rest)
		a, err := http.ReadResponse(in, nil)
		if err != nil {
			return nil, err
		}
		return a, a.Body.Close()
	}
}

// TestKilledSupervisor leaves no process, and the next one goes on with the same state.
func TestKilledSupervisor(t *testing.T) {
	t.Parallel()
	needSystem(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "bulkhead-suite-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		cmd := exec.CommandContext(t.Context(), self, "bulkhead", "up", "--state", filepath.Join(dir, "state"), "--listen", "127.0.0.1:0")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, "http://127.0.0.1:") {
			t.Fatalf("bulkhead up says %q, %v", line, err)
		}
		roles := childrenOf(t, cmd.Process.Pid)
		if len(roles) < 5 {
			t.Errorf("it runs %d roles", len(roles))
		}
		if err := syscall.Kill(cmd.Process.Pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		end := time.Now().Add(patience)
		for _, pid := range roles {
			for {
				if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("role %d still runs", pid)
				}
				pause(t.Context(), 5*time.Millisecond)
			}
		}
	}
}
