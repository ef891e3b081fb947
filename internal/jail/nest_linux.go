//go:build amd64 || arm64

package jail

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names of the added layers.
const (
	layerMount = "mount-namespace"
	layerNet   = "net-namespace"
	layerIPC   = "ipc-namespace"
	layerUTS   = "uts-namespace"
	layerPID   = "pid-namespace"
	layerUID   = "uid-per-child"

	fixNamespaces = "allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), or run under a container profile that permits unshare(2), clone(2) and mount(2)"
	fixUID        = "start bulkhead as root, so that it can give each process a uid of its own"
)

// childNamespaces are made anew for every child, and workerNamespaces for every worker. A network namespace takes the
// kernel longer than everything else together, so sandboxes, which live for one execution, share one that is empty.
const (
	childNamespaces  = unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	workerNamespaces = childNamespaces | unix.CLONE_NEWNET
)

// nest is the place from which children of one kind are started: a thread in namespaces of its own. All fields are set
// before newNest returns; the thread alone works on requests.
type nest struct {
	kind       Kind
	limits     Limits
	config     SpawnerConfig
	path       string // of the executable, as the thread sees it
	imageDir   int    // O_PATH descriptor of the directory that holds the executable, -1 when none does
	image      int    // descriptor of the executable when it has no path, -1 otherwise
	cloneFlags uintptr
	report     Report
	group      *group // nil where no cgroup is writable
	argv       []string
	env        []string

	requests chan request  // never closed
	quit     chan struct{} // closed by close
	ended    chan struct{} // closed when the thread has ended
}

// request asks the thread to start a child, or to end one.
type request struct {
	uid    uint32
	answer chan<- answer
	end    int          // process to end, 0 for a start
	ended  chan<- error // the answer to that
}

type answer struct {
	process *Process
	err     error
}

func newNest(k Kind, image []byte, l Limits, c SpawnerConfig) (*nest, error) {
	n := &nest{
		kind: k, limits: l, config: c, image: -1, imageDir: -1,
		argv:     append([]string{"bulkhead-" + k.String(), childArgument(k, l)}, c.args...),
		env:      environment(k, l, c.GCPercent),
		requests: make(chan request),
		quit:     make(chan struct{}),
		ended:    make(chan struct{}),
	}
	prepared := make(chan error)
	onOwnThread(func() {
		defer close(n.ended)
		err := n.enter(image)
		prepared <- err
		if err == nil {
			n.serve()
		}
		if n.group != nil {
			n.group.leaveThread()
		}
	})
	if err := <-prepared; err != nil {
		<-n.ended
		if n.group != nil {
			n.group.remove()
		}
		return nil, err
	}
	return n, nil
}

// onOwnThread runs f in a goroutine on a thread that ends with it; the kernel then kills the processes that the thread
// started. It is never the process's first thread, which cannot end and whose namespaces /proc/self shows.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f() // never unlocked
			return
		}
		defer runtime.UnlockOSThread()
		elsewhere := make(chan struct{}) // closed by the other goroutine once it has a thread, which cannot be this one
		go func() {
			runtime.LockOSThread()
			close(elsewhere)
			f()
		}()
		<-elsewhere
	}()
}

func (n *nest) close() error {
	close(n.quit)
	<-n.ended
	if n.group != nil {
		n.group.remove()
	}
	var errs []error
	for _, fd := range []int{n.imageDir, n.image} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}

// start asks the thread for a child.
func (n *nest) start(ctx context.Context, uid uint32) (*Process, error) {
	answers := make(chan answer, 1)
	select {
	case n.requests <- request{uid: uid, answer: answers}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-n.quit:
		return nil, ErrClosed
	}
	a := <-answers
	return a.process, a.err
}

// kill ends a child, on the thread that started it. Landlock's signal scope would refuse any other thread of a locked-down
// runner: each thread has a domain of its own, and a child's domain lies below that of its starter.
func (n *nest) kill(pid int) error {
	ended := make(chan error, 1)
	select {
	case n.requests <- request{end: pid, ended: ended}:
		return <-ended
	case <-n.quit:
		return unix.Kill(pid, unix.SIGKILL)
	}
}

func (n *nest) serve() {
	for {
		select {
		case r := <-n.requests:
			if r.end != 0 {
				r.ended <- unix.Kill(r.end, unix.SIGKILL)
				continue
			}
			p, err := n.spawn(r.uid)
			r.answer <- answer{p, err}
		case <-n.quit:
			return
		}
	}
}

// childSlack is how much later than asked for a child's timers may fire, in nanoseconds. The monitor thread of the Go
// runtime begins by looking every 20 µs, and each look is two switches and perhaps another processor that wakes: a quarter
// of the processor time of a process that lives for some milliseconds. Children inherit it from the thread that starts
// them.
const childSlack = 1_000_000

// enter moves the calling thread into namespaces of its own, as far as the host allows, and puts the executable where
// children are started from.
func (n *nest) enter(image []byte) error {
	if !n.config.without[layerNoNewPriv] {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return &LayerError{Layer: layerNoNewPriv, Fix: fixPrctl, Err: err}
		}
	}
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, childSlack, 0, 0, 0) // it only saves time
	if !n.config.without[layerCaps] {
		// Programs started with uid 0 of a user namespace shall not regain its capabilities. Where this is not allowed,
		// the child's own lock-down drops them.
		_ = unix.Prctl(unix.PR_SET_SECUREBITS, secureNoRoot, 0, 0, 0)
	}
	for _, each := range []struct {
		layer string
		flag  int
	}{{layerNet, unix.CLONE_NEWNET}, {layerIPC, unix.CLONE_NEWIPC}, {layerUTS, unix.CLONE_NEWUTS}} {
		n.note(each.layer, n.unshare(each.layer, each.flag))
	}
	if on, _ := n.report.Layer(layerUTS); on.State == StateOn {
		// Children copy it: the host's name is none of their business.
		_ = unix.Sethostname([]byte("bulkhead"))
	}
	n.note(layerPID, n.tryPID())
	n.joinGroup()
	err := n.unshare(layerMount, unix.CLONE_NEWNS)
	if err == nil {
		err = n.emptyRoot(image)
		if err != nil && n.path != "" {
			return err // half moved: the thread is of no use
		}
	}
	n.note(layerMount, err)
	if err == nil {
		return nil
	}
	return n.imageInMemory(image)
}

// joinGroup puts the thread, and with it every child, under limits for all children of its kind together. It comes before
// the root is changed, since it needs the host's file system.
func (n *nest) joinGroup() {
	err := errLeftOut
	if !n.config.without[layerCgroup] {
		n.group, err = newGroup(n.kind.String())
	}
	if err == nil {
		err = errors.Join(n.group.limit(n.config.GroupMemory, n.config.MaxChildren), n.group.open(), n.group.enterThread())
		if err != nil {
			n.group.leaveThread()
			n.group.remove()
			n.group = nil
		}
	}
	if err != nil {
		n.report.add(layerCgroup, false, StateMissing, err.Error(), fixCgroup)
		return
	}
	n.report.add(layerCgroup, false, StateOn, n.group.detail(), "")
}

// secureNoRoot is SECBIT_NOROOT and its lock.
const secureNoRoot = 1<<0 | 1<<1

func (n *nest) note(layer string, err error) {
	if err != nil {
		n.report.add(layer, false, StateMissing, err.Error(), fixNamespaces)
		return
	}
	n.report.add(layer, false, StateOn, "", "")
}

var errLeftOut = errors.New("left out by a test")

func (n *nest) unshare(layer string, flag int) error {
	if n.config.without[layer] {
		return errLeftOut
	}
	if err := unix.Unshare(flag); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	return nil
}

// tryPID finds out whether children can have process namespaces. It asks on a thread that is then thrown away, since a
// thread that has unshared one cannot start children in another.
func (n *nest) tryPID() error {
	if n.config.without[layerPID] {
		return errLeftOut
	}
	result := make(chan error)
	onOwnThread(func() { result <- unix.Unshare(unix.CLONE_NEWPID) })
	if err := <-result; err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	n.cloneFlags = childNamespaces
	if n.kind == KindWorker {
		n.cloneFlags = workerNamespaces
	}
	return nil
}

// emptyRoot replaces the thread's root by a read-only file system that holds the executable and nothing else.
func (n *nest) emptyRoot(image []byte) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	place, err := mountPoint(len(image))
	if err != nil {
		return err
	}
	name := "bulkhead-" + n.kind.String()
	n.path = "/" + name
	if err := writeExecutable(place+n.path, image); err != nil {
		return fmt.Errorf("write executable: %w", err)
	}
	const flags = unix.MS_REMOUNT | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("", place, "", flags, ""); err != nil {
		return fmt.Errorf("make root read-only: %w", err)
	}
	if err := changeRoot(place); err != nil {
		return err
	}
	n.imageDir, err = unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open new root: %w", err)
	}
	return nil
}

// writeExecutable keeps other threads from starting processes meanwhile: for a moment those would hold the file open for
// writing, and it could be neither executed nor made read-only.
func writeExecutable(path string, image []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, image, 0o555) // #nosec G306 -- an executable that holds no secret
}

// mountPoint mounts a small file system over a directory that every host has. Only this thread sees it.
func mountPoint(size int) (string, error) {
	options := fmt.Sprintf("size=%d,nr_inodes=8,mode=0555", size+1<<20)
	var errs []error
	for _, place := range []string{"/tmp", "/run", "/etc", "/proc"} {
		err := unix.Mount("bulkhead", place, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options)
		if err == nil {
			return place, nil
		}
		errs = append(errs, fmt.Errorf("mount tmpfs: %w", err))
	}
	return "", errors.Join(errs...)
}

func changeRoot(place string) error {
	if err := unix.Chdir(place); err != nil {
		return fmt.Errorf("enter new root: %w", err)
	}
	err := unix.PivotRoot(".", ".")
	if err == nil {
		// The old root now lies over the new one.
		err = unix.Unmount(".", unix.MNT_DETACH)
	} else if err = unix.Mount(".", "/", "", unix.MS_MOVE, ""); err == nil {
		// An initial ram disk cannot be pivoted away.
		err = unix.Chroot(".")
	}
	if err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter new root: %w", err)
	}
	return nil
}

// imageInMemory keeps the executable in an anonymous, sealed file, for hosts without mount namespaces.
func (n *nest) imageInMemory(image []byte) error {
	fd, err := unix.MemfdCreate("bulkhead-"+n.kind.String(), unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("make memory file for executable: %w", err)
	}
	n.image = fd
	for rest := image; len(rest) > 0; {
		written, err := unix.Write(fd, rest)
		if err != nil {
			return fmt.Errorf("write executable: %w", err)
		}
		rest = rest[written:]
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("seal executable: %w", err)
	}
	n.path = fmt.Sprintf("/proc/self/fd/%d", fd)
	return nil
}

// spawn starts one child from the calling thread, which passes on its namespaces.
func (n *nest) spawn(uid uint32) (*Process, error) {
	conn, childConn, err := sockets()
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(childConn) }()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, errors.Join(fmt.Errorf("make pipe: %w", err), conn.Close())
	}
	defer func() { _ = unix.Close(pipe[1]) }()
	pidfd := -1
	attr := syscall.SysProcAttr{
		Cloneflags: n.cloneFlags,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
		PidFD:      &pidfd,
	}
	if uid != 0 {
		attr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
	// All three standard streams are the pipe's write end: nothing is shared with another child, and reading fails.
	pid, err := syscall.ForkExec(n.path, n.argv, &syscall.ProcAttr{
		Env:   n.env,
		Files: []uintptr{uintptr(pipe[1]), uintptr(pipe[1]), uintptr(pipe[1]), uintptr(childConn)},
		Sys:   &attr,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("execute: %w", err), unix.Close(pipe[0]), conn.Close())
	}
	p := &Process{Conn: conn, PID: pid, limit: n.limits.CPU, stderr: os.NewFile(uintptr(pipe[0]), "stderr")}
	p.watch(pidfd)
	if n.group != nil {
		p.oom = n.group.killedSince
		if err := n.group.take(pid); err != nil {
			_ = p.Kill()
			return nil, errors.Join(err, conn.Close(), errors.New(p.Wait().Reason.String()))
		}
	}
	p.signal = n.kill
	return p, nil
}

func splitLines(text string) []string { return strings.Split(strings.TrimSpace(text), "\n") }
