package cli_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const waiting = `
bulkhead: 1
integration: waiting
flows:
  main:
    trigger: {manual: {}}
    steps:
      - {id: computed, code: "export default () => 1"}
      - {id: pause, wait: {for: PT1H}}
`

// descendants are the processes below one, from /proc.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	children := map[int][]int{}
	for _, file := range stats {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		rest := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		parent, _ := strconv.Atoi(rest[1])
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		children[parent] = append(children[parent], child)
	}
	list := slices.Clone(children[pid])
	for i := 0; i < len(list); i++ {
		list = append(list, children[list[i]]...)
	}
	return list
}

// TestInterrupt ends a run in the ways that people and systems do. Nothing may be left.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		group bool // as a terminal does: to every process of the group
		early bool // while it starts
		sig   syscall.Signal
	}{
		{"ctrl-c", true, false, syscall.SIGINT},
		{"interrupt", false, false, syscall.SIGINT},
		{"terminate", false, false, syscall.SIGTERM},
		{"ctrl-c at the start", true, true, syscall.SIGINT},
		{"kill", false, false, syscall.SIGKILL},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "int")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			file := filepath.Join(dir, "waiting.yaml")
			if err := errors.Join(os.Chmod(dir, 0o711), os.Mkdir(filepath.Join(dir, "t"), 0o711), os.WriteFile(file, []byte(waiting), 0o600)); err != nil {
				t.Fatal(err)
			}
			p := exec.Command(binary, "run", file)
			p.Env = append(os.Environ(), "TMPDIR="+filepath.Join(dir, "t"))
			p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			errs, err := p.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			lines := bufio.NewScanner(io.TeeReader(errs, &said))
			for !c.early && !strings.Contains(lines.Text(), "pause") && lines.Scan() {
			}
			handles := open(t, descendants(t, p.Process.Pid))
			if !c.early && len(handles) < 6 {
				t.Errorf("only %d processes run", len(handles))
			}
			to := p.Process.Pid
			if c.group {
				to = -to
			}
			began := time.Now()
			if err := syscall.Kill(to, c.sig); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(&said, errs)
			err = p.Wait()
			t.Logf("ended %v after %v: %v", c.sig, time.Since(began).Round(time.Millisecond), err)
			await(t, handles)
			if c.sig == syscall.SIGKILL {
				return // nobody is left to delete the state
			}
			if got := p.ProcessState.ExitCode(); got != 1 && !c.early || got == 0 {
				t.Errorf("exit status %d, want 1", got)
			}
			if text := said.String(); !c.early && (!strings.HasSuffix(text, "\nbulkhead: interrupted\n") || strings.Contains(text, "goroutine")) {
				t.Errorf("standard error:\n%s", text)
			}
			left, err := os.ReadDir(filepath.Join(dir, "t"))
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// open gets handles of processes, so that their end can be waited for.
func open(t *testing.T, pids []int) map[string]int {
	t.Helper()
	handles := map[string]int{}
	for _, pid := range pids {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			handles[fmt.Sprintf("%d %s", pid, strings.TrimSpace(string(name)))] = fd
		}
	}
	return handles
}

// await waits until every process has ended.
func await(t *testing.T, handles map[string]int) {
	t.Helper()
	for name, fd := range handles {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, int(patience/time.Millisecond))
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll(poll, int(patience/time.Millisecond))
		}
		if n == 0 || err != nil {
			t.Errorf("process %s still runs (%v)", name, err)
		}
		_ = unix.Close(fd)
	}
}
