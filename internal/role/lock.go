package role

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Lock keeps platforms from starting in a state directory until release is called, and
// fails while one runs there. The directory is made when it does not exist.
func Lock(state string) (release func(), err error) {
	if err := os.MkdirAll(state, 0o711); err != nil { // #nosec G301 -- roles pass through it to their own parts
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(state, lockName), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errLocked
		}
		return nil, errors.Join(fmt.Errorf("lock state directory: %w", err), f.Close())
	}
	return func() { unlock(f) }, nil
}

// unlock gives a lock back, also when a process that is being started has inherited the file for a moment: closing ends the
// lock with the last of its descriptors only.
func unlock(lock *os.File) {
	_ = syscall.Flock(int(lock.Fd()), syscall.LOCK_UN)
	_ = lock.Close()
}
