//go:build amd64 || arm64

package jail

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"
)

// Trim gives back the memory that only the start of this process needed: unused heap, and
// the pages of its own executable, which come back from the file when they are used again. A
// role touches most of its executable once, and the runner copies its children's images out of
// it. Call it before [Lockdown], which takes away what it reads. An error means that some
// memory was kept, and nothing else.
func Trim() error {
	debug.FreeOSMemory()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("trim memory: %w", err)
	}
	var errs []error
	for _, m := range ownPages(maps) {
		if _, _, code := unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED); code != 0 {
			errs = append(errs, fmt.Errorf("trim memory: %w", code))
		}
	}
	return errors.Join(errs...)
}

// pages are a range of addresses.
type pages struct{ from, to uintptr }

// ownPages are the mappings of the executable, which is the first file in the list, that
// cannot be written to: what is in them is in the file.
func ownPages(maps []byte) (out []pages) {
	var own []byte
	for line := range bytes.Lines(maps) {
		f := bytes.Fields(line)
		if len(f) < 6 || f[5][0] != '/' {
			continue
		}
		if own == nil {
			own = f[5]
		}
		mode := string(f[1])
		from, to, ok := bytes.Cut(f[0], []byte("-"))
		if !ok || !bytes.Equal(f[5], own) || mode != "r--p" && mode != "r-xp" {
			continue
		}
		a, errA := strconv.ParseUint(string(from), 16, 64)
		b, errB := strconv.ParseUint(string(to), 16, 64)
		if errA == nil && errB == nil && a < b {
			out = append(out, pages{uintptr(a), uintptr(b)})
		}
	}
	return out
}
