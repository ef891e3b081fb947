//go:build amd64 || arm64

package jail

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxStderr is how much of what an ended process wrote to its standard error is looked at.
const maxStderr = 8 << 10

// Process is a started process. Its methods are safe for concurrent use.
type Process struct {
	// Conn is the parent's end of the stream socket whose other end is descriptor [ConnFD] of the process. It works with
	// deadlines. Wait does not close it.
	Conn *os.File
	// PID is the process id as seen by the parent.
	PID int

	pidfd  *os.File // nil on kernels without
	stderr *os.File // read end; nil when the process shares the parent's
	limit  time.Duration
	oom    func() bool
	onExit func()
	signal func(pid int) error // ends the process from where that is allowed; nil: from any thread

	mu     sync.Mutex
	killed bool
	reaped bool

	once sync.Once
	exit Exit
}

// Kill ends the process at once. It is not an error to kill a process that has ended, and does not change why it did.
func (p *Process) Kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped || p.hasEnded() {
		return nil
	}
	p.killed = true
	kill := p.signal
	if kill == nil {
		kill = func(pid int) error { return unix.Kill(pid, unix.SIGKILL) }
	}
	if err := kill(p.PID); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", p.PID, err)
	}
	return nil
}

// Wait blocks until the process has ended and releases what the kernel keeps of it. Every started process must be waited
// for; waiting again returns the same answer. It occupies no thread while it blocks.
func (p *Process) Wait() Exit {
	p.once.Do(p.wait)
	return p.exit
}

func (p *Process) wait() {
	p.awaitReadable()
	var status syscall.WaitStatus
	var usage syscall.Rusage
	for {
		p.mu.Lock()
		got, err := syscall.Wait4(p.PID, &status, syscall.WNOHANG, &usage)
		if got == p.PID || (err != nil && err != syscall.EINTR) {
			p.reaped = true
			p.mu.Unlock()
			break
		}
		p.mu.Unlock()
		p.blockUntilEnded()
	}
	e := ending{
		exited: status.Exited(), code: status.ExitStatus(), killed: p.killed, limit: p.limit,
		cpu:    time.Duration(usage.Utime.Nano() + usage.Stime.Nano()),
		maxRSS: usage.Maxrss << 10,
	}
	if status.Signaled() {
		e.signal = status.Signal()
	}
	if p.stderr != nil {
		e.stderr, _ = io.ReadAll(io.LimitReader(p.stderr, maxStderr))
		_ = p.stderr.Close()
	}
	if p.oom != nil {
		e.oomKills = p.oom()
	}
	p.exit = e.classify()
	if p.pidfd != nil {
		_ = p.pidfd.Close()
	}
	if p.onExit != nil {
		p.onExit()
	}
}

// hasEnded reports whether the process has ended and was not reaped yet, where the kernel gave a descriptor for it.
func (p *Process) hasEnded() (ended bool) {
	if p.pidfd == nil {
		return false
	}
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		ended = err == nil && n > 0
	})
	return ended
}

// awaitReadable waits in the poller until the process has ended, where the kernel gave a descriptor for it.
func (p *Process) awaitReadable() {
	if p.pidfd == nil {
		return
	}
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return n > 0 || (err != nil && err != unix.EINTR)
	})
}

// blockUntilEnded waits in the kernel without reaping, for kernels where the poller cannot.
func (p *Process) blockUntilEnded() {
	_ = unix.Waitid(unix.P_PID, p.PID, nil, unix.WEXITED|unix.WNOWAIT, nil)
}

// watch keeps the descriptor of the process, if the kernel gave one, for the poller.
func (p *Process) watch(pidfd int) {
	if pidfd < 0 {
		return
	}
	_ = unix.SetNonblock(pidfd, true)
	p.pidfd = os.NewFile(uintptr(pidfd), "process")
}

// keepDescriptors marks every descriptor of this process, whoever opened or inherited it, to be closed in programs started
// from now on. What a child shall have is passed explicitly.
func keepDescriptors() error {
	if err := unix.CloseRange(ConnFD, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("mark descriptors: %w", err)
	}
	return nil
}

// sockets is a connected pair for a process about to be started; both ends are non-blocking, so both processes can serve them with their pollers.
func sockets() (parent *os.File, child int, err error) {
	if err := keepDescriptors(); err != nil {
		return nil, -1, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("make socket pair: %w", err)
	}
	return os.NewFile(uintptr(pair[0]), "jail"), pair[1], nil
}

// Conn is the socket to the parent in a process started by this package. Call it once.
func Conn() (*os.File, error) {
	kind, err := unix.GetsockoptInt(ConnFD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_STREAM {
		return nil, errors.New("descriptor 3 is not the socket of a parent process")
	}
	unix.CloseOnExec(ConnFD)
	return os.NewFile(ConnFD, "parent"), nil
}
