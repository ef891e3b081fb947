//go:build amd64 || arm64

package jail

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	layerCgroup = "cgroup"

	fixCgroup = "delegate a cgroup to bulkhead (systemd: Delegate=yes), or mount /sys/fs/cgroup writable in its container"

	groupPrefix = "bulkhead-" // then the maker's process namespace and id, what it is for, and random text

	// tasksPerChild bounds pids.max of a group: what one child may have, with room.
	tasksPerChild = 16
	// childShares is cpu.shares of a group of children, childWeight the same for version 2: the roles that feed them go first.
	childShares = 512
	childWeight = 50
)

var errNoCgroup = errors.New("no controller in a writable cgroup")

// controllers are the ones used where they are there.
func controllers() []string { return []string{"memory", "pids", "cpu"} }

// hierarchy is one mounted cgroup tree and the directory of this process in it. A version 1 tree has some controllers, the
// version 2 tree what its cgroup.controllers says.
type hierarchy struct {
	v2          bool
	controllers []string
	dir         string
}

// hierarchies reads where this process is, from the texts of /proc/self/cgroup and /proc/self/mountinfo.
func hierarchies(cgroup, mountinfo string) []hierarchy {
	var out []hierarchy
	for _, line := range splitLines(cgroup) {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) != 3 {
			continue
		}
		h := hierarchy{v2: fields[0] == "0"}
		for _, name := range strings.Split(fields[1], ",") {
			if slices.Contains(controllers(), name) {
				h.controllers = append(h.controllers, name)
			}
		}
		if !h.v2 && len(h.controllers) == 0 {
			continue
		}
		if mount, root := h.mount(mountinfo); mount != "" {
			h.dir = filepath.Join(mount, strings.TrimPrefix(fields[2], strings.TrimSuffix(root, "/")))
			out = append(out, h)
		}
	}
	return out
}

// mount finds the tree's mount point and which part of the tree is mounted there.
func (h hierarchy) mount(mountinfo string) (mount, root string) {
	for _, line := range splitLines(mountinfo) {
		before, after, found := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !found || len(left) < 5 || len(right) < 3 {
			continue
		}
		if h.v2 && right[0] == "cgroup2" {
			return left[4], left[3]
		}
		if !h.v2 && right[0] == "cgroup" && slices.Contains(strings.Split(right[2], ","), h.controllers[0]) {
			return left[4], left[3]
		}
	}
	return "", ""
}

func ownHierarchies() ([]hierarchy, error) {
	cgroup, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("read own cgroup: %w", err)
	}
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	out := hierarchies(string(cgroup), string(mountinfo))
	for i, h := range out {
		if h.v2 {
			text, _ := os.ReadFile(filepath.Join(h.dir, "cgroup.controllers"))
			for _, name := range strings.Fields(string(text)) {
				if slices.Contains(controllers(), name) {
					out[i].controllers = append(out[i].controllers, name)
				}
			}
		}
	}
	return slices.DeleteFunc(out, func(h hierarchy) bool { return len(h.controllers) == 0 }), nil
}

// group is a cgroup of this project, which may span several trees.
type group struct {
	parts []part

	mu    sync.Mutex
	kills int64 // counted so far
}

type part struct {
	hierarchy        // with dir being the group's own directory
	join      string // file that takes a process (version 2) or thread (version 1)
	events    *os.File
	procs     *os.File // version 2: of the group
	above     *os.File // version 1: tasks of the group above
}

// newGroup makes a group below the caller's own in every tree that allows it.
func newGroup(purpose string) (*group, error) {
	name, err := groupName(purpose)
	if err != nil {
		return nil, err
	}
	trees, err := ownHierarchies()
	if err != nil {
		return nil, err
	}
	g := &group{}
	var errs []error
	for _, h := range trees {
		p, err := h.child(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		g.parts = append(g.parts, p)
	}
	if len(g.parts) == 0 {
		return nil, errors.Join(append(errs, errNoCgroup)...)
	}
	return g, nil
}

// child makes a directory in this hierarchy. In version 2 a group with processes cannot have limited children, so the new
// one is made beside the caller's when the caller's own cannot be divided.
func (h hierarchy) child(name string) (part, error) {
	parents := []string{h.dir}
	if h.v2 {
		parents = append(parents, filepath.Dir(h.dir))
	}
	var last error
	for _, parent := range parents {
		if h.v2 {
			enable := "+" + strings.Join(h.controllers, " +")
			if last = write(filepath.Join(parent, "cgroup.subtree_control"), enable); last != nil {
				continue
			}
		}
		sweep(parent)
		dir := filepath.Join(parent, name)
		if err := os.Mkdir(dir, 0o755); err != nil { // #nosec G301 -- a cgroup, not a directory of files
			last = fmt.Errorf("make cgroup: %w", err)
			continue
		}
		p := part{hierarchy: h, join: "tasks"}
		p.dir = dir
		if h.v2 {
			p.join = "cgroup.procs"
		}
		return p, nil
	}
	return part{}, last
}

// groupName is a name that no other group has, whoever makes it and wherever the tree is mounted: groups of one name would
// share their limits, and the end of one would end the processes of both. It says who made the group, for [sweep].
func groupName(purpose string) (string, error) {
	space, err := processSpace()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s%d-%d-%s-%s", groupPrefix, space, os.Getpid(), purpose, rand.Text()), nil
}

// processSpace is the number of the process namespace in which this process's ids have a meaning.
func processSpace() (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &stat); err != nil {
		return 0, fmt.Errorf("read own process namespace: %w", err)
	}
	return stat.Ino, nil
}

// sweep removes groups whose maker is gone. It ends no process, so a group in use stays, and it judges only makers of its
// own process namespace: elsewhere the same id is somebody else or nobody, and a group may be empty between two children.
func sweep(parent string) {
	space, err := processSpace()
	if err != nil {
		return
	}
	own := fmt.Sprintf("%s%d-", groupPrefix, space)
	found, _ := filepath.Glob(filepath.Join(parent, own+"*"))
	for _, dir := range found {
		maker, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), own), "-")
		pid, err := strconv.Atoi(maker)
		if err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			removeEmpty(dir)
		}
	}
}

// removeEmpty removes a group's directory and those below it, as far as nothing runs there.
func removeEmpty(dir string) {
	below, _ := filepath.Glob(filepath.Join(dir, "*", "cgroup.procs"))
	for _, file := range below {
		_ = os.Remove(filepath.Dir(file))
	}
	_ = os.Remove(dir)
}

// How long removeTree waits for processes that the kernel is about to end, and between looks.
const (
	removeWait  = 2 * time.Second
	removePause = 2 * time.Millisecond
)

// removeTree ends what still runs in a group and removes its directory and those below it. The files in them go by
// themselves. What cannot be removed in time stays for the next sweep.
func removeTree(dir string) {
	for end := time.Now().Add(removeWait); ; time.Sleep(removePause) {
		lists, _ := filepath.Glob(filepath.Join(dir, "*", "cgroup.procs"))
		for _, list := range append(lists, filepath.Join(dir, "cgroup.procs")) {
			killListed(list)
			if err := os.Remove(filepath.Dir(list)); errors.Is(err, fs.ErrPermission) {
				return // a locked-down runner: its supervisor removes what it has made
			}
		}
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) || time.Now().After(end) {
			return
		}
	}
}

// killListed kills the processes of a group, but never this one or, in a tree of another process namespace, unknown ones.
func killListed(list string) {
	text, _ := os.ReadFile(list)
	for _, word := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(word); err == nil && pid > 1 && pid != os.Getpid() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func write(file, value string) error {
	if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
		return fmt.Errorf("set %s: %w", filepath.Base(file), err)
	}
	return nil
}

// limit bounds the group: memory in bytes (0 for none), and as many tasks as children need.
func (g *group) limit(memory int64, children int) error {
	var errs []error
	set := func(p part, controller, v1, v2 string, value int64) {
		if !slices.Contains(p.controllers, controller) {
			return
		}
		file := v1
		if p.v2 {
			file = v2
		}
		errs = append(errs, write(filepath.Join(p.dir, file), strconv.FormatInt(value, 10)))
	}
	for _, p := range g.parts {
		if memory > 0 {
			set(p, "memory", "memory.limit_in_bytes", "memory.max", memory)
		}
		set(p, "pids", "pids.max", "pids.max", int64(children)*tasksPerChild)
		share := int64(childShares)
		if p.v2 {
			share = childWeight
		}
		set(p, "cpu", "cpu.shares", "cpu.weight", share)
	}
	return errors.Join(errs...)
}

// open keeps what later steps need, since a locked-down process can open nothing.
func (g *group) open() error {
	for i := range g.parts {
		p := &g.parts[i]
		var err error
		if slices.Contains(p.controllers, "memory") {
			file := "memory.oom_control"
			if p.v2 {
				file = "memory.events"
			}
			if p.events, err = os.Open(filepath.Join(p.dir, file)); err != nil {
				return fmt.Errorf("open memory events: %w", err)
			}
		}
		if !p.v2 {
			if p.above, err = os.OpenFile(filepath.Join(filepath.Dir(p.dir), p.join), os.O_WRONLY, 0); err != nil {
				return fmt.Errorf("open tasks of the group above: %w", err)
			}
		}
		if p.v2 {
			if p.procs, err = os.OpenFile(filepath.Join(p.dir, p.join), os.O_WRONLY, 0); err != nil {
				return fmt.Errorf("open group's processes: %w", err)
			}
		}
	}
	g.kills = g.countKills()
	return nil
}

// enterThread moves the calling thread into the group's version 1 trees, which its children inherit.
func (g *group) enterThread() error {
	for _, p := range g.parts {
		if !p.v2 {
			if err := write(filepath.Join(p.dir, p.join), "0"); err != nil {
				return err
			}
		}
	}
	return nil
}

// leaveThread moves the calling thread back to the version 1 groups above, so that the group can be removed.
func (g *group) leaveThread() {
	for _, p := range g.parts {
		if p.above != nil {
			_, _ = p.above.WriteString("0")
		}
	}
}

// take moves a process into the group's version 2 tree.
func (g *group) take(pid int) error {
	for _, p := range g.parts {
		if p.procs != nil {
			if _, err := p.procs.WriteString(strconv.Itoa(pid)); err != nil {
				return fmt.Errorf("move into cgroup: %w", err)
			}
		}
	}
	return nil
}

// killedSince tells whether the kernel has killed for memory in the group since the last call.
func (g *group) killedSince() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.countKills()
	more := now > g.kills
	if more {
		g.kills++
	}
	return more
}

func (g *group) countKills() int64 {
	var total int64
	for _, p := range g.parts {
		if p.events == nil {
			continue
		}
		var buf [512]byte
		n, _ := p.events.ReadAt(buf[:], 0)
		for _, line := range bytes.Split(buf[:n], []byte("\n")) {
			if value, found := bytes.CutPrefix(line, []byte("oom_kill ")); found {
				count, _ := strconv.ParseInt(string(value), 10, 64)
				total += count
			}
		}
	}
	return total
}

func (g *group) detail() string {
	var names []string
	for _, p := range g.parts {
		version := "v1"
		if p.v2 {
			version = "v2"
		}
		names = append(names, version+" "+strings.Join(p.controllers, ","))
	}
	return strings.Join(names, "; ")
}

// remove closes the group's files and removes its directories, with those below. A directory still in use stays.
func (g *group) remove() {
	for _, p := range g.parts {
		for _, file := range []*os.File{p.events, p.procs, p.above} {
			if file != nil {
				_ = file.Close()
			}
		}
		removeTree(p.dir)
	}
}

// leaf is the name of the group in which a process begins that may divide the one above: in version 2 only a group without
// processes of its own can be divided.
const leaf = "role"

// newDelegated makes a group for a process about to be started and lets owner (-1: nobody else) divide it.
func newDelegated(purpose string, owner int) (*group, error) {
	g, err := newGroup(purpose)
	if err != nil {
		return nil, err
	}
	for _, p := range g.parts {
		dirs := []string{p.dir}
		if p.v2 {
			dirs = append(dirs, filepath.Join(p.dir, leaf))
			err = errors.Join(err, os.Mkdir(dirs[1], 0o755)) // #nosec G301 -- a cgroup
		}
		if owner < 0 {
			continue
		}
		for _, dir := range dirs {
			for _, file := range []string{"", "tasks", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} {
				if e := os.Chown(filepath.Join(dir, file), owner, -1); e != nil && !errors.Is(e, fs.ErrNotExist) {
					err = errors.Join(err, e)
				}
			}
		}
	}
	if err = errors.Join(err, g.open()); err != nil {
		g.remove()
		return nil, err
	}
	return g, nil
}

// fork starts a program in the group from the calling thread, which must be locked.
func (g *group) fork(program string, argv []string, attr *syscall.ProcAttr) (int, error) {
	for _, p := range g.parts {
		if !p.v2 {
			continue
		}
		dir, err := os.Open(filepath.Join(p.dir, leaf))
		if err != nil {
			return 0, fmt.Errorf("open cgroup: %w", err)
		}
		defer func() { _ = dir.Close() }()
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(dir.Fd())
	}
	defer g.leaveThread()
	if err := g.enterThread(); err != nil {
		return 0, err
	}
	return syscall.ForkExec(program, argv, attr)
}
