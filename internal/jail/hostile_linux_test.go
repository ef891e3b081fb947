package jail

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestHostile puts a hostile program in the place of a worker and of a sandbox, with every layer the host offers and with
// the required ones alone, and asserts that nothing it tries succeeds.
func TestHostile(t *testing.T) {
	t.Parallel()
	for _, layers := range []struct {
		name    string
		without map[string]bool
	}{{"all-layers", nil}, {"required-layers", addedLayers()}} {
		for _, kind := range []Kind{KindWorker, KindSandbox} {
			t.Run(layers.name+"/"+kind.String(), func(t *testing.T) {
				t.Parallel()
				image := hostile(t, "")
				limits := Limits{Memory: testMemory, CPU: time.Second}
				tryAll(t, newSpawner(t, SpawnerConfig{
					Worker: image, Sandbox: image, WorkerLimits: limits, SandboxLimits: limits,
					MaxChildren: 16, GroupMemory: 1 << 30, without: layers.without,
				}), kind)
			})
		}
	}
}

func tryAll(t *testing.T, s *Spawner, k Kind) {
	c, err := greet(t, s, k)
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.ask("list")
	if err != nil {
		t.Fatal(err)
	}
	c.end()
	counts := map[string]int{}
	tries := strings.Split(list, "\t")
	for _, try := range tries {
		got := outcome(t, s, k, try, "")
		if breached(got) {
			counts["succeeded"]++
			t.Errorf("%s: %s", try, got)
			continue
		}
		if reason, ended := strings.CutPrefix(got, "ended "); ended {
			counts["ended by "+reason]++
			t.Logf("%s: %s", try, got)
			continue
		}
		counts["denied"]++
	}
	if len(tries) < 200 {
		t.Errorf("only %d tries are known", len(tries))
	}
	t.Logf("tried %d: succeeded %d, %v", len(tries), counts["succeeded"], counts)
}

// TestReasons asserts that the runner learns why a child ended.
func TestReasons(t *testing.T) {
	t.Parallel()
	image := hostile(t, "")
	s := newSpawner(t, SpawnerConfig{Sandbox: image, SandboxLimits: Limits{Memory: testMemory, CPU: time.Second}, MaxChildren: 16})
	for _, row := range []struct {
		try  string
		want []string
	}{
		{"bomb-heap", []string{"ended memory"}},
		{"bomb-string", []string{"ended memory"}},
		{"bomb-huge", []string{"ended memory"}},
		{"bomb-large", []string{"ended memory"}},
		{"bomb-map", []string{"ended memory"}},
		{"bomb-stack", []string{"ended memory"}},
		{"bomb-goroutines", []string{"ended memory"}},
		{"spin", []string{"ended cpu"}},
		{"spin-alloc", []string{"ended cpu"}},
		{"ptrace-parent", []string{"ended violation"}},
		{"mount", []string{"ended violation"}},
		{"exec", []string{"ended violation"}},
		{"bomb-threads", []string{"ended crash"}},
		{"open:/etc/passwd", []string{"denied operation not permitted"}},
	} {
		t.Run(row.try, func(t *testing.T) {
			t.Parallel()
			if got := outcome(t, s, KindSandbox, row.try, ""); !slices.Contains(row.want, got) {
				t.Errorf("got %q, want one of %q", got, row.want)
			}
		})
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	s := newSpawner(t, SpawnerConfig{Worker: hostile(t, ""), MaxChildren: 4})
	c, err := greet(t, s, KindWorker)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if got := c.end(); got.Reason != ReasonKilled {
		t.Errorf("got %+v, want killed", got)
	}
	if err := c.Kill(); err != nil {
		t.Errorf("kill again: %v", err)
	}
}

// TestKillOfTheDead kills a process that has died of something else and was not waited for: that stays the reason.
func TestKillOfTheDead(t *testing.T) {
	t.Parallel()
	s := newSpawner(t, SpawnerConfig{Worker: hostile(t, ""), MaxChildren: 4})
	c, err := greet(t, s, KindWorker)
	if err != nil {
		t.Fatal(err)
	}
	if c.pidfd == nil {
		t.Skip("the kernel gives no descriptor for a process")
	}
	if err := c.signal(c.PID); err != nil { // as anybody else would
		t.Fatal(err)
	}
	c.awaitReadable()
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if got := c.end(); got.Reason != ReasonCrash || got.Signal != syscall.SIGKILL {
		t.Errorf("got %+v, want a crash by a signal", got)
	}
}

func TestTooManyChildren(t *testing.T) {
	t.Parallel()
	s := newSpawner(t, SpawnerConfig{Worker: hostile(t, ""), MaxChildren: 2})
	for range 2 {
		if _, err := greet(t, s, KindWorker); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := greet(t, s, KindWorker); err == nil {
		t.Error("a third child started, want ErrTooMany")
	}
	if _, err := greet(t, s, KindSandbox); err == nil {
		t.Error("a child without an executable started")
	}
}

// TestContainer runs the hostile suite and the life-cycle tests once more under a filter like a container runtime's default
// and with such a container's capabilities, as root and as an ordinary user, to prove the required layers alone.
func TestContainer(t *testing.T) {
	t.Parallel()
	if os.Getenv(insideContainer) != "" {
		t.Skip("already inside")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to take capabilities away")
	}
	launcher := filepath.Join(t.TempDir(), "container")
	cmd := exec.Command("go", "build", "-o", launcher, "./container")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build launcher: %v\n%s", err, text)
	}
	image := filepath.Join(t.TempDir(), "hostile")
	if err := writeExecutable(image, hostile(t, "")); err != nil {
		t.Fatal(err)
	}
	openToAll(t, launcher)
	openToAll(t, image)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	openToAll(t, self)
	for _, uid := range []string{"0", "65534"} {
		t.Run("uid-"+uid, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(launcher, "-uid", uid, "--", self, "-test.v", "-test.run", "^(TestHostile|TestKill|TestReasons|TestRole|TestRunner|TestRunnerDies)$/^(all-layers|bomb-.*|spin|exec|own-uid|same-uid)$/^sandbox$")
			cmd.Env = append(os.Environ(), insideContainer+"="+image)
			text, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(text), "succeeded 0") {
				t.Fatalf("%v\n%s", err, text)
			}
			for _, line := range strings.Split(string(text), "\n") {
				if strings.Contains(line, "tried ") || strings.Contains(line, "missing: ") {
					t.Log(strings.TrimSpace(line))
				}
			}
			for _, layer := range []string{layerMount, layerNet, layerPID} {
				if !strings.Contains(string(text), "missing: "+layer) {
					t.Errorf("layer %s was not missing: the launcher took nothing away", layer)
				}
			}
		})
	}
}

func openToAll(t *testing.T, path string) {
	t.Helper()
	for dir := filepath.Dir(path); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
