//go:build linux

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// int80 makes a system call through the 32-bit entry, whose numbers mean other calls.
func int80(number uint32) int32

func archTries() map[string]try {
	return map[string]try{
		"32-bit-call": func(string) (string, error) {
			const getpid = 20
			result := int80(getpid)
			if result < 0 {
				return "", unix.Errno(-result)
			}
			return fmt.Sprintf("returned %d", result), nil
		},
		"io-ports":    call(unix.SYS_IOPL, 3),
		"local-table": call(unix.SYS_MODIFY_LDT, 0, 0, 0),
		"open-old":    call(unix.SYS_OPEN, "/", 0, 0),
		"creat":       call(unix.SYS_CREAT, "x", 0o600),
		"fork-old":    forkOld(unix.SYS_FORK),
		"vfork-old":   forkOld(unix.SYS_VFORK),
	}
}

func forkOld(number uintptr) try {
	return func(string) (string, error) {
		pid, _, errno := unix.RawSyscall(number, 0, 0, 0)
		if errno != 0 {
			return "", errno
		}
		if pid == 0 {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		return fmt.Sprintf("process %d", pid), nil
	}
}
