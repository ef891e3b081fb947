package jail

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// deadline is how long a try may take before its process is killed, as a runner would.
const deadline = 30 * time.Second

// testMemory is the budget of a hostile child; its bombs aim far beyond it.
const testMemory = 32 << 20

// program builds the hostile program once for each set of build tags.
type program struct {
	once  sync.Once
	image []byte
	err   error
}

// insideContainer is the variable that names the built program to tests that run inside TestContainer, where nothing can
// be built.
const insideContainer = "JAIL_TEST_HOSTILE"

func (p *program) build(tags string) ([]byte, error) {
	p.once.Do(func() {
		if path := os.Getenv(insideContainer); path != "" {
			p.image, p.err = os.ReadFile(path)
			return
		}
		dir, err := os.MkdirTemp("", "jail-test-")
		if err != nil {
			p.err = err
			return
		}
		defer func() { _ = os.RemoveAll(dir) }()
		out := filepath.Join(dir, "hostile")
		cmd := exec.Command("go", "build", "-tags", tags, "-ldflags=-s -w", "-o", out, "./hostile")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			p.err = fmt.Errorf("%w: %s", err, text)
			return
		}
		p.image, p.err = os.ReadFile(out)
	})
	return p.image, p.err
}

var programs = map[string]*program{"": {}, "redtwin": {}}

// hostile is the program that stands in a child's place; with the tag redtwin single layers of it can be switched off.
func hostile(t testing.TB, tags string) []byte {
	t.Helper()
	image, err := programs[tags].build(tags)
	if err != nil {
		t.Fatalf("build hostile program: %v", err)
	}
	return image
}

func newSpawner(t testing.TB, c SpawnerConfig) *Spawner {
	t.Helper()
	s, report, err := NewSpawner(c)
	if err != nil {
		t.Fatalf("NewSpawner: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close spawner: %v", err)
		}
	})
	for _, layer := range report.Missing() {
		t.Logf("missing: %s: %s", layer.Name, layer.Detail)
	}
	return s
}

// child is a started hostile program.
type child struct {
	*Process
	lines *bufio.Reader
}

// greet starts a child and waits for the line that it writes once it is locked down.
func greet(t testing.TB, s *Spawner, k Kind) (child, error) {
	t.Helper()
	p, err := s.Start(context.Background(), k)
	if err != nil {
		return child{}, err
	}
	c := child{p, bufio.NewReader(p.Conn)}
	if err := p.Conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatalf("set deadline: %v", err)
	}
	line, err := c.lines.ReadString('\n')
	if err != nil || line != "hello\n" {
		if !errors.Is(err, io.EOF) { // one that has ended tells why
			_ = p.Kill()
		}
		e := c.end()
		return child{}, fmt.Errorf("no hello but %q: %w, %+v%s", line, err, e, circumstances(s, k, e))
	}
	return c, nil
}

// circumstances says what is known about the group of a child that somebody else has killed: where it is, what runs there
// and how often the kernel has killed for memory.
func circumstances(s *Spawner, k Kind, e Exit) string {
	n := s.nests[k]
	if e.Reason != ReasonCrash || e.Signal != syscall.SIGKILL || n == nil || n.group == nil {
		return ""
	}
	var out strings.Builder
	for _, p := range n.group.parts {
		fmt.Fprintf(&out, "\n%s:", p.dir)
		for _, name := range []string{"cgroup.procs", "memory.oom_control", "memory.events", "memory.max_usage_in_bytes", "memory.peak", "pids.events"} {
			if text, err := os.ReadFile(filepath.Join(p.dir, name)); !errors.Is(err, fs.ErrNotExist) {
				fmt.Fprintf(&out, " %s %q %v;", name, text, err)
			}
		}
	}
	own, _ := os.ReadFile("/proc/self/cgroup")
	fmt.Fprintf(&out, "\nprocess %d is in %q", os.Getpid(), own)
	return out.String()
}

func (c child) end() Exit {
	_ = c.Conn.Close()
	return c.Wait()
}

func (c child) ask(line string) (string, error) {
	if _, err := io.WriteString(c.Conn, line+"\n"); err != nil {
		return "", err
	}
	answer, err := c.lines.ReadString('\n')
	return strings.TrimSuffix(answer, "\n"), err
}

// outcome is what became of a try: "breach …", "denied …", or "ended REASON".
func outcome(t testing.TB, s *Spawner, k Kind, try, argument string) string {
	t.Helper()
	c, err := greet(t, s, k)
	if err != nil {
		t.Fatalf("start child for %s: %v", try, err)
	}
	answer, err := c.ask("try " + try + " " + argument)
	if err == nil {
		c.end()
		return answer
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = c.Kill()
	}
	if e := c.end(); e.Reason != ReasonClean {
		t.Logf("%s: %+v%s", try, e, circumstances(s, k, e))
		return fmt.Sprintf("ended %s", e.Reason)
	}
	return "ended clean: " + err.Error()
}

// breached tells whether a try succeeded. A setuid program that runs without its owner's uid has gained nothing.
func breached(outcome string) bool {
	if uid, found := strings.CutPrefix(outcome, "uid "); found {
		return uid == "0"
	}
	return !strings.HasPrefix(outcome, "denied ") && (!strings.HasPrefix(outcome, "ended ") || outcome == "ended clean")
}

// addedLayers are those that a host may not offer, by name.
func addedLayers() map[string]bool {
	return map[string]bool{
		layerMount: true, layerNet: true, layerIPC: true, layerUTS: true, layerPID: true, layerUID: true, layerCgroup: true,
	}
}
