package role

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// errMemory means that the memory of this machine is not known.
var errMemory = errors.New("the memory of this machine cannot be read")

// budget is how much memory workers and sandboxes may use together: the setting
// memory (bytes), else half of what this machine or container has.
func budget(s settings) (int64, error) {
	if text, ok := s["memory"]; ok {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n <= 0 {
			return 0, fmt.Errorf("read setting memory: %q is not a number of bytes above 0", text)
		}
		return n, nil
	}
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errMemory, err)
	}
	var limits []string
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if b, err := os.ReadFile(file); err == nil {
			limits = append(limits, string(b))
		}
	}
	total, err := totalMemory(string(info), limits)
	return total / 2, err
}

// totalMemory is the memory that a /proc/meminfo tells of, or the least limit of a
// control group below it. A limit that is no number ("max") is none.
func totalMemory(meminfo string, limits []string) (int64, error) {
	total := int64(0)
	for line := range strings.Lines(meminfo) {
		if text, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "kB")), 10, 53)
			if err != nil {
				return 0, fmt.Errorf("%w: %w", errMemory, err)
			}
			total = kib << 10
		}
	}
	if total <= 0 {
		return 0, errMemory
	}
	for _, text := range limits {
		if n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64); err == nil && n > 0 {
			total = min(total, n)
		}
	}
	return total, nil
}

// resident is how many bytes of a process, and of what it has started, are in memory. 0
// where that is not known.
func resident(pid int) uint64 {
	dir := fmt.Sprintf("/proc/%d", pid)
	b, err := os.ReadFile(dir + "/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(fields[1], 10, 52)
	if err != nil {
		return 0
	}
	sum := pages * uint64(os.Getpagesize())
	lists, _ := filepath.Glob(dir + "/task/*/children")
	for _, l := range lists {
		text, err := os.ReadFile(l) // #nosec G304 -- below /proc
		if err != nil {
			continue
		}
		for _, f := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(f); err == nil {
				sum += resident(child)
			}
		}
	}
	return sum
}
