// Package landlock restricts what a process can reach through the kernel's Landlock module, without privileges and for
// good. See landlock(7) and the kernel's userspace-api/landlock document.
//
// A ruleset denies everything of the kinds it handles and grants back what its rules name; a ruleset without rules
// therefore denies all files (and, where the kernel can, TCP, signals to the outside and abstract sockets).
//
// The package keeps no state. Restrict changes every thread of the process or, when the kernel refuses, none that matters:
// the caller must treat an error as fatal. It calls the kernel directly because a jailed executable has no use for more than
// these three calls.
package landlock

import "errors"

// Access is a set of rights on a file hierarchy.
type Access uint64

// The rights of Landlock, by the kernel's names (LANDLOCK_ACCESS_FS_*).
const (
	Execute Access = 1 << iota
	WriteFile
	ReadFile
	ReadDir
	RemoveDir
	RemoveFile
	MakeChar
	MakeDir
	MakeReg
	MakeSock
	MakeFifo
	MakeBlock
	MakeSym
	Refer
	Truncate
	IoctlDev
)

// Sets of rights as this project grants them. ReadWrite excludes devices and execution.
const (
	ReadOnly  = ReadFile | ReadDir
	ReadWrite = ReadOnly | WriteFile | RemoveDir | RemoveFile | MakeDir | MakeReg | MakeSock | Refer | Truncate
	fileOnly  = Execute | WriteFile | ReadFile | Truncate | IoctlDev
)

// Kernel interface versions at which kinds of restriction appeared.
const (
	MinABI     = 1 // files; required
	ABIRefer   = 2
	ABITrunc   = 3
	ABINetwork = 4
	ABIIoctl   = 5
	ABIScope   = 6
)

// ErrUnsupported is returned when the kernel has no Landlock or it is not enabled.
var ErrUnsupported = errors.New("landlock is not available: it needs Linux 5.13 or newer with landlock in the lsm= list")

// PathRule grants rights on a path and everything below it. File is used when Path is empty: an open O_PATH descriptor.
type PathRule struct {
	Path   string
	File   int
	Access Access
	// Optional rules are skipped when the path does not exist.
	Optional bool
}

// Ruleset is what a process keeps. The zero value keeps nothing.
type Ruleset struct {
	Paths []PathRule
	// BindTCP and ConnectTCP are the ports that may be bound and dialled, used from ABI 4.
	BindTCP    []uint16
	ConnectTCP []uint16
	// AllTCP leaves TCP to other layers, for a process whose task is to dial anything.
	AllTCP bool
	// AllTCPBind leaves binding to other layers.
	AllTCPBind bool
}

// Applied says which kinds of restriction the kernel enforces after Restrict.
type Applied struct {
	ABI     int
	Network bool
	Scope   bool
}

func handled(abi int) Access {
	all := IoctlDev<<1 - 1
	if abi < ABIIoctl {
		all &^= IoctlDev
	}
	if abi < ABITrunc {
		all &^= Truncate
	}
	if abi < ABIRefer {
		all &^= Refer
	}
	return all
}
