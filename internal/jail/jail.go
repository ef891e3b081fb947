package jail

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ErrUnsupported is returned by everything here on systems without the required layers.
var ErrUnsupported = errors.New("jail: this operating system has none of the required layers; Linux 5.13 or newer is needed")

// ExitMemory is the exit status of a process whose heap watchdog found it over its budget.
const ExitMemory = 86

// ConnFD is the descriptor on which a started process finds its end of the socket to its parent.
const ConnFD = 3

// Kind is a sort of jailed child.
type Kind uint8

// The kinds of children. The zero Kind is none, so a forgotten kind starts nothing.
const (
	KindWorker  Kind = iota + 1 // interprets the flows of one instance; may live long
	KindSandbox                 // runs the code steps of one execution, then exits
)

// String is the kind's name as it appears in process titles and logs.
func (k Kind) String() string {
	switch k {
	case KindWorker:
		return "worker"
	case KindSandbox:
		return "sandbox"
	}
	return "none"
}

// Limits bound one jailed child. Zero values mean the kind's default.
type Limits struct {
	// Memory is the budget of the Go heap and stacks, in bytes.
	Memory int64
	// CPU is the processor time after which the kernel kills the child, rounded up to whole seconds. Workers have no
	// default: they live as long as their instance, and their runner's deadlines bound each execution.
	CPU time.Duration
}

// Defaults of [Limits].
const (
	DefaultWorkerMemory  = 64 << 20
	DefaultSandboxMemory = 64 << 20
	DefaultSandboxCPU    = 60 * time.Second
	minMemory            = 8 << 20
	maxMemory            = 8 << 30
)

func (l Limits) withDefaults(k Kind) Limits {
	if l.Memory == 0 {
		l.Memory = DefaultWorkerMemory
		if k == KindSandbox {
			l.Memory = DefaultSandboxMemory
		}
	}
	if l.CPU == 0 && k == KindSandbox {
		l.CPU = DefaultSandboxCPU
	}
	l.Memory = min(max(l.Memory, minMemory), maxMemory)
	l.CPU = (l.CPU + time.Second - 1).Truncate(time.Second)
	return l
}

// childArgument is how a Spawner tells a child its kind and limits; it is public to the child's own code and no secret.
func childArgument(k Kind, l Limits) string {
	return fmt.Sprintf("%s:%d:%d", k, l.Memory, int64(l.CPU/time.Second))
}

// ChildProfile reads the profile that the Spawner gave this process in its arguments (os.Args). A process that was not
// started by a Spawner gets an error.
func ChildProfile(args []string) (Profile, error) {
	if len(args) < 2 {
		return Profile{}, errors.New("this program is started by bulkhead's runner only")
	}
	parts := strings.Split(args[1], ":")
	if len(parts) != 3 {
		return Profile{}, errors.New("this program is started by bulkhead's runner only: no limits in its arguments")
	}
	memory, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return Profile{}, fmt.Errorf("read memory limit: %w", err)
	}
	seconds, err := strconv.ParseInt(parts[2], 10, 32)
	if err != nil {
		return Profile{}, fmt.Errorf("read processor time limit: %w", err)
	}
	limits := Limits{Memory: memory, CPU: time.Duration(seconds) * time.Second}
	switch parts[0] {
	case KindWorker.String():
		return Worker(limits), nil
	case KindSandbox.String():
		return Sandbox(limits), nil
	}
	return Profile{}, fmt.Errorf("start as %q: no such kind of child", parts[0])
}

// Profile is what a process keeps when it locks itself down. The zero Profile is refused.
type Profile struct {
	name   string
	kind   Kind // of a jailed child; 0 for a role
	limits Limits
	role   RoleConfig
}

// Worker is the profile of a worker: its open descriptors, memory within its budget, clocks and random numbers.
func Worker(l Limits) Profile {
	return Profile{name: KindWorker.String(), kind: KindWorker, limits: l.withDefaults(KindWorker)}
}

// Sandbox is the profile of a sandbox. It allows the same calls as [Worker], with processor time bounded as well.
func Sandbox(l Limits) Profile {
	return Profile{name: KindSandbox.String(), kind: KindSandbox, limits: l.withDefaults(KindSandbox)}
}

// RoleConfig says what a daemon role keeps. The zero value keeps no file and no network.
type RoleConfig struct {
	// Name is the role's name, for messages.
	Name string
	// ReadOnly and ReadWrite are files and directory trees. Paths that do not exist are an error, except those that begin
	// with "?", which are skipped when missing.
	ReadOnly, ReadWrite []string
	// Bind and Connect are TCP ports. They are enforced from Landlock ABI 4 (Linux 6.7); before, any port goes.
	Bind, Connect []uint16
	// AnyConnect allows any TCP port, and UDP for name resolution: the egress role.
	AnyConnect bool
	// AnyBind allows binding any TCP port, for a listener on port 0 in tests and development.
	AnyBind bool
	// Unix allows unix-domain sockets.
	Unix bool
	// Spawner keeps what starting children through it needs: the runner role.
	Spawner *Spawner
	// Memory bounds the Go heap softly (debug.SetMemoryLimit); the watchdog ends the process at twice that. 0: unbounded.
	Memory int64
	// Files is the highest number of open descriptors, 0 for the limit the process was started with.
	Files uint64
}

// Role is the profile of a daemon role.
func Role(c RoleConfig) Profile { return Profile{name: c.Name, role: c} }

// State is whether a layer holds.
type State uint8

// The states of a layer.
const (
	StateUnknown State = iota
	StateOn
	StateMissing
)

// String is the state's name as doctor prints it.
func (s State) String() string {
	switch s {
	case StateOn:
		return "on"
	case StateMissing:
		return "missing"
	}
	return "unknown"
}

// Layer is one layer of isolation and whether it holds.
type Layer struct {
	Name     string // stable, lower case, with dashes
	Required bool   // missing is fatal
	State    State
	Detail   string // what was found
	Fix      string // what an operator can do, empty when on
}

// Report lists layers.
type Report struct {
	Layers []Layer
}

// Missing is the layers that do not hold.
func (r Report) Missing() []Layer {
	var out []Layer
	for _, layer := range r.Layers {
		if layer.State != StateOn {
			out = append(out, layer)
		}
	}
	return out
}

// Layer finds a layer by name; the second result tells whether the report has it.
func (r Report) Layer(name string) (Layer, bool) {
	for _, layer := range r.Layers {
		if layer.Name == name {
			return layer, true
		}
	}
	return Layer{}, false
}

func (r *Report) add(name string, required bool, state State, detail, fix string) {
	if state == StateOn {
		fix = ""
	}
	detail = strings.ReplaceAll(detail, "\n", "; ") // joined errors
	r.Layers = append(r.Layers, Layer{Name: name, Required: required, State: state, Detail: detail, Fix: fix})
}

// LayerError is a layer that cannot be put in place.
type LayerError struct {
	Layer string
	Fix   string
	Err   error
}

// Error says which layer is missing and what to do.
func (e *LayerError) Error() string {
	return fmt.Sprintf("lock down: %s: %v; %s", e.Layer, e.Err, e.Fix)
}

// Unwrap is the cause.
func (e *LayerError) Unwrap() error { return e.Err }
