//go:build amd64 || arm64

package jail

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/bulkheadhq/bulkhead/internal/jail/landlock"
	"github.com/bulkheadhq/bulkhead/internal/jail/seccomp"
	"golang.org/x/sys/unix"
)

// Probe tells for every layer whether this host offers it to a process like the caller, for bulkhead doctor. It changes
// nothing of the calling process: what cannot be asked is tried in a process or thread that is then thrown away.
func Probe() []Layer {
	var r Report
	probeKernel(&r)
	probeRequired(&r)
	probeNamespaces(&r)
	r.add(layerRoleUID, false, stateOf(maySetUIDs(DefaultFirstUID, DefaultMaxChildren)), "a uid for each role and child", fixUID)
	probeCgroup(&r)
	probeSettings(&r)
	return r.Layers
}

func probeKernel(r *Report) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		r.add("kernel", true, StateUnknown, err.Error(), "")
		return
	}
	release := unix.ByteSliceToString(name.Release[:])
	state := stateOf(!olderThan(release, 5, 13))
	r.add("kernel", true, state, "Linux "+release, "use Linux 5.13 or newer")
}

// olderThan compares a kernel release such as 6.1.0-18-amd64 with a version.
func olderThan(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n != 2 {
		return true
	}
	return a < major || (a == major && b < minor)
}

func probeRequired(r *Report) {
	err := seccomp.Available()
	r.add(layerSeccomp, true, stateOf(err == nil), text(err), fixSeccomp)
	abi := landlock.ABI()
	r.add(layerLandlock, true, stateOf(abi >= landlock.MinABI), fmt.Sprintf("ABI %d", abi), fixLandlock)
	r.add(layerLandlockNet, false, stateOf(abi >= landlock.ABINetwork), "TCP ports", "use Linux 6.7 or newer")
	r.add(layerLandlockScope, false, stateOf(landlock.Scoped()), "signals and abstract sockets", "use Linux 6.15 or newer")
	_, err = unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	r.add(layerNoNewPriv, true, stateOf(err == nil), text(err), fixPrctl)
	_, err = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	r.add(layerDumpable, true, stateOf(err == nil), text(err), fixPrctl)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err = unix.Capget(&header, &data[0])
	r.add(layerCaps, true, stateOf(err == nil), text(err), fixCaps)
	var limit unix.Rlimit
	err = unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &limit)
	if err == nil && limit.Max < maxChildFiles {
		err = fmt.Errorf("at most %d files", limit.Max)
	}
	r.add(layerRlimits, true, stateOf(err == nil), text(err), fixLimits)
	r.add(layerWatchdog, true, StateOn, "part of the program", "")
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// probeNamespaces tries each kind the way a runner gets it: directly when the caller has CAP_SYS_ADMIN, in a user
// namespace of its own otherwise.
func probeNamespaces(r *Report) {
	user := tryClone(unix.CLONE_NEWUSER)
	r.add(layerUser, false, stateOf(user == nil), text(user), fixUserNamespace)
	for _, each := range []struct {
		layer string
		flag  uintptr
	}{
		{layerPID, unix.CLONE_NEWPID},
		{layerNet, unix.CLONE_NEWNET},
		{layerMount, unix.CLONE_NEWNS},
		{layerIPC, unix.CLONE_NEWIPC},
		{layerUTS, unix.CLONE_NEWUTS},
	} {
		err := tryClone(unix.CLONE_NEWUSER | each.flag)
		if err != nil && effective(unix.CAP_SYS_ADMIN) {
			err = tryClone(each.flag)
		}
		r.add(each.layer, false, stateOf(err == nil), text(err), fixNamespaces)
	}
}

// tryClone starts a process with the flags that fails to execute anything and so ends at once. Namespaces that are refused
// are refused before.
func tryClone(flags uintptr) error {
	attr := &syscall.SysProcAttr{Cloneflags: flags}
	if flags&unix.CLONE_NEWUSER != 0 {
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	const nothing = "/proc/self/no-such-program"
	_, err := syscall.ForkExec(nothing, []string{"probe"}, &syscall.ProcAttr{Sys: attr})
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

func probeCgroup(r *Report) {
	trees, err := ownHierarchies()
	if err != nil || len(trees) == 0 {
		r.add(layerCgroup, false, StateMissing, "no memory, pids or cpu controller; "+text(err), fixCgroup)
		return
	}
	var usable, refused []string
	for _, h := range trees {
		name := strings.Join(h.controllers, ",")
		if h.v2 {
			name = "v2 " + name
		} else {
			name = "v1 " + name
		}
		if err := unix.Access(h.dir, unix.W_OK); err != nil {
			refused = append(refused, name)
			continue
		}
		usable = append(usable, name)
	}
	detail := strings.Join(usable, "; ")
	if len(refused) > 0 {
		detail += " (not writable: " + strings.Join(refused, "; ") + ")"
	}
	r.add(layerCgroup, false, stateOf(len(usable) > 0), detail, fixCgroup)
}

// probeSettings are settings of the host that no process can change for itself.
func probeSettings(r *Report) {
	pattern := readSetting("/proc/sys/kernel/core_pattern")
	r.add("core-pattern", false, stateOf(pattern != "" && pattern[0] != '|'), pattern,
		"cores of locked-down processes are off; a pipe in kernel.core_pattern still sees those of other programs")
	swaps := strings.Count(readSetting("/proc/swaps"), "\n")
	r.add("no-swap", false, stateOf(swaps == 0), fmt.Sprintf("areas of swap: %d", swaps), "use no swap, or encrypted swap: keys in memory could reach the disk")
	yama := readSetting("/proc/sys/kernel/yama/ptrace_scope")
	scope, err := strconv.Atoi(yama)
	r.add("yama", false, stateOf(err == nil && scope >= 1), "ptrace_scope "+yama, "set sysctl kernel.yama.ptrace_scope to 1 or more")
	randomize := readSetting("/proc/sys/kernel/randomize_va_space")
	r.add("address-randomization", false, stateOf(randomize == "2"), randomize, "set sysctl kernel.randomize_va_space to 2")
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		r.add("memory", false, StateUnknown, err.Error(), "")
		return
	}
	total := uint64(info.Totalram) * uint64(info.Unit) >> 20
	const least = 512
	r.add("memory", false, stateOf(total >= least), fmt.Sprintf("%d MiB", total), fmt.Sprintf("give the host at least %d MiB", least))
}

func readSetting(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
