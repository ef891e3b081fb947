//go:build amd64 || arm64

package jail

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"

	"github.com/bulkheadhq/bulkhead/internal/jail/landlock"
	"golang.org/x/sys/unix"
)

// ErrClosed is returned by Start after Close.
var ErrClosed = errors.New("spawner is closed")

// ErrTooMany is returned by Start when every uid of the range is in use.
var ErrTooMany = errors.New("too many children")

// SpawnerConfig says what to start and how. Worker or Sandbox may be nil; its kind is then refused.
type SpawnerConfig struct {
	// Worker and Sandbox are static executables, as bytes.
	Worker, Sandbox []byte
	// WorkerLimits and SandboxLimits bound each child.
	WorkerLimits, SandboxLimits Limits
	// GCPercent is GOGC of the children, 0 for 400.
	GCPercent int
	// FirstUID begins the range of uids of which every child gets its own, where the process may set uids. 0 means
	// [DefaultFirstUID].
	FirstUID uint32
	// MaxChildren is the length of that range and the highest number of children at a time. 0 means [DefaultMaxChildren].
	MaxChildren int
	// GroupMemory bounds all children of one kind together, in bytes, by a cgroup where one is writable. 0 is no bound.
	GroupMemory int64
	// Full makes a missing added layer an error.
	Full bool

	without map[string]bool // layers that a test of this package leaves out
	args    []string        // further arguments for a test's child
}

// Defaults of [SpawnerConfig]. The uids lie outside the ranges that distributions and container tools hand out.
const (
	DefaultFirstUID    = 2_063_597_568
	DefaultMaxChildren = 4096
	defaultGCPercent   = 400
)

// Spawner starts workers and sandboxes. It is safe for concurrent use.
type Spawner struct {
	config SpawnerConfig
	nests  map[Kind]*nest
	report Report

	mu     sync.Mutex
	closed bool
	uids   []uint32 // free ones, nil when children share this process's uid
	ownUID bool
	slots  int
	live   map[*Process]struct{}
}

// NewSpawner prepares the places from which children are started: for each kind a thread in namespaces of its own with a
// root that holds nothing but the executable. What the host does not allow is left out and in the report; with Full set it
// is an error. The calling process needs CAP_SYS_ADMIN for the added layers, best inside a user namespace of its own
// ([StartRole] gives the runner one).
func NewSpawner(c SpawnerConfig) (*Spawner, Report, error) {
	if c.FirstUID == 0 {
		c.FirstUID = DefaultFirstUID
	}
	if c.MaxChildren == 0 {
		c.MaxChildren = DefaultMaxChildren
	}
	if c.GCPercent == 0 {
		c.GCPercent = defaultGCPercent
	}
	worker, sandbox := c.Worker, c.Sandbox
	c.Worker, c.Sandbox = nil, nil // they are in their nests, and not kept here
	s := &Spawner{config: c, nests: map[Kind]*nest{}, slots: c.MaxChildren, live: map[*Process]struct{}{}}
	s.ownUID = !c.without[layerUID] && maySetUIDs(c.FirstUID, c.MaxChildren)
	if s.ownUID {
		s.uids = make([]uint32, c.MaxChildren)
		for i := range s.uids {
			s.uids[i] = c.FirstUID + uint32(c.MaxChildren-1-i)
		}
	}
	for _, each := range []struct {
		kind  Kind
		image []byte
		limit Limits
	}{{KindWorker, worker, c.WorkerLimits}, {KindSandbox, sandbox, c.SandboxLimits}} {
		if each.image == nil {
			continue
		}
		n, err := newNest(each.kind, each.image, each.limit.withDefaults(each.kind), c)
		if err != nil {
			_ = s.Close()
			return nil, Report{}, fmt.Errorf("prepare place for %s: %w", each.kind, err)
		}
		s.nests[each.kind] = n
		s.report = n.report
	}
	s.report.add(layerUID, false, stateOf(s.ownUID), "one for each child", fixUID)
	if missing := s.report.Missing(); c.Full && len(missing) > 0 {
		_ = s.Close()
		return nil, s.report, &LayerError{Layer: missing[0].Name, Fix: missing[0].Fix, Err: errors.New("missing, and security.require is full")}
	}
	return s, s.report, nil
}

// Start starts a child. Its environment holds settings of the Go runtime only; its descriptors are the socket and a pipe
// that nobody shows. When ctx ends before the child has started, nothing is left behind.
func (s *Spawner) Start(ctx context.Context, k Kind) (*Process, error) {
	n := s.nests[k]
	if n == nil {
		return nil, fmt.Errorf("start %s: no executable for this kind", k)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	uid, err := s.take()
	if err != nil {
		return nil, err
	}
	p, err := n.start(ctx, uid)
	if err != nil {
		s.release(uid, nil)
		return nil, fmt.Errorf("start %s: %w", k, err)
	}
	p.onExit = func() { s.release(uid, p) }
	s.mu.Lock()
	s.live[p] = struct{}{}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		_ = p.Kill()
		p.Wait()
		return nil, errors.Join(ErrClosed, p.Conn.Close())
	}
	return p, nil
}

func (s *Spawner) take() (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, ErrClosed
	}
	if s.slots == 0 {
		return 0, ErrTooMany
	}
	s.slots--
	if !s.ownUID {
		return 0, nil
	}
	uid := s.uids[len(s.uids)-1]
	s.uids = s.uids[:len(s.uids)-1]
	return uid, nil
}

func (s *Spawner) release(uid uint32, p *Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, p)
	s.slots++
	if s.ownUID {
		s.uids = append(s.uids, uid)
	}
}

// Close kills every child still running, waits for them and ends the threads that start children.
func (s *Spawner) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	running := slices.Collect(maps.Keys(s.live))
	s.mu.Unlock()
	var errs []error
	for _, p := range running {
		errs = append(errs, p.Kill())
		p.Wait()
	}
	for _, n := range s.nests {
		errs = append(errs, n.close())
	}
	return errors.Join(errs...)
}

// landlockRules let a locked-down runner go on executing the children's images, and nothing else.
func (s *Spawner) landlockRules() []landlock.PathRule {
	var out []landlock.PathRule
	for _, n := range s.nests {
		if n.imageDir < 0 {
			continue // a memory file has no path that Landlock could grant or deny
		}
		out = append(out, landlock.PathRule{File: n.imageDir, Access: landlock.Execute | landlock.ReadFile})
	}
	return out
}

func (s *Spawner) capabilities() uint32 {
	for _, n := range s.nests {
		if n.cloneFlags != 0 {
			return spawnCapabilities
		}
	}
	if s.ownUID {
		return spawnCapabilities &^ (1 << unix.CAP_SYS_ADMIN)
	}
	return 0
}

// environment is what a child of a kind is given. A sandbox works as long as it lives, and its runtime's monitor is kept
// steady. A worker mostly rests, and there are many: their monitors would wake a hundred times a second each, for nothing.
func environment(k Kind, l Limits, gc int) []string {
	// The runtime would otherwise open files to learn how many processors it may use, and keep one open.
	debug := "GODEBUG=containermaxprocs=0,updatemaxprocs=0"
	if k == KindSandbox {
		debug += "," + SteadyMonitor
	}
	return []string{
		"GOMAXPROCS=1",
		"GOGC=" + strconv.Itoa(gc),
		"GOMEMLIMIT=" + strconv.FormatInt(l.Memory, 10),
		"GOTRACEBACK=none",
		debug,
	}
}

// maySetUIDs tells whether children can be given uids of the range: the capability is there and the range is mapped.
func maySetUIDs(first uint32, count int) bool {
	if !effective(unix.CAP_SETUID) || !effective(unix.CAP_SETGID) || !effective(unix.CAP_KILL) {
		return false
	}
	for _, file := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		if !mapped(file, uint64(first), uint64(count)) {
			return false
		}
	}
	groups, err := os.ReadFile("/proc/self/setgroups")
	return err != nil || string(groups) != "deny\n"
}

func mapped(file string, first, count uint64) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	var inside, outside, length uint64
	for _, line := range splitLines(string(text)) {
		if n, _ := fmt.Sscan(line, &inside, &outside, &length); n == 3 && inside <= first && first+count <= inside+length {
			return true
		}
	}
	return false
}

func effective(capability int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}
