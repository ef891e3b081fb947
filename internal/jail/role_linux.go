//go:build amd64 || arm64

package jail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	layerRoleUID = "uid-per-role"
	layerUser    = "user-namespace"

	fixUserNamespace = "allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), or a container profile that permits clone(2) with CLONE_NEWUSER"
)

// selfExecutable is this program, whatever its file was renamed or replaced with since it started.
const selfExecutable = "/proc/self/exe"

// RoleStart says how to start a role: this same executable, as a process of its own.
type RoleStart struct {
	// Name becomes the process's title.
	Name string
	// Args are the arguments after the title.
	Args []string
	// Env is the whole environment, as KEY=value. Nothing of the caller's environment is passed on.
	Env []string
	// UID and GID are what the process gets when this one may set uids; otherwise it keeps the caller's. 0 keeps the caller's.
	UID, GID uint32
	// Stdout and Stderr are the process's streams, nil for nothing. Its standard input is empty.
	Stdout, Stderr *os.File
	// Files are further descriptors that the process gets, from [ConnFD]+1 on. They stay the caller's to close.
	Files []*os.File
	// Children prepares the role for a [Spawner]: a user namespace of its own, in which alone it has capabilities, with a
	// range of uids for its children where the caller can give one, and a cgroup that it may divide, in which it begins.
	Children bool
	// FirstUID and MaxChildren are that range, as in [SpawnerConfig]; zero means the same defaults.
	FirstUID    uint32
	MaxChildren int

	program string // what a test starts instead of this executable
}

// StartRole starts a role. The process is killed when the caller's process ends. The report names the added layers and
// whether the host allowed them. The caller must wait for the process, and closes its Conn.
func StartRole(c RoleStart) (*Process, Report, error) {
	if c.FirstUID == 0 {
		c.FirstUID = DefaultFirstUID
	}
	if c.MaxChildren == 0 {
		c.MaxChildren = DefaultMaxChildren
	}
	if c.program == "" {
		c.program = selfExecutable
	}
	var report Report
	canSet := c.UID != 0 && maySetUIDs(c.UID, 1) && (c.GID == 0 || maySetUIDs(c.GID, 1))
	report.add(layerRoleUID, false, stateOf(canSet), "", fixUID)
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	if canSet {
		attr.Credential = &syscall.Credential{Uid: c.UID, Gid: c.GID}
	}
	var g *group
	if c.Children {
		g = c.delegate(canSet, &report)
		p, err := c.start(c.inUserNamespace(canSet), g)
		if err == nil {
			report.add(layerUser, false, StateOn, "", "")
			return p, report, nil
		}
		report.add(layerUser, false, StateMissing, err.Error(), fixUserNamespace)
	}
	p, err := c.start(attr, g)
	if err != nil {
		if g != nil {
			g.remove()
		}
		return nil, report, fmt.Errorf("start role %s: %w", c.Name, err)
	}
	return p, report, nil
}

// delegate makes the cgroup in which a runner begins and which it may divide; nil where the host allows none.
func (c RoleStart) delegate(canSet bool, r *Report) *group {
	owner := -1
	if canSet {
		owner = int(c.UID)
	}
	g, err := newDelegated(filepath.Base(c.Name), owner)
	if err != nil {
		r.add(layerCgroup, false, StateMissing, err.Error(), fixCgroup)
		return nil
	}
	r.add(layerCgroup, false, StateOn, g.detail(), "")
	return g
}

// inUserNamespace makes the process the root of a user namespace, which to everybody else is the role's own uid.
func (c RoleStart) inUserNamespace(canSet bool) *syscall.SysProcAttr {
	one := func(outside int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: outside, Size: 1}} }
	attr := &syscall.SysProcAttr{
		Pdeathsig:   syscall.SIGKILL,
		Setsid:      true,
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: one(os.Geteuid()),
		GidMappings: one(os.Getegid()),
		Credential:  &syscall.Credential{NoSetGroups: true},
	}
	if canSet {
		attr.UidMappings, attr.GidMappings = one(int(c.UID)), one(int(c.GID))
		attr.GidMappingsEnableSetgroups = true
		attr.Credential.NoSetGroups = false
		if maySetUIDs(c.FirstUID, c.MaxChildren) {
			children := syscall.SysProcIDMap{ContainerID: int(c.FirstUID), HostID: int(c.FirstUID), Size: c.MaxChildren}
			attr.UidMappings = append(attr.UidMappings, children)
			attr.GidMappings = append(attr.GidMappings, children)
		}
	}
	return attr
}

func (c RoleStart) start(attr *syscall.SysProcAttr, g *group) (*Process, error) {
	conn, childConn, err := sockets()
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(childConn) }()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open null device: %w", err), conn.Close())
	}
	defer func() { _ = null.Close() }()
	files := []uintptr{null.Fd(), null.Fd(), null.Fd(), uintptr(childConn)}
	if c.Stdout != nil {
		files[1] = c.Stdout.Fd()
	}
	if c.Stderr != nil {
		files[2] = c.Stderr.Fd()
	}
	for _, f := range c.Files {
		files = append(files, f.Fd())
	}
	pidfd := -1
	attr.PidFD = &pidfd
	done := make(chan struct{}) // closed when the process has been waited for
	pid, err := forkHeld(c.program, append([]string{c.Name}, c.Args...), &syscall.ProcAttr{Env: c.Env, Files: files, Sys: attr}, g, done)
	runtime.KeepAlive(c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("execute: %w", err), conn.Close())
	}
	p := &Process{Conn: conn, PID: pid, onExit: func() {
		close(done)
		if g != nil {
			g.remove()
		}
	}}
	p.watch(pidfd)
	return p, nil
}

// forkHeld starts a program, in the group if there is one, from a thread of its own that lives until done is closed: the
// kernel kills the process when the thread that started it ends. No other thread will do. This one is in the group while it
// starts the program, and where the process's first thread is, new groups of this process are made.
func forkHeld(program string, argv []string, attr *syscall.ProcAttr, g *group, done <-chan struct{}) (int, error) {
	type started struct {
		pid int
		err error
	}
	result := make(chan started)
	onOwnThread(func() {
		var s started
		if g == nil {
			s.pid, s.err = syscall.ForkExec(program, argv, attr)
		} else {
			s.pid, s.err = g.fork(program, argv, attr)
		}
		result <- s
		if s.err == nil {
			<-done
		}
	})
	s := <-result
	return s.pid, s.err
}
