//go:build linux && (amd64 || arm64)

// Command container runs a program the way an ordinary container does, for tests: under a filter that denies what a
// container runtime's default profile denies (namespaces, mounts, keyrings, bpf, tracing and the like), with such a
// container's capabilities and no more. It shows that the required layers hold without the added ones.
//
//	container [-uid N] -- program argument…
//
// It replaces itself by the program. It isolates nothing that is worth isolating: it only takes away.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/bulkheadhq/bulkhead/internal/jail/seccomp"
	"golang.org/x/sys/unix"
)

const exitUsage = 125

func main() {
	uid := flag.Int("uid", 0, "run as this uid and gid, 0 to stay")
	flag.Parse()
	if err := run(*uid, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "container:", err)
		os.Exit(exitUsage)
	}
}

func run(uid int, argv []string) error {
	if len(argv) == 0 {
		return errors.New("no program named")
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return fmt.Errorf("find program: %w", err)
	}
	// Capabilities belong to threads, and this one becomes the program.
	runtime.LockOSThread()
	if err := profile().Install(); err != nil {
		return err
	}
	if err := dropCapabilities(); err != nil {
		return err
	}
	if uid != 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(uid), syscall.Setuid(uid)); err != nil {
			return fmt.Errorf("change uid: %w", err)
		}
	}
	if err := syscall.Exec(path, argv, os.Environ()); err != nil {
		return fmt.Errorf("execute: %w", err)
	}
	return nil
}

// profile denies what Docker's default profile denies to a process without further capabilities.
func profile() seccomp.Filter {
	const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET
	rules := []seccomp.Rule{
		{Number: unix.SYS_CLONE, Checks: []seccomp.Check{seccomp.Clear(0, namespaces)}, Action: seccomp.Allow},
		{Number: unix.SYS_CLONE3, Action: seccomp.Errno(uint16(unix.ENOSYS))},
	}
	for _, number := range append([]uint32{
		unix.SYS_CLONE, unix.SYS_UNSHARE, unix.SYS_SETNS,
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
		unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_MOUNT_SETATTR,
		unix.SYS_ACCT, unix.SYS_ADD_KEY, unix.SYS_BPF, unix.SYS_CLOCK_ADJTIME, unix.SYS_CLOCK_SETTIME, unix.SYS_DELETE_MODULE,
		unix.SYS_FANOTIFY_INIT, unix.SYS_FINIT_MODULE, unix.SYS_INIT_MODULE, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
		unix.SYS_KCMP, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_KEXEC_LOAD, unix.SYS_KEYCTL, unix.SYS_LOOKUP_DCOOKIE,
		unix.SYS_MBIND, unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES, unix.SYS_NFSSERVCTL, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_PERF_EVENT_OPEN,
		unix.SYS_PIDFD_GETFD, unix.SYS_PROCESS_MADVISE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PTRACE,
		unix.SYS_QUOTACTL, unix.SYS_REBOOT, unix.SYS_REQUEST_KEY, unix.SYS_SET_MEMPOLICY, unix.SYS_SETDOMAINNAME, unix.SYS_SETHOSTNAME,
		unix.SYS_SETTIMEOFDAY, unix.SYS_SWAPOFF, unix.SYS_SWAPON, unix.SYS_SYSLOG, unix.SYS_USERFAULTFD, unix.SYS_VHANGUP,
	}, archCalls()...) {
		rules = append(rules, seccomp.Rule{Number: number, Action: seccomp.Errno(uint16(unix.EPERM))})
	}
	return seccomp.Filter{Rules: rules, Default: seccomp.Allow}
}

// kept is a container's capabilities.
const kept = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FSETID | 1<<unix.CAP_FOWNER | 1<<unix.CAP_MKNOD |
	1<<unix.CAP_NET_RAW | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETFCAP | 1<<unix.CAP_SETPCAP |
	1<<unix.CAP_NET_BIND_SERVICE | 1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_KILL | 1<<unix.CAP_AUDIT_WRITE

func dropCapabilities() error {
	for c := 0; c <= unix.CAP_LAST_CAP; c++ {
		if kept&(1<<c) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for i := range data {
		mask := uint32(uint64(kept) >> (32 * i))
		data[i] = unix.CapUserData{Permitted: data[i].Permitted & mask, Effective: data[i].Effective & mask}
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
