package jail

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inside are the layers that a child puts in place itself, which its test build can leave out.
func inside() []string {
	return []string{
		layerSeccomp, layerLandlock, layerRlimits, layerThreads, layerWatchdog, layerDumpable, layerNoNewPriv, layerCaps,
	}
}

// TestTwins shows for each layer that it alone stops something: with only that layer in place the try fails, and with none
// the same try succeeds.
func TestTwins(t *testing.T) {
	t.Parallel()
	if !effective(unix.CAP_SYS_ADMIN) {
		t.Skip("needs root, to show what a host without namespaces would let happen")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	port := fmt.Sprint(listener.Addr().(*net.TCPAddr).Port)
	abstract := fmt.Sprintf("bulkhead-test-%d", os.Getpid())
	named, err := net.Listen("unix", "@"+abstract)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = named.Close() })
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	self := fmt.Sprint(os.Getpid())

	for _, row := range []struct {
		layer    string
		try      string
		argument string
		also     string // a layer that belongs to this one and comes and goes with it
		root     bool   // the child keeps root's uid, since a uid of its own would stop the try as well
		memory   int64  // of the group
	}{
		{layer: layerSeccomp, try: "socket:2"},
		{layer: layerSeccomp, try: "socket:1"},
		{layer: layerSeccomp, try: "socket:16"},
		{layer: layerSeccomp, try: "socketpair"},
		{layer: layerSeccomp, try: "open", argument: "/etc/passwd"},
		{layer: layerSeccomp, try: "fork"},
		{layer: layerSeccomp, try: "clone-user"},
		{layer: layerSeccomp, try: "unshare-files"},
		{layer: layerSeccomp, try: "memfd"},
		{layer: layerSeccomp, try: "map-exec"},
		{layer: layerSeccomp, try: "bomb-large"},
		{layer: layerSeccomp, try: "protect-exec"},
		{layer: layerSeccomp, try: "personality"},
		{layer: layerSeccomp, try: "kill-self"},
		{layer: layerSeccomp, try: "dumpable"},
		{layer: layerSeccomp, try: "keyctl"},
		{layer: layerSeccomp, try: "duplicate"},
		{layer: layerSeccomp, try: "inotify"},
		{layer: layerLandlock, try: "open", argument: "/etc/passwd"},
		{layer: layerLandlock, try: "open", argument: "/"},
		{layer: layerLandlock, try: "open", argument: "/proc/self/maps"},
		{layer: layerLandlock, try: "connect", argument: port},
		{layer: layerLandlock, try: "bind"},
		{layer: layerLandlock, try: "abstract", argument: abstract},
		{layer: layerLandlock, try: "kill", argument: self, root: true},
		{layer: layerRlimits, try: "bomb-files"},
		{layer: layerRlimits, try: "bomb-native"},
		{layer: layerRlimits, try: "spin"},
		{layer: layerThreads, try: "bomb-threads", also: layerRlimits},
		{layer: layerWatchdog, try: "bomb-heap"},
		{layer: layerWatchdog, try: "bomb-goroutines"},
		{layer: layerDumpable, try: "open", argument: "/proc/self/environ"},
		{layer: layerNoNewPriv, try: "exec-setuid"},
		{layer: layerCaps, try: "chroot", root: true},
		{layer: layerMount, try: "open", argument: "/etc/passwd"},
		{layer: layerPID, try: "kill", argument: self, root: true},
		{layer: layerNet, try: "connect", argument: port},
		{layer: layerNet, try: "abstract", argument: abstract},
		{layer: layerIPC, try: "shm-of", root: true},
		{layer: layerUTS, try: "get-hostname", argument: host},
		{layer: layerUID, try: "kill", argument: self},
		{layer: layerCgroup, try: "bomb-native", memory: 64 << 20},
		{layer: layerCgroup, try: "bomb-threads"},
	} {
		t.Run(row.layer+"/"+row.try, func(t *testing.T) {
			t.Parallel()
			argument := row.argument
			switch row.try {
			case "exec-setuid":
				argument = setuidProgram(t)
			case "shm-of":
				argument = sharedMemory(t)
			}
			run := func(with bool) string {
				off, without := inside(), addedLayers()
				without[layerNoNewPriv], without[layerCaps] = true, true
				if with {
					off = remove(remove(off, row.layer), row.also)
					delete(without, row.layer)
				}
				if needsNoNewPrivs(with, row.layer) {
					off = remove(off, layerNoNewPriv)
				}
				if !row.root {
					delete(without, layerUID)
				}
				if row.layer == layerUID && !with {
					without[layerUID] = true
				}
				s := newSpawner(t, SpawnerConfig{
					Sandbox: hostile(t, "redtwin"), SandboxLimits: Limits{Memory: testMemory, CPU: time.Second},
					MaxChildren: 2, GroupMemory: row.memory, without: without, args: []string{"off=" + strings.Join(off, ",")},
				})
				return outcome(t, s, KindSandbox, row.try, argument)
			}
			if got := run(true); breached(got) {
				t.Errorf("with %s alone: %s, want it stopped", row.layer, got)
			}
			if got := run(false); !breached(got) {
				t.Errorf("without %s: %s: another layer or the host stops this, so the try shows nothing", row.layer, got)
			}
		})
	}
}

// needsNoNewPrivs tells whether a layer cannot be put in place by an unprivileged process without no_new_privs.
func needsNoNewPrivs(with bool, layer string) bool {
	return with && (layer == layerSeccomp || layer == layerLandlock)
}

func remove(names []string, name string) []string {
	var out []string
	for _, each := range names {
		if each != name {
			out = append(out, each)
		}
	}
	return out
}

// setuidProgram is a program of root's with the setuid bit, which says whose uid it has.
func setuidProgram(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "setuid")
	if err := writeExecutable(path, hostile(t, "")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, os.ModeSetuid|0o755); err != nil {
		t.Fatal(err)
	}
	openToAll(t, path)
	return path
}

// sharedMemory makes a System V segment that processes of this uid can find, and returns its key.
func sharedMemory(t *testing.T) string {
	t.Helper()
	key := 0x1000000 + os.Getpid()
	id, err := unix.SysvShmGet(key, 4096, unix.IPC_CREAT|0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
	return fmt.Sprint(key)
}
