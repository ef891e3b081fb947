//go:build amd64 || arm64

package jail

import (
	"math/bits"
	"slices"

	"github.com/bulkheadhq/bulkhead/internal/jail/seccomp"
	"golang.org/x/sys/unix"
)

// Futex operations of the Go runtime: FUTEX_WAIT and FUTEX_WAKE with FUTEX_PRIVATE_FLAG.
const (
	futexWaitPrivate = 128
	futexWakePrivate = 129
)

// goThread is the flags with which the Go runtime makes a thread.
const goThread = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD

// goSpawn is the flags with which syscall.ForkExec starts a process.
const goSpawn = unix.CLONE_VFORK | unix.CLONE_VM | uint32(unix.SIGCHLD)

func runtimeCalls() []uint32 {
	return []uint32{
		unix.SYS_READ, unix.SYS_WRITE, unix.SYS_CLOSE, unix.SYS_FSTAT,
		unix.SYS_MUNMAP, unix.SYS_MADVISE,
		unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
		unix.SYS_SCHED_YIELD, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_RESTART_SYSCALL,
		unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_GETRANDOM,
		unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2,
		unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	}
}

// hostileCalls are calls that no part of this project makes after lock-down: a process that tries one has been taken over.
func hostileCalls() []uint32 {
	return append([]uint32{
		unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
		unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
		unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_CHROOT, unix.SYS_PIVOT_ROOT,
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_FSCONFIG, unix.SYS_FSPICK,
		unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR,
		unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT,
		unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
		unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
		unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_REBOOT,
		unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
		unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SYSLOG,
	}, hostileArchCalls()...)
}

// newProgramCalls start another program. They are hostile wherever a process is not meant to start one.
func newProgramCalls() []uint32 {
	return []uint32{unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_MEMFD_CREATE, unix.SYS_MEMFD_SECRET}
}

func rules(action seccomp.Action, numbers []uint32) []seccomp.Rule {
	out := make([]seccomp.Rule, 0, len(numbers))
	for _, number := range numbers {
		out = append(out, seccomp.Rule{Number: number, Action: action})
	}
	return out
}

func allowIf(number uint32, checks ...seccomp.Check) seccomp.Rule {
	return seccomp.Rule{Number: number, Checks: checks, Action: seccomp.Allow}
}

// longestMapping is a power of two that the length of a mapping of a child must stay below: it lets the Go runtime take the
// arenas for one object as large as the whole budget. The kernel does not hold mappings that replace others against
// RLIMIT_DATA, and so the runtime takes its heap: one huge object would get its memory, and after it the next small thing
// that the garbage collector asks for would be refused, where the runtime does not always end in good order. Refused itself,
// the object is an ordinary end for want of memory.
func longestMapping(memory int64) uint64 {
	arenas := (uint64(memory) + arena - 1) / arena * arena
	return 1 << bits.Len64(arenas)
}

// childFilter is what a worker or sandbox with the given process id and memory budget keeps. New threads are not among it:
// reserveThreads made them before.
func childFilter(pid int, memory int64) seccomp.Filter {
	out := rules(seccomp.Allow, runtimeCalls())
	out = append(
		out,
		allowIf(unix.SYS_MMAP,
			seccomp.Clear(1, -longestMapping(memory)),
			seccomp.Clear(2, unix.PROT_EXEC),
			seccomp.Check{Argument: 3, Mask: unix.MAP_ANONYMOUS | unix.MAP_PRIVATE | unix.MAP_SHARED, Value: unix.MAP_ANONYMOUS | unix.MAP_PRIVATE}),
		allowIf(unix.SYS_FUTEX, seccomp.Int(1, futexWaitPrivate)),
		allowIf(unix.SYS_FUTEX, seccomp.Int(1, futexWakePrivate)),
		allowIf(unix.SYS_FCNTL, seccomp.Int(1, unix.F_GETFL)),
		allowIf(unix.SYS_FCNTL, seccomp.Int(1, unix.F_SETFL), seccomp.Clear(2, unix.O_ASYNC)),
		allowIf(unix.SYS_TGKILL, seccomp.Int(0, uint32(pid))),
	)
	out = append(out, rules(seccomp.KillProcess, hostileCalls())...)
	out = append(out, rules(seccomp.KillProcess, newProgramCalls())...)
	return seccomp.Filter{Rules: out, Default: seccomp.Errno(uint16(unix.EPERM))}
}

// roleFilter is what a daemon role keeps.
func roleFilter(c RoleConfig, pid int) seccomp.Filter {
	out := rules(seccomp.Allow, slices.Concat(runtimeCalls(), daemonCalls(), daemonArchCalls()))
	out = append(
		out,
		allowIf(unix.SYS_MMAP, seccomp.Clear(2, unix.PROT_EXEC)),
		allowIf(unix.SYS_MPROTECT, seccomp.Clear(2, unix.PROT_EXEC)),
		// On amd64 the runtime adds CLONE_SETTLS.
		allowIf(unix.SYS_CLONE, seccomp.Check{Argument: 0, Mask: 0xffffffff &^ unix.CLONE_SETTLS, Value: goThread}),
		allowIf(unix.SYS_TGKILL, seccomp.Int(0, uint32(pid))),
		// Without fast open, which would connect past Landlock's port rules.
		allowIf(unix.SYS_SENDTO, seccomp.Clear(3, unix.MSG_FASTOPEN)),
		allowIf(unix.SYS_SENDMSG, seccomp.Clear(2, unix.MSG_FASTOPEN)),
		seccomp.Rule{Number: unix.SYS_CLONE3, Action: seccomp.Errno(uint16(unix.ENOSYS))},
	)
	for _, request := range []uint32{unix.TCGETS, unix.TIOCGWINSZ, unix.TIOCINQ} {
		out = append(out, allowIf(unix.SYS_IOCTL, seccomp.Int(1, request)))
	}
	out = append(out, socketRules(c)...)
	if c.Spawner != nil {
		out = append(out, spawnRules()...)
	}
	out = append(out, rules(seccomp.KillProcess, hostileCalls())...)
	if c.Spawner == nil {
		out = append(out, rules(seccomp.KillProcess, newProgramCalls())...)
	}
	return seccomp.Filter{Rules: out, Default: seccomp.Errno(uint16(unix.EPERM))}
}

// socketRules allow TCP, which Landlock narrows to ports, and nothing that Landlock does not see: no other protocol over
// IP (MPTCP among them), no raw socket, no netlink. UDP is for names, so only for the role that dials the world.
func socketRules(c RoleConfig) []seccomp.Rule {
	const typeMask = 0xf
	kind := func(value uint64) seccomp.Check { return seccomp.Check{Argument: 1, Mask: typeMask, Value: value} }
	var out []seccomp.Rule
	for _, family := range []uint32{unix.AF_INET, unix.AF_INET6} {
		out = append(out,
			allowIf(unix.SYS_SOCKET, seccomp.Int(0, family), kind(unix.SOCK_STREAM), seccomp.Int(2, 0)),
			allowIf(unix.SYS_SOCKET, seccomp.Int(0, family), kind(unix.SOCK_STREAM), seccomp.Int(2, unix.IPPROTO_TCP)))
		if c.AnyConnect {
			out = append(out,
				allowIf(unix.SYS_SOCKET, seccomp.Int(0, family), kind(unix.SOCK_DGRAM), seccomp.Int(2, 0)),
				allowIf(unix.SYS_SOCKET, seccomp.Int(0, family), kind(unix.SOCK_DGRAM), seccomp.Int(2, unix.IPPROTO_UDP)))
		}
	}
	if c.Unix {
		out = append(out, allowIf(unix.SYS_SOCKET, seccomp.Int(0, unix.AF_UNIX)))
	}
	return out
}

// spawnRules are what starting children takes. A filter is inherited, so they include what a child does between its start
// and its own lock-down.
func spawnRules() []seccomp.Rule {
	var out []seccomp.Rule
	for _, flags := range []uint32{
		goSpawn, goSpawn | unix.CLONE_PIDFD,
		goSpawn | childNamespaces, goSpawn | childNamespaces | unix.CLONE_PIDFD,
		goSpawn | workerNamespaces, goSpawn | workerNamespaces | unix.CLONE_PIDFD,
	} {
		out = append(out, allowIf(unix.SYS_CLONE, seccomp.Int(0, flags)))
	}
	for _, option := range []uint32{
		unix.PR_SET_PDEATHSIG, unix.PR_SET_NO_NEW_PRIVS, unix.PR_GET_NO_NEW_PRIVS, unix.PR_SET_DUMPABLE, unix.PR_GET_DUMPABLE,
	} {
		out = append(out, allowIf(unix.SYS_PRCTL, seccomp.Int(0, option)))
	}
	return append(out, rules(seccomp.Allow, append([]uint32{
		unix.SYS_EXECVE, unix.SYS_WAITID, unix.SYS_WAIT4, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_PIDFD_OPEN, unix.SYS_KILL, unix.SYS_TGKILL,
		unix.SYS_SOCKETPAIR, unix.SYS_PIPE2, unix.SYS_CLOSE_RANGE, unix.SYS_DUP3, unix.SYS_SETSID,
		unix.SYS_SETUID, unix.SYS_SETGID, unix.SYS_SETGROUPS,
		unix.SYS_SECCOMP, unix.SYS_LANDLOCK_CREATE_RULESET, unix.SYS_LANDLOCK_RESTRICT_SELF,
		unix.SYS_CAPGET, unix.SYS_CAPSET, unix.SYS_PRLIMIT64,
	}, spawnArchCalls()...))...)
}

// daemonCalls are what a Go daemon with a database needs beyond the runtime. Landlock narrows the paths.
func daemonCalls() []uint32 {
	return []uint32{
		unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_STATX, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_READLINKAT,
		unix.SYS_GETDENTS64, unix.SYS_GETCWD, unix.SYS_LSEEK, unix.SYS_STATFS, unix.SYS_FSTATFS,
		unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_PREADV, unix.SYS_PWRITEV,
		unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNC_FILE_RANGE, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_FADVISE64,
		unix.SYS_FLOCK, unix.SYS_FCNTL, unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_PIPE2,
		unix.SYS_UNLINKAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_MKDIRAT, unix.SYS_LINKAT,
		unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHOWN, unix.SYS_UTIMENSAT, unix.SYS_UMASK, unix.SYS_COPY_FILE_RANGE,
		unix.SYS_MREMAP, unix.SYS_MSYNC, unix.SYS_MINCORE, unix.SYS_BRK, unix.SYS_FUTEX, unix.SYS_CLOCK_NANOSLEEP,
		unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY,
		unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT4, unix.SYS_CONNECT, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME,
		unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKOPT, unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_SHUTDOWN,
		unix.SYS_SENDFILE, unix.SYS_SPLICE,
		unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID, unix.SYS_GETPPID, unix.SYS_UNAME,
		unix.SYS_GETRUSAGE, unix.SYS_SYSINFO, unix.SYS_SCHED_GETAFFINITY, unix.SYS_PPOLL, unix.SYS_PSELECT6,
		unix.SYS_SET_ROBUST_LIST, unix.SYS_MEMBARRIER,
	}
}
