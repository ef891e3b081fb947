package role

import (
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// leftoverAge is how old a temporary state directory must be to be looked at: a younger one
// may not be locked yet.
const leftoverAge = time.Minute

// CleanLeftovers deletes the temporary state directories with a name like the pattern of
// filepath.Match, whose supervisors have ended without deleting them. It returns those that
// it deleted, and skips what it may not touch.
func CleanLeftovers(pattern string, now time.Time) []string {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return nil
	}
	var out []string
	for _, dir := range found {
		if abandoned(dir, now) && os.RemoveAll(dir) == nil {
			out = append(out, dir)
		}
	}
	return out
}

// abandoned reports whether a state directory is this user's, and no supervisor's any more.
func abandoned(dir string, now time.Time) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || now.Sub(info.ModTime()) < leftoverAge {
		return false
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return false
	}
	lock, err := os.Open(filepath.Join(dir, lockName)) // #nosec G304 -- below a directory of ours
	if err != nil {
		return false // no state directory
	}
	defer unlock(lock)
	return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}
