package jail

import "golang.org/x/sys/unix"

func hostileArchCalls() []uint32 { return nil }

func daemonArchCalls() []uint32 { return []uint32{unix.SYS_FSTATAT, unix.SYS_GETRLIMIT} }

func spawnArchCalls() []uint32 { return nil }
