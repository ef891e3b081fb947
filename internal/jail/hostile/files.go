//go:build linux && (amd64 || arm64)

package main

import (
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

func paths() []string {
	return []string{
		"/", ".", "..", "/etc/passwd", "/etc/shadow", "/etc/hosts", "/etc/resolv.conf", "/etc/ssl/certs", "/root", "/home", "/tmp", "/var/lib",
		"/var/run/docker.sock", "/run/secrets", "/dev/null", "/dev/zero", "/dev/mem", "/dev/kmsg", "/dev/shm", "/dev/pts/ptmx", "/dev/fuse", "/dev/kvm",
		"/sys", "/sys/kernel/debug", "/sys/fs/cgroup", "/boot",
		"/proc", "/proc/self/environ", "/proc/self/maps", "/proc/self/mem", "/proc/self/fd/3", "/proc/self/exe", "/proc/self/root/etc/passwd",
		"/proc/self/cwd/../etc/passwd", "/proc/self/task/1/root/etc/passwd", "/proc/thread-self/root/etc/passwd",
		"/proc/1/environ", "/proc/1/root/etc/shadow", "/proc/1/mem", "/proc/1/cwd", "/proc/kcore", "/proc/kallsyms", "/proc/sys/kernel/core_pattern",
		"/proc/sysrq-trigger", "/proc/net/tcp", "/proc/net/unix", "/bulkhead-worker", "/bulkhead-sandbox",
		"../../../../../../etc/passwd", "/tmp/../etc/passwd", "//etc//passwd",
	}
}

func openPath(path string, flags int) (string, error) {
	fd, err := unix.Open(path, flags, 0o600)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("opened %s as %d", path, fd), nil
}

func fileTries() map[string]try {
	here := unix.AT_FDCWD
	out := map[string]try{
		"open":        func(path string) (string, error) { return openPath(path, unix.O_RDONLY) },
		"write-file":  writeFile,
		"open-path":   func(string) (string, error) { return openPath("/", unix.O_PATH) },
		"open-tmp":    func(string) (string, error) { return openPath("/tmp", unix.O_TMPFILE|unix.O_RDWR) },
		"create-here": func(string) (string, error) { return openPath("x", unix.O_CREAT|unix.O_RDWR) },
		"create-shm":  func(string) (string, error) { return openPath("/dev/shm/x", unix.O_CREAT|unix.O_RDWR) },
		"openat2":     call(unix.SYS_OPENAT2, here, "/", unsafe.Pointer(&unix.OpenHow{}), unix.SizeofOpenHow),
		"open-tree":   call(unix.SYS_OPEN_TREE, here, "/", 0),
		"symlink":     func(string) (string, error) { return "", unix.Symlink("/etc/passwd", "x") },
		"link":        func(string) (string, error) { return "", unix.Link("/etc/passwd", "x") },
		"mknod":       func(string) (string, error) { return "", unix.Mknod("x", unix.S_IFCHR, 0x101) },
		"mkdir":       func(string) (string, error) { return "", unix.Mkdir("x", 0o700) },
		"rename":      func(string) (string, error) { return "", unix.Rename("/bulkhead-worker", "/x") },
		"unlink":      func(string) (string, error) { return "", unix.Unlink("/bulkhead-worker") },
		"readlink": func(string) (string, error) {
			_, err := unix.Readlink("/proc/self/exe", make([]byte, 100))
			return "", err
		},
		"chdir":       func(string) (string, error) { return "", unix.Chdir("/") },
		"getcwd":      func(string) (string, error) { _, err := unix.Getcwd(make([]byte, 100)); return "", err },
		"chmod":       func(string) (string, error) { return "", unix.Chmod("/bulkhead-worker", 0o777) },
		"stat":        func(string) (string, error) { return "", unix.Stat("/", &unix.Stat_t{}) },
		"access":      func(string) (string, error) { return "", unix.Access("/", unix.R_OK) },
		"statfs":      func(string) (string, error) { return "", unix.Statfs("/", &unix.Statfs_t{}) },
		"getdents":    func(string) (string, error) { _, err := unix.Getdents(0, make([]byte, 100)); return "", err },
		"inotify":     func(string) (string, error) { _, err := unix.InotifyInit1(0); return "", err },
		"fanotify":    func(string) (string, error) { _, err := unix.FanotifyInit(0, 0); return "", err },
		"file-handle": call(unix.SYS_OPEN_BY_HANDLE_AT, here, 0, 0),
		"setxattr":    func(string) (string, error) { return "", unix.Setxattr("/", "user.x", []byte("x"), 0) },
	}
	for _, path := range paths() {
		out["open:"+strings.ReplaceAll(path, " ", "")] = func(string) (string, error) { return openPath(path, unix.O_RDONLY) }
	}
	return out
}

func writeFile(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_WRONLY, 0)
	if err != nil {
		return "", err
	}
	n, err := unix.Write(fd, []byte("written"))
	return fmt.Sprintf("%d bytes", n), err
}
