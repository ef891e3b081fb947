package role

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
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
