//go:build linux && (amd64 || arm64)

package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func prctl(option int, value uintptr) try { return call(unix.SYS_PRCTL, uintptr(option), value) }

// selfTries are about a process giving itself more than it has.
func selfTries() map[string]try {
	const anonymous = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	more := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	raise := func(resource int) try {
		return func(string) (string, error) { return "", unix.Prlimit(0, resource, &more, nil) }
	}
	out := map[string]try{
		"map-exec":         call(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, anonymous, ^uintptr(0), 0),
		"map-exec-only":    call(unix.SYS_MMAP, 0, 4096, unix.PROT_EXEC, anonymous, ^uintptr(0), 0),
		"map-shared":       call(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS, ^uintptr(0), 0),
		"map-descriptor":   call(unix.SYS_MMAP, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE, 3, 0),
		"protect-exec":     protectExec,
		"protect-key-exec": call(unix.SYS_PKEY_MPROTECT, 0, 4096, unix.PROT_EXEC, ^uintptr(0)),
		"remap":            call(unix.SYS_MREMAP, 0, 0, 4096, 1, 0),
		"lock-memory":      func(string) (string, error) { return "", unix.Mlockall(unix.MCL_CURRENT) },
		"personality":      call(unix.SYS_PERSONALITY, 0x0400000|0x0040000),
		"dumpable":         prctl(unix.PR_SET_DUMPABLE, 1),
		"ptracer":          prctl(unix.PR_SET_PTRACER, ^uintptr(0)),
		"get-privs":        prctl(unix.PR_GET_NO_NEW_PRIVS, 0),
		"new-privs":        prctl(unix.PR_SET_NO_NEW_PRIVS, 0),
		"keep-caps":        prctl(unix.PR_SET_KEEPCAPS, 1),
		"secure-bits":      prctl(unix.PR_SET_SECUREBITS, 0),
		"subreaper":        prctl(unix.PR_SET_CHILD_SUBREAPER, 1),
		"death-signal":     prctl(unix.PR_SET_PDEATHSIG, 0),
		"name":             call(unix.SYS_PRCTL, unix.PR_SET_NAME, "init"),
		"seccomp-off":      prctl(unix.PR_SET_SECCOMP, 0),
		"seccomp-new":      call(unix.SYS_SECCOMP, 1, 0, 0),
		"setuid":           func(string) (string, error) { return "", unix.Setuid(0) },
		"setgid":           func(string) (string, error) { return "", unix.Setgid(0) },
		"setgroups":        call(unix.SYS_SETGROUPS, 0, 0),
		"capset":           capset,
		"raise-files":      raise(unix.RLIMIT_NOFILE),
		"raise-data":       raise(unix.RLIMIT_DATA),
		"raise-processes":  raise(unix.RLIMIT_NPROC),
		"raise-cpu":        raise(unix.RLIMIT_CPU),
		"raise-core":       raise(unix.RLIMIT_CORE),
		"umask":            call(unix.SYS_UMASK, 0),
		"foreign-call":     call(0x40000000 | unix.SYS_GETPID),
	}
	for name, t := range archTries() {
		out[name] = t
	}
	return out
}

func protectExec(string) (string, error) {
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return "", err
	}
	return "", unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC)
}

func capset(string) (string, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Permitted: 1 << unix.CAP_SYS_ADMIN, Effective: 1 << unix.CAP_SYS_ADMIN}}
	_, err := raw(unix.SYS_CAPSET, unsafe.Pointer(&header), unsafe.Pointer(&data[0]))
	return "", err
}
