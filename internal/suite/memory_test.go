package suite

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// process is a live process of a system.
type process struct {
	name string // the role, worker or sandbox
	pid  int
}

func (p process) String() string { return fmt.Sprintf("%s (%d)", p.name, p.pid) }

// processes are all live processes of the system, roles first.
func (s *system) processes() []process {
	s.t.Helper()
	var out []process
	for name, pid := range s.roles.Processes() {
		out = append(out, process{name, pid})
	}
	slices.SortFunc(out, func(a, b process) int { return strings.Compare(a.name, b.name) })
	return append(out, s.children()...)
}

// children are the live workers and sandboxes.
func (s *system) children() (out []process) {
	s.t.Helper()
	for _, pid := range childrenOf(s.t, s.roles.Processes()["runner"]) {
		argv, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue // it has ended
		}
		switch name, _, _ := strings.Cut(string(argv), "\x00"); name {
		case "bulkhead-worker", "bulkhead-sandbox":
			out = append(out, process{strings.TrimPrefix(name, "bulkhead-"), pid})
		}
	}
	return out
}

// childrenOf are the process ids whose parent is pid.
func childrenOf(t *testing.T, pid int) (out []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		rest := b[bytes.LastIndexByte(b, ')')+1:]
		if f := strings.Fields(string(rest)); len(f) > 1 && f[1] == strconv.Itoa(pid) {
			n, _ := strconv.Atoi(strings.Split(file, "/")[2])
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// region is one writable mapping.
type region struct{ from, to uint64 }

func writable(pid int) ([]region, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	var out []region
	in := bufio.NewScanner(bytes.NewReader(b))
	for in.Scan() {
		var r region
		var mode string
		if _, err := fmt.Sscanf(in.Text(), "%x-%x %s", &r.from, &r.to, &mode); err != nil {
			return nil, fmt.Errorf("read mapping %q: %w", in.Text(), err)
		}
		if strings.HasPrefix(mode, "rw") && !strings.HasSuffix(in.Text(), "[vvar]") {
			out = append(out, r)
		}
	}
	return out, in.Err()
}

const pageSize = 4096

// memory looks through everything that a process can write to: heap, stacks, globals,
// shared and private mappings. Pages that were never touched are zero and skipped.
func (s *searcher) memory(p process) (hits []hit, size int64, err error) {
	regions, err := writable(p.pid)
	if err != nil {
		return nil, 0, err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", p.pid))
	if err != nil {
		return nil, 0, err
	}
	defer mem.Close()
	pages, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", p.pid))
	if err != nil {
		return nil, 0, err
	}
	defer pages.Close()
	for _, r := range regions {
		for _, run := range present(pages, r) {
			b := make([]byte, run.to-run.from)
			n, err := mem.ReadAt(b, int64(run.from)) // #nosec G115 -- an address of user space
			if err != nil && n == 0 {
				continue // the mapping has gone meanwhile
			}
			size += int64(n)
			hits = append(hits, s.in(b[:n], p.name)...)
		}
	}
	if size == 0 {
		return nil, 0, errors.New("no page of its memory could be read")
	}
	return hits, size, nil
}

// present are the runs of pages of a region that are in memory or swapped. A value
// cannot be split by a page that was never touched.
func present(pages *os.File, r region) (out []region) {
	entries := make([]byte, (r.to-r.from)/pageSize*8)
	for at := 0; at < len(entries); {
		n, err := pages.ReadAt(entries[at:], int64(r.from/pageSize*8)+int64(at)) // #nosec G115 -- an address of user space
		at += n
		if err != nil || n == 0 {
			return []region{r} // look at all of it
		}
	}
	for i := 0; i < len(entries); i += 8 {
		if entries[i+7]&0xc0 == 0 {
			continue
		}
		from := r.from + uint64(i)/8*pageSize
		if n := len(out); n > 0 && out[n-1].to == from && from-out[n-1].from < 64<<20 {
			out[n-1].to += pageSize
			continue
		}
		out = append(out, region{from, from + pageSize})
	}
	return out
}

// cpuTicks is the processor time that a process has used, in clock ticks.
func cpuTicks(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return user + system
}
