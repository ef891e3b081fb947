//go:build amd64 || arm64

package jail

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"github.com/bulkheadhq/bulkhead/internal/jail/landlock"
	"github.com/bulkheadhq/bulkhead/internal/redtwin"
	"golang.org/x/sys/unix"
)

// Names of the layers, as in [Layer] and as doctor prints them.
const (
	layerRlimits   = "rlimits"
	layerDumpable  = "not-dumpable"
	layerNoNewPriv = "no-new-privs"
	layerCaps      = "no-capabilities"
	layerLandlock  = "landlock"
	layerSeccomp   = "seccomp"
	layerWatchdog  = "heap-watchdog"
	layerThreads   = "no-new-threads"

	layerLandlockNet   = "landlock-network"
	layerLandlockScope = "landlock-scope"
)

// Advice for layers that cannot be put in place.
const (
	fixLandlock = "use Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK and landlock in the lsm= kernel parameter, and a container runtime whose seccomp profile allows landlock_* (Docker 23.0 or newer)"
	fixSeccomp  = "use a kernel with CONFIG_SECCOMP_FILTER, and a container runtime that allows seccomp(2)"
	fixPrctl    = "allow prctl(2) in the container runtime's seccomp profile"
	fixLimits   = "allow prlimit64(2), and hard limits at least as high as bulkhead's"
	fixCaps     = "allow capset(2) in the container runtime's seccomp profile"
)

// maxChildFiles is a child's descriptors: standard streams, its socket, and the poller's two, with some room.
const maxChildFiles = 16

// Lockdown takes from the calling process everything that the profile does not name. It must be called once, after
// everything needed is open and before any input is read. It cannot be undone. A required layer that is missing is a
// [LayerError], and the process must then end: some layers may already hold. The report lists every layer.
//
// It restricts all threads, those of other goroutines included. Programs linked with cgo are refused.
func Lockdown(p Profile) (Report, error) {
	if p.name == "" {
		return Report{}, errors.New("lock down: the profile is empty")
	}
	var report Report
	steps := []struct {
		layer, fix string
		apply      func(Profile, *Report) error
	}{
		{layerWatchdog, "", applyWatchdog},
		{layerThreads, "", applyThreads},
		{layerRlimits, fixLimits, applyRlimits},
		{layerDumpable, fixPrctl, applyDumpable},
		{layerNoNewPriv, fixPrctl, applyNoNewPrivs},
		{layerCaps, fixCaps, applyCapabilities},
		{layerLandlock, fixLandlock, applyLandlock},
		{layerSeccomp, fixSeccomp, applySeccomp},
	}
	for _, step := range steps {
		if redtwin.Off(step.layer) {
			report.add(step.layer, true, StateMissing, "switched off by a test build", "")
			continue
		}
		if err := step.apply(p, &report); err != nil {
			return report, &LayerError{Layer: step.layer, Fix: step.fix, Err: err}
		}
	}
	return report, nil
}

func applyWatchdog(p Profile, r *Report) error {
	switch {
	case p.kind != 0:
		startWatchdog(p.limits.Memory, p.limits.Memory)
		r.add(layerWatchdog, true, StateOn, fmt.Sprintf("%d MiB", p.limits.Memory>>20), "")
	case p.role.Memory > 0:
		startWatchdog(p.role.Memory, 2*p.role.Memory)
		r.add(layerWatchdog, true, StateOn, fmt.Sprintf("%d MiB", 2*p.role.Memory>>20), "")
	}
	return nil
}

// applyThreads makes the threads that a child may ever have; its filter and RLIMIT_NPROC deny more.
func applyThreads(p Profile, r *Report) error {
	if p.kind == 0 {
		return nil
	}
	reserveThreads(spareThreads)
	r.add(layerThreads, true, StateOn, fmt.Sprintf("%d spare", spareThreads), "")
	return nil
}

type rlimit struct {
	resource int
	value    uint64
}

// Sizes for RLIMIT_DATA and RLIMIT_AS: the Go runtime maps its heap in arenas of 64 MiB and reserves address space for
// its tables, so both are backstops far above the watchdog's budget.
const (
	arena       = 64 << 20
	dataReserve = 2 * arena
	spaceFixed  = 4 << 30
)

func (p Profile) rlimits() []rlimit {
	if p.kind == 0 {
		out := []rlimit{{unix.RLIMIT_CORE, 0}}
		if p.role.Files > 0 {
			out = append(out, rlimit{unix.RLIMIT_NOFILE, p.role.Files})
		}
		return out
	}
	memory := uint64(p.limits.Memory)
	out := []rlimit{
		{unix.RLIMIT_CORE, 0},
		{unix.RLIMIT_FSIZE, 0},
		{unix.RLIMIT_NOFILE, maxChildFiles},
		{unix.RLIMIT_MEMLOCK, 0},
		{unix.RLIMIT_MSGQUEUE, 0},
		{unix.RLIMIT_DATA, (2*memory+arena-1)/arena*arena + dataReserve},
		{unix.RLIMIT_AS, spaceFixed + 4*memory},
	}
	if !redtwin.Off(layerThreads) {
		out = append(out, rlimit{unix.RLIMIT_NPROC, 0})
	}
	if seconds := uint64(p.limits.CPU / time.Second); seconds > 0 {
		out = append(out, rlimit{unix.RLIMIT_CPU, seconds})
	}
	return out
}

func applyRlimits(p Profile, r *Report) error {
	limits := p.rlimits()
	for _, l := range limits {
		// The raw call: package syscall would also change the limit that it restores in started processes.
		value := unix.Rlimit{Cur: l.value, Max: l.value}
		if err := unix.Prlimit(0, l.resource, &value, nil); err != nil {
			return fmt.Errorf("set resource limit %d: %w", l.resource, err)
		}
	}
	r.add(layerRlimits, true, StateOn, fmt.Sprintf("%d limits", len(limits)), "")
	return nil
}

func applyDumpable(_ Profile, r *Report) error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("set not dumpable: %w", err)
	}
	r.add(layerDumpable, true, StateOn, "", "")
	return nil
}

// applyNoNewPrivs sets the flag on every thread: Landlock asks for it on each. The children of
// a runner that is locked down are started with it: then every thread has it from the first
// one, because nothing takes it away and nothing but this sets it.
func applyNoNewPrivs(_ Profile, r *Report) error {
	if set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && set == 1 {
		r.add(layerNoNewPriv, true, StateOn, "", "")
		return nil
	}
	if err := onAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	r.add(layerNoNewPriv, true, StateOn, "", "")
	return nil
}

func onAllThreads(call, a1, a2, a3 uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(call, a1, a2, a3, 0, 0, 0)
	if errno == syscall.ENOTSUP {
		return errors.New("this program is linked with cgo: build it with CGO_ENABLED=0")
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// spawnCapabilities are what a runner inside its own user namespace keeps for its children: to give each a process
// namespace and a uid, and to end it.
const spawnCapabilities = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID | 1<<unix.CAP_KILL

func applyCapabilities(p Profile, r *Report) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	var keep uint32
	if p.role.Spawner != nil {
		keep = p.role.Spawner.capabilities()
	}
	before := data
	for i := range data {
		data[i] = unix.CapUserData{}
	}
	data[0].Permitted = before[0].Permitted & keep
	data[0].Effective = data[0].Permitted
	if before != data {
		err := onAllThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
		runtime.KeepAlive(&header)
		runtime.KeepAlive(&data)
		if err != nil {
			return fmt.Errorf("drop capabilities: %w", err)
		}
	}
	detail := "none"
	if data[0].Permitted != 0 {
		detail = "those to start children, inside a user namespace"
	}
	r.add(layerCaps, true, StateOn, detail, "")
	return nil
}

func applyLandlock(p Profile, r *Report) error {
	applied, err := landlock.Restrict(p.ruleset())
	if err != nil {
		return err
	}
	r.add(layerLandlock, true, StateOn, fmt.Sprintf("ABI %d", applied.ABI), "")
	const newer = "a newer kernel adds this"
	r.add(layerLandlockNet, false, stateOf(applied.Network), "TCP ports", newer+": Linux 6.7")
	r.add(layerLandlockScope, false, stateOf(applied.Scope), "signals to other processes", newer+": Linux 6.15")
	return nil
}

func stateOf(on bool) State {
	if on {
		return StateOn
	}
	return StateMissing
}

func (p Profile) ruleset() landlock.Ruleset {
	if p.kind != 0 {
		return landlock.Ruleset{}
	}
	c := p.role
	out := landlock.Ruleset{BindTCP: c.Bind, ConnectTCP: c.Connect, AllTCP: c.AnyConnect, AllTCPBind: c.AnyBind}
	for _, group := range []struct {
		paths  []string
		access landlock.Access
	}{{c.ReadOnly, landlock.ReadOnly}, {c.ReadWrite, landlock.ReadWrite}} {
		for _, path := range group.paths {
			rule := landlock.PathRule{Path: path, Access: group.access}
			if path != "" && path[0] == '?' {
				rule.Path, rule.Optional = path[1:], true
			}
			out.Paths = append(out.Paths, rule)
		}
	}
	if c.Spawner != nil {
		out.Paths = append(out.Paths, c.Spawner.landlockRules()...)
	}
	return out
}

func applySeccomp(p Profile, r *Report) error {
	filter := childFilter(os.Getpid(), p.limits.Memory)
	if p.kind == 0 {
		filter = roleFilter(p.role, os.Getpid())
	}
	if err := filter.Install(); err != nil {
		return err
	}
	r.add(layerSeccomp, true, StateOn, fmt.Sprintf("%d rules", len(filter.Rules)), "")
	return nil
}
