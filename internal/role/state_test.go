package role

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestStateDirectory(t *testing.T) {
	t.Parallel()
	cfg := &Config{State: filepath.Join(t.TempDir(), "state")}
	first, err := openState(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openState(cfg); !errors.Is(err, errLocked) {
		t.Errorf("a second supervisor: %v", err)
	}
	first.close()
	again, err := openState(cfg)
	if err != nil {
		t.Fatalf("after the first ended: %v", err)
	}
	again.close()
	if _, err := openState(&Config{State: cfg.State, Dev: true}); !errors.Is(err, errNotDev) {
		t.Errorf("a production directory with --dev: %v", err)
	}
	if err := os.WriteFile(filepath.Join(cfg.State, formatName), []byte("bulkhead state 999\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openState(cfg); !errors.Is(err, errFormat) {
		t.Errorf("another release's: %v", err)
	}
}

func TestDevIsMarkedAndLocal(t *testing.T) {
	t.Parallel()
	cfg := &Config{State: filepath.Join(t.TempDir(), "state"), Dev: true}
	s, err := openState(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.close()
	if _, err := openState(&Config{State: cfg.State}); !errors.Is(err, errDevMade) {
		t.Errorf("production on a dev directory: %v", err)
	}
	if s, err = openState(cfg); err != nil {
		t.Errorf("dev again: %v", err)
	}
	s.close()
	for listen, want := range map[string]bool{
		"127.0.0.1:0": true, "localhost:80": true, "[::1]:80": true, "127.9.9.9:1": true,
		":80": false, "0.0.0.0:80": false, "[::]:80": false, "192.0.2.1:80": false, "example.com:80": false, "": false,
	} {
		if err := checkDev(&Config{Dev: true, Listen: listen}); (err == nil) != want {
			t.Errorf("--dev on %q: %v", listen, err)
		}
		if err := checkDev(&Config{Listen: listen}); err != nil {
			t.Errorf("without --dev on %q: %v", listen, err)
		}
	}
}

// TestLeftovers deletes what a killed supervisor left, and nothing that is in use, young
// or something else.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	make := func(name string) (string, *stateDir) {
		dir := filepath.Join(base, name)
		s, err := openState(&Config{State: dir})
		if err != nil {
			t.Fatal(err)
		}
		return dir, s
	}
	dead, closed := make("x-dead")
	closed.close()
	used, held := make("x-used")
	defer held.close()
	other := filepath.Join(base, "x-other")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := CleanLeftovers(filepath.Join(base, "x-*"), time.Now()); got != nil {
		t.Errorf("deleted young ones: %v", got)
	}
	if got := CleanLeftovers(filepath.Join(base, "x-*"), time.Now().Add(time.Hour)); len(got) != 1 || got[0] != dead {
		t.Errorf("deleted %v, want %s", got, dead)
	}
	for _, dir := range []string{used, other} {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}

// Whoever may write where the state is could put another keystore or socket in its place.
func TestAStateDirectoryOfOthersIsRefused(t *testing.T) {
	t.Parallel()
	open := func(mode, above os.FileMode) (string, error) {
		t.Helper()
		parent := filepath.Join(t.TempDir(), "parent")
		dir := filepath.Join(parent, "state")
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, mode), os.Chmod(parent, above)); err != nil {
			t.Fatal(err)
		}
		s, err := openState(&Config{State: dir})
		if err == nil {
			s.close()
		}
		return dir, err
	}
	for _, c := range []struct {
		mode, above os.FileMode
		refused     bool
	}{
		{0o711, 0o755, false},
		{0o700, 0o711, false},
		{0o755, 0o755, false},
		{0o711, 0o777 | os.ModeSticky, false},
		{0o720, 0o755, true},
		{0o702, 0o755, true},
		{0o777, 0o755, true},
		{0o711, 0o777, true},
		{0o711, 0o775, true},
	} {
		dir, err := open(c.mode, c.above)
		if errors.Is(err, errWritable) != c.refused || (err != nil) != c.refused {
			t.Errorf("%v below %v: %v", c.mode, c.above, err)
		}
		if info, err := os.Stat(dir); !c.refused && (err != nil || info.Mode().Perm()&0o066 != 0) {
			t.Errorf("%v below %v: it is %v then, %v", c.mode, c.above, info.Mode(), err)
		}
	}
}

func TestAPrivateSocketIsPrivateFromTheFirstMoment(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "s") // short: the path of a socket has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "own.sock")
	for range 2 { // what a dead process left behind is in nobody's way
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, ".new"), 0o777), os.WriteFile(filepath.Join(dir, ".new", "s"), nil, 0o666)); err != nil {
			t.Fatal(err)
		}
		l, err := listenPrivate(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the socket: %v, %v", info.Mode(), err)
		}
		if _, err := os.Stat(filepath.Join(dir, ".new")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the directory that it was made in: %v", err)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.Close(), l.Close()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket after its end: %v", err)
		}
	}
}
