package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const crashing = `
bulkhead: 1
integration: crashing
flows:
  code:
    trigger: {manual: {}}
    steps:
      - {id: first, set: 1}
      - id: spin
        timeout: PT30S
        code: |
          export default () => { for (;;) {} };
  nap:
    trigger: {manual: {}}
    steps:
      - {id: first, code: "export default () => 'before'"}
      - {id: nap, wait: {for: PT2S}}
      - {id: done, return: "${{ steps.first }} and after"}
`

// TestCrash kills the processes that do the work while they do it, as the kernel does
// when memory runs out. A worker's execution goes on in another one; a sandbox is a fault
// of its step.
func TestCrash(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "crashing.yaml")
	if err := os.WriteFile(file, []byte(crashing), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flow, until, victim string
		status              int
		stdout, stderr      string
	}{
		{"code", "✓ first", "bulkhead-sandbo", 1, "", `{"error":{"type":"code",`},
		{"nap", "✓ first", "bulkhead-worker", 0, "\"before and after\"\n", "✓ nap"},
	} {
		t.Run(c.flow, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			p := exec.CommandContext(ctx, binary, "run", file, "--flow", c.flow)
			var out, said bytes.Buffer
			p.Stdout = &out
			errs, err := p.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(io.TeeReader(errs, &said))
			for lines.Scan() && !strings.Contains(lines.Text(), c.until) {
			}
			victims := named(t, p.Process.Pid, c.victim)
			if c.flow == "code" {
				victims = busy(ctx, t, p.Process.Pid, c.victim)
			}
			if len(victims) == 0 {
				t.Errorf("no %s runs", c.victim)
			}
			for _, pid := range victims {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
			}
			_, _ = io.Copy(&said, errs)
			_ = p.Wait()
			text := said.String()
			if got := p.ProcessState.ExitCode(); got != c.status || out.String() != c.stdout || !strings.Contains(text, c.stderr) {
				t.Errorf("exit status %d, output %q\n%s", got, out.String(), text)
			}
			if strings.Contains(text, "goroutine") || strings.Contains(text, "panic") {
				t.Errorf("a stack trace is shown:\n%s", text)
			}
		})
	}
}

// named are the processes of a name below one.
func named(t *testing.T, pid int, name string) []int {
	t.Helper()
	var list []int
	for _, p := range descendants(t, pid) {
		if got, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p)); strings.TrimSpace(string(got)) == name {
			list = append(list, p)
		}
	}
	return list
}

// busy waits for a process of a name that has used a tenth of a second of a processor.
func busy(ctx context.Context, t *testing.T, pid int, name string) []int {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, p := range named(t, pid, name) {
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
			fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
			if len(fields) < 12 {
				continue
			}
			if ticks, err := strconv.Atoi(fields[11]); err == nil && ticks >= 10 { // user time, of 100 a second
				return []int{p}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
