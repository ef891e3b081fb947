package landlock

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	createVersion = 1 // LANDLOCK_CREATE_RULESET_VERSION
	createErrata  = 2 // LANDLOCK_CREATE_RULESET_ERRATA

	rulePathBeneath = 1
	ruleNetPort     = 2

	netBind    = 1
	netConnect = 2

	scopeAbstract = 1
	scopeSignal   = 2

	// Each thread of a Go process gets a domain of its own (the call is made per thread), so signals between threads
	// work only on kernels with the fix of erratum 2; elsewhere the signal scope would break preemption.
	errataThreadSignal = 1 << 1
)

type rulesetAttr struct {
	fs, net, scoped uint64
}

type pathAttr struct {
	access uint64
	fd     int32
} // the kernel's struct is packed: 12 bytes are read

type portAttr struct {
	access, port uint64
}

// ABI is the kernel's Landlock version, 0 when it has none.
func ABI() int {
	version, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, createVersion)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// Restrict applies the ruleset to every thread. no_new_privs must be set on all of them. It cannot be undone; later calls
// can only take more away. It fails in programs linked with cgo, where not every thread is known to the runtime.
func Restrict(r Ruleset) (Applied, error) {
	abi := ABI()
	if abi < MinABI {
		return Applied{}, ErrUnsupported
	}
	attr := rulesetAttr{fs: uint64(handled(abi))}
	size := unsafe.Sizeof(attr.fs)
	applied := Applied{ABI: abi}
	if abi >= ABINetwork {
		size += unsafe.Sizeof(attr.net)
		attr.net = r.handledNet()
		applied.Network = attr.net != 0
	}
	if abi >= ABIScope {
		size += unsafe.Sizeof(attr.scoped)
		attr.scoped = scopeAbstract
		if errata()&errataThreadSignal != 0 {
			attr.scoped |= scopeSignal
			applied.Scope = true
		}
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return Applied{}, fmt.Errorf("create landlock ruleset: %w", errno)
	}
	defer func() { _ = unix.Close(int(fd)) }()
	if err := r.fill(int(fd), attr); err != nil {
		return Applied{}, err
	}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return Applied{}, fmt.Errorf("enforce landlock ruleset: %w", errno)
	}
	return applied, nil
}

func (r Ruleset) handledNet() uint64 {
	handled := uint64(netBind | netConnect)
	if r.AllTCP {
		handled &^= netConnect
	}
	if r.AllTCPBind {
		handled &^= netBind
	}
	return handled
}

// Scoped tells whether Restrict can keep signals of a Go program inside it on this kernel.
func Scoped() bool { return ABI() >= ABIScope && errata()&errataThreadSignal != 0 }

func errata() uint64 {
	bits, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, createErrata)
	if errno != 0 {
		return 0
	}
	return uint64(bits)
}

func (r Ruleset) fill(ruleset int, attr rulesetAttr) error {
	for _, rule := range r.Paths {
		if err := rule.add(ruleset, Access(attr.fs)); err != nil {
			return err
		}
	}
	for access, ports := range map[uint64][]uint16{netBind: r.BindTCP, netConnect: r.ConnectTCP} {
		if attr.net&access == 0 {
			continue
		}
		for _, port := range ports {
			rule := portAttr{access: access, port: uint64(port)}
			if err := addRule(ruleset, ruleNetPort, unsafe.Pointer(&rule)); err != nil {
				return fmt.Errorf("add landlock rule for port %d: %w", port, err)
			}
		}
	}
	return nil
}

func (p PathRule) add(ruleset int, handled Access) error {
	fd := p.File
	if p.Path != "" {
		opened, err := unix.Open(p.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) && p.Optional {
			return nil
		}
		if err != nil {
			return fmt.Errorf("open %s for a landlock rule: %w", p.Path, err)
		}
		defer func() { _ = unix.Close(opened) }()
		fd = opened
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("stat %s for a landlock rule: %w", p.Path, err)
	}
	access := p.Access & handled
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= fileOnly
	}
	rule := pathAttr{access: uint64(access), fd: int32(fd)}
	if err := addRule(ruleset, rulePathBeneath, unsafe.Pointer(&rule)); err != nil {
		return fmt.Errorf("add landlock rule for %s: %w", p.Path, err)
	}
	return nil
}

func addRule(ruleset int, kind uintptr, attr unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), kind, uintptr(attr), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
