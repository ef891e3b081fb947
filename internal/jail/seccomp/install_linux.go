//go:build amd64 || arm64

package seccomp

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	setModeFilter  = 1 // SECCOMP_SET_MODE_FILTER
	getActionAvail = 2 // SECCOMP_GET_ACTION_AVAIL
	flagThreadSync = 1 // SECCOMP_FILTER_FLAG_TSYNC
)

// Available tells whether this kernel can enforce the filters of this package. The error says what is missing.
func Available() error {
	action := uint32(KillProcess)
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, getActionAvail, 0, uintptr(unsafe.Pointer(&action)))
	if errno != 0 {
		return fmt.Errorf("ask the kernel for seccomp: %w", errno)
	}
	return nil
}

// Install puts the filter on every thread of the process, for good and for every process started later. The calling
// process needs no_new_privs or CAP_SYS_ADMIN. On error nothing has changed.
func (f Filter) Install() error {
	program, err := f.Program(nativeArch, nativeForeign)
	if err != nil {
		return err
	}
	prog := unix.SockFprog{
		Len:    uint16(len(program)),
		Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(program))),
	}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, setModeFilter, flagThreadSync, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return fmt.Errorf("install seccomp filter: %w", errno)
	}
	if thread != 0 {
		return fmt.Errorf("install seccomp filter: thread %d cannot take part", thread)
	}
	return nil
}
