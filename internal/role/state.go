package role

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const (
	// stateFormat is the version of the state directory that this release writes and reads.
	stateFormat = "bulkhead state 1\n"
	formatName  = "format"
	lockName    = "lock"
	devName     = "made-with-dev"
)

// Errors about the state directory. Their texts say what to do.
var (
	errLocked   = errors.New("another bulkhead uses this state directory: stop it first, or choose another directory with --state")
	errFormat   = errors.New("this state directory was written by another release: use that release, or another directory with --state")
	errForeign  = errors.New("the state directory belongs to another user: run as that user, or choose another directory with --state")
	errWritable = errors.New("others may write to the state directory, and put something in the place of what is in it: take that away (chmod go-w), or choose another directory with --state")
	errDevMade  = errors.New("this state directory was made with --dev and is not for production: choose another with --state, or start with --dev")
	errNotDev   = errors.New("this state directory is for production, not for --dev: choose another with --state, or start without --dev")
	errDevOnly  = errors.New("with --dev only this machine may be served: give --listen a loopback address such as 127.0.0.1:8080")
)

// stateDir is a state directory that this process alone uses.
type stateDir struct{ lock *os.File }

// openState makes or checks the state directory and locks it. The lock ends with the
// process, however it ends.
func openState(cfg *Config) (_ *stateDir, err error) {
	fail := func(err error) error { return fmt.Errorf("open state directory %s: %w", cfg.State, err) }
	// Roles pass through it to their own parts, which nobody else may enter.
	if err := os.MkdirAll(cfg.State, 0o711); err != nil { // #nosec G301 -- it can be passed through, not listed
		return nil, fail(err)
	}
	info, err := os.Stat(cfg.State)
	if err != nil {
		return nil, fail(err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return nil, fail(errForeign)
	}
	if err := checkMode(cfg.State, info); err != nil {
		return nil, fail(err)
	}
	s := &stateDir{}
	if s.lock, err = os.OpenFile(filepath.Join(cfg.State, lockName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fail(err)
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errLocked
		}
		return nil, fail(err)
	}
	if err := markState(cfg); err != nil {
		return nil, fail(err)
	}
	return s, nil
}

// checkMode refuses a state directory in which others may put something in the place of what
// is there, or in whose place they may put another. Nobody else may list it either.
func checkMode(dir string, info fs.FileInfo) error {
	if info.Mode().Perm()&0o022 != 0 {
		return errWritable
	}
	if info.Mode().Perm()&0o044 != 0 {
		if err := os.Chmod(dir, info.Mode().Perm()&^0o044); err != nil {
			return err
		}
	}
	above, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	for above != filepath.Dir(above) {
		above = filepath.Dir(above)
		up, err := os.Stat(above)
		if err != nil {
			return err
		}
		if up.Mode().Perm()&0o022 != 0 && up.Mode()&fs.ModeSticky == 0 {
			return fmt.Errorf("%w: it is below %s, which is such a directory", errWritable, above)
		}
	}
	return nil
}

// markState writes what a new directory is, or checks what an old one was.
func markState(cfg *Config) error {
	format, dev := filepath.Join(cfg.State, formatName), filepath.Join(cfg.State, devName)
	b, err := os.ReadFile(format) // #nosec G304 -- the operator names the directory
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if cfg.Dev {
			if err := os.WriteFile(dev, nil, 0o600); err != nil {
				return err
			}
		}
		return os.WriteFile(format, []byte(stateFormat), 0o600)
	case err != nil:
		return err
	case string(b) != stateFormat:
		return errFormat
	}
	_, err = os.Stat(dev)
	switch made := err == nil; {
	case made && !cfg.Dev:
		return errDevMade
	case !made && cfg.Dev:
		return errNotDev
	}
	return nil
}

// close lets others use the directory.
func (s *stateDir) close() {
	if s != nil {
		unlock(s.lock)
	}
}

// checkDev refuses to serve other machines with Dev.
func checkDev(cfg *Config) error {
	if !cfg.Dev {
		return nil
	}
	if !loopbackHost(hostOf(cfg.Listen)) {
		return errDevOnly
	}
	return nil
}
