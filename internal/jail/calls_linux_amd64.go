package jail

import "golang.org/x/sys/unix"

func hostileArchCalls() []uint32 {
	return []uint32{unix.SYS_MODIFY_LDT, unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_CREATE_MODULE, unix.SYS_USELIB}
}

// daemonArchCalls are the older names of calls that some libraries still use on this architecture.
func daemonArchCalls() []uint32 {
	return []uint32{
		unix.SYS_NEWFSTATAT, unix.SYS_OPEN, unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_ACCESS, unix.SYS_READLINK, unix.SYS_UNLINK, unix.SYS_MKDIR,
		unix.SYS_RMDIR, unix.SYS_RENAME, unix.SYS_CHMOD, unix.SYS_UTIMES, unix.SYS_UTIME, unix.SYS_TIME, unix.SYS_POLL, unix.SYS_SELECT,
		unix.SYS_EPOLL_WAIT, unix.SYS_DUP2, unix.SYS_GETRLIMIT,
	}
}

func spawnArchCalls() []uint32 { return []uint32{unix.SYS_ARCH_PRCTL} }
