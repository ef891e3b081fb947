//go:build linux && (amd64 || arm64)

package main

import (
	"fmt"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fork clones with flags; the copy, should there be one, ends at once.
func fork(flags uintptr) try {
	return func(string) (string, error) {
		pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, flags, 0, 0, 0, 0, 0)
		if errno != 0 {
			return "", errno
		}
		if pid == 0 {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		return fmt.Sprintf("process %d", pid), nil
	}
}

func signal(target, number int) try {
	return func(string) (string, error) { return "", unix.Kill(target, unix.Signal(number)) }
}

func processTries() map[string]try {
	child := uintptr(unix.SIGCHLD)
	argv := arguments("/bulkhead-worker")
	argvp := unsafe.Pointer(&argv[0])
	clone := [11]uint64{0: unix.CLONE_NEWUSER, 4: uint64(child)} // struct clone_args
	here := unix.AT_FDCWD
	out := map[string]try{
		"fork":               fork(child),
		"fork-vm":            fork(child | unix.CLONE_FILES | unix.CLONE_FS),
		"fork-parent":        fork(child | unix.CLONE_PARENT),
		"fork-untraced":      fork(child | unix.CLONE_UNTRACED),
		"clone-user":         fork(child | unix.CLONE_NEWUSER),
		"clone-pid":          fork(child | unix.CLONE_NEWPID),
		"clone-net":          fork(child | unix.CLONE_NEWNET),
		"clone-mount":        fork(child | unix.CLONE_NEWNS),
		"clone-user-net":     fork(child | unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID),
		"clone3":             call(unix.SYS_CLONE3, unsafe.Pointer(&clone), unsafe.Sizeof(clone)),
		"exec":               call(unix.SYS_EXECVE, "/bulkhead-worker", argvp, 0),
		"exec-shell":         call(unix.SYS_EXECVE, "/bin/sh", argvp, 0),
		"exec-self":          call(unix.SYS_EXECVE, "/proc/self/exe", argvp, 0),
		"execveat":           call(unix.SYS_EXECVEAT, here, "/bulkhead-worker", argvp, 0, 0),
		"execveat-empty":     call(unix.SYS_EXECVEAT, 0, "", argvp, 0, unix.AT_EMPTY_PATH),
		"memfd":              func(string) (string, error) { _, err := unix.MemfdCreate("x", 0); return "", err },
		"memfd-exec":         memfdExec,
		"exec-setuid":        execSetuid,
		"ptrace-self":        call(unix.SYS_PTRACE, unix.PTRACE_TRACEME),
		"ptrace-parent":      call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1),
		"ptrace-seize":       call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, 1),
		"process-read":       call(unix.SYS_PROCESS_VM_READV, 1, 0, 0, 0, 0),
		"process-write":      call(unix.SYS_PROCESS_VM_WRITEV, 1, 0, 0, 0, 0),
		"process-madvise":    call(unix.SYS_PROCESS_MADVISE, 0, 0, 0, 0),
		"pidfd-open":         call(unix.SYS_PIDFD_OPEN, 1),
		"pidfd-getfd":        call(unix.SYS_PIDFD_GETFD, 0, 0, 0),
		"pidfd-signal":       call(unix.SYS_PIDFD_SEND_SIGNAL, 0, 0, 0, 0),
		"kcmp":               call(unix.SYS_KCMP, 1, 1, 0, 0, 0),
		"kill-self":          func(string) (string, error) { return "", unix.Kill(unix.Getpid(), 0) },
		"kill-init":          signal(1, 0),
		"kill-init-hard":     signal(1, 9),
		"kill-all":           signal(-1, 0),
		"kill-group":         signal(0, 0),
		"kill-low":           signal(2, 9),
		"kill":               signalTo,
		"tgkill-other":       call(unix.SYS_TGKILL, 2, 2, 0),
		"tkill":              call(unix.SYS_TKILL, 1, 0),
		"sigqueue":           call(unix.SYS_RT_SIGQUEUEINFO, 1, 0, 0),
		"prlimit-other":      func(string) (string, error) { return "", unix.Prlimit(2, unix.RLIMIT_CPU, &unix.Rlimit{}, nil) },
		"setpgid":            func(string) (string, error) { return "", unix.Setpgid(0, 0) },
		"setsid":             func(string) (string, error) { _, err := unix.Setsid(); return "", err },
		"wait":               func(string) (string, error) { _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); return "", err },
		"set-priority":       func(string) (string, error) { return "", unix.Setpriority(0, 0, 19) },
		"set-affinity":       func(string) (string, error) { return "", unix.SchedSetaffinity(0, &unix.CPUSet{1}) },
		"set-scheduler":      call(unix.SYS_SCHED_SETSCHEDULER, 0, 0, 0),
		"set-io-priority":    call(unix.SYS_IOPRIO_SET, 1, 0, 0),
		"set-owner-signal":   func(string) (string, error) { _, err := unix.FcntlInt(3, unix.F_SETOWN, 1); return "", err },
		"set-async":          func(string) (string, error) { _, err := unix.FcntlInt(3, unix.F_SETFL, unix.O_ASYNC); return "", err },
		"duplicate":          func(string) (string, error) { _, err := unix.Dup(3); return "", err },
		"duplicate-fcntl":    func(string) (string, error) { _, err := unix.FcntlInt(3, unix.F_DUPFD, 100); return "", err },
		"foreign-descriptor": foreignDescriptor,
	}
	return out
}

// signalTo asks whether the process that the argument names could be signalled.
func signalTo(argument string) (string, error) {
	pid, err := strconv.Atoi(argument)
	if err != nil {
		return "", unix.EINVAL
	}
	return "", unix.Kill(pid, 0)
}

// arguments is a list of arguments as execve wants it.
func arguments(texts ...string) []*byte {
	var out []*byte
	for _, text := range texts {
		p, err := unix.BytePtrFromString(text)
		if err != nil {
			fatal(exitUsage, err)
		}
		out = append(out, p)
	}
	return append(out, nil)
}

func memfdExec(string) (string, error) {
	fd, err := unix.MemfdCreate("x", 0)
	if err != nil {
		return "", err
	}
	if _, err := unix.Write(fd, []byte("#!/bin/sh\n")); err != nil {
		return "", err
	}
	_, err = raw(unix.SYS_EXECVEAT, uintptr(fd), "", 0, 0, unix.AT_EMPTY_PATH)
	return "", err
}

// execSetuid becomes the program that the argument names, which is setuid root and writes its uid to the socket.
func execSetuid(path string) (string, error) {
	if path == "" {
		path = "/bin/su"
	}
	argv := arguments(path, "whoami")
	// The program writes to the descriptor after this one is gone.
	if _, err := raw(unix.SYS_FCNTL, 3, unix.F_SETFD, 0); err != nil {
		return "", err
	}
	_, err := raw(unix.SYS_EXECVE, path, unsafe.Pointer(&argv[0]), 0)
	return "", err
}

// foreignDescriptor looks for descriptors beyond those that every child has: three streams, the socket, and the poller's
// two, which are of no file type.
func foreignDescriptor(string) (string, error) {
	for fd := 4; fd < 4096; fd++ {
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err == nil && stat.Mode&unix.S_IFMT != 0 {
			return fmt.Sprintf("descriptor %d has mode %o", fd, stat.Mode), nil
		}
	}
	return "", unix.EBADF
}
