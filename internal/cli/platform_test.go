package cli_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"
)

// platformProcess is a platform with the sample, started as people do.
type platformProcess struct {
	cmd       *exec.Cmd
	said      strings.Builder // standard output
	rest      *bufio.Reader
	url, hook string
	harbour   string // the sample provider
	errs      strings.Builder
}

// startPlatform starts a platform with the sample and returns when it can be tried.
func startPlatform(t *testing.T, state string) *platformProcess {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // it is stopped in order at the end
	t.Cleanup(cancel)
	p := &platformProcess{cmd: exec.CommandContext(ctx, binary, "up", "--sample", "--state", state, "--listen", "127.0.0.1:0", "--drain", "5s")}
	p.cmd.Stderr = &p.errs
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.rest = bufio.NewReader(out)
	for !strings.Contains(p.said.String(), "the next start goes on") {
		line, err := p.rest.ReadString('\n')
		p.said.WriteString(line)
		if err != nil {
			_ = p.cmd.Wait()
			t.Fatalf("up ends:\n%s%s", p.said.String(), p.errs.String())
		}
	}
	p.url = regexp.MustCompile(`serves at (\S+)`).FindStringSubmatch(p.said.String())[1]
	p.hook = regexp.MustCompile(`(?m)^http://\S+/hooks/\S+$`).FindString(p.said.String())
	p.harbour = regexp.MustCompile(`Harbour, .* is at (\S+): `).FindStringSubmatch(p.said.String())[1]
	for _, line := range strings.Split(p.said.String(), "\n") {
		if utf8.RuneCountInString(line) > 80 && line != p.hook && !strings.Contains(line, state) && !strings.Contains(line, "WARNING") {
			t.Errorf("more than 80 columns: %s", line)
		}
	}
	return p
}

// stop interrupts the platform and waits for its end.
func (p *platformProcess) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(p.rest)
	p.said.Write(rest)
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("up: %v\n%s", err, p.errs.String())
	}
	if !strings.Contains(p.errs.String(), "Stopped.") {
		t.Errorf("up does not say that it stopped:\n%s", p.errs.String())
	}
}

// command runs a command for the platform of a state directory and returns what it prints.
func command(t *testing.T, state string, args ...string) string {
	t.Helper()
	var errs strings.Builder
	c := exec.CommandContext(t.Context(), binary, append(args, "--state", state)...)
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("bulkhead %s: %v\n%s%s", strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}

// TestPlatform starts one platform with the sample, drives every command over it, and
// starts it again: nothing is there twice, and the sample goes on.
func TestPlatform(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for at := dir; len(at) > len(os.TempDir()); at = filepath.Dir(at) { // roles pass through
		if err := os.Chmod(at, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	state := filepath.Join(dir, "state")
	p := startPlatform(t, state)
	token, err := os.ReadFile(filepath.Join(state, "server", "first-token"))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("scripts", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir: "testdata/platform",
			Setup: func(e *testscript.Env) error {
				if err := setUp(e); err != nil {
					return err
				}
				e.Setenv("BULKHEAD_STATE", state)
				e.Setenv("URL", p.url)
				e.Setenv("TOKEN", strings.TrimSpace(string(token)))
				e.Setenv("HOOK", p.hook)
				e.Setenv("HARBOUR", p.harbour)
				return nil
			},
			Cmds: map[string]func(*testscript.TestScript, bool, []string){
				"bulkhead": bulkhead, "exits": exits, "jsonlines": jsonLines, "lacks": lacks, "field": field, "post": postTo, "consent": consent, "eventually": eventually,
			},
		})
	})
	t.Run("tour", func(t *testing.T) { takeTour(t, p, state) })
	before := strings.Count(command(t, state, "instances", "--integration", "order-to-erp", "--json"), "\n")
	p.stop(t)
	p = startPlatform(t, state)
	if after := strings.Count(command(t, state, "instances", "--integration", "order-to-erp", "--json"), "\n"); before != 2 || after != 2 {
		t.Errorf("instances of the sample: %d, after another start %d, want 2", before, after)
	}
	if n := strings.Count(command(t, state, "connections", "--customer", "acme", "--json"), "\n"); n != 2 {
		t.Errorf("%d connections of acme, want 2", n)
	}
	if status, _, text := post(t, p.hook, `{"id":"4711"}`); status != http.StatusAccepted {
		t.Errorf("the printed webhook answers %d %s", status, text)
	}
	for strings.Count(p.said.String(), "The ERP booked NW-") < 3 {
		line, err := p.rest.ReadString('\n')
		p.said.WriteString(line)
		if err != nil {
			t.Fatalf("the ERP did not book three lines:\n%s%s", p.said.String(), p.errs.String())
		}
	}
	p.stop(t)
}

// eventually PATTERN bulkhead ARGUMENT… repeats a command until its standard output matches.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || args[1] != "bulkhead" {
		ts.Fatalf("usage: eventually PATTERN bulkhead ARGUMENT…")
	}
	want := regexp.MustCompile(args[0])
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		ts.Check(ts.Exec(binary, args[2:]...))
		if want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("no line matches %s", args[0])
		}
	}
}

// field NAME KEY sets a variable to a text of the first JSON line that was printed.
func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: field NAME KEY")
	}
	line, _, _ := strings.Cut(ts.ReadFile("stdout"), "\n")
	var m map[string]any
	if err := json.Unmarshal([]byte(line), &m); err != nil || m[args[1]] == nil {
		ts.Fatalf("no field %s: %v\n%s", args[1], err, line)
	}
	ts.Setenv(args[0], fmt.Sprint(m[args[1]]))
}

// postTo URL BODY posts JSON as the sender of a webhook does.
func postTo(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: post URL BODY")
	}
	a, err := http.Post(args[0], "application/json", strings.NewReader(args[1])) //nolint:gosec,noctx // of this test
	ts.Check(err)
	defer a.Body.Close()
	if ok := a.StatusCode == http.StatusAccepted; ok == neg {
		ts.Fatalf("the webhook answers %s", a.Status)
	}
}
