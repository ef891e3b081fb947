package jail

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStarterThread asserts that a role is started from a thread that is not the process's first one and that ends with
// the role. The first thread's groups are those of the process, as /proc/self/cgroup shows them: were it in a role's group
// for the moment of the start, a spawner made in that moment would put its own group below, and the end of the role would
// be the end of that spawner's children. It is not parallel: it needs the first thread.
func TestStarterThread(t *testing.T) {
	program := filepath.Join(t.TempDir(), "whoami")
	if err := writeExecutable(program, hostile(t, "")); err != nil {
		t.Fatal(err)
	}
	first := threadName(os.Getpid())
	const marked = "0" // what enterThread writes, here as the name of the thread that it moves
	g := &group{parts: []part{{hierarchy: hierarchy{dir: "/proc/thread-self"}, join: "comm"}}}
	for range 5 {
		fromFirstThread(func() {
			done := make(chan struct{}) // closed when the process has been waited for
			pid, err := forkHeld(program, []string{"test", "whoami"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{}}, g, done)
			if err != nil {
				t.Error(err)
				return
			}
			starters := threadsNamed(marked)
			if len(starters) != 1 || starters[0] == os.Getpid() {
				t.Errorf("threads %d have started a role, want one that is not the first, %d", starters, os.Getpid())
			}
			if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
				t.Error(err)
			}
			close(done)
			for len(threadsNamed(marked)) > 0 && !t.Failed() { // the kernel takes a moment to end it
				runtime.Gosched()
			}
		})
		if t.Failed() {
			break
		}
	}
	if got := threadName(os.Getpid()); got != first {
		t.Errorf("the first thread's name is %q, was %q", got, first)
		_ = os.WriteFile(fmt.Sprintf("/proc/self/task/%d/comm", os.Getpid()), []byte(first), 0o600)
	}
}

// fromFirstThread calls f in a goroutine that runs on the process's first thread and is not bound to it, so that the next
// goroutine which begins is likely to run there too. Where that thread does not come free it is another one.
func fromFirstThread(f func()) {
	const enough = 100 // threads held back until the first one is the only one left
	release, found := make(chan struct{}), make(chan bool)
	defer close(release)
	for i := range enough {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if unix.Gettid() != unix.Getpid() && i < enough-1 {
				found <- false
				<-release
				return
			}
			runtime.UnlockOSThread()
			f()
			runtime.LockOSThread()
			found <- true
		}()
		if <-found {
			return
		}
	}
}

func threadName(id int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/comm", id))
	return strings.TrimSpace(string(text))
}

// threadsNamed are this process's threads of a name.
func threadsNamed(name string) (out []int) {
	files, _ := filepath.Glob("/proc/self/task/*")
	for _, file := range files {
		var id int
		if _, err := fmt.Sscan(filepath.Base(file), &id); err == nil && threadName(id) == name {
			out = append(out, id)
		}
	}
	return out
}
