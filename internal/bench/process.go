package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ticksPerSecond is USER_HZ, which is fixed for everything in /proc.
const ticksPerSecond = 100

// usage is what processes have used: seconds of processor time by role. What the runner
// starts, workers and sandboxes, the living and the ended, are one figure: children.
type usage map[string]float64

// since is what was used after an earlier look.
func (u usage) since(before usage) usage {
	out := usage{}
	for name, s := range u {
		out[name] = s - before[name]
	}
	return out
}

// processorTime reads what every process of the platform has used.
func processorTime(roles map[string]int) usage {
	out := usage{}
	for name, pid := range roles {
		own, ended := ticks(pid)
		out[name] += own
		if name != "runner" {
			continue
		}
		out["children"] += ended
		for _, pids := range childrenOf(pid) {
			for _, p := range pids {
				used, _ := ticks(p)
				out["children"] += used
			}
		}
	}
	return out
}

// ticks are the seconds that a process, and its children that it has waited for, have used.
func ticks(pid int) (own, ended float64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 15 {
		return 0, 0
	}
	var n [4]float64
	for i := range n {
		n[i], _ = strconv.ParseFloat(f[11+i], 64)
	}
	return (n[0] + n[1]) / ticksPerSecond, (n[2] + n[3]) / ticksPerSecond
}

// childrenOf are the live children of a runner by kind: worker, sandbox.
func childrenOf(pid int) map[string][]int {
	out := map[string][]int{}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range lists {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, text := range strings.Fields(string(b)) {
			child, _ := strconv.Atoi(text)
			argv, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
			if err != nil {
				continue
			}
			name, _, _ := strings.Cut(string(argv), "\x00")
			name = strings.TrimPrefix(filepath.Base(name), "bulkhead-")
			out[name] = append(out[name], child)
		}
	}
	return out
}

// memory is the proportional set size of processes in MiB, by name.
type memory map[string]float64

// sum is all of it.
func (m memory) sum() (mib float64) {
	for _, v := range m {
		mib += v
	}
	return mib
}

// resident reads the memory of every process of the platform. A page that several of them
// share counts in parts, so that the sum is what the machine gave.
func resident(roles map[string]int) memory {
	out := memory{}
	for name, pid := range roles {
		out[name] += proportional(pid)
		if name != "runner" {
			continue
		}
		for kind, pids := range childrenOf(pid) {
			for _, p := range pids {
				out[kind] += proportional(p)
			}
		}
	}
	return out
}

// proportional is the PSS of a process in MiB.
func proportional(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, "Pss:"); ok {
			kib, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "kB")), 64)
			return kib / 1024
		}
	}
	return 0
}
