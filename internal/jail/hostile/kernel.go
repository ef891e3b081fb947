//go:build linux && (amd64 || arm64)

package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelTries are calls that change the system or reach parts of the kernel that a child has no use for.
func kernelTries() map[string]try {
	var page [4096]byte
	buffer := unsafe.Pointer(&page[0])
	root, tmpfs, here := "/", "tmpfs", unix.AT_FDCWD
	return map[string]try{
		"mount":            call(unix.SYS_MOUNT, tmpfs, root, tmpfs, 0, 0),
		"remount":          call(unix.SYS_MOUNT, 0, root, 0, unix.MS_REMOUNT, 0),
		"mount-proc":       call(unix.SYS_MOUNT, "proc", root, "proc", 0, 0),
		"umount":           call(unix.SYS_UMOUNT2, root, unix.MNT_DETACH),
		"pivot-root":       call(unix.SYS_PIVOT_ROOT, root, root),
		"chroot":           call(unix.SYS_CHROOT, root),
		"fsopen":           call(unix.SYS_FSOPEN, tmpfs, 0),
		"fspick":           call(unix.SYS_FSPICK, here, root, 0),
		"move-mount":       call(unix.SYS_MOVE_MOUNT, here, root, here, root, 0),
		"mount-setattr":    call(unix.SYS_MOUNT_SETATTR, here, root, 0, buffer, 32),
		"unshare-user":     call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER),
		"unshare-net":      call(unix.SYS_UNSHARE, unix.CLONE_NEWNET),
		"unshare-mount":    call(unix.SYS_UNSHARE, unix.CLONE_NEWNS),
		"unshare-files":    call(unix.SYS_UNSHARE, unix.CLONE_FILES),
		"setns":            call(unix.SYS_SETNS, 0, unix.CLONE_NEWNET),
		"setns-pidfd":      call(unix.SYS_SETNS, 3, 0),
		"io-uring-setup":   call(unix.SYS_IO_URING_SETUP, 8, buffer),
		"io-uring-enter":   call(unix.SYS_IO_URING_ENTER, 0, 1, 0, 0, 0),
		"aio":              call(unix.SYS_IO_SETUP, 1, buffer),
		"bpf-map":          call(unix.SYS_BPF, 0, buffer, 72),
		"bpf-load":         call(unix.SYS_BPF, 5, buffer, 72),
		"userfaultfd":      call(unix.SYS_USERFAULTFD, 1),
		"perf-event":       call(unix.SYS_PERF_EVENT_OPEN, buffer, 0, ^uintptr(0), ^uintptr(0), 0),
		"keyctl":           call(unix.SYS_KEYCTL, 0, ^uintptr(2), 1),
		"add-key":          call(unix.SYS_ADD_KEY, "user", "x", buffer, 8, ^uintptr(3)),
		"request-key":      call(unix.SYS_REQUEST_KEY, "user", "x", 0, ^uintptr(3)),
		"kexec":            call(unix.SYS_KEXEC_FILE_LOAD, 0, 0, 0, 0, 0),
		"init-module":      call(unix.SYS_INIT_MODULE, buffer, 1, buffer),
		"delete-module":    call(unix.SYS_DELETE_MODULE, buffer, 0),
		"swapon":           call(unix.SYS_SWAPON, root, 0),
		"acct":             call(unix.SYS_ACCT, root),
		"syslog":           call(unix.SYS_SYSLOG, 3, buffer, 100),
		"quotactl":         call(unix.SYS_QUOTACTL, 0, 0, 0, 0),
		"sethostname":      call(unix.SYS_SETHOSTNAME, root, 1),
		"settime":          call(unix.SYS_CLOCK_SETTIME, 0, buffer),
		"adjtime":          call(unix.SYS_ADJTIMEX, buffer),
		"uname":            func(string) (string, error) { return "", unix.Uname(&unix.Utsname{}) },
		"sysinfo":          func(string) (string, error) { return "", unix.Sysinfo(&unix.Sysinfo_t{}) },
		"getrandom-device": func(string) (string, error) { return openPath("/dev/random", unix.O_RDONLY) },
		"shm-get":          call(unix.SYS_SHMGET, 0, 4096, 0o600|0o1000),
		"shm-of":           sharedMemory,
		"sem-get":          call(unix.SYS_SEMGET, 0, 1, 0o600|0o1000),
		"msg-get":          call(unix.SYS_MSGGET, 0, 0o600|0o1000),
		"mq-open":          call(unix.SYS_MQ_OPEN, "x", unix.O_CREAT|unix.O_RDWR, 0o600, 0),
		"timerfd":          call(unix.SYS_TIMERFD_CREATE, 0, 0),
		"signalfd":         call(unix.SYS_SIGNALFD4, ^uintptr(0), buffer, 8, 0),
		"timer":            call(unix.SYS_TIMER_CREATE, 0, 0, buffer),
		"vmsplice":         call(unix.SYS_VMSPLICE, 0, 0, 0, 0),
		"splice":           call(unix.SYS_SPLICE, 0, 0, 1, 0, 1, 0),
		"tee":              call(unix.SYS_TEE, 0, 1, 1, 0),
		"sendfile":         call(unix.SYS_SENDFILE, 1, 0, 0, 1),
		"terminal-input":   call(unix.SYS_IOCTL, 0, unix.TIOCSTI, buffer),
		"ioctl":            call(unix.SYS_IOCTL, 3, unix.TIOCINQ, buffer),
		"futex-requeue":    call(unix.SYS_FUTEX, buffer, 3, 0, 0, buffer, 0),
		"futex-pi":         call(unix.SYS_FUTEX, buffer, 6, 0, 0, 0, 0),
		"futex-shared":     call(unix.SYS_FUTEX, buffer, 1, 1, 0, 0, 0),
		"landlock":         call(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, 1),
		"get-hostname":     hostName,
	}
}

// sharedMemory finds the System V segment whose key the argument names.
func sharedMemory(argument string) (string, error) {
	var key uintptr
	for _, digit := range argument {
		key = key*10 + uintptr(digit-'0')
	}
	_, err := raw(unix.SYS_SHMGET, key, 0, 0)
	return "", err
}

// hostName is a breach when it finds the host's name, which is the argument.
func hostName(host string) (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", err
	}
	if unix.ByteSliceToString(name.Nodename[:]) != host {
		return "", unix.ENOENT
	}
	return host, nil
}
