package jail

import (
	"bytes"
	"syscall"
	"time"
)

// Reason is why a process ended.
type Reason uint8

// The reasons. The zero Reason is that of a process still running.
const (
	ReasonNone      Reason = iota
	ReasonClean            // exit status 0
	ReasonMemory           // over its memory budget
	ReasonCPU              // over its processor time
	ReasonKilled           // by Kill
	ReasonViolation        // it made a call that no honest process makes
	ReasonCrash            // anything else
)

// String is the reason's name, in lower case.
func (r Reason) String() string {
	switch r {
	case ReasonNone:
		return "running"
	case ReasonClean:
		return "clean"
	case ReasonMemory:
		return "memory"
	case ReasonCPU:
		return "cpu"
	case ReasonKilled:
		return "killed"
	case ReasonViolation:
		return "violation"
	}
	return "crash"
}

// Exit tells how a process ended. It holds nothing that the process wrote.
type Exit struct {
	Reason Reason
	Code   int            // exit status, -1 when ended by a signal
	Signal syscall.Signal // 0 when it exited
	CPU    time.Duration  // user and system time
	MaxRSS int64          // bytes
}

// cpuTolerance is how much earlier than by the time it reports the kernel may enforce a limit: it enforces by ticks.
const cpuTolerance = 300 * time.Millisecond

// ending is what is known about an ended process.
type ending struct {
	exited   bool
	code     int
	signal   syscall.Signal
	cpu      time.Duration
	maxRSS   int64
	killed   bool          // by us
	limit    time.Duration // of processor time, 0 for none
	oomKills bool          // the cgroup counted a kill
	stderr   []byte
}

// classify decides the reason. Text that the process wrote is used for one thing only: to tell memory exhaustion found by
// the Go runtime from other fatal errors. A hostile process can thereby choose between two ways of having failed.
func (e ending) classify() Exit {
	exit := Exit{Code: e.code, Signal: e.signal, CPU: e.cpu, MaxRSS: e.maxRSS, Reason: ReasonCrash}
	outOfTime := e.limit > 0 && e.cpu >= e.limit-max(cpuTolerance, e.limit/10)
	switch {
	case e.exited && e.code == 0:
		exit.Reason = ReasonClean
	case e.exited && e.code == ExitMemory:
		exit.Reason = ReasonMemory
	case e.exited && outOfTime:
		exit.Reason = ReasonCPU
	case e.exited && e.code == 2 && saysOutOfMemory(e.stderr):
		exit.Reason = ReasonMemory
	case e.signal == syscall.SIGKILL && e.killed:
		exit.Reason = ReasonKilled
	case e.signal == syscall.SIGSYS:
		exit.Reason = ReasonViolation
	case e.signal == syscall.SIGXCPU, e.signal == syscall.SIGKILL && outOfTime:
		exit.Reason = ReasonCPU
	case e.signal == syscall.SIGKILL && e.oomKills:
		exit.Reason = ReasonMemory
	}
	return exit
}

func saysOutOfMemory(stderr []byte) bool {
	for _, text := range []string{"out of memory", "cannot allocate memory", "stack overflow", "stack exceeds"} {
		if bytes.Contains(stderr, []byte(text)) {
			return true
		}
	}
	return false
}
